//! The view of a fork: its origin's at a version, as the engine takes it over.
//!
//! The counterpart of [`forked`](super::super::forked) of the engine's state: what is finished stays finished, with the
//! origin's times; what was in flight begins anew; what waits inside the engine goes on waiting.

use crate::event::RecordedEvent;
use crate::node_type::NodeType;
use crate::time::Timestamp;

use super::super::event::ExecutionForked;
use super::super::state::ExecutionStatus;
use super::bodies::Bodies;
use super::nodes::{NodeChild, NodeView, NodeViewStatus, OpenNodes};
use super::{ExecutionView, ForkedFrom};

impl ExecutionView {
    /// The view of a fork after its first event, given its origin's at the version that the event names and all nodes
    /// of the origin's bodies.
    pub(super) fn forked(
        self,
        bodies: &mut Bodies,
        recorded: &RecordedEvent,
        event: ExecutionForked,
    ) -> Self {
        let had_ended = self.status.is_final() || self.compensation.is_some();
        let mut view = self;
        let mut open = OpenNodes::default();
        for node in view.nodes.iter_mut().chain(bodies.all_mut()) {
            node.take_over(&event, had_ended);
            open.enter(node);
        }
        view.open_nodes = Some(open);
        for path in &event.anew {
            view.change_known(bodies, path, |node| {
                (node.iterations, node.child) = (None, None);
                node.reset();
            });
        }
        for (path, output) in event.node_outputs {
            let known = view.node_type(bodies, &path).unwrap_or(NodeType::Transform);
            let completes = event.node_handles.contains_key(&path);
            view.change(bodies, &path, known, |node| node.give(output, completes, recorded.recorded_at));
        }
        view.id = recorded.stream;
        view.workflow_id = event.workflow_id;
        view.workflow_name = event.workflow_name;
        view.workflow_version = event.workflow_version;
        view.status = ExecutionStatus::Running;
        view.paused = false;
        view.input = event.input.unwrap_or(view.input);
        view.output = serde_json::Value::Null;
        view.error = None;
        view.cancel_reason = None;
        view.started_at = recorded.recorded_at;
        view.finished_at = None;
        view.duration_ms = None;
        view.version = recorded.version;
        view.started_by = recorded.actor.as_str().to_owned();
        view.ends = Vec::new();
        view.concurrency = None;
        view.compensation = None;
        view.parent = event.parent;
        view.owner = event.owner;
        view.forked_from = Some(ForkedFrom {
            execution_id: event.origin,
            at_version: event.at_version,
            effects: event.effects,
        });
        view.settle_status();
        view
    }
}

impl NodeView {
    /// The node of an origin in its fork.
    fn take_over(&mut self, fork: &ExecutionForked, had_ended: bool) {
        let forked_child = |child: &NodeChild| {
            let forked = fork.children.iter().find(|forked| forked.origin == child.execution_id)?;
            Some(NodeChild { execution_id: forked.child, status: None })
        };
        let child = self.child.as_ref().and_then(forked_child);
        match self.status {
            NodeViewStatus::Running if self.iterations.is_some() || child.is_some() => {}
            NodeViewStatus::Scheduled | NodeViewStatus::Running => self.reset(),
            NodeViewStatus::Failed => self.go_on(),
            NodeViewStatus::Cancelled if had_ended => self.go_on(),
            // What the origin has undone is done in the fork.
            NodeViewStatus::Compensated => self.status = NodeViewStatus::Completed,
            NodeViewStatus::Pending
            | NodeViewStatus::Waiting
            | NodeViewStatus::Completed
            | NodeViewStatus::Skipped
            | NodeViewStatus::Cancelled => {}
        }
        if child.is_some() {
            self.child = child;
        }
    }

    /// The output that whoever made the fork has given; it completes a node that had not completed.
    fn give(&mut self, output: serde_json::Value, has_handle: bool, at: Timestamp) {
        self.output = output;
        if has_handle || self.status != NodeViewStatus::Completed {
            self.at(self.run.max(1), self.attempt.max(1), NodeViewStatus::Completed);
            self.close(at, 0);
        }
    }

    /// What was stopped, or failed, goes on: iterations where they are, everything else with another attempt.
    pub(super) fn go_on(&mut self) {
        let started_at = self.started_at;
        self.reset();
        if self.iterations.is_some() {
            self.status = NodeViewStatus::Running;
            self.started_at = started_at;
        }
    }
}
