//! What an audit's stream is made of.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::ids::{Actor, Position};
use crate::time::Timestamp;

/// `audit.recorded`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditRecorded {
    /// In the order in which they were noted.
    pub entries: Vec<AuditEntry>,
}

/// One thing that somebody asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// Its own id. Of a command: the command's id, so that it meets what the log says of it.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// Who; `anonymous:-` if nobody was recognised.
    pub actor: Actor,
    /// The user behind a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Uuid>,
    /// What: a command's name (`StartExecution`), or `Login`, `Logout`, … of what is no command.
    pub action: String,
    /// The permission that it needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub permission: Option<String>,
    /// Method and route, `POST /api/v1/workflows/{id}/execute`, or `WS cancel`.
    pub route: String,
    /// What it was done to: the stream's id, a name, an e-mail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// What became of it.
    pub result: AuditResult,
    /// The code of a refusal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// Where the log ended with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// The client's address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ip: Option<String>,
    /// The client's program, at most 200 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<String>,
    /// The request's id, `X-Request-Id`, as in the gateway's log lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// How many like this within a few seconds are told by this entry, where there were more than one.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub count: u32,
}

/// What became of what somebody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AuditResult {
    /// Done.
    Accepted,
    /// Allowed, but its state or content did not permit it.
    Rejected,
    /// Not allowed, or not recognised.
    Denied,
    /// Whether it was done is not known to the gateway.
    Unknown,
}

fn one() -> u32 {
    1
}

fn is_one(count: &u32) -> bool {
    *count == 1
}
