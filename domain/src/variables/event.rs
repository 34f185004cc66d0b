//! What a tenant's variables stream is made of.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `variables.set`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariableSet {
    /// The name after `vars.`.
    pub name: String,
    /// Its value, perhaps a claim check.
    pub value: Value,
}

/// `variables.deleted`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VariableDeleted {
    /// The name.
    pub name: String,
}
