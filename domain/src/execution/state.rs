//! What an execution's events add up to.
//!
//! | phase | started | any node event | completed · failed · cancelled |
//! |---|---|---|---|
//! | not started | running | – | – |
//! | running | – | running | finished |
//! | finished | – | – | – |
//!
//! | node status | scheduled | started | waiting | retry_scheduled | timer fired | completed | failed | skipped | cancelled |
//! |---|---|---|---|---|---|---|---|---|---|
//! | pending | scheduled | – | waiting | – | – | completed | failed | skipped | – |
//! | scheduled | – | running | – | – | – | completed | failed | – | cancelled |
//! | running | – | – | – | – | – | completed | failed | – | cancelled |
//! | waiting | – | – | – | – | due | – | – | – | cancelled |
//! | failed | scheduled (lost worker) | – | – | backing off | – | completed (continue, route) | – | – | – |
//! | backing off | – | – | – | – | due | – | – | – | cancelled |
//! | due | scheduled | – | – | – | – | completed | – | – | cancelled |

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

use crate::time::Timestamp;

use super::event::{NodeError, TimerPurpose, Trigger};

/// The types of the events that end an execution.
pub const FINAL_EVENT_TYPES: [&str; 3] = ["execution.completed", "execution.failed", "execution.cancelled"];

/// The public status of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionStatus {
    /// Accepted, not begun.
    Pending,
    /// A node runs.
    Running,
    /// Only timers or waits are left.
    Waiting,
    /// The end, with an output.
    Completed,
    /// The end, with an error.
    Failed,
    /// The end, on request.
    Cancelled,
}

impl ExecutionStatus {
    /// Whether nothing can follow.
    pub fn is_final(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled => true,
            Self::Pending | Self::Running | Self::Waiting => false,
        }
    }

    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Where an execution is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// No event yet.
    #[default]
    NotStarted,
    /// Under way.
    Running,
    /// Ended.
    Finished(ExecutionStatus),
}

/// A folded execution.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExecutionState {
    /// How many events it has.
    pub version: u64,
    /// Where it is in its life.
    pub phase: Phase,
    /// What its start fixed; shared, because deciding works on a copy of the state.
    pub started: Option<Arc<StartedFacts>>,
    /// Nodes that have an event, by path.
    pub nodes: BTreeMap<String, NodeState>,
}

/// What the start of an execution fixed.
#[derive(Debug, Clone, PartialEq)]
pub struct StartedFacts {
    /// The workflow.
    pub workflow_id: Uuid,
    /// Its name.
    pub workflow_name: String,
    /// Its version.
    pub workflow_version: u64,
    /// The input, perhaps a claim check.
    pub input: Value,
    /// What started it.
    pub trigger: Trigger,
    /// The version of `vars`.
    pub vars_version: u64,
    /// 0 to 9.
    pub priority: u8,
    /// When.
    pub started_at: Timestamp,
    /// When it must be done.
    pub deadline: Option<Timestamp>,
}

/// A node that has an event.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeState {
    /// What it does.
    pub status: NodeStatus,
    /// Its run, from 1.
    pub run: u32,
    /// Its latest attempt, from 1.
    pub attempt: u32,
    /// How many of its attempts ended with a lost worker.
    pub lost_workers: u32,
    /// When its latest attempt was scheduled or its wait began.
    pub since: Timestamp,
    /// The output, perhaps a claim check; shared, because deciding works on a copy of the state.
    pub output: Option<Arc<Value>>,
    /// The error of the latest failed attempt.
    pub error: Option<NodeError>,
}

/// What a node does.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeStatus {
    /// A worker may take it, until the deadline.
    Scheduled {
        /// When the attempt must be done.
        deadline: Timestamp,
    },
    /// A worker has held it for longer than a second.
    Running {
        /// When the attempt must be done.
        deadline: Timestamp,
    },
    /// It waits inside the engine; the timer's due time is known once it has started.
    Waiting {
        /// When the timer fires.
        due_at: Option<Timestamp>,
    },
    /// An attempt failed, and what that means is not recorded yet.
    Failed {
        /// When.
        at: Timestamp,
    },
    /// Another attempt is due later.
    BackingOff {
        /// When.
        due_at: Timestamp,
        /// Whether the timer's start is recorded.
        timer_started: bool,
    },
    /// Its timer fired, and what that means is not recorded yet.
    Due {
        /// What the timer was for.
        purpose: TimerPurpose,
        /// When it fired.
        at: Timestamp,
    },
    /// Done, leaving by a handle.
    Completed {
        /// The handle; `None` is the plain one.
        handle: Option<String>,
    },
    /// Never ready.
    Skipped,
    /// Stopped.
    Cancelled,
}

impl NodeStatus {
    /// Whether nothing more happens to the node.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Completed { .. } | Self::Skipped | Self::Cancelled => true,
            Self::Scheduled { .. }
            | Self::Running { .. }
            | Self::Waiting { .. }
            | Self::Failed { .. }
            | Self::BackingOff { .. }
            | Self::Due { .. } => false,
        }
    }
}
