//! What follows from a command to an execution: the one event that it states, then [`advance`](super::advance).

use serde_json::{Map, Value, json};
use std::sync::Arc;

use crate::blob::{MAX_DEPTH, is_too_deep};
use crate::decision::{Decision, Need, NodeRun, Wakeup, WakeupKind};
use crate::expression::Fuel;
use crate::facts::{Fact, Facts, WorkflowHead};
use crate::node_type::NodeType;
use crate::rejection::{Problem, Rejection, RejectionKind};
use crate::workflow;
use crate::workflow::definition::{Definition, MAX_PROBLEMS};

use super::advance::{Progress, too_deep_error};
use super::command::{ExecutionCommand, StartExecution};
use super::event::{
    ErrorKind, ExecutionCancelled, ExecutionStarted, NodeCompleted, NodeError, NodeFailed, NodeStarted,
    SignalReceived, TimerPurpose,
};
use super::scope::{ExecutionScope, LargeValues};
use super::state::{ExecutionState, ExecutionStatus, NodeState, NodeStatus, Phase};
use super::{MAX_HISTORY_EVENTS, not_found};

/// The most bytes of an execution's attributes.
const MAX_ATTRIBUTES_BYTES: usize = 4 * 1024;
/// The most characters of a signal's name.
const MAX_SIGNAL_NAME_CHARS: usize = 128;
/// The most characters of a reason.
const MAX_REASON_CHARS: usize = 1_000;

