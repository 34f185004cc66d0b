//! An execution as callers see it: the shape of `GET /executions/{id}`, folded from its events.
//!
//! The read model keeps this fold, and the state at an earlier version is the same fold over fewer events,
//! so that both can never disagree.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::event::{ExecutionEvent, RecordedEvent};
use crate::node_type::NodeType;
use crate::time::Timestamp;
use crate::workflow::definition::Definition;

use super::event::NodeError;
use super::state::ExecutionStatus;

/// An execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionView {
    /// Its id.
    pub id: Uuid,
    /// The workflow.
    pub workflow_id: Uuid,
    /// The workflow's name when it started.
    pub workflow_name: String,
    /// The version it keeps.
    pub workflow_version: u64,
    /// Where it is in its life.
    pub status: ExecutionStatus,
    /// The input, perhaps a claim check.
    pub input: Value,
    /// The output, perhaps a claim check; null until there is one.
    pub output: Value,
    /// Why it failed.
    pub error: Option<ExecutionError>,
    /// Why it was cancelled.
    pub cancel_reason: Option<String>,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// From start to end.
    pub duration_ms: Option<u64>,
    /// 0 to 9.
    pub priority: u8,
    /// For search.
    pub attributes: Map<String, Value>,
    /// The version of its last event.
    pub version: u64,
    /// Who started it.
    pub started_by: String,
    /// The ends that were reached.
    pub ends: Vec<String>,
    /// Nodes that have an event, in the order of their first.
    pub nodes: Vec<NodeView>,
}

/// Why an execution failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionError {
    /// The node whose failure ended it, if one did.
    pub node_id: Option<String>,
    /// The error itself.
    #[serde(flatten)]
    pub error: NodeError,
}

/// The public status of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeViewStatus {
    /// No event yet.
    Pending,
    /// A worker may take it.
    Scheduled,
    /// A worker has it.
    Running,
    /// A timer or back-off runs.
    Waiting,
    /// Done.
    Completed,
    /// Its last attempt failed.
    Failed,
    /// Never ready.
    Skipped,
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
    /// The output, perhaps a claim check.
    pub output: Value,
    /// The error of its latest failed attempt.
    pub error: Option<NodeError>,
}

impl NodeView {
    fn pending(id: &str, node_type: NodeType) -> Self {
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
        }
    }

    fn is_open(&self) -> bool {
        match self.status {
            NodeViewStatus::Scheduled
            | NodeViewStatus::Running
            | NodeViewStatus::Waiting
            | NodeViewStatus::Failed => true,
            NodeViewStatus::Pending
            | NodeViewStatus::Completed
            | NodeViewStatus::Skipped
            | NodeViewStatus::Cancelled => false,
        }
    }
}

impl ExecutionView {
    /// The view after one more event. `None` until the stream's first event, which is its start.
    pub fn fold(view: Option<Self>, recorded: &RecordedEvent, event: ExecutionEvent) -> Option<Self> {
        let mut view = match (view, event) {
            (None, ExecutionEvent::Started(started)) => {
                return Some(Self {
                    id: recorded.stream,
                    workflow_id: started.workflow_id,
                    workflow_name: started.workflow_name,
                    workflow_version: started.workflow_version,
                    status: ExecutionStatus::Running,
                    input: started.input,
                    output: Value::Null,
                    error: None,
                    cancel_reason: None,
                    started_at: recorded.recorded_at,
                    finished_at: None,
                    duration_ms: None,
                    priority: started.priority,
                    attributes: started.attributes,
                    version: recorded.version,
                    started_by: recorded.actor.as_str().to_owned(),
                    ends: Vec::new(),
                    nodes: Vec::new(),
                });
            }
            (None, _) => return None,
            (Some(mut view), event) => {
                view.apply(event, recorded.recorded_at);
                view
            }
        };
        view.version = recorded.version;
        Some(view)
    }

