//! Folding an execution's events.
//!
//! The fold knows no definition: every event says itself what it changes.

use imbl::OrdSet;
use serde_json::Value;
use std::sync::Arc;

use crate::event::ExecutionEvent;
use crate::node_type::NodeType;
use crate::time::Timestamp;

use super::agenda::Agenda;
use super::event::{
    CompensationStarted, CompensationStatus, Ending, ErrorKind, ExecutionForked, ExecutionRetried,
    ExecutionStarted, NodeCancelled, NodeCompensated, NodeFailed, NodeStarted, NodeWaiting, RunStarted,
    ScopeCompleted, TimerPurpose, TimerStarted, WaitSatisfied,
};
use super::paths::{container_of, is_inside, scope_of};
use super::state::{
    ChildAnswer, CompensationState, Completion, ExecutionState, ExecutionStatus, ForkFacts, Iterations,
    NodeState, NodeStatus, Openness, Phase, Signal, StartedFacts,
};

/// The state after one more event, recorded at `at`. Total: any event is accepted, whatever came before.
///
/// The first event of a fork is folded on the state of its origin: see [`forked`].
pub fn evolve(state: ExecutionState, event: &ExecutionEvent, at: Timestamp) -> ExecutionState {
    let mut state = fold(state, event, at);
    state.agenda = Agenda::Everything;
    state
}

/// The state of a fork after its first event, recorded at `at`, given the state of its origin at the version that the
/// event names. Attempts in flight begin anew, timers keep the time that was left of them.
pub fn forked(origin: &ExecutionState, event: &ExecutionForked, at: Timestamp) -> ExecutionState {
    let mut state = origin.clone();
    let shift = at.since_ms(origin.updated_at);
    let had_ended = matches!(origin.phase, Phase::Finished(_) | Phase::Compensating);
    state.version = 1;
    state.updated_at = at;
    state.phase = Phase::Running;
    state.paused = false;
    state.lane = None;
    state.compensation = None;
    state.agenda = Agenda::Everything;
    state.fork = Some(Arc::new(ForkFacts {
        origin: event.origin,
        at_version: event.at_version,
        recorded_until: event.recorded_until,
        depth: event.depth,
        begun_at: begun_at(origin),
        effects: event.effects,
        children: event.children.iter().map(|child| (child.origin, child.child)).collect(),
    }));
    if let Some(started) = &origin.started {
        let mut started = StartedFacts::clone(started);
        started.workflow_version = event.workflow_version;
        started.workflow_name.clone_from(&event.workflow_name);
        started.deadline = event.deadline;
        started.parent.clone_from(&event.parent);
        started.owner = event.owner;
        if let Some(input) = &event.input {
            started.input = input.clone();
        }
        started.started_at = at;
        state.started = Some(Arc::new(started));
    }
    let paths: Vec<Arc<str>> = origin.nodes.keys().cloned().collect();
    for path in paths {
        take_over_node(&mut state, &path, event, had_ended, shift);
    }
    for path in &event.anew {
        begin_anew(&mut state, path);
    }
    for (path, output) in &event.node_outputs {
        let handle = event.node_handles.get(path).and_then(Value::as_str).map(str::to_owned);
        // It does not begin its iteration, whose turn may not have come.
        let node = node_of(&mut state, path, at);
        node.output = Some(Arc::new(output.clone()));
        if handle.is_some() || !matches!(node.status, NodeStatus::Completed { .. }) {
            node.attempt = node.attempt.max(1);
            set_status(&mut state, path, NodeStatus::Completed { handle });
        }
    }
    state
}

/// When an execution started, or the first of those that it was forked from.
fn begun_at(state: &ExecutionState) -> Timestamp {
    let started = || state.started.as_ref().map(|started| started.started_at);
    state.fork.as_ref().map(|fork| fork.begun_at).or_else(started).unwrap_or_default()
}

