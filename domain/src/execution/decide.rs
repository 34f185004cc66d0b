//! What follows from a command to an execution: the one event that it states, then everything that follows inside the
//! engine.

use serde_json::{Value, json};
use std::sync::Arc;

use crate::blob::{MAX_DEPTH, is_too_deep};
use crate::decision::{Decision, Need, NodeRun, Wakeup, WakeupKind};
use crate::facts::{Fact, Facts};
use crate::node_type::NodeType;
use crate::rejection::{Problem, Rejection, RejectionKind};

use super::begin::{EVENT_WAIT_RENEWAL_MS, handle_of};
use super::command::ExecutionCommand;
use super::event::{
    Ending, ErrorKind, NodeCompleted, NodeError, NodeFailed, NodeStarted, SignalReceived, TimerFired,
    TimerPurpose,
};
use super::progress::{Progress, too_deep_error};
use super::start::start_execution;
use super::state::{ExecutionState, ExecutionStatus, NodeState, NodeStatus, Phase};
use super::{MAX_HISTORY_EVENTS, control, fork, not_found};

/// The most characters of a signal's name.
const MAX_SIGNAL_NAME_CHARS: usize = 128;

/// Why a command was not carried out: it is refused, or something must be fetched first.
pub(super) enum Stop {
    /// The caller's fault.
    Rejected(Rejection),
    /// Fetch these and ask again.
    Needs(Vec<Need>),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

impl From<Vec<Need>> for Stop {
    fn from(needs: Vec<Need>) -> Self {
        Self::Needs(needs)
    }
}

/// Decides a command on folded state.
pub fn decide(
    state: &ExecutionState,
    command: &ExecutionCommand,
    facts: &Facts,
) -> Result<Decision, Rejection> {
    match command {
        ExecutionCommand::Start(start) => return start_execution(state, start, facts),
        ExecutionCommand::Fork(wanted) => return fork::fork_execution(state, wanted, facts),
        _ => {}
    }
    let Some(started) = state.started.clone() else { return Err(not_found(facts.stream)) };
    let needs = needs_of_running(&started, facts);
    if !needs.is_empty() {
        return Ok(Decision::Needs(needs));
    }
    let Fact::Is(definition) = &facts.definition else {
        let detail = format!("the definition of execution {} is missing from the log", facts.stream);
        return Err(Rejection::new(RejectionKind::NotFound, "workflow_version_not_found", detail));
    };
    let mut progress = Progress::new(state.clone(), definition, facts);
    match carry_out(&mut progress, command) {
        Ok(()) => finish(progress),
        Err(Stop::Rejected(rejection)) => Err(rejection),
        Err(Stop::Needs(needs)) => Ok(Decision::Needs(needs)),
    }
}

fn carry_out(progress: &mut Progress<'_>, command: &ExecutionCommand) -> Result<(), Stop> {
    match command {
        // Dealt with by the caller.
        ExecutionCommand::Start(_) | ExecutionCommand::Fork(_) => {}
        ExecutionCommand::StartNode { node, worker } => start_node(progress, node, worker)?,
        ExecutionCommand::CompleteNode { node, result } => complete_node(progress, node, result)?,
        ExecutionCommand::LoseWorker { node } => {
            let error = NodeError {
                kind: ErrorKind::WorkerLost,
                message: "the worker gave no sign of life".to_owned(),
                retryable: true,
                details: Value::Null,
            };
            complete_node(progress, node, &Err(error))?;
        }
        ExecutionCommand::Wake(wakeup) => wake(progress, wakeup)?,
        ExecutionCommand::Signal { name, payload } => signal(progress, name, payload)?,
        ExecutionCommand::OfferEvent(offered) => {
            // A fork may wait for its lane with waits that its origin had begun.
            if progress.state.phase != Phase::Queued {
                refuse_unless_running(progress)?;
            }
            progress.take_event(offered)??;
        }
        ExecutionCommand::Cancel { reason } => control::cancel(progress, reason.as_deref())?,
        ExecutionCommand::Terminate { reason } => control::terminate(progress, reason.as_deref())?,
        ExecutionCommand::Pause { reason } => control::pause(progress, reason.as_deref())?,
        ExecutionCommand::Resume { reason } => control::resume(progress, reason.as_deref())?,
        ExecutionCommand::Retry { reason, node_inputs, dead_letter } => {
            control::retry(progress, reason.as_deref(), node_inputs, dead_letter.as_ref())?;
        }
        ExecutionCommand::Admit { lane } => control::admit(progress, *lane)?,
        ExecutionCommand::Drop { lane } => control::drop_queued(progress, *lane)?,
        ExecutionCommand::FinishChild { node, child, status, output, error } => {
            control::finish_child(progress, node, *child, *status, output, error.as_ref())?;
        }
        ExecutionCommand::Compensate { parent } => control::compensate(progress, parent)?,
        ExecutionCommand::ChildCompensated { node, child, status, error } => {
            control::child_compensated(progress, node, *child, *status, error.as_ref())?;
        }
    }
    Ok(())
}

/// Advances, and answers with the execution as it then is.
pub(super) fn finish(mut progress: Progress<'_>) -> Result<Decision, Rejection> {
    if let Err(needs) = progress.advance() {
        return Ok(Decision::Needs(needs));
    }
    progress.outcome.answer = json!({
        "execution_id": progress.facts.stream,
        "status": public_status(&progress.state),
    });
    Ok(Decision::Events(progress.into_outcome()))
}

/// The status that callers see.
pub(crate) fn public_status(state: &ExecutionState) -> ExecutionStatus {
    match state.phase {
        Phase::NotStarted | Phase::Queued => ExecutionStatus::Pending,
        Phase::Finished(status) => status,
        Phase::Compensating => ExecutionStatus::Compensating,
        Phase::Running if state.paused => ExecutionStatus::Paused,
        Phase::Running if state.open_leaves > 0 && state.busy_leaves == 0 => ExecutionStatus::Waiting,
        Phase::Running => ExecutionStatus::Running,
    }
}

fn needs_of_running(started: &super::state::StartedFacts, facts: &Facts) -> Vec<Need> {
    let mut needs = Vec::new();
    match &facts.definition {
        Fact::Unknown => {
            needs.push(Need::Definition { workflow: started.workflow_id, version: started.workflow_version })
        }
        Fact::Is(definition) if definition.uses_variables => {
            if let Fact::Unknown = facts.variables {
                needs.push(Need::Variables(Some(started.vars_version)));
            }
        }
        Fact::Is(_) | Fact::Absent => {}
    }
    needs
}

/// The node, if this very attempt is in flight.
fn attempt_in_flight<'s>(progress: &'s Progress<'_>, node: &NodeRun) -> Result<&'s NodeState, Rejection> {
    let current = progress.state.nodes.get(&*node.node_id).filter(|state| {
        matches!(progress.state.phase, Phase::Running | Phase::Compensating)
            && state.status.is_in_flight()
            && (state.run, state.attempt) == (node.run, node.attempt)
    });
    current.map(|node| &**node).ok_or_else(|| {
        let detail = format!(
            "attempt {} of run {} of node `{}` of execution {} is not in flight any more",
            node.attempt, node.run, node.node_id, progress.facts.stream
        );
        Rejection::new(RejectionKind::Conflict, "stale_attempt", detail)
    })
}

pub(super) fn node_type(progress: &Progress<'_>, path: &str) -> NodeType {
    // Only nodes of the definition are ever scheduled.
    progress.definition.node(path).map_or(NodeType::HttpRequest, |node| node.node_type)
}

fn start_node(progress: &mut Progress<'_>, node: &NodeRun, worker: &Arc<str>) -> Result<(), Rejection> {
    let state = attempt_in_flight(progress, node)?;
    if let NodeStatus::Scheduled { .. } = state.status {
        progress.record(NodeStarted {
            node_id: node.node_id.clone(),
            run: node.run,
            attempt: node.attempt,
            node_type: node_type(progress, &node.node_id),
            worker: Some(worker.to_string()),
            items: None,
            keyed: false,
            count: None,
        });
    }
    Ok(())
}

fn complete_node(
    progress: &mut Progress<'_>,
    node: &NodeRun,
    result: &Result<Value, NodeError>,
) -> Result<(), Rejection> {
    let state = attempt_in_flight(progress, node)?;
    let duration_ms = progress.facts.now.since_ms(state.since);
    let (node_id, run, attempt) = (node.node_id.clone(), node.run, node.attempt);
    let node_type = node_type(progress, &node.node_id);
    let result = result.as_ref().map_err(Clone::clone);
    let result =
        result.and_then(|output| if is_too_deep(output) { Err(too_deep_error()) } else { Ok(output) });
    match result {
        Ok(output) => progress.record(NodeCompleted {
            node_id,
            run,
            attempt,
            node_type,
            output: output.clone(),
            handle: handle_of(node_type, output),
            duration_ms,
        }),
        Err(mut error) => {
            if is_too_deep(&error.details) {
                error.details = Value::Null;
            }
            progress.record(NodeFailed { node_id, run, attempt, node_type, error, duration_ms });
        }
    }
    progress.look_at(&Arc::from(node.node_id.as_str()));
    Ok(())
}

fn wake(progress: &mut Progress<'_>, wakeup: &Wakeup) -> Result<(), Rejection> {
    let stream = progress.facts.stream;
    let stale = || {
        let detail = format!("the wakeup `{}` of execution {stream} is not needed any more", wakeup.kind);
        Rejection::new(RejectionKind::Conflict, "stale_wakeup", detail)
    };
    let phase = progress.state.phase;
    match &wakeup.kind {
        WakeupKind::Yield(_) if matches!(phase, Phase::Running | Phase::Compensating) => {}
        WakeupKind::ExecutionDeadline if matches!(phase, Phase::Running | Phase::Queued) => {
            let deadline = progress.state.started.as_ref().and_then(|started| started.deadline);
            if deadline.is_none_or(|deadline| deadline > progress.facts.now) {
                return Err(stale());
            }
            let error = timeout_error("the execution passed its deadline");
            progress.end(Ending::Failed { node_id: None, error });
        }
        WakeupKind::StopGrace if phase == Phase::Compensating => progress.end_grace(),
        WakeupKind::AttemptDeadline(node) => {
            let error = timeout_error("the attempt passed its deadline");
            complete_node(progress, node, &Err(error)).map_err(|_| stale())?;
        }
        WakeupKind::Timer(node) => fire_timer(progress, node).ok_or_else(stale)?,
        WakeupKind::EventWait(node) => {
            waiting(progress, node).filter(|state| state.wait.is_some()).ok_or_else(stale)?;
            let due_at = progress.facts.now.plus_ms(EVENT_WAIT_RENEWAL_MS);
            progress.wake_at(due_at, WakeupKind::EventWait(node.clone()));
        }
        WakeupKind::Yield(_) | WakeupKind::ExecutionDeadline | WakeupKind::StopGrace => return Err(stale()),
    }
    Ok(())
}

fn waiting<'s>(progress: &'s Progress<'_>, node: &NodeRun) -> Option<&'s NodeState> {
    // A fork may wait for its lane while timers that it has taken over run out.
    if !matches!(progress.state.phase, Phase::Running | Phase::Compensating | Phase::Queued) {
        return None;
    }
    let state = progress.state.nodes.get(&*node.node_id)?;
    let is_it = (state.run, state.attempt) == (node.run, node.attempt) && state.status.is_open();
    is_it.then_some(state)
}

fn fire_timer(progress: &mut Progress<'_>, node: &NodeRun) -> Option<()> {
    let state = waiting(progress, node)?;
    let is_wait = node_type(progress, &node.node_id) == NodeType::Wait;
    let purpose = match state.status {
        NodeStatus::Waiting { .. } if is_wait => TimerPurpose::Wait,
        NodeStatus::Waiting { .. } if state.child.is_none() => TimerPurpose::Delay,
        NodeStatus::BackingOff { .. } => TimerPurpose::Backoff,
        _ => return None,
    };
    let (node_id, run, attempt) = (node.node_id.clone(), node.run, node.attempt);
    progress.record(TimerFired { node_id, run, attempt, purpose });
    progress.look_at(&Arc::from(node.node_id.as_str()));
    Some(())
}

fn timeout_error(message: &str) -> NodeError {
    NodeError { kind: ErrorKind::Timeout, message: message.to_owned(), retryable: true, details: Value::Null }
}

fn signal(progress: &mut Progress<'_>, name: &str, payload: &Value) -> Result<(), Rejection> {
    refuse_finished(progress)?;
    let chars = name.chars().count();
    if chars == 0 || chars > MAX_SIGNAL_NAME_CHARS || name.chars().any(char::is_control) {
        let problem = Problem::new(
            "/name",
            "invalid_name",
            format!("a signal's name has 1 to {MAX_SIGNAL_NAME_CHARS} characters and no control characters"),
        );
        return Err(Rejection::invalid("invalid_signal", "the signal is not valid", vec![problem]));
    }
    refuse_too_deep(payload, "")?;
    // Nodes need room for their own events; a flood of signals must not end the execution.
    if progress.state.version >= MAX_HISTORY_EVENTS / 2 {
        let detail =
            format!("execution {} has too many events to take further signals", progress.facts.stream);
        return Err(Rejection::new(RejectionKind::Conflict, "history_limit", detail));
    }
    progress.record(SignalReceived { name: name.to_owned(), payload: payload.clone() });
    let waits = progress.state.waits.clone();
    waits.iter().for_each(|path| progress.look_at(path));
    Ok(())
}

/// Refuses a value from outside that no reader of the log could take in again.
pub(super) fn refuse_too_deep(value: &Value, pointer: &str) -> Result<(), Rejection> {
    if !is_too_deep(value) {
        return Ok(());
    }
    let detail = format!("the value is nested more than {MAX_DEPTH} levels deep; make it flatter");
    let problem = Problem::new(pointer, "too_deep", detail);
    Err(Rejection::invalid("value_too_deep", "the value is nested too deeply", vec![problem]))
}

pub(super) fn refuse_finished(progress: &Progress<'_>) -> Result<(), Rejection> {
    match progress.state.phase {
        Phase::Finished(status) => Err(Rejection::new(
            RejectionKind::Conflict,
            "execution_finished",
            format!("execution {} is {} already", progress.facts.stream, status.as_str()),
        )),
        Phase::NotStarted | Phase::Queued | Phase::Running | Phase::Compensating => Ok(()),
    }
}

/// Refuses what only an execution under way can take.
pub(super) fn refuse_unless_running(progress: &Progress<'_>) -> Result<(), Rejection> {
    refuse_finished(progress)?;
    if progress.state.phase == Phase::Running {
        return Ok(());
    }
    let status = public_status(&progress.state).as_str();
    let detail = format!("execution {} is {status}; this needs one that runs", progress.facts.stream);
    Err(Rejection::new(RejectionKind::Conflict, "execution_not_running", detail))
}
