//! What can be asked of a tenant's variables.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A command to a tenant's variables.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VariablesCommand {
    /// Gives a variable a value.
    Set {
        /// Its name.
        name: String,
        /// Any JSON.
        value: Value,
    },
    /// Removes a variable.
    Delete {
        /// Its name.
        name: String,
    },
}

impl VariablesCommand {
    /// The command's name for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Set { .. } => "SetVariable",
            Self::Delete { .. } => "DeleteVariable",
        }
    }
}
