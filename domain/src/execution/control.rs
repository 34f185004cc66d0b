//! Commands from outside the course of things: cancel, terminate, pause, resume, retry; and what lanes, children and
//! parents tell.

use serde_json::{Map, Value, json};
use std::sync::Arc;
use uuid::Uuid;

use crate::decision::{NodeRun, WakeupKind};
use crate::node_type::RunsIn;
use crate::rejection::{Problem, Rejection, RejectionKind};

use super::begin::handle_of;
use super::decide::{Stop, node_type, refuse_finished, refuse_too_deep, refuse_unless_running};
use super::event::{
    ChildCompensated, ChildFinished, CompensationStatus, Effects, Ending, ErrorKind, ExecutionAdmitted,
    ExecutionPaused, ExecutionResumed, ExecutionRetried, NodeCompleted, NodeError, NodeFailed, ParentRef,
};
use super::paths::{container_of, scope_of};
use super::progress::Progress;
use super::start::enter_lane;
use super::state::{ExecutionStatus, NodeStatus, Phase};

/// The most characters of a reason.
const MAX_REASON_CHARS: usize = 1_000;
/// The most nodes whose configuration one retry may replace.
const MAX_NODE_INPUTS: usize = 100;

fn shortened(reason: Option<&str>) -> Option<String> {
    reason.map(|text| text.chars().take(MAX_REASON_CHARS).collect())
}

fn conflict(code: &'static str, detail: String) -> Rejection {
    Rejection::new(RejectionKind::Conflict, code, detail)
}

pub(super) fn cancel(progress: &mut Progress<'_>, reason: Option<&str>) -> Result<(), Rejection> {
    refuse_finished(progress)?;
    if progress.state.phase == Phase::Compensating {
        let detail = format!(
            "execution {} is ending already and undoes its work; terminate it to stop that",
            progress.facts.stream
        );
        return Err(conflict("execution_compensating", detail));
    }
    progress.end(Ending::Cancelled { reason: shortened(reason) });
    Ok(())
}

pub(super) fn terminate(progress: &mut Progress<'_>, reason: Option<&str>) -> Result<(), Rejection> {
    refuse_finished(progress)?;
    progress.terminate(shortened(reason));
    Ok(())
}

pub(super) fn pause(progress: &mut Progress<'_>, reason: Option<&str>) -> Result<(), Rejection> {
    refuse_unless_running(progress)?;
    if !progress.state.paused {
        progress.record(ExecutionPaused { reason: shortened(reason) });
    }
    Ok(())
}

pub(super) fn resume(progress: &mut Progress<'_>, reason: Option<&str>) -> Result<(), Rejection> {
    refuse_finished(progress)?;
    if !progress.state.paused {
        let detail = format!("execution {} is not paused", progress.facts.stream);
        return Err(conflict("execution_not_paused", detail));
    }
    progress.record(ExecutionResumed { reason: shortened(reason) });
    Ok(())
}

/// Goes on from what failed: a failed compensation, or the nodes that failed and were stopped with them.
pub(super) fn retry(
    progress: &mut Progress<'_>,
    reason: Option<&str>,
    node_inputs: &Map<String, Value>,
    dead_letter: Option<&NodeRun>,
) -> Result<(), Stop> {
    let stream = progress.facts.stream;
    let compensation = progress.state.compensation.as_ref().map(|state| state.status);
    let again = compensation == Some(CompensationStatus::Failed);
    match progress.state.phase {
        Phase::Finished(_) if again => {}
        Phase::Finished(ExecutionStatus::Failed) if compensation.is_some() => {
            let detail = format!("execution {stream} has undone its work; fork it instead");
            return Err(conflict("already_compensated", detail).into());
        }
        Phase::Finished(ExecutionStatus::Failed) => {}
        _ => {
            let detail = format!("execution {stream} has not failed; there is nothing to retry");
            return Err(conflict("execution_not_failed", detail).into());
        }
    }
    if let Some(node) = dead_letter {
        let state = progress.state.nodes.get(&*node.node_id);
        if again || state.is_none_or(|state| (state.run, state.dead_lettered) != (node.run, node.attempt)) {
            let detail = format!("`{}` of execution {stream} was redriven already", node.node_id);
            return Err(conflict("dead_letter_stale", detail).into());
        }
    }
    let nodes = if again { failed_compensators(progress) } else { unfinished(progress) };
    check_node_inputs(progress, node_inputs, &nodes)?;
    let timeout_ms = progress.definition.timeout_ms.filter(|_| !again);
    let deadline = timeout_ms.map(|ms| progress.facts.now.plus_ms(ms));
    if let Some(deadline) = deadline {
        progress.wake_at(deadline, WakeupKind::ExecutionDeadline);
    }
    progress.record(ExecutionRetried {
        reason: shortened(reason),
        nodes: nodes.iter().map(|path| path.to_string()).collect(),
        node_inputs: node_inputs.clone(),
        compensation: again,
        deadline,
    });
    progress.everything = true;
    if again {
        progress.look_at_scope(&Arc::from(""));
    } else if progress.effects() == Effects::Live
        && let Some(crate::decision::Decision::Needs(needs)) = enter_lane(progress)?
    {
        return Err(needs.into());
    }
    Ok(())
}

