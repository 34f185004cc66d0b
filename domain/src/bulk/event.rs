//! What a bulk job's stream is made of.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::access::{Authority, Permission};
use crate::time::Timestamp;

/// What is done to each execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum BulkAction {
    /// A new execution of the same workflow with the same input.
    Start,
    /// Cancelled.
    Cancel,
    /// Terminated.
    Terminate,
    /// Paused.
    Pause,
    /// Resumed.
    Resume,
    /// Retried from what failed.
    Retry,
    /// Retried from what failed, with other configurations of nodes.
    Correct {
        /// By path.
        node_inputs: Map<String, Value>,
    },
    /// Sent a signal.
    Signal {
        /// Its name.
        name: String,
        /// What comes with it.
        payload: Value,
    },
}

impl BulkAction {
    /// What each act needs.
    pub fn permission(&self) -> Permission {
        match self {
            Self::Start => Permission::WorkflowExecute,
            Self::Cancel => Permission::ExecutionCancel,
            Self::Terminate => Permission::ExecutionTerminate,
            Self::Pause | Self::Resume => Permission::ExecutionPause,
            Self::Retry | Self::Correct { .. } => Permission::ExecutionRetry,
            Self::Signal { .. } => Permission::ExecutionSignal,
        }
    }
}

/// An execution that has refused the act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BulkFailure {
    /// Which.
    pub execution_id: Uuid,
    /// The code of the refusal.
    pub code: String,
}

/// `bulk.started`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BulkStarted {
    /// What is done.
    pub action: BulkAction,
    /// The query parameters of `GET /executions`.
    pub filter: Value,
    /// Why.
    pub reason: String,
    /// Acts per second at most.
    pub per_second: u32,
    /// How many the filter found.
    pub found: u64,
    /// Newest execution that counts.
    pub upper: Uuid,
    /// With which right it acts.
    pub acting: Authority,
}

/// `bulk.leased`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BulkLeased {
    /// The runner.
    pub runner: Uuid,
    /// Until when.
    pub until: Timestamp,
}

/// `bulk.progressed`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BulkProgressed {
    /// The last execution that is done.
    pub cursor: Uuid,
    /// How many have taken it in all.
    pub done: u64,
    /// How many have refused it in all.
    pub failed: u64,
    /// Those of this page, at most 200.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<BulkFailure>,
    /// Until when the runner keeps it.
    pub until: Timestamp,
}

/// `bulk.completed`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BulkCompleted {}

/// `bulk.cancelled`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BulkCancelled {
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}
