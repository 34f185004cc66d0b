//! Nodes as callers see them, and how many of them are open.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use crate::node_type::NodeType;
use crate::time::Timestamp;
use crate::workflow::definition::Definition;

use super::super::event::NodeError;
use super::super::state::ExecutionStatus;

/// The public status of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeViewStatus {
    /// Not begun in this run.
    Pending,
    /// A worker may take it.
    Scheduled,
    /// A worker has it, or its iterations, branches or child run.
    Running,
    /// A timer or back-off runs, or a signal or event is awaited.
    Waiting,
    /// Done.
    Completed,
    /// Its last attempt failed.
    Failed,
    /// Never ready.
    Skipped,
    /// Done, and undone.
    Compensated,
    /// Stopped.
    Cancelled,
}

/// A node of an execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeView {
    /// Its path.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub node_type: NodeType,
    /// What it does.
    pub status: NodeViewStatus,
    /// Its run, from 1; 0 before the first.
    pub run: u32,
    /// Its latest attempt.
    pub attempt: u32,
    /// Its scheduling, until a lease is recorded.
    pub started_at: Option<Timestamp>,
    /// When it was done.
    pub finished_at: Option<Timestamp>,
    /// From start to end.
    pub duration_ms: Option<u64>,
    /// The output of its latest completed run, perhaps a claim check.
    pub output: Value,
    /// The error of its latest failed attempt.
    pub error: Option<NodeError>,
    /// How far a `loop` or `parallel` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iterations: Option<NodeIterations>,
    /// The child of a `sub_workflow`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<NodeChild>,
}

/// How far a `loop` or `parallel` is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeIterations {
    /// How many there will be; a `while` cannot say.
    pub count: Option<u32>,
    /// How many are done.
    pub completed: u32,
}

/// The child of a `sub_workflow` node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeChild {
    /// The child.
    pub execution_id: Uuid,
    /// How it ended, once it has; a node that does not wait for it never knows.
    pub status: Option<ExecutionStatus>,
}

impl NodeView {
    /// The node with the type that its definition says: of one that was never begun the events do not know it.
    pub fn typed_by(&mut self, definition: &Definition) {
        if let Some(node) = definition.node(&self.id) {
            self.node_type = node.node_type;
        }
    }

    /// A node without an event.
    pub(super) fn pending(id: &str, node_type: NodeType) -> Self {
        Self {
            id: id.to_owned(),
            node_type,
            status: NodeViewStatus::Pending,
            run: 0,
            attempt: 0,
            started_at: None,
            finished_at: None,
            duration_ms: None,
            output: Value::Null,
            error: None,
            iterations: None,
            child: None,
        }
    }

    /// The node in an attempt.
    pub(super) fn at(&mut self, run: u32, attempt: u32, status: NodeViewStatus) {
        (self.run, self.attempt, self.status) = (run, attempt, status);
    }

    /// The node under way since a time.
    pub(super) fn begin(&mut self, at: Timestamp) {
        self.started_at = Some(at);
        self.finished_at = None;
        self.duration_ms = None;
    }

    /// The node done at a time.
    pub(super) fn close(&mut self, at: Timestamp, duration_ms: u64) {
        self.started_at.get_or_insert(at);
        self.finished_at = Some(at);
        self.duration_ms = Some(duration_ms);
    }

    /// The node pending again, with its latest output.
    pub(super) fn reset(&mut self) {
        self.status = NodeViewStatus::Pending;
        self.started_at = None;
        self.finished_at = None;
        self.duration_ms = None;
        self.error = None;
    }

    /// The node pending in its next run.
    pub(super) fn next_run(&mut self) {
        self.reset();
        // A region's node that had no event counts its first run as the one that was never begun.
        self.run = self.run.max(1) + 1;
        self.attempt = 0;
        self.iterations = None;
        self.child = None;
    }

    /// What a node without events of its own must be.
    pub(super) fn settle(&mut self, status: NodeViewStatus, at: Option<Timestamp>) {
        self.status = status;
        self.run = 1;
        self.attempt = u32::from(status == NodeViewStatus::Completed);
        self.started_at = at;
        self.finished_at = at;
        self.duration_ms = at.map(|_| 0);
    }
}

/// How many nodes are open, those of bodies included, without the `loop` and `parallel` nodes around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct OpenNodes {
    /// Begun and not done.
    pub total: u32,
    /// Those of them that wait for a timer, a signal or an event.
    pub waiting: u32,
}

impl OpenNodes {
    /// Those among nodes of which none is inside another.
    pub(super) fn of(nodes: &[NodeView]) -> Self {
        let mut open = Self::default();
        nodes.iter().for_each(|node| open.enter(node));
        open
    }

    /// Whether all that is open waits.
    pub(super) fn only_wait(self) -> bool {
        self.total > 0 && self.waiting == self.total
    }

    /// Counts a node.
    pub(super) fn enter(&mut self, node: &NodeView) {
        self.total += u32::from(is_open(node));
        self.waiting += u32::from(is_open(node) && node.status == NodeViewStatus::Waiting);
    }

    /// Counts a node no more, as it was when it entered.
    pub(super) fn leave(&mut self, node: &NodeView) {
        self.total = self.total.saturating_sub(u32::from(is_open(node)));
        let waits = is_open(node) && node.status == NodeViewStatus::Waiting;
        self.waiting = self.waiting.saturating_sub(u32::from(waits));
    }
}

fn is_open(node: &NodeView) -> bool {
    let open = match node.status {
        NodeViewStatus::Scheduled
        | NodeViewStatus::Running
        | NodeViewStatus::Waiting
        | NodeViewStatus::Failed => true,
        NodeViewStatus::Pending
        | NodeViewStatus::Completed
        | NodeViewStatus::Skipped
        | NodeViewStatus::Compensated
        | NodeViewStatus::Cancelled => false,
    };
    open && !node.node_type.is_container()
}
