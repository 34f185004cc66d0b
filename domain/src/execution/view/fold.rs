//! What one event changes of a view.

use crate::event::{ExecutionEvent, RecordedEvent};
use crate::node_type::NodeType;
use crate::time::Timestamp;

use super::super::event::{
    CompensationFinished, CompensationStarted, CompensationStatus, Ending, ExecutionQueued, ExecutionRetried,
    ExecutionStarted, RunStarted,
};
use super::super::paths::container_of;
use super::super::state::ExecutionStatus;
use super::bodies::{Bodies, is_nested};
use super::nodes::{NodeChild, NodeIterations, NodeView, NodeViewStatus, OpenNodes};
use super::{CompensationView, ConcurrencyView, ExecutionError, ExecutionView};

impl ExecutionView {
    /// The view of an execution that has just started.
    pub(super) fn started(recorded: &RecordedEvent, started: ExecutionStarted) -> Self {
        Self {
            id: recorded.stream,
            workflow_id: started.workflow_id,
            workflow_name: started.workflow_name,
            workflow_version: started.workflow_version,
            status: ExecutionStatus::Running,
            paused: false,
            input: started.input,
            output: serde_json::Value::Null,
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
            concurrency: None,
            compensation: None,
            forked_from: None,
            parent: started.parent,
            owner: started.owner,
            open_nodes: Some(OpenNodes::default()),
            nodes: Vec::new(),
        }
    }

    /// Folds one more event. `bodies` must have what [`touched_by`](super::touched_by) names of the event, as far as it
    /// exists.
    pub(super) fn apply(&mut self, bodies: &mut Bodies, event: ExecutionEvent, at: Timestamp) {
        // An earlier release kept no count, and had no bodies.
        self.open_nodes.get_or_insert_with(|| OpenNodes::of(&self.nodes));
        if let Some(event) = self.apply_to_node(bodies, event, at) {
            self.apply_to_all(bodies, event, at);
        }
        self.settle_status();
    }

    /// An event of the execution as a whole.
    fn apply_to_all(&mut self, bodies: &mut Bodies, event: ExecutionEvent, at: Timestamp) {
        match event {
            // A second first event says nothing.
            ExecutionEvent::Started(_) | ExecutionEvent::Forked(_) => {}
            ExecutionEvent::Queued(e) => self.queue(e, at),
            ExecutionEvent::Admitted(_) => {
                if let Some(concurrency) = &mut self.concurrency {
                    concurrency.admitted_at = Some(at);
                }
            }
            ExecutionEvent::CompensationStarted(e) => self.begin_compensation(e, at),
            ExecutionEvent::CompensationFinished(e) => self.end_compensation(e, at),
            ExecutionEvent::Paused(_) => self.paused = true,
            ExecutionEvent::Resumed(_) => self.paused = false,
            ExecutionEvent::Retried(e) => self.retry(bodies, &e),
            ExecutionEvent::RunStarted(e) => self.run_anew(bodies, &e),
            ExecutionEvent::Completed(e) => {
                self.output = e.output;
                self.ends = e.ends;
                self.finish(ExecutionStatus::Completed, at, e.duration_ms);
            }
            ExecutionEvent::Failed(e) => {
                self.error = Some(ExecutionError { node_id: e.node_id, error: e.error });
                self.finish(ExecutionStatus::Failed, at, e.duration_ms);
            }
            ExecutionEvent::Cancelled(e) => {
                self.cancel_reason = e.reason;
                self.finish(ExecutionStatus::Cancelled, at, e.duration_ms);
            }
            ExecutionEvent::Terminated(e) => {
                self.cancel_reason = e.reason;
                self.finish(ExecutionStatus::Terminated, at, e.duration_ms);
            }
            // What does not show.
            ExecutionEvent::SignalReceived(_)
            | ExecutionEvent::WaitSatisfied(_)
            | ExecutionEvent::EventEmitted(_)
            | ExecutionEvent::Responded(_)
            | ExecutionEvent::NodeDeadLettered(_)
            | ExecutionEvent::ChildCompensationRequested(_)
            | ExecutionEvent::ChildCompensated(_)
            | ExecutionEvent::TimerStarted(_)
            | ExecutionEvent::TimerFired(_)
            | ExecutionEvent::TimerCancelled(_)
            | ExecutionEvent::Warning(_)
            // What `apply_to_node` keeps.
            | ExecutionEvent::NodeScheduled(_)
            | ExecutionEvent::NodeStarted(_)
            | ExecutionEvent::ScopeCompleted(_)
            | ExecutionEvent::NodeCompleted(_)
            | ExecutionEvent::NodeFailed(_)
            | ExecutionEvent::NodeSkipped(_)
            | ExecutionEvent::NodeCancelled(_)
            | ExecutionEvent::NodeWaiting(_)
            | ExecutionEvent::NodeRetryScheduled(_)
            | ExecutionEvent::NodeCompensated(_)
            | ExecutionEvent::ChildStarted(_)
            | ExecutionEvent::ChildFinished(_) => {}
        }
    }