/// What becomes of a node of the origin in a fork.
fn take_over_node(
    state: &mut ExecutionState,
    path: &Arc<str>,
    fork: &ExecutionForked,
    had_ended: bool,
    shift: u64,
) {
    let Some(node) = state.nodes.get(path) else { return };
    let forked_child = |child| fork.children.iter().find(|forked| Some(forked.origin) == child);
    let status = match &node.status {
        NodeStatus::Failed { .. } | NodeStatus::Cancelled
            if node.iterations.is_some() && (had_ended || node.status != NodeStatus::Cancelled) =>
        {
            NodeStatus::Iterating
        }
        NodeStatus::Scheduled { .. } | NodeStatus::Running { .. } | NodeStatus::Failed { .. } => {
            NodeStatus::Pending
        }
        // What was stopped only because the origin ended goes on; merges stop again what they had stopped.
        NodeStatus::Cancelled if had_ended => NodeStatus::Pending,
        NodeStatus::Waiting { .. } if node.child.is_some() && forked_child(node.child).is_none() => {
            NodeStatus::Pending
        }
        NodeStatus::Waiting { due_at: Some(due_at) } => {
            NodeStatus::Waiting { due_at: Some(due_at.plus_ms(shift)) }
        }
        NodeStatus::BackingOff { due_at, timer_started } => {
            NodeStatus::BackingOff { due_at: due_at.plus_ms(shift), timer_started: *timer_started }
        }
        NodeStatus::Pending
        | NodeStatus::Iterating
        | NodeStatus::Waiting { due_at: None }
        | NodeStatus::Due { .. }
        | NodeStatus::Completed { .. }
        | NodeStatus::Skipped
        | NodeStatus::Cancelled => node.status.clone(),
    };
    let child = forked_child(node.child).map(|forked| forked.child).or(node.child);
    if status == node.status && child == node.child {
        return;
    }
    set_status(state, path, status);
    let Some(node) = state.nodes.get_mut(path) else { return };
    let node = Arc::make_mut(node);
    node.child = child.filter(|_| node.status != NodeStatus::Pending);
    if node.status == NodeStatus::Pending {
        node.attempts_before = node.attempt;
        node.lost_workers = 0;
        // An iteration that was stopped begins with what it has; one that failed forgets that.
        node.error = None;
    }
}

/// A node that its version of the workflow does not have, or not as what it was.
fn begin_anew(state: &mut ExecutionState, path: &str) {
    set_status(state, path, NodeStatus::Pending);
    let Some(node) = state.nodes.get_mut(path) else { return };
    let node = Arc::make_mut(node);
    node.attempts_before = node.attempt;
    node.lost_workers = 0;
    (node.error, node.child, node.iterations) = (None, None, None);
    let scopes: Vec<Arc<str>> = state.scopes.keys().filter(|scope| is_inside(scope, path)).cloned().collect();
    for scope in scopes {
        state.scopes.remove(&scope);
    }
}

