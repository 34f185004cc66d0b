//! What an execution's events add up to.
//!
//! | phase | started · forked | queued | admitted | any node event | compensation.started | compensation.finished | completed · failed · cancelled · terminated | retried |
//! |---|---|---|---|---|---|---|---|---|
//! | not started | running | – | – | – | – | – | – | – |
//! | running | – | queued | – | running | compensating | – | finished | – |
//! | queued | – | – | running | queued (a fork's timer) | – | – | finished | – |
//! | compensating | – | – | – | compensating | – | compensating, finished (by parent) | finished | – |
//! | finished | – | – | – | – | compensating (by parent) | – | finished (terminated by its parent) | running, compensating |
//!
//! | node status | scheduled | started | waiting · child.started | retry_scheduled | timer fired | completed | failed | skipped | cancelled | run.started | retried |
//! |---|---|---|---|---|---|---|---|---|---|---|---|
//! | pending | scheduled | iterating | waiting | – | – | completed | failed | skipped | cancelled (by a merge) | pending | – |
//! | scheduled | – | running | – | – | – | completed | failed | – | cancelled | – | – |
//! | running | – | – | – | – | – | completed | failed | – | cancelled | – | – |
//! | iterating | – | – | – | – | – | completed | failed | – | cancelled | – | – |
//! | waiting | – | – | – | – | due | completed | failed | – | cancelled | – | – |
//! | failed | scheduled (lost worker) | – | – | backing off | – | completed (continue, route) | – | – | – | pending | pending, iterating (a container) |
//! | backing off | – | – | – | – | due | – | – | – | cancelled | – | – |
//! | due | scheduled | – | – | – | – | completed | failed | – | cancelled | – | – |
//! | completed | scheduled (undoes another run) | – | waiting (the same) | – | – | completed (the same) | failed (the same) | – | – | pending | – |
//! | cancelled | scheduled (undoes after all) | – | waiting (the same) | – | – | – | – | – | – | pending | pending, iterating (a container) |
//! | skipped | – | – | – | – | – | – | – | – | – | pending | – |
//!
//! A state is copied for every decision, so its collections share what is equal between copies, and a copy costs the
//! same however long the history is.

use imbl::{OrdMap, OrdSet, Vector};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::sync::Arc;
use uuid::Uuid;

use crate::time::Timestamp;

use super::agenda::Agenda;
use super::event::{
    CompensationStatus, Effects, Ending, NodeError, ParentRef, TimerPurpose, Trigger, WaitCondition, WaitMode,
};

/// The types of the events that end an execution.
pub const FINAL_EVENT_TYPES: [&str; 4] =
    ["execution.completed", "execution.failed", "execution.cancelled", "execution.terminated"];

/// The public status of an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionStatus {
    /// Accepted, not begun: a concurrency key holds it back.
    Pending,
    /// A node runs.
    Running,
    /// Only timers or waits are left.
    Waiting,
    /// Nothing new starts.
    Paused,
    /// What it did is being undone.
    Compensating,
    /// The end, with an output.
    Completed,
    /// The end, with an error.
    Failed,
    /// The end, on request.
    Cancelled,
    /// The end, on request, at once.
    Terminated,
}

impl ExecutionStatus {
    /// Every status, in the order of a life.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Running,
        Self::Waiting,
        Self::Paused,
        Self::Compensating,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Terminated,
    ];

    /// Whether it has ended.
    pub fn is_final(self) -> bool {
        match self {
            Self::Completed | Self::Failed | Self::Cancelled | Self::Terminated => true,
            Self::Pending | Self::Running | Self::Waiting | Self::Paused | Self::Compensating => false,
        }
    }

    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Paused => "paused",
            Self::Compensating => "compensating",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Terminated => "terminated",
        }
    }
}

/// Where an execution is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// No event yet.
    #[default]
    NotStarted,
    /// Held back by a concurrency key.
    Queued,
    /// Under way.
    Running,
    /// Undoing what it did.
    Compensating,
    /// Ended.
    Finished(ExecutionStatus),
}

