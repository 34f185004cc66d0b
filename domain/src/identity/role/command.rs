//! What can be asked of a tenant's roles.

use serde::{Deserialize, Serialize};

use crate::access::Role;

/// A command to a tenant's roles.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoleCommand {
    /// Defines a role, anew or in place of the one with its name.
    Define {
        /// The role.
        role: Role,
        /// Whether one with the name must not be there yet.
        new: bool,
    },
    /// Removes a role; the sender has seen that nobody has it.
    Delete {
        /// Its name.
        name: String,
    },
}

impl RoleCommand {
    /// The command's name for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Define { .. } => "DefineRole",
            Self::Delete { .. } => "DeleteRole",
        }
    }
}