/// Folds an event without saying that everything must be looked at again.
pub(super) fn fold(mut state: ExecutionState, event: &ExecutionEvent, at: Timestamp) -> ExecutionState {
    state.version += 1;
    state.updated_at = at;
    match event {
        ExecutionEvent::Started(started) => {
            state.phase = Phase::Running;
            state.started = Some(Arc::new(started_facts(started, at)));
        }
        // Without its origin a fork is an execution that nothing is known of.
        ExecutionEvent::Forked(event) => {
            state = forked(&ExecutionState::default(), event, at);
        }
        ExecutionEvent::Queued(queued) => {
            state.phase = Phase::Queued;
            state.lane = Some(queued.lane);
        }
        ExecutionEvent::Admitted(_) => state.phase = Phase::Running,
        ExecutionEvent::NodeScheduled(e) => {
            let node = touch(
                &mut state,
                &e.node_id,
                e.run,
                e.attempt,
                NodeStatus::Scheduled { deadline: e.deadline },
                at,
            );
            node.since = at;
        }
        ExecutionEvent::NodeStarted(e) => node_started(&mut state, e, at),
        ExecutionEvent::ScopeCompleted(e) => scope_completed(&mut state, e),
        ExecutionEvent::RunStarted(e) => run_started(&mut state, e, at),
        ExecutionEvent::NodeCompleted(e) => {
            let failed = |node: &Arc<NodeState>| matches!(node.status, NodeStatus::Failed { .. });
            let passed_over = state.nodes.get(&*e.node_id).is_some_and(failed);
            let status = NodeStatus::Completed { handle: e.handle.clone() };
            let node = touch(&mut state, &e.node_id, e.run, e.attempt, status, at);
            node.output = Some(Arc::new(e.output.clone()));
            // A failure that is passed over has done nothing that is known of.
            if !passed_over {
                node.error = None;
                remember(&mut state, &e.node_id, e.run, e.attempt);
            }
        }
        ExecutionEvent::NodeFailed(e) => node_failed(&mut state, e, at),
        ExecutionEvent::NodeSkipped(e) => {
            touch(&mut state, &e.node_id, e.run, e.attempt, NodeStatus::Skipped, at);
        }
        ExecutionEvent::NodeCancelled(e) => node_cancelled(&mut state, e, at),
        ExecutionEvent::NodeWaiting(e) => node_waiting(&mut state, e, at),
        ExecutionEvent::NodeRetryScheduled(e) => {
            let status = NodeStatus::BackingOff { due_at: e.due_at, timer_started: false };
            touch(&mut state, &e.node_id, e.run, e.attempt, status, at);
        }
        ExecutionEvent::TimerStarted(e) => timer_started(&mut state, e),
        ExecutionEvent::TimerFired(e) => {
            set_status(&mut state, &e.node_id, NodeStatus::Due { purpose: e.purpose, at });
        }
        ExecutionEvent::SignalReceived(e) => {
            let (name, payload) = (e.name.clone(), e.payload.clone());
            let signal = Signal { version: state.version, name, payload, received_at: at };
            state.signals.push_back(Arc::new(signal));
        }
        ExecutionEvent::WaitSatisfied(e) => wait_satisfied(&mut state, e),
        ExecutionEvent::NodeCompensated(e) => compensated(&mut state, e),
        ExecutionEvent::CompensationStarted(e) => compensation_started(&mut state, e),
        ExecutionEvent::CompensationFinished(e) => {
            if let Some(compensation) = &mut state.compensation {
                let compensation = Arc::make_mut(compensation);
                compensation.status = e.status;
                if compensation.cause == Ending::ByParent {
                    state.phase = Phase::Finished(ExecutionStatus::Completed);
                }
            }
        }
        ExecutionEvent::ChildStarted(e) => {
            let node = node_mut(&mut state, &e.node_id, at);
            node.since = at;
            node.child = Some(e.child_id);
            touch(&mut state, &e.node_id, e.run, e.attempt, NodeStatus::Waiting { due_at: None }, at);
        }
        ExecutionEvent::ChildCompensated(e) => {
            if let Some(compensation) = &mut state.compensation {
                let answer = ChildAnswer { status: e.status, error: e.error.clone() };
                Arc::make_mut(compensation).answered = Some(answer);
            }
        }
        ExecutionEvent::ChildCompensationRequested(e) => {
            if let Some(compensation) = &mut state.compensation {
                Arc::make_mut(compensation).asked = Some((Arc::from(e.node_id.as_str()), e.run));
            }
        }
        ExecutionEvent::Paused(_) => state.paused = true,
        ExecutionEvent::Resumed(_) => state.paused = false,
        ExecutionEvent::Retried(e) => retried(&mut state, e),
        ExecutionEvent::NodeDeadLettered(e) => {
            if let Some(node) = state.nodes.get_mut(&*e.node_id) {
                Arc::make_mut(node).dead_lettered = e.attempt;
            }
        }
        ExecutionEvent::ChildFinished(_)
        | ExecutionEvent::EventEmitted(_)
        | ExecutionEvent::Responded(_)
        | ExecutionEvent::TimerCancelled(_)
        | ExecutionEvent::Warning(_) => {}
        ExecutionEvent::Completed(_) => end(&mut state, ExecutionStatus::Completed),
        ExecutionEvent::Failed(_) => end(&mut state, ExecutionStatus::Failed),
        ExecutionEvent::Cancelled(_) => end(&mut state, ExecutionStatus::Cancelled),
        ExecutionEvent::Terminated(_) => end(&mut state, ExecutionStatus::Terminated),
    }
    state
}

fn end(state: &mut ExecutionState, status: ExecutionStatus) {
    state.phase = Phase::Finished(status);
    state.paused = false;
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
        attributes: started.attributes.clone(),
        started_at: at,
        deadline: started.deadline,
        parent: started.parent.clone(),
        owner: started.owner,
    }
}

/// The node, which begins here if it has no event yet.
fn node_mut<'a>(state: &'a mut ExecutionState, path: &str, at: Timestamp) -> &'a mut NodeState {
    if !state.nodes.contains_key(path) {
        note_begun(state, scope_of(path));
    }
    node_of(state, path, at)
}