/// Decides a command on folded state.
pub fn decide(
    state: &ExecutionState,
    command: &ExecutionCommand,
    facts: &Facts,
) -> Result<Decision, Rejection> {
    if let ExecutionCommand::Start(start) = command {
        return start_execution(state, start, facts);
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
    match command {
        ExecutionCommand::Start(_) => {}
        ExecutionCommand::StartNode { node, worker } => {
            start_node(&mut progress, node, worker, definition, facts)?
        }
        ExecutionCommand::CompleteNode { node, result } => {
            complete_node(&mut progress, node, result, definition, facts)?
        }
        ExecutionCommand::LoseWorker { node } => {
            let error = NodeError {
                kind: ErrorKind::WorkerLost,
                message: "the worker gave no sign of life".to_owned(),
                retryable: true,
                details: Value::Null,
            };
            complete_node(&mut progress, node, &Err(error), definition, facts)?;
        }
        ExecutionCommand::Wake(wakeup) => wake(&mut progress, wakeup, definition, facts)?,
        ExecutionCommand::Signal { name, payload } => signal(&mut progress, name, payload, facts)?,
        ExecutionCommand::Cancel { reason } => cancel(&mut progress, reason.as_deref(), facts)?,
    }
    finish(progress, facts)
}

/// Advances, and answers with the execution as it then is.
fn finish(mut progress: Progress<'_>, facts: &Facts) -> Result<Decision, Rejection> {
    if let Err(needs) = progress.advance() {
        return Ok(Decision::Needs(needs));
    }
    progress.outcome.answer = json!({
        "execution_id": facts.stream,
        "status": public_status(&progress.state),
    });
    Ok(Decision::Events(progress.outcome))
}

/// The status that callers see.
pub(super) fn public_status(state: &ExecutionState) -> ExecutionStatus {
    match state.phase {
        Phase::NotStarted => ExecutionStatus::Pending,
        Phase::Finished(status) => status,
        Phase::Running => {
            let mut open = state.nodes.values().filter(|node| !node.status.is_settled()).peekable();
            let waiting = |node: &NodeState| {
                matches!(node.status, NodeStatus::Waiting { .. } | NodeStatus::BackingOff { .. })
            };
            if open.peek().is_some() && open.all(waiting) {
                ExecutionStatus::Waiting
            } else {
                ExecutionStatus::Running
            }
        }
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

fn start_execution(
    state: &ExecutionState,
    start: &StartExecution,
    facts: &Facts,
) -> Result<Decision, Rejection> {
    if state.phase != Phase::NotStarted {
        let detail = format!("execution {} exists already", facts.stream);
        return Err(Rejection::new(RejectionKind::Conflict, "execution_exists", detail));
    }
    refuse_too_deep(&start.input, "/input")?;
    let mut needs = Vec::new();
    if let Fact::Unknown = facts.variables {
        needs.push(Need::Variables(None));
    }
    let head = match &facts.workflow {
        Fact::Unknown => {
            needs.push(Need::Workflow(start.workflow_id));
            return Ok(Decision::Needs(needs));
        }
        Fact::Absent => return Err(workflow::not_found(start.workflow_id)),
        Fact::Is(head) => head,
    };
    let version = startable_version(start, head)?;
    let definition = match &facts.definition {
        Fact::Unknown => {
            needs.push(Need::Definition { workflow: start.workflow_id, version });
            return Ok(Decision::Needs(needs));
        }
        Fact::Absent => return Err(version_not_found(start, version)),
        Fact::Is(definition) => definition,
    };
    if !needs.is_empty() {
        return Ok(Decision::Needs(needs));
    }
    let vars_version = match &facts.variables {
        Fact::Is(variables) => variables.version,
        Fact::Unknown | Fact::Absent => 0,
    };
    let mut started = ExecutionStarted {
        workflow_id: start.workflow_id,
        workflow_name: head.name.clone(),
        workflow_version: version,
        definition_hash: definition.hash.clone(),
        input: start.input.clone(),
        trigger: start.trigger.clone(),
        vars_version,
        priority: start.priority.unwrap_or(definition.priority).min(9),
        attributes: start.attributes.clone(),
        deadline: definition.timeout_ms.map(|ms| facts.now.plus_ms(ms)),
    };
    match render_attributes(&started, definition, facts) {
        Ok(rendered) => {
            for (key, value) in rendered {
                started.attributes.entry(key).or_insert(value);
            }
        }
        Err(AttributesError::Needs(need)) => return Ok(Decision::Needs(vec![need])),
        Err(AttributesError::Rejected(rejection)) => return Err(rejection),
    }
    check_attributes(&started.attributes)?;
    let mut progress = Progress::new(ExecutionState::default(), definition, facts);
    if let Some(deadline) = started.deadline {
        progress.outcome.wakeups.push(Wakeup { due_at: deadline, kind: WakeupKind::ExecutionDeadline });
    }
    progress.record(started);
    finish(progress, facts)
}

fn startable_version(start: &StartExecution, head: &WorkflowHead) -> Result<u64, Rejection> {
    let id = start.workflow_id;
    if head.deleted {
        return Err(workflow::not_found(id));
    }
    if !head.enabled {
        let detail = format!("workflow {id} is disabled; enable it first");
        return Err(Rejection::new(RejectionKind::Conflict, "workflow_disabled", detail));
    }
    let version = start.workflow_version.or(head.published_version).ok_or_else(|| {
        let detail = format!("workflow {id} has no published version; publish one, or name a version");
        Rejection::new(RejectionKind::Conflict, "workflow_not_published", detail)
    })?;
    if version == 0 || version > head.latest_version {
        return Err(version_not_found(start, version));
    }
    Ok(version)
}

fn version_not_found(start: &StartExecution, version: u64) -> Rejection {
    let detail = format!("workflow {} has no version {version}", start.workflow_id);
    Rejection::new(RejectionKind::NotFound, "workflow_version_not_found", detail)
}

enum AttributesError {
    Needs(Need),
    Rejected(Rejection),
}

/// The workflow's attribute templates, on the state that the start will give.
fn render_attributes(
    started: &ExecutionStarted,
    definition: &Definition,
    facts: &Facts,
) -> Result<Map<String, Value>, AttributesError> {
    let Some(template) = &definition.attributes else { return Ok(Map::new()) };
    let state = super::evolve(ExecutionState::default(), &started.clone().into(), facts.now);
    let Some(fixed) = state.started.as_deref() else { return Ok(Map::new()) };
    let made = LargeValues::new();
    let scope = ExecutionScope::new(&state, fixed, facts, &made, definition, "");
    let reject = |pointer: String, detail: String| {
        AttributesError::Rejected(Rejection::invalid(
            "expression_error",
            "the workflow's attributes could not be rendered from this input",
            vec![Problem::new(pointer, "expression_error", detail)],
        ))
    };
    match template.render(&scope, &mut Fuel::standard()) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(reject("/attributes".to_owned(), "attributes must be an object".to_owned())),
        Err(error) => Err(match error.error {
            crate::expression::EvaluationError::NeedsBlob(reference) => {
                AttributesError::Needs(Need::Blob(reference))
            }
            other => reject(format!("/attributes{}", error.pointer), other.to_string()),
        }),
    }
}

fn check_attributes(attributes: &Map<String, Value>) -> Result<(), Rejection> {
    let mut problems: Vec<Problem> = attributes
        .iter()
        .filter(|(_, value)| value.is_object() || value.is_array())
        .take(MAX_PROBLEMS)
        .map(|(key, _)| {
            let pointer = format!("/attributes/{}", key.replace('~', "~0").replace('/', "~1"));
            Problem::new(pointer, "wrong_type", "an attribute is a string, number, boolean or null")
        })
        .collect();
    let bytes = serde_json::to_string(attributes).map_or(0, |json| json.len());
    if bytes > MAX_ATTRIBUTES_BYTES {
        let detail = format!("the attributes have {bytes} bytes; at most {MAX_ATTRIBUTES_BYTES} are allowed");
        problems.push(Problem::new("/attributes", "too_large", detail));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Rejection::invalid("invalid_attributes", "the execution's attributes are not valid", problems))
}

/// The node, if this very attempt is in flight.
fn attempt_in_flight<'s>(
    progress: &'s Progress<'_>,
    node: &NodeRun,
    facts: &Facts,
) -> Result<&'s NodeState, Rejection> {
    let current = progress.state.nodes.get(&node.node_id).filter(|state| {
        progress.state.phase == Phase::Running
            && matches!(state.status, NodeStatus::Scheduled { .. } | NodeStatus::Running { .. })
            && (state.run, state.attempt) == (node.run, node.attempt)
    });
    current.ok_or_else(|| {
        let detail = format!(
            "attempt {} of run {} of node `{}` of execution {} is not in flight any more",
            node.attempt, node.run, node.node_id, facts.stream
        );
        Rejection::new(RejectionKind::Conflict, "stale_attempt", detail)
    })
}