/// A folded execution.
#[derive(Debug, Clone, Default)]
pub struct ExecutionState {
    /// How many events its stream has; the events of a fork's origin do not count.
    pub version: u64,
    /// When the last event was recorded.
    pub updated_at: Timestamp,
    /// Where it is in its life.
    pub phase: Phase,
    /// Whether nothing new starts.
    pub paused: bool,
    /// What its start fixed; shared, because deciding works on a copy of the state.
    pub started: Option<Arc<StartedFacts>>,
    /// Nodes that have an event, by path.
    pub nodes: OrdMap<Arc<str>, Arc<NodeState>>,
    /// Scopes that have an event, by path; the whole graph's is the empty one.
    pub scopes: OrdMap<Arc<str>, Arc<ScopeState>>,
    /// Signals received, oldest first.
    pub signals: Vector<Arc<Signal>>,
    /// Paths of nodes that wait for signals or events.
    pub waits: OrdSet<Arc<str>>,
    /// Completed runs of nodes, oldest first: what a compensation goes back over.
    pub completions: Vector<Completion>,
    /// The compensation, if there is one.
    pub compensation: Option<Arc<CompensationState>>,
    /// The lane whose slot it has or waits for.
    pub lane: Option<Uuid>,
    /// What a fork does differently.
    pub fork: Option<Arc<ForkFacts>>,
    /// Configurations that replace what nodes would render, by path.
    pub node_inputs: OrdMap<Arc<str>, Arc<Value>>,
    /// The run of each compensating node that was last taken account of, by path.
    pub compensator_runs: OrdMap<Arc<str>, u32>,
    /// How many open nodes there are that hold no others.
    pub open_leaves: usize,
    /// How many of those wait for more than a timer or a signal.
    pub busy_leaves: usize,
    /// What the next decision must look at. Not part of what the events say.
    pub(crate) agenda: Agenda,
    /// How far decisions that yielded had come in the list of signals, by wait, run and condition.
    pub(crate) scans: OrdMap<(Arc<str>, u32, usize), usize>,
}

impl ExecutionState {
    /// The user to whom it belongs.
    pub fn owner(&self) -> Option<Uuid> {
        self.started.as_ref().and_then(|started| started.owner)
    }
}

impl PartialEq for ExecutionState {
    /// Equal if the events say the same; what is still to be looked at does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.version == other.version
            && self.updated_at == other.updated_at
            && self.phase == other.phase
            && self.paused == other.paused
            && self.started == other.started
            && self.nodes == other.nodes
            && self.scopes == other.scopes
            && self.signals == other.signals
            && self.waits == other.waits
            && self.completions == other.completions
            && self.compensation == other.compensation
            && self.lane == other.lane
            && self.fork == other.fork
            && self.node_inputs == other.node_inputs
            && self.compensator_runs == other.compensator_runs
    }
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
    /// For search.
    pub attributes: Map<String, Value>,
    /// When.
    pub started_at: Timestamp,
    /// When it must be done.
    pub deadline: Option<Timestamp>,
    /// Whose child it is.
    pub parent: Option<ParentRef>,
    /// The user to whom it belongs.
    pub owner: Option<Uuid>,
}

/// What makes a fork differ from other executions.
#[derive(Debug, Clone, PartialEq)]
pub struct ForkFacts {
    /// The execution that it comes from.
    pub origin: Uuid,
    /// The last event of the origin that belongs to it.
    pub at_version: u64,
    /// Records of the origin up to this version count.
    pub recorded_until: u64,
    /// How many forks led here.
    pub depth: u32,
    /// When the first of its origins started: what came since then may satisfy its waits.
    pub begun_at: Timestamp,
    /// What it does with effects.
    pub effects: Effects,
    /// Children that are forked with it: the child of the origin, and the fork's own.
    pub children: Vec<(Uuid, Uuid)>,
}

/// A signal.
#[derive(Debug, Clone, PartialEq)]
pub struct Signal {
    /// The version of its event, in the stream that has it.
    pub version: u64,
    /// Its name.
    pub name: String,
    /// What came with it, perhaps a claim check.
    pub payload: Value,
    /// When.
    pub received_at: Timestamp,
}

/// One completed run of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Path of the node.
    pub path: Arc<str>,
    /// Which run.
    pub run: u32,
    /// The attempt that completed it; 0 if the outcome is not known.
    pub attempt: u32,
}

/// A scope: the whole graph, an iteration of a loop, a branch.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScopeState {
    /// How many of its own nodes are open.
    pub open: usize,
    /// What its ends gave, once it is done; perhaps a claim check.
    pub output: Option<Arc<Value>>,
}

/// A compensation.
#[derive(Debug, Clone, PartialEq)]
pub struct CompensationState {
    /// Why.
    pub cause: Ending,
    /// How it goes.
    pub status: CompensationStatus,
    /// How many of `completions` are not dealt with yet: those before this index.
    pub left: usize,
    /// Paths of nodes that were in flight when it began, and may still give a result that counts.
    pub stopping: OrdSet<Arc<str>>,
    /// What is undone: paths and runs.
    pub compensated: OrdSet<(Arc<str>, u32)>,
    /// The path and run of a completed `sub_workflow` node whose child was asked to undo its work.
    pub asked: Option<(Arc<str>, u32)>,
    /// How the child that was asked has answered.
    pub answered: Option<ChildAnswer>,
    /// The parent that asked for it.
    pub parent: Option<ParentRef>,
}

/// How a child's compensation went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildAnswer {
    /// How.
    pub status: CompensationStatus,
    /// Why it failed.
    pub error: Option<NodeError>,
}