/// The node, fresh if it has no event yet.
fn node_of<'a>(state: &'a mut ExecutionState, path: &str, at: Timestamp) -> &'a mut NodeState {
    // Not `entry`: the key would be made for every event.
    if !state.nodes.contains_key(path) {
        let fresh = NodeState {
            status: NodeStatus::Pending,
            run: 1,
            attempt: 0,
            attempts_before: 0,
            lost_workers: 0,
            since: at,
            output: None,
            error: None,
            iterations: None,
            wait: None,
            child: None,
            past: None,
            dead_lettered: 0,
        };
        state.nodes.insert(Arc::from(path), Arc::new(fresh));
    }
    Arc::make_mut(state.nodes.get_mut(path).expect("inserted above if it was missing"))
}

/// An iteration or branch has its first event.
fn note_begun(state: &mut ExecutionState, scope: &str) {
    if let Some((container, index)) = container_of(scope)
        && let Some(node) = state.nodes.get_mut(container)
        && node.iterations.as_ref().is_some_and(|iterations| iterations.begun <= index)
        && let Some(iterations) = &mut Arc::make_mut(node).iterations
    {
        Arc::make_mut(iterations).begun = index + 1;
    }
}

/// Gives a node that exists another status, keeping count of what is open in its scope.
fn set_status(state: &mut ExecutionState, path: &str, status: NodeStatus) {
    let Some(node) = state.nodes.get_mut(path) else { return };
    let node = Arc::make_mut(node);
    let before = node.openness();
    let waited = node.wait.is_some() && before != Openness::Closed;
    node.status = status;
    let after = node.openness();
    if waited && after == Openness::Closed {
        state.waits.remove(path);
    }
    if before == after {
        return;
    }
    let is_leaf = |openness| matches!(openness, Openness::Waits | Openness::Busy);
    count(&mut state.open_leaves, is_leaf(before), is_leaf(after));
    count(&mut state.busy_leaves, before == Openness::Busy, after == Openness::Busy);
    if (before == Openness::Closed) != (after == Openness::Closed) {
        let scope = scope_of(path);
        if !state.scopes.contains_key(scope) {
            state.scopes.insert(Arc::from(scope), Arc::default());
        }
        if let Some(scope) = state.scopes.get_mut(scope) {
            count(&mut Arc::make_mut(scope).open, before != Openness::Closed, after != Openness::Closed);
        }
    }
}

/// Keeps count of how many there are of something.
fn count(number: &mut usize, was: bool, is: bool) {
    match (was, is) {
        (false, true) => *number += 1,
        (true, false) => *number = number.saturating_sub(1),
        (true, true) | (false, false) => {}
    }
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
    let is_new = !state.nodes.contains_key(path);
    let node = node_mut(state, path, at);
    if is_new {
        node.since = at;
    }
    node.run = run;
    node.attempt = attempt;
    // In a container's further runs its nodes are there already.
    if node.status == NodeStatus::Pending {
        note_begun(state, scope_of(path));
    }
    set_status(state, path, status);
    node_mut(state, path, at)
}

fn node_started(state: &mut ExecutionState, event: &NodeStarted, at: Timestamp) {
    if event.node_type.is_container() {
        let node = touch(state, &event.node_id, event.run, event.attempt, NodeStatus::Iterating, at);
        node.since = at;
        node.iterations = Some(Arc::new(Iterations {
            items: event.items.clone().map(Arc::new),
            keyed: event.keyed,
            count: event.count,
            begun: 0,
            completed: 0,
        }));
        return;
    }
    if let Some(NodeStatus::Scheduled { deadline }) =
        state.nodes.get(&*event.node_id).map(|node| &node.status)
    {
        let status = NodeStatus::Running { deadline: *deadline };
        set_status(state, &event.node_id, status);
    }
}

fn scope_completed(state: &mut ExecutionState, event: &ScopeCompleted) {
    if !state.scopes.contains_key(&*event.node_id) {
        state.scopes.insert(Arc::from(event.node_id.as_str()), Arc::default());
    }
    if let Some(scope) = state.scopes.get_mut(&*event.node_id) {
        Arc::make_mut(scope).output = Some(Arc::new(event.output.clone()));
    }
    note_begun(state, &event.node_id);
    if let Some((container, _)) = container_of(&event.node_id)
        && let Some(node) = state.nodes.get_mut(container)
        && let Some(iterations) = &mut Arc::make_mut(node).iterations
    {
        Arc::make_mut(iterations).completed += 1;
    }
}