fn node_type(definition: &Definition, node: &NodeRun) -> NodeType {
    // Only nodes of the definition are ever scheduled.
    definition.node(&node.node_id).map_or(NodeType::HttpRequest, |node| node.node_type)
}

fn start_node(
    progress: &mut Progress<'_>,
    node: &NodeRun,
    worker: &Arc<str>,
    definition: &Definition,
    facts: &Facts,
) -> Result<(), Rejection> {
    let state = attempt_in_flight(progress, node, facts)?;
    if let NodeStatus::Scheduled { .. } = state.status {
        progress.record(NodeStarted {
            node_id: node.node_id.clone(),
            run: node.run,
            attempt: node.attempt,
            node_type: node_type(definition, node),
            worker: worker.to_string(),
        });
    }
    Ok(())
}

fn complete_node(
    progress: &mut Progress<'_>,
    node: &NodeRun,
    result: &Result<Value, NodeError>,
    definition: &Definition,
    facts: &Facts,
) -> Result<(), Rejection> {
    let state = attempt_in_flight(progress, node, facts)?;
    let duration_ms = facts.now.since_ms(state.since);
    let (node_id, run, attempt) = (node.node_id.clone(), node.run, node.attempt);
    let node_type = node_type(definition, node);
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
            handle: None,
            duration_ms,
        }),
        Err(mut error) => {
            if is_too_deep(&error.details) {
                error.details = Value::Null;
            }
            progress.record(NodeFailed { node_id, run, attempt, node_type, error, duration_ms });
        }
    }
    Ok(())
}

