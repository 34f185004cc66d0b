//! What can be asked of an API key.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

/// A command to an API key.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiKeyCommand {
    /// Makes it.
    Create {
        /// For people.
        name: String,
        /// The user whose rights it has at most.
        owner: Uuid,
        /// The first 16 hexadecimal digits of the secret's SHA-256.
        fingerprint: String,
        /// What it may do at most: permissions, `workflow:*`, or `*`.
        scopes: Vec<String>,
        /// From when on it is not accepted.
        expires_at: Option<Timestamp>,
    },
    /// Withdraws it.
    Revoke,
}

impl ApiKeyCommand {
    /// The command's name for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "CreateApiKey",
            Self::Revoke => "RevokeApiKey",
        }
    }
}