    /// An event of a single node; gives back any other.
    fn apply_to_node(
        &mut self,
        bodies: &mut Bodies,
        event: ExecutionEvent,
        at: Timestamp,
    ) -> Option<ExecutionEvent> {
        match event {
            ExecutionEvent::NodeScheduled(e) => self.change(bodies, &e.node_id, e.node_type, |node| {
                node.at(e.run, e.attempt, NodeViewStatus::Scheduled);
                node.begin(at);
            }),
            ExecutionEvent::NodeStarted(e) => self.change(bodies, &e.node_id, e.node_type, |node| {
                node.at(e.run, e.attempt, NodeViewStatus::Running);
                node.begin(at);
                if e.node_type.is_container() {
                    node.iterations = Some(NodeIterations { count: e.count, completed: 0 });
                }
            }),
            ExecutionEvent::ScopeCompleted(e) => {
                let (container, _) = container_of(&e.node_id)?;
                self.change_known(bodies, container, |node| {
                    if let Some(iterations) = &mut node.iterations {
                        iterations.completed += 1;
                    }
                });
            }
            ExecutionEvent::NodeCompleted(e) => self.change(bodies, &e.node_id, e.node_type, |node| {
                node.at(e.run, e.attempt, NodeViewStatus::Completed);
                node.output = e.output;
                node.close(at, e.duration_ms);
            }),
            ExecutionEvent::NodeFailed(e) => self.change(bodies, &e.node_id, e.node_type, |node| {
                node.at(e.run, e.attempt, NodeViewStatus::Failed);
                node.error = Some(e.error);
                node.close(at, e.duration_ms);
            }),
            ExecutionEvent::NodeSkipped(e) => self.change(bodies, &e.node_id, e.node_type, |node| {
                node.at(e.run, e.attempt, NodeViewStatus::Skipped);
            }),
            ExecutionEvent::NodeCancelled(e) => self.change(bodies, &e.node_id, e.node_type, |node| {
                node.at(e.run, e.attempt, NodeViewStatus::Cancelled);
                node.finished_at = Some(at);
            }),
            ExecutionEvent::NodeWaiting(e) => self.change(bodies, &e.node_id, e.node_type, |node| {
                node.at(e.run, e.attempt, NodeViewStatus::Waiting);
                node.begin(at);
            }),
            ExecutionEvent::NodeRetryScheduled(e) => self.change(bodies, &e.node_id, e.node_type, |node| {
                node.at(e.run, e.attempt, NodeViewStatus::Waiting);
            }),
            ExecutionEvent::NodeCompensated(e) => self.change_known(bodies, &e.node_id, |node| {
                // An earlier run's work is undone too; the node shows what became of its latest.
                if node.run == e.run {
                    node.status = NodeViewStatus::Compensated;
                }
            }),
            ExecutionEvent::ChildStarted(e) => {
                self.change(bodies, &e.node_id, NodeType::SubWorkflow, |node| {
                    node.at(e.run, e.attempt, NodeViewStatus::Running);
                    node.begin(at);
                    node.child = Some(NodeChild { execution_id: e.child_id, status: None });
                })
            }
            ExecutionEvent::ChildFinished(e) => self.change_known(bodies, &e.node_id, |node| {
                if let Some(child) = node.child.as_mut().filter(|child| child.execution_id == e.child_id) {
                    child.status = Some(e.status);
                }
            }),
            other => return Some(other),
        }
        None
    }

    /// Changes a node, which begins here if it has no event yet.
    pub(super) fn change(
        &mut self,
        bodies: &mut Bodies,
        path: &str,
        node_type: NodeType,
        change: impl FnOnce(&mut NodeView),
    ) {
        let open = self.open_nodes.get_or_insert_default();
        let node = if is_nested(path) {
            bodies.entry(path, node_type)
        } else {
            let index = self.nodes.iter().position(|node| node.id == path).unwrap_or_else(|| {
                self.nodes.push(NodeView::pending(path, node_type));
                self.nodes.len() - 1
            });
            &mut self.nodes[index]
        };
        open.leave(node);
        node.node_type = node_type;
        change(node);
        open.enter(node);
    }