fn wake(
    progress: &mut Progress<'_>,
    wakeup: &Wakeup,
    definition: &Definition,
    facts: &Facts,
) -> Result<(), Rejection> {
    let stale = || {
        let detail =
            format!("the wakeup `{}` of execution {} is not needed any more", wakeup.kind, facts.stream);
        Rejection::new(RejectionKind::Conflict, "stale_wakeup", detail)
    };
    if progress.state.phase != Phase::Running {
        return Err(stale());
    }
    match &wakeup.kind {
        WakeupKind::Yield(_) => {}
        WakeupKind::ExecutionDeadline => {
            let error = timeout_error("the execution passed its deadline");
            progress.fail(None, error);
        }
        WakeupKind::AttemptDeadline(node) => {
            let error = timeout_error("the attempt passed its deadline");
            complete_node(progress, node, &Err(error), definition, facts).map_err(|_| stale())?;
        }
        WakeupKind::Timer(node) => {
            let purpose = progress
                .state
                .nodes
                .get(&node.node_id)
                .filter(|state| (state.run, state.attempt) == (node.run, node.attempt))
                .and_then(|state| match state.status {
                    NodeStatus::Waiting { .. } => Some(TimerPurpose::Delay),
                    NodeStatus::BackingOff { .. } => Some(TimerPurpose::Backoff),
                    _ => None,
                })
                .ok_or_else(stale)?;
            progress.fire_timer(node, purpose);
        }
    }
    Ok(())
}

fn timeout_error(message: &str) -> NodeError {
    NodeError { kind: ErrorKind::Timeout, message: message.to_owned(), retryable: true, details: Value::Null }
}

fn signal(progress: &mut Progress<'_>, name: &str, payload: &Value, facts: &Facts) -> Result<(), Rejection> {
    refuse_finished(progress, facts)?;
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
        let detail = format!("execution {} has too many events to take further signals", facts.stream);
        return Err(Rejection::new(RejectionKind::Conflict, "history_limit", detail));
    }
    progress.record(SignalReceived { name: name.to_owned(), payload: payload.clone() });
    Ok(())
}

fn cancel(progress: &mut Progress<'_>, reason: Option<&str>, facts: &Facts) -> Result<(), Rejection> {
    refuse_finished(progress, facts)?;
    let reason: Option<String> = reason.map(|text| text.chars().take(MAX_REASON_CHARS).collect());
    progress.stop_nodes("the execution was cancelled", None);
    let duration_ms = progress.age_ms();
    progress.record(ExecutionCancelled { reason, duration_ms });
    Ok(())
}

/// Refuses a value from outside that no reader of the log could take in again.
fn refuse_too_deep(value: &Value, pointer: &str) -> Result<(), Rejection> {
    if !is_too_deep(value) {
        return Ok(());
    }
    let detail = format!("the value is nested more than {MAX_DEPTH} levels deep; make it flatter");
    let problem = Problem::new(pointer, "too_deep", detail);
    Err(Rejection::invalid("value_too_deep", "the value is nested too deeply", vec![problem]))
}

fn refuse_finished(progress: &Progress<'_>, facts: &Facts) -> Result<(), Rejection> {
    match progress.state.phase {
        Phase::Finished(status) => Err(Rejection::new(
            RejectionKind::Conflict,
            "execution_finished",
            format!("execution {} is {} already", facts.stream, status.as_str()),
        )),
        Phase::NotStarted | Phase::Running => Ok(()),
    }
}