    fn apply(&mut self, event: ExecutionEvent, at: Timestamp) {
        match event {
            ExecutionEvent::Started(_)
            | ExecutionEvent::SignalReceived(_)
            | ExecutionEvent::Warning(_)
            | ExecutionEvent::TimerStarted(_)
            | ExecutionEvent::TimerFired(_)
            | ExecutionEvent::TimerCancelled(_) => return,
            ExecutionEvent::Forked(_)
            | ExecutionEvent::Queued(_)
            | ExecutionEvent::Admitted(_)
            | ExecutionEvent::ScopeCompleted(_)
            | ExecutionEvent::RunStarted(_)
            | ExecutionEvent::WaitSatisfied(_)
            | ExecutionEvent::EventEmitted(_)
            | ExecutionEvent::Responded(_)
            | ExecutionEvent::NodeDeadLettered(_)
            | ExecutionEvent::NodeCompensated(_)
            | ExecutionEvent::CompensationStarted(_)
            | ExecutionEvent::CompensationFinished(_)
            | ExecutionEvent::ChildStarted(_)
            | ExecutionEvent::ChildFinished(_)
            | ExecutionEvent::ChildCompensationRequested(_)
            | ExecutionEvent::ChildCompensated(_)
            | ExecutionEvent::Paused(_)
            | ExecutionEvent::Resumed(_)
            | ExecutionEvent::Retried(_) => return,
            ExecutionEvent::Terminated(e) => {
                return self.finish(ExecutionStatus::Terminated, at, e.duration_ms);
            }
            ExecutionEvent::NodeScheduled(e) => {
                let node = self.node(&e.node_id, e.node_type, e.run, e.attempt, NodeViewStatus::Scheduled);
                node.started_at = Some(at);
                node.finished_at = None;
                node.duration_ms = None;
            }
            ExecutionEvent::NodeStarted(e) => {
                self.node(&e.node_id, e.node_type, e.run, e.attempt, NodeViewStatus::Running).started_at =
                    Some(at);
            }
            ExecutionEvent::NodeWaiting(e) => {
                self.node(&e.node_id, e.node_type, e.run, e.attempt, NodeViewStatus::Waiting).started_at =
                    Some(at);
            }
            ExecutionEvent::NodeRetryScheduled(e) => {
                self.node(&e.node_id, e.node_type, e.run, e.attempt, NodeViewStatus::Waiting);
            }
            ExecutionEvent::NodeCompleted(e) => {
                let node = self.node(&e.node_id, e.node_type, e.run, e.attempt, NodeViewStatus::Completed);
                node.output = e.output;
                node.close(at, e.duration_ms);
            }
            ExecutionEvent::NodeFailed(e) => {
                let node = self.node(&e.node_id, e.node_type, e.run, e.attempt, NodeViewStatus::Failed);
                node.error = Some(e.error);
                node.close(at, e.duration_ms);
            }
            ExecutionEvent::NodeSkipped(e) => {
                self.node(&e.node_id, e.node_type, e.run, e.attempt, NodeViewStatus::Skipped);
            }
            ExecutionEvent::NodeCancelled(e) => {
                let node = self.node(&e.node_id, e.node_type, e.run, e.attempt, NodeViewStatus::Cancelled);
                node.finished_at = Some(at);
            }
            ExecutionEvent::Completed(e) => {
                self.output = e.output;
                self.ends = e.ends;
                return self.finish(ExecutionStatus::Completed, at, e.duration_ms);
            }
            ExecutionEvent::Failed(e) => {
                self.error = Some(ExecutionError { node_id: e.node_id, error: e.error });
                return self.finish(ExecutionStatus::Failed, at, e.duration_ms);
            }
            ExecutionEvent::Cancelled(e) => {
                self.cancel_reason = e.reason;
                return self.finish(ExecutionStatus::Cancelled, at, e.duration_ms);
            }
        }
        let mut open = self.nodes.iter().filter(|node| node.is_open()).peekable();
        let waits = open.peek().is_some() && open.all(|node| node.status == NodeViewStatus::Waiting);
        self.status = if waits { ExecutionStatus::Waiting } else { ExecutionStatus::Running };
    }

    fn finish(&mut self, status: ExecutionStatus, at: Timestamp, duration_ms: u64) {
        self.status = status;
        self.finished_at = Some(at);
        self.duration_ms = Some(duration_ms);
    }

    fn node(
        &mut self,
        id: &str,
        node_type: NodeType,
        run: u32,
        attempt: u32,
        status: NodeViewStatus,
    ) -> &mut NodeView {
        let index = self.nodes.iter().position(|node| node.id == id).unwrap_or_else(|| {
            self.nodes.push(NodeView::pending(id, node_type));
            self.nodes.len() - 1
        });
        let node = &mut self.nodes[index];
        node.run = run;
        node.attempt = attempt;
        node.status = status;
        node
    }

    /// Adds the nodes that have no event of their own: those not reached yet, and start and end.
    #[must_use]
    pub fn with_all_nodes(mut self, definition: &Definition) -> Self {
        let mut known: std::collections::HashMap<String, NodeView> =
            self.nodes.drain(..).map(|node| (node.id.clone(), node)).collect();
        for node in definition.graph.nodes() {
            let mut view =
                known.remove(&node.id).unwrap_or_else(|| NodeView::pending(&node.id, node.node_type));
            match node.node_type {
                NodeType::Start => {
                    view.settle(NodeViewStatus::Completed, Some(self.started_at));
                    view.output.clone_from(&self.input);
                }
                NodeType::End if self.ends.contains(&node.id) => {
                    view.settle(NodeViewStatus::Completed, self.finished_at);
                    let own =
                        if self.ends.len() > 1 { self.output.get(&node.id) } else { Some(&self.output) };
                    view.output = own.cloned().unwrap_or_default();
                }
                NodeType::End if self.status == ExecutionStatus::Completed => {
                    view.settle(NodeViewStatus::Skipped, None);
                }
                _ => {}
            }
            self.nodes.push(view);
        }
        self
    }
}

impl NodeView {
    fn close(&mut self, at: Timestamp, duration_ms: u64) {
        self.started_at.get_or_insert(at);
        self.finished_at = Some(at);
        self.duration_ms = Some(duration_ms);
    }

    fn settle(&mut self, status: NodeViewStatus, at: Option<Timestamp>) {
        self.status = status;
        self.run = 1;
        self.attempt = u32::from(status == NodeViewStatus::Completed);
        self.started_at = at;
        self.finished_at = at;
        self.duration_ms = at.map(|_| 0);
    }
}