/// Every node of the region is pending again, in its next run; what lay inside containers begins anew too.
fn run_started(state: &mut ExecutionState, event: &RunStarted, at: Timestamp) {
    for path in &event.nodes {
        let holds = state.nodes.get(&**path).is_some_and(|node| node.iterations.is_some());
        next_run(state, path, at);
        if holds {
            for inner in inside(state, path) {
                next_run(state, &inner, at);
            }
            let scopes: Vec<Arc<str>> =
                state.scopes.keys().filter(|scope| is_inside(scope, path)).cloned().collect();
            for scope in scopes {
                state.scopes.remove(&scope);
            }
        }
    }
}

/// Paths of all nodes inside a container.
fn inside(state: &ExecutionState, container: &str) -> Vec<Arc<str>> {
    let first: Arc<str> = Arc::from(format!("{container}/"));
    let after = state.nodes.range(first..);
    after.map(|(path, _)| path).take_while(|path| is_inside(path, container)).cloned().collect()
}

fn next_run(state: &mut ExecutionState, path: &str, at: Timestamp) {
    set_status(state, path, NodeStatus::Pending);
    let node = node_mut(state, path, at);
    keep_past(node);
    node.run += 1;
    node.attempt = 0;
    node.attempts_before = 0;
    node.lost_workers = 0;
    node.iterations = None;
    node.child = None;
    node.dead_lettered = 0;
    if let Some(wait) = &mut node.wait {
        let wait = Arc::make_mut(wait);
        (wait.conditions, wait.met, wait.order) = (Vec::new(), Vec::new(), Vec::new());
    }
}

/// A run that is over may still be compensated, with what it gave.
fn keep_past(node: &mut NodeState) {
    if node.attempt == 0 || node.output.is_none() {
        return;
    }
    let past = Arc::make_mut(node.past.get_or_insert_default());
    past.outputs.insert(node.run, node.output.clone());
    if let Some(child) = node.child {
        past.children.insert(node.run, child);
    }
}

/// Remembers a run whose work may have to be undone: one that completed, or one whose outcome is not known (attempt 0).
fn remember(state: &mut ExecutionState, path: &str, run: u32, attempt: u32) {
    let Some((path, _)) = state.nodes.get_key_value(path) else { return };
    let completion = Completion { path: path.clone(), run, attempt };
    if state.phase != Phase::Compensating {
        return state.completions.push_back(completion);
    }
    // What compensates is not compensated; what was in flight when the compensation began is.
    let Some(compensation) = &mut state.compensation else { return };
    let compensation = Arc::make_mut(compensation);
    if compensation.stopping.remove(&completion.path).is_some() {
        state.completions.push_back(completion);
        compensation.left = state.completions.len();
    }
}

fn node_failed(state: &mut ExecutionState, event: &NodeFailed, at: Timestamp) {
    let node = touch(state, &event.node_id, event.run, event.attempt, NodeStatus::Failed { at }, at);
    node.lost_workers += u32::from(event.error.kind == ErrorKind::WorkerLost);
    node.error = Some(event.error.clone());
    if matches!(event.error.kind, ErrorKind::Timeout | ErrorKind::WorkerLost) {
        remember(state, &event.node_id, event.run, 0);
    } else {
        no_longer_stopping(state, &event.node_id);
    }
}

fn node_cancelled(state: &mut ExecutionState, event: &NodeCancelled, at: Timestamp) {
    let was_in_flight = state.nodes.get(&*event.node_id).is_some_and(|node| node.status.is_in_flight());
    touch(state, &event.node_id, event.run, event.attempt, NodeStatus::Cancelled, at);
    if was_in_flight {
        remember(state, &event.node_id, event.run, 0);
    } else {
        no_longer_stopping(state, &event.node_id);
    }
}

fn no_longer_stopping(state: &mut ExecutionState, path: &str) {
    if let Some(compensation) = &mut state.compensation
        && compensation.stopping.contains(path)
    {
        Arc::make_mut(compensation).stopping.remove(path);
    }
}

