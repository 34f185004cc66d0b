//! Forking: a new execution that goes on from another's state at an event.
//!
//! Nothing of the origin is copied: the first event names it, and whoever folds the fork folds the origin up to that
//! event first. What was in flight there begins anew here; what was done is not done again.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::decision::{Decision, Need, NodeRun, WakeupKind};
use crate::facts::{Fact, Facts, Origin};
use crate::node_type::{NodeType, RunsIn};
use crate::nodes::NodeConfig;
use crate::rejection::{Problem, Rejection, RejectionKind};
use crate::workflow::definition::{Definition, Node};

use super::begin::{EVENT_WAIT_RENEWAL_MS, handle_of};
use super::command::ForkExecution;
use super::decide::{finish, refuse_too_deep};
use super::event::{Effects, ExecutionForked, ForkedChild, TimerPurpose, WaitFor};
use super::evolve::forked;
use super::paths::is_inside;
use super::progress::Progress;
use super::start::enter_lane;
use super::state::{ExecutionState, NodeState, NodeStatus, Phase, StartedFacts};
use super::{MAX_FORK_DEPTH, not_found};

/// The most nodes whose output one fork may replace.
const MAX_NODE_OUTPUTS: usize = 100;

/// Decides the first event of a fork.
pub(super) fn fork_execution(
    state: &ExecutionState,
    wanted: &ForkExecution,
    facts: &Facts,
) -> Result<Decision, Rejection> {
    if state.phase != Phase::NotStarted {
        let detail = format!("execution {} exists already", facts.stream);
        return Err(Rejection::new(RejectionKind::Conflict, "execution_exists", detail));
    }
    let (execution, at_version) = (wanted.origin, wanted.at_version);
    let origin = match &facts.origin {
        Fact::Unknown => return Ok(Decision::Needs(vec![Need::Origin { execution, at_version }])),
        Fact::Absent => {
            let detail = format!(
                "there is no execution {execution}, or it has no event {at_version}; its events count from 1"
            );
            return Err(Rejection::new(RejectionKind::NotFound, "fork_version_not_found", detail));
        }
        Fact::Is(origin) => origin,
    };
    let Some(started) = origin.state.started.clone() else { return Err(not_found(execution)) };
    if origin.state.compensation.is_some() {
        let detail = format!(
            "at event {at_version} execution {execution} undoes its work, or has; fork it at an event before what was undone"
        );
        return Err(Rejection::new(RejectionKind::Conflict, "fork_after_compensation", detail));
    }
    if origin.depth >= MAX_FORK_DEPTH {
        let detail = format!("execution {execution} is fork {MAX_FORK_DEPTH} of a fork; start anew instead");
        return Err(Rejection::new(RejectionKind::TooLarge, "fork_too_deep", detail));
    }
    let version = wanted.workflow_version.unwrap_or(started.workflow_version);
    let mut needs = Vec::new();
    if let Fact::Unknown = facts.definition {
        needs.push(Need::Definition { workflow: started.workflow_id, version });
    }
    if let Fact::Unknown = facts.variables {
        needs.push(Need::Variables(Some(started.vars_version)));
    }
    if !needs.is_empty() {
        return Ok(Decision::Needs(needs));
    }
    let Fact::Is(definition) = &facts.definition else {
        let detail = format!("workflow {} has no version {version}", started.workflow_id);
        return Err(Rejection::new(RejectionKind::NotFound, "workflow_version_not_found", detail));
    };
    check_outputs(wanted, definition)?;
    begin_fork(wanted, origin, &started, version, definition, facts)
}

fn begin_fork(
    wanted: &ForkExecution,
    origin: &Origin,
    started: &StartedFacts,
    version: u64,
    definition: &Definition,
    facts: &Facts,
) -> Result<Decision, Rejection> {
    let mut progress = Progress::new(ExecutionState::default(), definition, facts);
    let event = ExecutionForked {
        origin: wanted.origin,
        at_version: wanted.at_version,
        recorded_until: origin.latest_version,
        depth: origin.depth + 1,
        effects: wanted.effects,
        workflow_id: started.workflow_id,
        workflow_name: started.workflow_name.clone(),
        workflow_version: version,
        definition_hash: definition.hash.clone(),
        input: wanted.input.clone(),
        node_outputs: wanted.node_outputs.clone(),
        node_handles: handles_of(wanted, definition),
        parent: wanted.parent.clone(),
        children: children_of(&progress, wanted, origin),
        anew: anew_in(definition, &origin.state),
        deadline: definition.timeout_ms.map(|ms| facts.now.plus_ms(ms)),
        owner: owner_of(wanted, started, facts),
    };
    progress.state = forked(&origin.state, &event, facts.now);
    progress.everything = true;
    if let Some(deadline) = event.deadline {
        progress.wake_at(deadline, WakeupKind::ExecutionDeadline);
    }
    progress.note(event.into());
    take_over_timers(&mut progress);
    if wanted.effects == Effects::Live
        && let Some(needs) = enter_lane(&mut progress)?
    {
        return Ok(needs);
    }
    finish(progress)
}

/// To whom a fork belongs: to the owner of its parent, to whoever makes it, or to the owner of its origin.
fn owner_of(wanted: &ForkExecution, started: &StartedFacts, facts: &Facts) -> Option<Uuid> {
    if wanted.parent.is_some() {
        return wanted.owner;
    }
    let forks = facts.authority.as_ref().map(|authority| authority.user);
    forks.or(wanted.owner).or(started.owner)
}

