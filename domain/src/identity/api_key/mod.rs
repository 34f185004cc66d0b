//! An API key: who owns it and what it may do. Its secret is a verifier beside the log.

pub mod command;
mod decide;
pub mod event;
mod evolve;

use uuid::Uuid;

use crate::time::Timestamp;

pub use decide::{decide, not_found};
pub use evolve::evolve;

/// A folded API key.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ApiKeyState {
    /// The version of the stream; 0 before it was made.
    pub version: u64,
    /// For people.
    pub name: String,
    /// The user whose rights it has at most.
    pub owner: Option<Uuid>,
    /// The first 16 hexadecimal digits of the secret's SHA-256: `key:<fingerprint>` is the actor in events.
    pub fingerprint: String,
    /// What it may do at most: permissions, `workflow:*`, or `*`.
    pub scopes: Vec<String>,
    /// From when on it is not accepted.
    pub expires_at: Option<Timestamp>,
    /// Whether it is gone.
    pub revoked: bool,
}