    /// The type of a node that has an event.
    pub(super) fn node_type(&self, bodies: &Bodies, path: &str) -> Option<NodeType> {
        let node =
            if is_nested(path) { bodies.get(path) } else { self.nodes.iter().find(|node| node.id == path) };
        node.map(|node| node.node_type)
    }

    /// Changes a node that has an event.
    pub(super) fn change_known(
        &mut self,
        bodies: &mut Bodies,
        path: &str,
        change: impl FnOnce(&mut NodeView),
    ) {
        let open = self.open_nodes.get_or_insert_default();
        let node = if is_nested(path) {
            bodies.get_mut(path)
        } else {
            self.nodes.iter_mut().find(|node| node.id == path)
        };
        let Some(node) = node else { return };
        open.leave(node);
        change(node);
        open.enter(node);
    }

    /// A back edge was taken: its region is pending again, with what lies inside.
    fn run_anew(&mut self, bodies: &mut Bodies, event: &RunStarted) {
        for path in &event.nodes {
            // Of a node without events the type is not known here, and nothing depends on it until it has one;
            // `typed_by` puts it right for readers.
            let known = self.node_type(bodies, path);
            self.change(bodies, path, known.unwrap_or(NodeType::Transform), NodeView::next_run);
            let open = self.open_nodes.get_or_insert_default();
            for node in bodies.inside_mut(path) {
                open.leave(node);
                node.next_run();
            }
        }
    }

    /// An execution that had ended goes on.
    fn retry(&mut self, bodies: &mut Bodies, event: &ExecutionRetried) {
        self.status = ExecutionStatus::Running;
        // One that undoes its work for its parent has completed, and stays so.
        let by_parent =
            self.compensation.as_ref().is_some_and(|compensation| compensation.cause == Ending::ByParent);
        if !(event.compensation && by_parent) {
            self.finished_at = None;
            self.duration_ms = None;
            self.error = None;
            self.cancel_reason = None;
        }
        for path in &event.nodes {
            self.change_known(bodies, path, NodeView::go_on);
        }
        if !event.compensation {
            self.compensation = None;
        } else if let Some(compensation) = &mut self.compensation {
            compensation.status = CompensationStatus::Running;
            compensation.finished_at = None;
            compensation.node_id = None;
            compensation.error = None;
        }
    }

    fn queue(&mut self, event: ExecutionQueued, at: Timestamp) {
        self.concurrency = Some(ConcurrencyView {
            key: event.key,
            limit: event.limit,
            on_limit: event.on_limit,
            queued_at: at,
            admitted_at: None,
        });
    }

    fn begin_compensation(&mut self, event: CompensationStarted, at: Timestamp) {
        // It may have completed, and its parent has it undo that.
        self.status = ExecutionStatus::Compensating;
        self.paused = false;
        self.compensation = Some(CompensationView {
            status: CompensationStatus::Running,
            cause: event.cause,
            started_at: at,
            finished_at: None,
            node_id: None,
            error: None,
        });
    }

    fn end_compensation(&mut self, event: CompensationFinished, at: Timestamp) {
        let Some(compensation) = &mut self.compensation else { return };
        compensation.status = event.status;
        compensation.finished_at = Some(at);
        compensation.node_id = event.node_id;
        compensation.error = event.error;
        if compensation.cause == Ending::ByParent {
            self.status = ExecutionStatus::Completed;
        }
    }

    fn finish(&mut self, status: ExecutionStatus, at: Timestamp, duration_ms: u64) {
        self.status = status;
        self.paused = false;
        self.finished_at = Some(at);
        self.duration_ms = Some(duration_ms);
    }

    /// What its parts say of an execution that has not ended.
    pub(super) fn settle_status(&mut self) {
        if self.status.is_final() {
            return;
        }
        let is_queued = self.concurrency.as_ref().is_some_and(|key| key.admitted_at.is_none());
        // Also when the compensation is over: the end follows, and only then has it ended.
        let compensates = self.compensation.is_some();
        self.status = if compensates {
            ExecutionStatus::Compensating
        } else if is_queued {
            ExecutionStatus::Pending
        } else if self.paused {
            ExecutionStatus::Paused
        } else if self.open_nodes.is_some_and(OpenNodes::only_wait) {
            ExecutionStatus::Waiting
        } else {
            ExecutionStatus::Running
        };
    }
}
