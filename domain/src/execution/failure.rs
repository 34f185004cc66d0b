//! What a failure means: another attempt, another way on, the failure of what is around it, or the end.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

use crate::decision::Need;
use crate::event::ExecutionEvent;
use crate::node_type::{NodeType, RunsIn};
use crate::workflow::definition::OnError;

use super::MAX_LOST_WORKERS;
use super::advance::Place;
use super::event::{
    Effects, Ending, ErrorKind, ExecutionCancelled, ExecutionFailed, ExecutionTerminated, NodeCancelled,
    NodeDeadLettered, NodeError, NodeRetryScheduled, StopChild, StoppedChild, TimerCancelled, TimerPurpose,
};
use super::paths::{container_of, is_inside, scope_of};
use super::progress::{Progress, custom_error};
use super::state::{NodeState, NodeStatus, Phase};

/// Where the path of the node that failed stands in the error of what is around it.
const INNER_NODE: &str = "node_id";

impl<'a> Progress<'a> {
    /// Another attempt, another way on, or the failure of what is around the node.
    pub(super) fn after_failure(&mut self, place: &Place<'a>, state: &NodeState) -> Result<(), Vec<Need>> {
        if self.tries_again(place, state, None)? {
            return Ok(());
        }
        let (run, attempt) = (state.run, state.attempt);
        let error = error_of(state);
        let handle = match place.node.on_error {
            OnError::Fail => {
                self.dead_letter(place, state, &error);
                self.fail_up(&place.path, error);
                return Ok(());
            }
            OnError::Continue => None,
            OnError::Route => Some("error".to_owned()),
        };
        self.complete_node(place, run, attempt, json!({ "error": error }), handle);
        Ok(())
    }

    /// Begins or schedules another attempt, if the node's policy has one left. What undoes sees the run that it undoes.
    pub(super) fn tries_again(
        &mut self,
        place: &Place<'a>,
        state: &NodeState,
        undoing: Option<(&str, u32)>,
    ) -> Result<bool, Vec<Need>> {
        let (run, attempt) = (state.run, state.attempt);
        let error = error_of(state);
        if error.kind == ErrorKind::WorkerLost && state.lost_workers <= MAX_LOST_WORKERS {
            self.begin_undoing(place, run, attempt + 1, undoing)?;
            return Ok(true);
        }
        let failed = attempt - state.attempts_before.min(attempt);
        let failed_attempts = failed.saturating_sub(state.lost_workers.min(MAX_LOST_WORKERS));
        let NodeStatus::Failed { at } = state.status else { return Ok(false) };
        let Some(retry) = &place.node.retry else { return Ok(false) };
        if !retry.retry_on.contains(&error.kind)
            || failed_attempts >= retry.max_attempts
            // What is on record stays as it is.
            || self.effects() != Effects::Live
        {
            return Ok(false);
        }
        // From the failure's own time, not from now: continuing from a prefix gives the same time.
        let due_at = at.plus_ms(retry.pause_ms(failed_attempts, self.random(place, run, attempt)));
        self.record(NodeRetryScheduled {
            node_id: place.path.to_string(),
            run,
            attempt: attempt + 1,
            node_type: place.node.node_type,
            due_at,
        });
        Ok(true)
    }

    /// Notes that a worker node ran out of attempts, once.
    fn dead_letter(&mut self, place: &Place<'a>, state: &NodeState, error: &NodeError) {
        let node_type = place.node.node_type;
        if place.node.config.runs_in(node_type) != RunsIn::Worker
            || state.dead_lettered == state.attempt
            || self.effects() != Effects::Live
        {
            return;
        }
        self.record(NodeDeadLettered {
            node_id: place.path.to_string(),
            run: state.run,
            attempt: state.attempt,
            node_type,
            error: error.clone(),
        });
    }