fn failed_compensators(progress: &Progress<'_>) -> Vec<Arc<str>> {
    let failed = progress.state.nodes.iter().filter(|(path, node)| {
        let place = progress.place(path);
        matches!(node.status, NodeStatus::Failed { .. })
            && place.is_some_and(|place| place.graph.is_compensator(place.index))
    });
    failed.map(|(path, _)| path.clone()).collect()
}

/// Nodes that failed or were stopped, in scopes that had not ended otherwise. What a merge had stopped is stopped again.
fn unfinished(progress: &Progress<'_>) -> Vec<Arc<str>> {
    let is_unfinished = |path: &str| {
        let state = progress.state.nodes.get(path);
        state.is_some_and(|node| matches!(node.status, NodeStatus::Failed { .. } | NodeStatus::Cancelled))
    };
    let mut nodes = Vec::new();
    for (path, _) in progress.state.nodes.iter().filter(|(path, _)| is_unfinished(path)) {
        let mut scope = scope_of(path);
        let mut counts = progress.state.scopes.get(scope).is_none_or(|scope| scope.output.is_none());
        while let Some((container, _)) = container_of(scope) {
            counts &= is_unfinished(container);
            scope = scope_of(container);
        }
        if counts {
            nodes.push(path.clone());
        }
    }
    nodes
}

fn check_node_inputs(
    progress: &Progress<'_>,
    inputs: &Map<String, Value>,
    nodes: &[Arc<str>],
) -> Result<(), Rejection> {
    let mut problems = Vec::new();
    for (path, input) in inputs.iter().take(MAX_NODE_INPUTS) {
        let pointer = format!("/node_inputs/{}", path.replace('~', "~0").replace('/', "~1"));
        refuse_too_deep(input, &pointer)?;
        let node = progress.definition.node(path);
        let is_worker = node.is_some_and(|node| node.config.runs_in(node.node_type) == RunsIn::Worker);
        if !is_worker {
            let detail = "only a node that a worker carries out can be given another configuration";
            problems.push(Problem::new(pointer, "not_applicable", detail));
        } else if !nodes.iter().any(|node| **node == **path) {
            let detail = "this node did not fail, so it will not run again";
            problems.push(Problem::new(pointer, "not_applicable", detail));
        }
    }
    if inputs.len() > MAX_NODE_INPUTS {
        problems.push(Problem::new("/node_inputs", "too_many", format!("at most {MAX_NODE_INPUTS} nodes")));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Rejection::invalid("invalid_node_inputs", "the nodes' inputs are not valid", problems))
}

pub(super) fn admit(progress: &mut Progress<'_>, lane: Uuid) -> Result<(), Rejection> {
    refuse_unless_queued(progress, lane)?;
    progress.record(ExecutionAdmitted { lane });
    progress.everything = true;
    Ok(())
}

pub(super) fn drop_queued(progress: &mut Progress<'_>, lane: Uuid) -> Result<(), Rejection> {
    refuse_unless_queued(progress, lane)?;
    progress.end(Ending::Cancelled { reason: Some("concurrency_limit".to_owned()) });
    Ok(())
}

fn refuse_unless_queued(progress: &Progress<'_>, lane: Uuid) -> Result<(), Rejection> {
    refuse_finished(progress)?;
    if progress.state.phase == Phase::Queued && progress.state.lane == Some(lane) {
        return Ok(());
    }
    let detail = format!("execution {} does not wait for lane {lane}", progress.facts.stream);
    Err(conflict("execution_not_queued", detail))
}