fn node_waiting(state: &mut ExecutionState, event: &NodeWaiting, at: Timestamp) {
    let status = NodeStatus::Waiting { due_at: None };
    let node = touch(state, &event.node_id, event.run, event.attempt, status, at);
    node.since = at;
    if event.node_type != NodeType::Wait {
        return;
    }
    let wait = Arc::make_mut(node.wait.get_or_insert_default());
    wait.conditions.clone_from(&event.conditions);
    wait.mode = event.mode;
    wait.timeout_at = event.timeout_at;
    wait.met = vec![None; event.conditions.len()];
    wait.order = Vec::new();
    if let Some((path, _)) = state.nodes.get_key_value(&*event.node_id) {
        let path = path.clone();
        state.waits.insert(path);
    }
}

fn timer_started(state: &mut ExecutionState, event: &TimerStarted) {
    let status = match event.purpose {
        TimerPurpose::Delay | TimerPurpose::Wait => NodeStatus::Waiting { due_at: Some(event.due_at) },
        TimerPurpose::Backoff => NodeStatus::BackingOff { due_at: event.due_at, timer_started: true },
    };
    set_status(state, &event.node_id, status);
}

fn wait_satisfied(state: &mut ExecutionState, event: &WaitSatisfied) {
    let Some(node) = state.nodes.get_mut(&*event.node_id) else { return };
    let Some(wait) = &mut Arc::make_mut(node).wait else { return };
    let wait = Arc::make_mut(wait);
    if let Some(met) = wait.met.get_mut(event.condition as usize) {
        *met = Some(Arc::new(event.payload.clone()));
        wait.order.push(event.condition);
    }
    if let Some(number) = event.signal_number {
        wait.used_signals.insert(number);
    }
    if let Some(event) = &event.event {
        wait.used_events.insert(event.id);
    }
}

fn compensation_started(state: &mut ExecutionState, event: &CompensationStarted) {
    state.phase = Phase::Compensating;
    // Undoing is part of the end, which a pause does not hold up.
    state.paused = false;
    let in_flight = state.nodes.iter().filter(|(_, node)| node.status.is_in_flight());
    let stopping = in_flight.map(|(path, _)| path.clone()).collect();
    state.compensation = Some(Arc::new(CompensationState {
        cause: event.cause.clone(),
        status: CompensationStatus::Running,
        left: state.completions.len(),
        stopping,
        compensated: OrdSet::new(),
        asked: None,
        answered: None,
        parent: event.parent.clone(),
    }));
}

fn compensated(state: &mut ExecutionState, event: &NodeCompensated) {
    let Some(compensation) = &mut state.compensation else { return };
    let compensation = Arc::make_mut(compensation);
    let is_it = |entry: &Completion| *entry.path == *event.node_id && entry.run == event.run;
    while compensation.left > 0 {
        compensation.left -= 1;
        if state.completions.get(compensation.left).is_some_and(is_it) {
            break;
        }
    }
    compensation.compensated.insert((Arc::from(event.node_id.as_str()), event.run));
    if event.by != event.node_id {
        state.compensator_runs.insert(Arc::from(event.by.as_str()), event.by_run);
    }
    (compensation.asked, compensation.answered) = (None, None);
}

/// An execution that had ended goes on: the named nodes begin another attempt, and the rest stays as it is.
fn retried(state: &mut ExecutionState, event: &ExecutionRetried) {
    for path in &event.nodes {
        // A container goes on with the iterations that it has.
        let holds = state.nodes.get(&**path).is_some_and(|node| node.iterations.is_some());
        set_status(state, path, if holds { NodeStatus::Iterating } else { NodeStatus::Pending });
        if let Some(node) = state.nodes.get_mut(&**path) {
            let node = Arc::make_mut(node);
            node.attempts_before = node.attempt;
            node.lost_workers = 0;
        }
    }
    for (path, input) in &event.node_inputs {
        state.node_inputs.insert(Arc::from(path.as_str()), Arc::new(input.clone()));
    }
    if event.compensation {
        state.phase = Phase::Compensating;
        if let Some(compensation) = &mut state.compensation {
            let compensation = Arc::make_mut(compensation);
            compensation.status = CompensationStatus::Running;
            (compensation.asked, compensation.answered) = (None, None);
        }
        return;
    }
    state.phase = Phase::Running;
    state.compensation = None;
    if let Some(started) = &mut state.started {
        Arc::make_mut(started).deadline = event.deadline;
    }
}