/// A node that has an event.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeState {
    /// What it does.
    pub status: NodeStatus,
    /// Its run, from 1.
    pub run: u32,
    /// Its latest attempt, from 1; 0 before the run's first.
    pub attempt: u32,
    /// The attempt before the first that counts against its retry policy: a manual retry begins anew.
    pub attempts_before: u32,
    /// How many of the attempts that count ended with a lost worker.
    pub lost_workers: u32,
    /// When its latest attempt was scheduled or its wait began.
    pub since: Timestamp,
    /// The output of its latest completed run, perhaps a claim check; shared, because states are copied.
    pub output: Option<Arc<Value>>,
    /// The error of the latest failed attempt.
    pub error: Option<NodeError>,
    /// The iterations of a `loop` or branches of a `parallel`.
    pub iterations: Option<Arc<Iterations>>,
    /// What a `wait` waits for.
    pub wait: Option<Arc<WaitState>>,
    /// The child of a `sub_workflow`, of its latest run.
    pub child: Option<Uuid>,
    /// What earlier runs left that others may need.
    pub past: Option<Arc<Past>>,
    /// The attempt of this run with which it was dead-lettered; 0 if it was not.
    pub dead_lettered: u32,
}

/// What a node's earlier runs left.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Past {
    /// The outputs of completed runs, by run.
    pub outputs: OrdMap<u32, Option<Arc<Value>>>,
    /// The children of completed runs, by run.
    pub children: OrdMap<u32, Uuid>,
}

/// How far a `loop` or `parallel` is.
#[derive(Debug, Clone, PartialEq)]
pub struct Iterations {
    /// The items, perhaps a claim check; absent for `while` and for branches.
    pub items: Option<Arc<Value>>,
    /// Whether the items are `{key, value}`.
    pub keyed: bool,
    /// How many there will be; a `while` cannot say.
    pub count: Option<u32>,
    /// How many have begun.
    pub begun: u32,
    /// How many are done.
    pub completed: u32,
}

/// What a `wait` waits for, and what has come.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WaitState {
    /// The conditions, rendered.
    pub conditions: Vec<WaitCondition>,
    /// How many must be met.
    pub mode: WaitMode,
    /// For how long at most.
    pub timeout_at: Option<Timestamp>,
    /// The payload that met each condition, in this run; perhaps a claim check.
    pub met: Vec<Option<Arc<Value>>>,
    /// The order in which they were met.
    pub order: Vec<u32>,
    /// Places in the list of signals that this path has used, over all its runs.
    pub used_signals: OrdSet<u32>,
    /// Events that this path has used, over all its runs.
    pub used_events: OrdSet<Uuid>,
}

/// What a node does.
#[derive(Debug, Clone, PartialEq)]
pub enum NodeStatus {
    /// Not begun in this run.
    Pending,
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
    /// Its iterations or branches run.
    Iterating,
    /// It waits inside the engine, for a timer, a signal, an event or a child; the timer's due time is known once it has
    /// started.
    Waiting {
        /// When the timer fires, if there is one.
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
    /// Whether nothing more happens to the node in this run.
    pub fn is_settled(&self) -> bool {
        match self {
            Self::Completed { .. } | Self::Skipped | Self::Cancelled => true,
            Self::Pending
            | Self::Scheduled { .. }
            | Self::Running { .. }
            | Self::Iterating
            | Self::Waiting { .. }
            | Self::Failed { .. }
            | Self::BackingOff { .. }
            | Self::Due { .. } => false,
        }
    }

    /// Whether the node has begun and is not done.
    pub fn is_open(&self) -> bool {
        !self.is_settled() && *self != Self::Pending
    }

    /// Whether a worker may have the attempt.
    pub fn is_in_flight(&self) -> bool {
        matches!(self, Self::Scheduled { .. } | Self::Running { .. })
    }
}

/// How a node counts among what is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Openness {
    /// Not begun, or done.
    Closed,
    /// It holds other nodes, which count.
    Holds,
    /// It waits for a timer or a signal.
    Waits,
    /// Anything else.
    Busy,
}

impl NodeState {
    /// How it counts among what is open.
    pub(super) fn openness(&self) -> Openness {
        match self.status {
            NodeStatus::Pending
            | NodeStatus::Completed { .. }
            | NodeStatus::Skipped
            | NodeStatus::Cancelled => Openness::Closed,
            NodeStatus::Iterating => Openness::Holds,
            NodeStatus::Waiting { .. } if self.child.is_none() => Openness::Waits,
            NodeStatus::BackingOff { .. } => Openness::Waits,
            NodeStatus::Waiting { .. }
            | NodeStatus::Scheduled { .. }
            | NodeStatus::Running { .. }
            | NodeStatus::Failed { .. }
            | NodeStatus::Due { .. } => Openness::Busy,
        }
    }

    /// The output of a completed run.
    pub fn output_of(&self, run: u32) -> Option<&Arc<Value>> {
        if run == self.run && matches!(self.status, NodeStatus::Completed { .. }) {
            return self.output.as_ref();
        }
        self.past.as_ref().and_then(|past| past.outputs.get(&run)).and_then(Option::as_ref)
    }

    /// The child of a completed run.
    pub fn child_of(&self, run: u32) -> Option<Uuid> {
        if run == self.run {
            return self.child;
        }
        self.past.as_ref().and_then(|past| past.children.get(&run)).copied()
    }
}
