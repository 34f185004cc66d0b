//! Folding an execution's events.

use std::sync::Arc;

use crate::event::ExecutionEvent;
use crate::time::Timestamp;

use super::event::{ErrorKind, ExecutionStarted, NodeScheduled, TimerPurpose};
use super::state::{ExecutionState, ExecutionStatus, NodeState, NodeStatus, Phase, StartedFacts};

/// The state after one more event, recorded at `at`. Total: any event is accepted, whatever came before.
pub fn evolve(mut state: ExecutionState, event: &ExecutionEvent, at: Timestamp) -> ExecutionState {
    state.version += 1;
    match event {
        ExecutionEvent::Started(started) => {
            state.phase = Phase::Running;
            state.started = Some(Arc::new(started_facts(started, at)));
        }
        ExecutionEvent::NodeScheduled(scheduled) => node_scheduled(&mut state, scheduled, at),
        ExecutionEvent::NodeStarted(started) => {
            if let Some(node) = state.nodes.get_mut(&started.node_id)
                && let NodeStatus::Scheduled { deadline } = node.status
            {
                node.status = NodeStatus::Running { deadline };
            }
        }
        ExecutionEvent::NodeCompleted(completed) => {
            let status = NodeStatus::Completed { handle: completed.handle.clone() };
            let node = touch(&mut state, &completed.node_id, completed.run, completed.attempt, status, at);
            node.output = Some(Arc::new(completed.output.clone()));
        }
        ExecutionEvent::NodeFailed(failed) => {
            let status = NodeStatus::Failed { at };
            let node = touch(&mut state, &failed.node_id, failed.run, failed.attempt, status, at);
            node.lost_workers += u32::from(failed.error.kind == ErrorKind::WorkerLost);
            node.error = Some(failed.error.clone());
        }
        ExecutionEvent::NodeSkipped(skipped) => {
            touch(&mut state, &skipped.node_id, skipped.run, skipped.attempt, NodeStatus::Skipped, at);
        }
        ExecutionEvent::NodeCancelled(cancelled) => {
            touch(
                &mut state,
                &cancelled.node_id,
                cancelled.run,
                cancelled.attempt,
                NodeStatus::Cancelled,
                at,
            );
        }
        ExecutionEvent::NodeWaiting(waiting) => {
            let status = NodeStatus::Waiting { due_at: None };
            touch(&mut state, &waiting.node_id, waiting.run, waiting.attempt, status, at).since = at;
        }
        ExecutionEvent::NodeRetryScheduled(retry) => {
            let status = NodeStatus::BackingOff { due_at: retry.due_at, timer_started: false };
            touch(&mut state, &retry.node_id, retry.run, retry.attempt, status, at);
        }
        ExecutionEvent::TimerStarted(timer) => {
            if let Some(node) = state.nodes.get_mut(&timer.node_id) {
                node.status = match timer.purpose {
                    TimerPurpose::Delay => NodeStatus::Waiting { due_at: Some(timer.due_at) },
                    TimerPurpose::Backoff => {
                        NodeStatus::BackingOff { due_at: timer.due_at, timer_started: true }
                    }
                };
            }
        }
        ExecutionEvent::TimerFired(timer) => {
            if let Some(node) = state.nodes.get_mut(&timer.node_id) {
                node.status = NodeStatus::Due { purpose: timer.purpose, at };
            }
        }
        ExecutionEvent::TimerCancelled(_)
        | ExecutionEvent::SignalReceived(_)
        | ExecutionEvent::Warning(_) => {}
        ExecutionEvent::Completed(_) => state.phase = Phase::Finished(ExecutionStatus::Completed),
        ExecutionEvent::Failed(_) => state.phase = Phase::Finished(ExecutionStatus::Failed),
        ExecutionEvent::Cancelled(_) => state.phase = Phase::Finished(ExecutionStatus::Cancelled),
    }
    state
}

fn started_facts(started: &ExecutionStarted, at: Timestamp) -> StartedFacts {
    StartedFacts {
        workflow_id: started.workflow_id,
        workflow_name: started.workflow_name.clone(),
        workflow_version: started.workflow_version,
        input: started.input.clone(),
        trigger: started.trigger.clone(),
        vars_version: started.vars_version,
        priority: started.priority,
        started_at: at,
        deadline: started.deadline,
    }
}

fn node_scheduled(state: &mut ExecutionState, scheduled: &NodeScheduled, at: Timestamp) {
    let status = NodeStatus::Scheduled { deadline: scheduled.deadline };
    touch(state, &scheduled.node_id, scheduled.run, scheduled.attempt, status, at).since = at;
}

/// The node with its new status; a node without an event so far begins here.
fn touch<'a>(
    state: &'a mut ExecutionState,
    path: &str,
    run: u32,
    attempt: u32,
    status: NodeStatus,
    at: Timestamp,
) -> &'a mut NodeState {
    // Not `entry`: the key would be cloned for every event.
    if !state.nodes.contains_key(path) {
        let fresh = NodeState {
            status: NodeStatus::Skipped,
            run,
            attempt,
            lost_workers: 0,
            since: at,
            output: None,
            error: None,
        };
        state.nodes.insert(path.to_owned(), fresh);
    }
    let node = state.nodes.get_mut(path).expect("inserted above if it was missing");
    node.status = status;
    node.run = run;
    node.attempt = attempt;
    node
}
