//! Saga: undoing what was done, newest first.
//!
//! ```text
//!   compensation.started ──► what is open is stopped; attempts with workers have a grace ──► one after another:
//!        its compensating node runs ──► node.compensated ──► … ──► compensation.finished ──► the end
//! ```
//!
//! Strictly one at a time. A compensating node is retried as its own policy says; when it fails for good, nothing older
//! is undone, because what it did may depend on what could not be undone. That end can be retried.

use std::sync::Arc;

use crate::decision::{Need, WakeupKind};
use crate::node_type::NodeType;
use crate::workflow::definition::{Node, OnError};

use super::advance::Place;
use super::event::{
    ChildCompensationRequested, CompensationFinished, CompensationStarted, CompensationStatus, Ending,
    NodeCompensated, NodeError, ParentRef, TimerPurpose,
};
use super::failure::error_of;
use super::paths::{join, scope_of};
use super::progress::{Progress, custom_error};
use super::state::{CompensationState, Completion, NodeStatus, Phase};

/// How long attempts that are asked to stop may take to give a result, in milliseconds.
const STOP_GRACE_MS: u64 = 10_000;

/// How the work of a node is undone.
enum Undo {
    /// By another node of its graph.
    Node(Arc<str>),
    /// By its child itself.
    Child(uuid::Uuid),
}

impl<'a> Progress<'a> {
    /// Whether anything was done, or may be done yet, that can be undone.
    pub(super) fn has_work_to_undo(&self) -> bool {
        let in_flight = || {
            self.state.nodes.iter().any(|(path, node)| {
                node.status.is_in_flight()
                    && self.definition.node(path).is_some_and(|node| node.compensate.is_some())
            })
        };
        self.state.completions.iter().any(|entry| self.undo_of(entry).is_some())
            || (self.state.open_leaves > 0 && in_flight())
    }

    /// Begins to undo.
    pub(super) fn start_compensation(&mut self, cause: Ending, parent: Option<ParentRef>) {
        let has_work = self.has_work_to_undo();
        self.record(CompensationStarted { cause, parent });
        let waits = self.state.compensation.as_ref().is_some_and(|state| !state.stopping.is_empty());
        if has_work && waits {
            self.wake_at(self.facts.now.plus_ms(STOP_GRACE_MS), WakeupKind::StopGrace);
        }
        self.look_at_scope(&Arc::from(""));
    }

    /// The time of attempts that were asked to stop is over.
    pub(super) fn end_grace(&mut self) {
        let Some(compensation) = self.state.compensation.clone() else { return };
        for path in &compensation.stopping {
            if self.budget.is_spent(self.outcome.events.len()) {
                // The rest has had its time too.
                self.wake_at(self.facts.now.plus_ms(1), WakeupKind::StopGrace);
                return;
            }
            self.stop_for(path, &compensation.cause);
        }
    }

    /// Goes on with undoing.
    pub(super) fn compensate(&mut self) -> Result<(), Vec<Need>> {
        let Some(compensation) = self.state.compensation.clone() else { return Ok(()) };
        if !self.scopes.is_empty() {
            if !self.stop_all(&compensation) {
                return Ok(());
            }
            while self.next_scope().is_some() {}
        }
        while self.next_node().is_some() {}
        let is_waiting = self.state.compensation.as_ref().is_some_and(|state| !state.stopping.is_empty());
        if is_waiting {
            return Ok(());
        }
        while !self.is_over() && !self.must_yield() {
            if !self.undo_next()? {
                break;
            }
        }
        while self.next_node().is_some() {}
        Ok(())
    }

    /// Stops what is open. Attempts with workers are left their time, if there is something to undo.
    fn stop_all(&mut self, compensation: &CompensationState) -> bool {
        let has_work = self.has_work_to_undo();
        for path in self.open_nodes() {
            let Some(place) = self.place(&path) else { continue };
            let is_undoing = place.graph.is_compensator(place.index);
            if is_undoing || (has_work && compensation.stopping.contains(&path)) {
                continue;
            }
            self.stop_for(&path, &compensation.cause);
            if self.must_yield() {
                return false;
            }
        }
        true
    }

    /// How the work of a run is undone, if it can be and is not yet.
    fn undo_of(&self, entry: &Completion) -> Option<Undo> {
        let node: &Node = self.definition.node(&entry.path)?;
        let compensation = self.state.compensation.as_ref();
        let is_done =
            compensation.is_some_and(|state| state.compensated.contains(&(entry.path.clone(), entry.run)));
        let state = self.state.nodes.get(&*entry.path)?;
        let is_known = entry.attempt > 0;
        let completed_later = state.output_of(entry.run).is_some() && state.error.is_none();
        if is_done || (!is_known && (!node.compensate_unknown || completed_later)) {
            return None;
        }
        if let Some(id) = &node.compensate {
            return Some(Undo::Node(join(scope_of(&entry.path), id)));
        }
        if node.node_type == NodeType::SubWorkflow && is_known {
            return state.child_of(entry.run).map(Undo::Child);
        }
        None
    }

    /// The newest run that is still to be undone.
    fn next_to_undo(&self) -> Option<(Completion, Undo)> {
        let left = self.state.compensation.as_ref()?.left;
        (0..left).rev().find_map(|at| {
            let entry = self.state.completions.get(at)?;
            Some((entry.clone(), self.undo_of(entry)?))
        })
    }

