//! What an API key's stream is made of.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

/// `api_key.created`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiKeyCreated {
    /// For people.
    pub name: String,
    /// The user whose rights it has at most.
    pub owner: Uuid,
    /// The first 16 hexadecimal digits of the secret's SHA-256.
    pub fingerprint: String,
    /// What it may do at most.
    pub scopes: Vec<String>,
    /// From when on it is not accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Timestamp>,
}

/// `api_key.revoked`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ApiKeyRevoked {}
