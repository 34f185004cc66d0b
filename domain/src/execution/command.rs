//! What can be asked of an execution, by callers, workers and timers.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use uuid::Uuid;

use crate::decision::{NodeRun, Wakeup};

use super::event::{CompensationStatus, Effects, MatchedEvent, NodeError, ParentRef, Trigger};
use super::state::ExecutionStatus;

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
    /// Ends it, undoing what it did.
    Cancel {
        /// Why.
        reason: Option<String>,
    },
    /// Ends it at once.
    Terminate {
        /// Why.
        reason: Option<String>,
    },
    /// Nothing new starts.
    Pause {
        /// Why.
        reason: Option<String>,
    },
    /// It goes on.
    Resume {
        /// Why.
        reason: Option<String>,
    },
    /// An execution that failed, or whose compensation failed, goes on from what failed.
    Retry {
        /// Why.
        reason: Option<String>,
        /// Configurations that replace what the failed nodes would render, by path; perhaps claim checks.
        node_inputs: Map<String, Value>,
        /// The dead letter that is redriven, if one is: its node must still be the one that failed.
        dead_letter: Option<NodeRun>,
    },
    /// Makes this new stream a fork.
    Fork(ForkExecution),
    /// The lane has given it a slot.
    Admit {
        /// The lane.
        lane: Uuid,
    },
    /// The lane has none, and it does not wait.
    Drop {
        /// The lane.
        lane: Uuid,
    },
    /// An event that a wait may be for.
    OfferEvent(OfferedEvent),
    /// The child of a `sub_workflow` node has ended, or never began.
    FinishChild {
        /// The node's attempt.
        node: NodeRun,
        /// The child.
        child: Uuid,
        /// How it ended.
        status: ExecutionStatus,
        /// What it gave, perhaps a claim check.
        output: Value,
        /// Why it did not complete.
        error: Option<NodeError>,
    },
    /// The parent undoes its work: so does this one, which had completed.
    Compensate {
        /// The parent.
        parent: ParentRef,
    },
    /// The child of a completed `sub_workflow` node has undone its work, or could not.
    ChildCompensated {
        /// The node's attempt.
        node: NodeRun,
        /// The child.
        child: Uuid,
        /// How it went.
        status: CompensationStatus,
        /// Why it failed.
        error: Option<NodeError>,
    },
}

/// What a fork needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ForkExecution {
    /// The execution that it comes from.
    pub origin: Uuid,
    /// The last event of the origin that belongs to it, from 1.
    pub at_version: u64,
    /// Another input, perhaps a claim check.
    pub input: Option<Value>,
    /// Other outputs of nodes, by path; perhaps claim checks.
    pub node_outputs: Map<String, Value>,
    /// Another version of the workflow.
    pub workflow_version: Option<u64>,
    /// What it does with effects.
    pub effects: Effects,
    /// Whose child it is.
    pub parent: Option<ParentRef>,
    /// The user to whom it belongs, where its parent says so.
    #[serde(default)]
    pub owner: Option<Uuid>,
}

/// An event that may satisfy a wait.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OfferedEvent {
    /// Path of the `wait` node.
    pub node_id: String,
    /// Its run.
    pub run: u32,
    /// Which of its conditions, from 0.
    pub condition: u32,
    /// The event.
    pub event: MatchedEvent,
    /// Its data, perhaps a claim check.
    pub data: Value,
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
    /// Whose child it is.
    #[serde(default)]
    pub parent: Option<ParentRef>,
    /// The user to whom it belongs, where its parent says so.
    #[serde(default)]
    pub owner: Option<Uuid>,
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
            Self::Terminate { .. } => "TerminateExecution",
            Self::Pause { .. } => "PauseExecution",
            Self::Resume { .. } => "ResumeExecution",
            Self::Retry { .. } => "RetryExecution",
            Self::Fork(_) => "ForkExecution",
            Self::Admit { .. } => "AdmitExecution",
            Self::Drop { .. } => "DropExecution",
            Self::OfferEvent(_) => "OfferEvent",
            Self::FinishChild { .. } => "FinishChild",
            Self::Compensate { .. } => "CompensateExecution",
            Self::ChildCompensated { .. } => "ChildCompensated",
        }
    }
}
