//! What can be asked of an execution, by callers, workers and timers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use uuid::Uuid;

use crate::decision::{NodeRun, Wakeup};

use super::event::{NodeError, Trigger};

/// A command to an execution.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionCommand {
    /// Starts it.
    Start(StartExecution),
    /// A worker has held the attempt for longer than a second.
    StartNode {
        /// The attempt.
        node: NodeRun,
        /// The worker.
        worker: Arc<str>,
    },
    /// A worker's result. The first one for an attempt wins.
    CompleteNode {
        /// The attempt.
        node: NodeRun,
        /// The output, perhaps a claim check, or why there is none.
        result: Result<Value, NodeError>,
    },
    /// The worker of an attempt gave no sign of life.
    LoseWorker {
        /// The attempt.
        node: NodeRun,
    },
    /// A wakeup is due.
    Wake(Wakeup),
    /// A signal from outside.
    Signal {
        /// Its name.
        name: String,
        /// What comes with it, perhaps a claim check.
        payload: Value,
    },
    /// Ends it.
    Cancel {
        /// Why.
        reason: Option<String>,
    },
}

/// What a start needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StartExecution {
    /// The workflow.
    pub workflow_id: Uuid,
    /// Its version; the published one if none is named.
    pub workflow_version: Option<u64>,
    /// The input, perhaps a claim check.
    pub input: Value,
    /// What starts it.
    pub trigger: Trigger,
    /// 0 to 9; the workflow's if none is given.
    pub priority: Option<u8>,
    /// For search, beside those that the workflow renders.
    pub attributes: Map<String, Value>,
}

impl ExecutionCommand {
    /// The command's name for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Start(_) => "StartExecution",
            Self::StartNode { .. } => "StartNode",
            Self::CompleteNode { .. } => "CompleteNode",
            Self::LoseWorker { .. } => "LoseWorker",
            Self::Wake(_) => "WakeExecution",
            Self::Signal { .. } => "SignalExecution",
            Self::Cancel { .. } => "CancelExecution",
        }
    }
}