/// The child of a node, if the node waits for it in this very attempt.
fn refuse_other_child(progress: &Progress<'_>, node: &NodeRun, child: Uuid) -> Result<(), Rejection> {
    let state =
        progress.state.nodes.get(&*node.node_id).filter(|state| {
            (state.run, state.attempt) == (node.run, node.attempt) && state.child == Some(child)
        });
    if state.is_some() {
        return Ok(());
    }
    let detail = format!(
        "`{}` of execution {} does not wait for child {child} any more",
        node.node_id, progress.facts.stream
    );
    Err(conflict("stale_child", detail))
}

pub(super) fn finish_child(
    progress: &mut Progress<'_>,
    node: &NodeRun,
    child: Uuid,
    status: ExecutionStatus,
    output: &Value,
    error: Option<&NodeError>,
) -> Result<(), Rejection> {
    refuse_finished(progress)?;
    refuse_other_child(progress, node, child)?;
    let state = progress.state.nodes.get(&*node.node_id);
    let Some(since) =
        state.filter(|state| matches!(state.status, NodeStatus::Waiting { .. })).map(|state| state.since)
    else {
        let detail = format!("`{}` has had its child's end already", node.node_id);
        return Err(conflict("stale_child", detail));
    };
    let (node_id, run, attempt) = (node.node_id.clone(), node.run, node.attempt);
    let (node_type, duration_ms) = (node_type(progress, &node_id), progress.facts.now.since_ms(since));
    progress.record(ChildFinished {
        node_id: node_id.clone(),
        run,
        attempt,
        child_id: child,
        status,
        output: output.clone(),
        error: error.cloned(),
    });
    if status == ExecutionStatus::Completed {
        let handle = handle_of(node_type, output);
        let output = output.clone();
        progress.record(NodeCompleted { node_id, run, attempt, node_type, output, handle, duration_ms });
    } else {
        let error = child_error(child, status, error);
        progress.record(NodeFailed { node_id, run, attempt, node_type, error, duration_ms });
    }
    progress.look_at(&Arc::from(node.node_id.as_str()));
    Ok(())
}

/// What a child's end means for the node that waits for it.
fn child_error(child: Uuid, status: ExecutionStatus, error: Option<&NodeError>) -> NodeError {
    let details = json!({ "execution_id": child, "status": status });
    match error {
        Some(error) => NodeError { details, retryable: false, ..error.clone() },
        None => {
            let kind =
                if status == ExecutionStatus::Failed { ErrorKind::Custom } else { ErrorKind::Cancelled };
            let message = format!("its child ended {}", status.as_str());
            NodeError { kind, message, retryable: false, details }
        }
    }
}

/// Undoes the work of an execution that had completed, for its parent.
pub(super) fn compensate(progress: &mut Progress<'_>, parent: &ParentRef) -> Result<(), Rejection> {
    let before = progress.state.compensation.as_ref();
    let again = before
        .is_some_and(|state| state.status == CompensationStatus::Failed && state.cause == Ending::ByParent);
    let can = match progress.state.phase {
        Phase::Finished(ExecutionStatus::Completed) if before.is_none() => progress.has_work_to_undo(),
        Phase::Finished(_) => again,
        _ => false,
    };
    if !can {
        let detail = format!("execution {} has nothing to undo", progress.facts.stream);
        return Err(conflict("nothing_to_compensate", detail));
    }
    if again {
        // It goes on with what could not be undone; what was undone stays undone.
        progress.record(ExecutionRetried {
            reason: None,
            nodes: failed_compensators(progress).iter().map(|path| path.to_string()).collect(),
            node_inputs: Map::new(),
            compensation: true,
            deadline: None,
        });
        progress.look_at_scope(&Arc::from(""));
    } else {
        progress.start_compensation(Ending::ByParent, Some(parent.clone()));
    }
    Ok(())
}

pub(super) fn child_compensated(
    progress: &mut Progress<'_>,
    node: &NodeRun,
    child: Uuid,
    status: CompensationStatus,
    error: Option<&NodeError>,
) -> Result<(), Rejection> {
    let asked = progress.state.compensation.as_ref().and_then(|state| state.asked.clone());
    let is_asked = asked.is_some_and(|(path, run)| *path == *node.node_id && run == node.run);
    if progress.state.phase != Phase::Compensating || !is_asked {
        let detail =
            format!("execution {} did not ask child {child} to undo anything", progress.facts.stream);
        return Err(conflict("stale_child", detail));
    }
    let (node_id, run) = (node.node_id.clone(), node.run);
    progress.record(ChildCompensated { node_id, run, child_id: child, status, error: error.cloned() });
    Ok(())
}
