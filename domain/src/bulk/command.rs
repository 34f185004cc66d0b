//! What can be asked of a bulk job.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::access::Authority;
use crate::time::Timestamp;

use super::event::{BulkAction, BulkFailure};

/// A command to a bulk job.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BulkCommand {
    /// Makes it.
    Start {
        /// What is done to each.
        action: BulkAction,
        /// The query parameters of `GET /executions`, as an object of texts.
        filter: Value,
        /// Why.
        reason: String,
        /// Acts per second at most.
        per_second: u32,
        /// How many the filter found when it was asked.
        found: u64,
        /// Newest execution that counts: what starts later is not concerned.
        upper: Uuid,
        /// With which right it acts: of the user who asked, at that time.
        acting: Box<Authority>,
    },
    /// A runner takes it for a while, if nobody has it.
    Lease {
        /// The runner.
        runner: Uuid,
        /// Until when.
        until: Timestamp,
    },
    /// A runner has done a page.
    Report {
        /// The runner.
        runner: Uuid,
        /// The last execution that is done; where to go on.
        cursor: Uuid,
        /// How many more have taken it.
        done: u64,
        /// Those that have refused it.
        failed: Vec<BulkFailure>,
        /// Until when the runner keeps it.
        until: Timestamp,
        /// Whether there are no more.
        last: bool,
    },
    /// Stops it; what is done stays done.
    Cancel {
        /// Why.
        reason: Option<String>,
    },
}

impl BulkCommand {
    /// The command's name for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Start { .. } => "StartBulk",
            Self::Lease { .. } => "LeaseBulk",
            Self::Report { .. } => "ReportBulk",
            Self::Cancel { .. } => "CancelBulk",
        }
    }
}