fn check_outputs(wanted: &ForkExecution, definition: &Definition) -> Result<(), Rejection> {
    if let Some(input) = &wanted.input {
        refuse_too_deep(input, "/input")?;
    }
    let mut problems = Vec::new();
    for (path, output) in wanted.node_outputs.iter().take(MAX_NODE_OUTPUTS) {
        let pointer = format!("/node_outputs/{}", path.replace('~', "~0").replace('/', "~1"));
        refuse_too_deep(output, &pointer)?;
        if definition.node(path).is_none() {
            let detail = format!("the workflow has no node `{path}`");
            problems.push(Problem::new(pointer, "unknown_node", detail));
        }
    }
    if wanted.node_outputs.len() > MAX_NODE_OUTPUTS {
        problems.push(Problem::new("/node_outputs", "too_many", format!("at most {MAX_NODE_OUTPUTS} nodes")));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Rejection::invalid("invalid_node_outputs", "the nodes' outputs are not valid", problems))
}

/// The handles by which nodes leave that get their output from the fork.
fn handles_of(wanted: &ForkExecution, definition: &Definition) -> Map<String, Value> {
    let handles = wanted.node_outputs.iter().filter_map(|(path, output)| {
        let node = definition.node(path)?;
        Some((path.clone(), Value::String(handle_of(node.node_type, output)?)))
    });
    handles.collect()
}

/// Children that the origin waited for and that had begun: each is forked at its last event before the origin's.
fn children_of(progress: &Progress<'_>, wanted: &ForkExecution, origin: &Origin) -> Vec<ForkedChild> {
    let depth = wanted.parent.as_ref().map_or(0, |parent| parent.depth) + 1;
    let waits =
        origin.state.nodes.iter().filter(|(_, node)| matches!(node.status, NodeStatus::Waiting { .. }));
    let is_given =
        |path: &str| wanted.node_outputs.keys().any(|given| path == given || is_inside(path, given));
    let children = waits.filter_map(|(path, node)| {
        let is_child =
            progress.definition.node(path).is_some_and(|node| node.node_type == NodeType::SubWorkflow);
        let child = node.child.filter(|_| is_child && !is_given(path))?;
        let at_version = *origin.children.get(&child)?;
        Some(ForkedChild {
            node_id: path.to_string(),
            run: node.run,
            attempt: node.attempt,
            depth,
            origin: child,
            at_version,
            child: progress.child_id(path, node.run, node.attempt),
        })
    });
    children.collect()
}

/// Nodes that the fork's version of the workflow does not have, or not as what they are: going on with them would never
/// end. What lies inside such a container begins anew with it.
fn anew_in(definition: &Definition, origin: &ExecutionState) -> Vec<String> {
    let mut anew: Vec<&str> = Vec::new();
    let mut container: Option<&str> = None;
    for (path, node) in &origin.nodes {
        let is_done = matches!(node.status, NodeStatus::Completed { .. } | NodeStatus::Skipped);
        if container.is_some_and(|container| is_inside(path, container)) {
            anew.push(path);
        } else if !is_done && !fits(definition.node(path), node) {
            container = node.iterations.is_some().then_some(path);
            anew.push(path);
        }
    }
    anew.into_iter().map(str::to_owned).collect()
}

/// Whether a node of a definition can go on with what a node of the origin has begun.
fn fits(defined: Option<&Node>, node: &NodeState) -> bool {
    let Some(defined) = defined else { return false };
    if let Some(iterations) = &node.iterations {
        return match &defined.config {
            NodeConfig::Loop(iteration) => {
                iteration.is_while() == iterations.count.is_none()
                    && iteration.is_while() == iterations.items.is_none()
            }
            NodeConfig::Parallel(parallel) => {
                iterations.items.is_none() && iterations.count == Some(parallel.branches().len() as u32)
            }
            _ => false,
        };
    }
    match &node.status {
        NodeStatus::Waiting { .. }
        | NodeStatus::Due { purpose: TimerPurpose::Delay | TimerPurpose::Wait, .. } => {
            match (&defined.config, node.child, &node.wait) {
                (NodeConfig::SubWorkflow(_), Some(_), _) | (NodeConfig::Delay(_), None, None) => true,
                (NodeConfig::Wait(defined), None, Some(wait)) => {
                    defined.conditions() == wait.conditions.len()
                }
                _ => false,
            }
        }
        NodeStatus::BackingOff { .. } | NodeStatus::Due { purpose: TimerPurpose::Backoff, .. } => {
            defined.config.runs_in(defined.node_type) == RunsIn::Worker
        }
        NodeStatus::Pending
        | NodeStatus::Scheduled { .. }
        | NodeStatus::Running { .. }
        | NodeStatus::Iterating
        | NodeStatus::Failed { .. }
        | NodeStatus::Completed { .. }
        | NodeStatus::Skipped
        | NodeStatus::Cancelled => true,
    }
}

/// Timers go on with the time that was left of them.
fn take_over_timers(progress: &mut Progress<'_>) {
    let mut wakeups = Vec::new();
    for (path, node) in &progress.state.nodes {
        let timer = NodeRun { node_id: path.to_string(), run: node.run, attempt: node.attempt };
        let due_at = match node.status {
            NodeStatus::Waiting { due_at } => due_at,
            NodeStatus::BackingOff { due_at, timer_started: true } => Some(due_at),
            _ => None,
        };
        let waits_for_events = node.status.is_open()
            && node.wait.as_ref().is_some_and(|wait| {
                wait.conditions.iter().any(|condition| condition.wait_for == WaitFor::Event)
            });
        if waits_for_events {
            let renewal = progress.facts.now.plus_ms(EVENT_WAIT_RENEWAL_MS);
            wakeups.push((renewal, WakeupKind::EventWait(timer.clone())));
        }
        wakeups.extend(due_at.map(|due_at| (due_at, WakeupKind::Timer(timer))));
    }
    wakeups.into_iter().for_each(|(due_at, kind)| progress.wake_at(due_at, kind));
}