    /// One step of undoing. Whether another may follow at once.
    fn undo_next(&mut self) -> Result<bool, Vec<Need>> {
        match self.next_to_undo() {
            None => {
                self.finish_compensation(CompensationStatus::Completed, None, None);
                Ok(false)
            }
            Some((entry, Undo::Node(by))) => self.undo_by_node(&entry, &by),
            Some((entry, Undo::Child(child))) => Ok(self.undo_by_child(&entry, child)),
        }
    }

    fn undo_by_node(&mut self, entry: &Completion, by: &Arc<str>) -> Result<bool, Vec<Need>> {
        let Some(place) = self.place(by) else { return Ok(false) };
        let undoing = Some((&*entry.path, entry.run));
        let done = self.state.compensator_runs.get(by).copied().unwrap_or(0);
        let Some(state) = self.state.nodes.get(&**by).cloned().filter(|state| state.run > done) else {
            self.begin_undoing(&place, done + 1, 1, undoing)?;
            return Ok(true);
        };
        let (run, attempt) = (state.run, state.attempt);
        match &state.status {
            NodeStatus::Completed { .. } => self.record_undone(entry, by, run),
            NodeStatus::Pending | NodeStatus::Skipped | NodeStatus::Cancelled => {
                self.begin_undoing(&place, run, attempt + 1, undoing)?;
            }
            NodeStatus::Scheduled { .. }
            | NodeStatus::Running { .. }
            | NodeStatus::Iterating
            | NodeStatus::BackingOff { timer_started: true, .. } => return Ok(false),
            NodeStatus::Waiting { due_at } => {
                if due_at.is_some() || state.child.is_some() {
                    return Ok(false);
                }
                self.begin_undoing(&place, run, attempt, undoing)?;
            }
            NodeStatus::BackingOff { due_at, timer_started: false } => {
                self.start_timer(&place, run, attempt, TimerPurpose::Backoff, *due_at);
                return Ok(false);
            }
            NodeStatus::Due { purpose: TimerPurpose::Backoff, .. } => {
                self.begin_undoing(&place, run, attempt, undoing)?;
            }
            NodeStatus::Due { at, .. } => {
                self.complete_node(&place, run, attempt, serde_json::json!(at), None);
            }
            NodeStatus::Failed { .. } => return self.after_failed_undo(&place, &state),
        }
        Ok(true)
    }

    fn after_failed_undo(
        &mut self,
        place: &Place<'a>,
        state: &super::state::NodeState,
    ) -> Result<bool, Vec<Need>> {
        if self.tries_again(place, state)? {
            return Ok(true);
        }
        let error = error_of(state);
        match place.node.on_error {
            OnError::Continue | OnError::Route => {
                let output = serde_json::json!({ "error": error });
                self.complete_node(place, state.run, state.attempt, output, None);
                Ok(true)
            }
            OnError::Fail => {
                let node = Some(place.path.to_string());
                self.finish_compensation(CompensationStatus::Failed, node, Some(error));
                Ok(false)
            }
        }
    }

    fn record_undone(&mut self, entry: &Completion, by: &Arc<str>, by_run: u32) {
        let node_type = self.definition.node(&entry.path).map_or(NodeType::Transform, |node| node.node_type);
        self.record(NodeCompensated {
            node_id: entry.path.to_string(),
            run: entry.run,
            attempt: entry.attempt,
            node_type,
            by: by.to_string(),
            by_run,
        });
    }

    /// A completed child undoes its own work, in its turn.
    fn undo_by_child(&mut self, entry: &Completion, child_id: uuid::Uuid) -> bool {
        let Some(compensation) = self.state.compensation.clone() else { return false };
        if compensation.asked.as_ref() != Some(&(entry.path.clone(), entry.run)) {
            let (node_id, run, attempt) = (entry.path.to_string(), entry.run, entry.attempt);
            self.record(ChildCompensationRequested { node_id, run, attempt, child_id });
            return false;
        }
        match &compensation.answered {
            None => false,
            Some(answer) if answer.status == CompensationStatus::Failed => {
                let node = Some(entry.path.to_string());
                self.finish_compensation(CompensationStatus::Failed, node, answer.error.clone());
                false
            }
            Some(_) => {
                self.record_undone(entry, &entry.path.clone(), entry.run);
                true
            }
        }
    }

    /// A parent that waits for the end of this compensation is told that it was broken off.
    pub(super) fn leave_undone(&mut self) {
        let waits = self.state.phase == Phase::Compensating
            && self.state.compensation.as_ref().is_some_and(|state| state.parent.is_some());
        if waits {
            let error = custom_error("the execution was terminated before it had undone its work".to_owned());
            let parent = self.state.compensation.as_ref().and_then(|state| state.parent.clone());
            let status = CompensationStatus::Failed;
            self.record(CompensationFinished { status, node_id: None, error: Some(error), parent });
        }
    }

    fn finish_compensation(
        &mut self,
        status: CompensationStatus,
        node_id: Option<String>,
        error: Option<NodeError>,
    ) {
        let Some(compensation) = self.state.compensation.clone() else { return };
        let parent = compensation.parent.clone();
        self.record(CompensationFinished { status, node_id, error, parent });
        self.record_end(compensation.cause.clone());
    }
}
