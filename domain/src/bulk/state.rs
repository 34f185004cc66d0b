//! What a bulk job's events add up to.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::time::Timestamp;

use super::event::{BulkFailure, BulkStarted};

/// How far a job is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BulkStatus {
    /// There is none.
    #[default]
    None,
    /// Under way.
    Running,
    /// All are done.
    Completed,
    /// Stopped on request.
    Cancelled,
}

/// A folded job.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct BulkState {
    /// The version of the stream.
    pub version: u64,
    /// How far it is.
    pub status: BulkStatus,
    /// What it was started with.
    pub started: Option<Box<BulkStarted>>,
    /// Who has it, until when.
    pub lease: Option<(Uuid, Timestamp)>,
    /// The last execution that is done.
    pub cursor: Option<Uuid>,
    /// How many have taken it.
    pub done: u64,
    /// How many have refused it.
    pub failed: u64,
    /// The last of those, at most 200.
    pub failures: Vec<BulkFailure>,
}
