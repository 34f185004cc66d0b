//! What a tenant's stream of roles is made of.

use serde::{Deserialize, Serialize};

use crate::access::Role;

/// `role.defined`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoleDefined {
    /// The whole role.
    pub role: Role,
}

/// `role.deleted`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoleDeleted {
    /// Its name.
    pub name: String,
}