    /// A number that is the same for the same attempt, and differs between executions.
    fn random(&self, place: &Place<'a>, run: u32, attempt: u32) -> u64 {
        let digest = Sha256::new()
            .chain_update(self.facts.stream.as_bytes())
            .chain_update(place.path.as_bytes())
            .chain_update(run.to_be_bytes())
            .chain_update(attempt.to_be_bytes())
            .finalize();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// A failure that a scope does not get over: its container fails, or the execution.
    pub(super) fn fail_up(&mut self, path: &Arc<str>, mut error: NodeError) {
        let inner = error.details.get(INNER_NODE).and_then(Value::as_str).map(str::to_owned);
        let is_container = self.definition.node(path).is_some_and(|node| node.node_type.is_container());
        let failed = inner.filter(|_| is_container).unwrap_or_else(|| path.to_string());
        let Some((container, _)) = container_of(scope_of(path)) else {
            return self.end(Ending::Failed { node_id: Some(failed), error });
        };
        let container: Arc<str> = Arc::from(container);
        let Some(place) = self.place(&container) else { return };
        let (run, attempt) =
            self.state.nodes.get(&*container).map_or((1, 1), |node| (node.run, node.attempt));
        match &mut error.details {
            Value::Object(details) => {
                details.insert(INNER_NODE.to_owned(), Value::String(failed));
            }
            details => *details = json!({ INNER_NODE: failed }),
        }
        self.fail_container(&place, run, attempt, error);
    }

    /// Fails a container, after what runs inside it is stopped.
    pub(super) fn fail_container(&mut self, place: &Place<'a>, run: u32, attempt: u32, error: NodeError) {
        if self.stop_inside(&place.path, "what is around it failed") {
            self.fail_attempt(place, run, attempt, error);
        }
    }

    /// Cancels what is open inside a container. `false` if the next decision must go on with it.
    fn stop_inside(&mut self, container: &str, reason: &str) -> bool {
        let first: Arc<str> = Arc::from(format!("{container}/"));
        let inside = self.state.nodes.range(first..);
        let open: Vec<Arc<str>> = inside
            .take_while(|(path, _)| is_inside(path, container))
            .filter(|(_, node)| node.status.is_open() && !matches!(node.status, NodeStatus::Failed { .. }))
            .map(|(path, _)| path.clone())
            .collect();
        for path in open {
            if self.must_yield() {
                return false;
            }
            self.cancel_one(&path, reason, StopChild::Cancel);
        }
        true
    }

    /// Cancels a node that is not done, with all that is inside it.
    pub(super) fn cancel_node(&mut self, path: &Arc<str>, reason: &str) {
        let state = self.state.nodes.get(&**path);
        if state.is_some_and(|state| state.status.is_settled()) {
            return;
        }
        if state.is_some_and(|state| state.iterations.is_some()) && !self.stop_inside(path, reason) {
            return;
        }
        self.cancel_one(path, reason, StopChild::Cancel);
        self.look_at(path);
    }

    fn cancel_one(&mut self, path: &Arc<str>, reason: &str, how: StopChild) {
        // A node of another definition can only be here after a fork; its type is for readers of the log.
        let node_type = self.definition.node(path).map_or(NodeType::Transform, |node| node.node_type);
        let (node_id, mut run, mut attempt, mut child) = (path.to_string(), 1, 0, None);
        if let Some(state) = self.state.nodes.get(&**path).cloned() {
            (run, attempt) = (state.run, state.attempt);
            let purpose = match state.status {
                NodeStatus::Waiting { due_at: Some(_) } if state.wait.is_some() => Some(TimerPurpose::Wait),
                NodeStatus::Waiting { due_at: Some(_) } => Some(TimerPurpose::Delay),
                NodeStatus::BackingOff { timer_started: true, .. } => Some(TimerPurpose::Backoff),
                _ => None,
            };
            if let Some(purpose) = purpose {
                self.record(TimerCancelled { node_id: node_id.clone(), run, attempt, purpose });
            }
            if let (NodeStatus::Waiting { .. }, Some(execution_id)) = (&state.status, state.child) {
                child = Some(StoppedChild { execution_id, how });
            }
        }
        self.record(NodeCancelled { node_id, run, attempt, node_type, reason: reason.to_owned(), child });
    }

    /// Ends the execution, undoing what it did where there is something to undo.
    pub(super) fn end(&mut self, cause: Ending) {
        if self.state.phase == Phase::Compensating {
            return;
        }
        let open = self.open_nodes();
        // What does not fit into this append is stopped by the decisions that undo.
        if self.has_work_to_undo() || !self.has_room_for(2 * open.len() + 3) {
            return self.start_compensation(cause, None);
        }
        let reason = stopped_because(&cause);
        for path in open {
            self.cancel_one(&path, reason, StopChild::Cancel);
        }
        self.record_end(cause);
    }

    /// Paths of nodes that are open, but for those whose failure is being dealt with.
    pub(super) fn open_nodes(&self) -> Vec<Arc<str>> {
        if self.state.open_leaves == 0 && self.state.scopes.values().all(|scope| scope.open == 0) {
            return Vec::new();
        }
        let open =
            self.state.nodes.iter().filter(|(_, node)| {
                node.status.is_open() && !matches!(node.status, NodeStatus::Failed { .. })
            });
        open.map(|(path, _)| path.clone()).collect()
    }

    /// Cancels one open node because of the end.
    pub(super) fn stop_for(&mut self, path: &Arc<str>, cause: &Ending) {
        self.cancel_one(path, stopped_because(cause), StopChild::Cancel);
    }

    /// The last event.
    pub(super) fn record_end(&mut self, cause: Ending) {
        let (duration_ms, notice) = (self.age_ms(), self.notice());
        let event: ExecutionEvent = match cause {
            Ending::Failed { node_id, error } => {
                ExecutionFailed { node_id, error, duration_ms, notice }.into()
            }
            Ending::Cancelled { reason } => ExecutionCancelled { reason, duration_ms, notice }.into(),
            // It had ended before.
            Ending::ByParent => return,
        };
        self.record(event);
    }

    /// Ends the execution at once. Children and waits are stopped as far as one append holds; attempts that are with
    /// workers are stopped by whoever hears of the end.
    pub(super) fn terminate(&mut self, reason: Option<String>) {
        let mut open = self.open_nodes();
        let has_child =
            |path: &Arc<str>| self.state.nodes.get(&**path).is_none_or(|node| node.child.is_none());
        open.sort_by_cached_key(has_child);
        for path in open {
            if !self.has_room_for(5) {
                break;
            }
            self.cancel_one(&path, "the execution was terminated", StopChild::Terminate);
        }
        self.leave_undone();
        let (duration_ms, notice) = (self.age_ms(), self.notice());
        self.record(ExecutionTerminated { reason, duration_ms, notice });
    }
}

fn stopped_because(cause: &Ending) -> &'static str {
    match cause {
        Ending::Failed { .. } => "the execution failed",
        Ending::Cancelled { .. } => "the execution was cancelled",
        Ending::ByParent => "its parent undoes its work",
    }
}

pub(super) fn error_of(state: &NodeState) -> NodeError {
    state.error.clone().unwrap_or_else(|| custom_error("the attempt failed".to_owned()))
}
