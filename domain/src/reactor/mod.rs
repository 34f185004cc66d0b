//! What follows from an event for *other* streams, as commands to them.
//!
//! | event | command | to | refused |
//! |---|---|---|---|
//! | `execution.queued` | `Request` | the lane | `Drop` to the execution |
//! | `lane.granted` | `Admit` | the execution | `Release` to the lane: it has ended meanwhile |
//! | `lane.refused` | `Drop` | the execution | – |
//! | `lane.eviction_requested` | `Cancel`, reason `cancel_running` | the holder | – |
//! | an end that names a lane | `Release` | the lane | – |
//! | an end that names a parent | `FinishChild` | the parent | – |
//! | `execution.child.started` | `Start` | the child | `FinishChild`, failed, to the parent, if it waits |
//! | `execution.forked` | `Fork`, for each child | the fork's child | `FinishChild`, failed, to the fork |
//! | `execution.node.cancelled` with a child | `Cancel` or `Terminate` | the child | – |
//! | `execution.child.compensation_requested` | `Compensate` | the child | `ChildCompensated`, completed, to the parent |
//! | `execution.compensation.finished` for a parent | `ChildCompensated` | the parent | – |
//!
//! "–": nothing is to be done, the target has dealt with it in another way (it has ended, its node has gone on).
//!
//! A command's id is derived from the event, what is asked and the target, so however often an event is looked at, and
//! by whomever, each of its commands has one effect. A stream's events are looked at in their order and commands to
//! one target are sent in the order of their causes: the order tells a lane that a request came before its release,
//! and a child that its start came before its cancellation. Every refusal here is final. Deliberately absent: who reads
//! the log, repeats commands and finds workflows by name (the shell).

mod follow_up;

use uuid::Uuid;

use crate::command::{Command, CommandEnvelope};
use crate::event::{Event, ExecutionEvent, LaneEvent, RecordedEvent};
use crate::execution::ExecutionStatus;
use crate::execution::command::{ExecutionCommand, ForkExecution, StartExecution};
use crate::execution::event::{
    ChildStarted, EndNotice, ErrorKind, ExecutionForked, ForkedChild, NodeError, ParentRef, StopChild,
    Trigger,
};
use crate::ids::{Actor, Slot, derived_id, parse_id};
use crate::lane::command::LaneCommand;

use serde_json::{Map, Value};

pub use follow_up::after_refusal;

/// The types of events that may have reactions. Every other type has none, and need not be decoded.
pub const REACTING_TYPES: [&str; 13] = [
    "execution.queued",
    "execution.forked",
    "execution.child.started",
    "execution.child.compensation_requested",
    "execution.compensation.finished",
    "execution.node.cancelled",
    "execution.completed",
    "execution.failed",
    "execution.cancelled",
    "execution.terminated",
    "lane.granted",
    "lane.refused",
    "lane.eviction_requested",
];

/// The reason of executions that make room for another of their concurrency key.
pub const CANCEL_RUNNING: &str = "cancel_running";

/// A command that an event leads to.
#[derive(Debug, Clone)]
pub struct Reaction {
    /// The command. Where [`Reaction::workflow_name`] is given, its workflow is nil until [`Reaction::resolve`].
    pub command: CommandEnvelope,
    /// The name of the workflow that a child is of, where its parent gave a name and not an id.
    pub workflow_name: Option<String>,
    /// The stream of the event.
    pub source: Uuid,
    /// The parent's node that must hear of a child that cannot begin.
    parent: Option<ParentRef>,
}

impl Reaction {
    /// Puts in the workflow that bears the name. Without one the command stays as it is: its decider refuses a workflow
    /// that does not exist, unless the child began when there was one.
    pub fn resolve(&mut self, holder: Option<Uuid>) {
        if let (Command::Execution(ExecutionCommand::Start(start)), Some(id)) =
            (&mut self.command.command, holder)
        {
            start.workflow_id = id;
        }
    }
}

/// Whether events of a type may have reactions.
pub fn reacts_to(event_type: &str) -> bool {
    REACTING_TYPES.contains(&event_type)
}

/// What an event leads to, in the order in which it must be done for each target.
pub fn reactions(event: &RecordedEvent, typed: &Event) -> Vec<Reaction> {
    match typed {
        Event::Execution(typed) => of_execution(event, typed),
        Event::Lane(typed) => of_lane(event, typed).into_iter().collect(),
        Event::Workflow(_)
        | Event::Variables(_)
        | Event::Tenant(_)
        | Event::User(_)
        | Event::Role(_)
        | Event::ApiKey(_)
        | Event::Audit(_)
        | Event::Bulk(_) => Vec::new(),
    }
}

fn of_lane(event: &RecordedEvent, typed: &LaneEvent) -> Option<Reaction> {
    let lane = event.stream;
    match typed {
        LaneEvent::Granted(e) => {
            Some(reaction(event, "admit", e.execution_id, ExecutionCommand::Admit { lane }))
        }
        LaneEvent::Refused(e) => {
            Some(reaction(event, "drop", e.execution_id, ExecutionCommand::Drop { lane }))
        }
        LaneEvent::EvictionRequested(e) => {
            let command = ExecutionCommand::Cancel { reason: Some(CANCEL_RUNNING.to_owned()) };
            Some(reaction(event, "evict", e.execution_id, command))
        }
        LaneEvent::Requested(_) | LaneEvent::Released(_) => None,
    }
}

fn of_execution(event: &RecordedEvent, typed: &ExecutionEvent) -> Vec<Reaction> {
    match typed {
        ExecutionEvent::Queued(e) => {
            let command = LaneCommand::Request {
                execution: event.stream,
                workflow_id: e.workflow_id,
                key: e.key.clone(),
                limit: e.limit,
                on_limit: e.on_limit,
                priority: e.priority,
            };
            vec![reaction_of(event, "request", e.lane, Command::Lane(command))]
        }
        ExecutionEvent::Forked(e) => e.children.iter().map(|child| fork_child(event, e, child)).collect(),
        ExecutionEvent::ChildStarted(e) => vec![start_child(event, e)],
        ExecutionEvent::NodeCancelled(e) => {
            let Some(child) = &e.child else { return Vec::new() };
            let reason = Some(format!("its parent {} needs it no longer: {}", event.stream, e.reason));
            let (label, command) = match child.how {
                StopChild::Cancel => ("cancel_child", ExecutionCommand::Cancel { reason }),
                StopChild::Terminate => ("terminate_child", ExecutionCommand::Terminate { reason }),
            };
            vec![reaction(event, label, child.execution_id, command)]
        }
        ExecutionEvent::ChildCompensationRequested(e) => {
            let parent = ParentRef {
                execution_id: event.stream,
                node_id: e.node_id.clone(),
                run: e.run,
                attempt: e.attempt,
                // Says where the answer goes; how deep the child is, the child knows.
                depth: 0,
                detached: false,
            };
            let command = ExecutionCommand::Compensate { parent: parent.clone() };
            let asking = reaction(event, "compensate_child", e.child_id, command);
            vec![Reaction { parent: Some(parent), ..asking }]
        }
        ExecutionEvent::CompensationFinished(e) => {
            let Some(parent) = &e.parent else { return Vec::new() };
            let command = ExecutionCommand::ChildCompensated {
                node: parent.node_run(),
                child: event.stream,
                status: e.status,
                error: e.error.clone(),
            };
            vec![reaction(event, "child_compensated", parent.execution_id, command)]
        }
        ExecutionEvent::Completed(e) => {
            ended(event, &e.notice, ExecutionStatus::Completed, e.output.clone(), None)
        }
        ExecutionEvent::Failed(e) => {
            ended(event, &e.notice, ExecutionStatus::Failed, Value::Null, Some(e.error.clone()))
        }
        ExecutionEvent::Cancelled(e) => {
            let error = stopped("cancelled", e.reason.as_deref());
            ended(event, &e.notice, ExecutionStatus::Cancelled, Value::Null, Some(error))
        }
        ExecutionEvent::Terminated(e) => {
            let error = stopped("terminated", e.reason.as_deref());
            ended(event, &e.notice, ExecutionStatus::Terminated, Value::Null, Some(error))
        }
        ExecutionEvent::Started(_)
        | ExecutionEvent::Admitted(_)
        | ExecutionEvent::NodeScheduled(_)
        | ExecutionEvent::NodeStarted(_)
        | ExecutionEvent::ScopeCompleted(_)
        | ExecutionEvent::RunStarted(_)
        | ExecutionEvent::NodeCompleted(_)
        | ExecutionEvent::NodeFailed(_)
        | ExecutionEvent::NodeSkipped(_)
        | ExecutionEvent::NodeWaiting(_)
        | ExecutionEvent::NodeRetryScheduled(_)
        | ExecutionEvent::TimerStarted(_)
        | ExecutionEvent::TimerFired(_)
        | ExecutionEvent::TimerCancelled(_)
        | ExecutionEvent::SignalReceived(_)
        | ExecutionEvent::WaitSatisfied(_)
        | ExecutionEvent::EventEmitted(_)
        | ExecutionEvent::Responded(_)
        | ExecutionEvent::NodeDeadLettered(_)
        | ExecutionEvent::NodeCompensated(_)
        | ExecutionEvent::CompensationStarted(_)
        | ExecutionEvent::ChildFinished(_)
        | ExecutionEvent::ChildCompensated(_)
        | ExecutionEvent::Paused(_)
        | ExecutionEvent::Resumed(_)
        | ExecutionEvent::Retried(_)
        | ExecutionEvent::Warning(_) => Vec::new(),
    }
}

/// Tells the lane and the parent of an end.
fn ended(
    event: &RecordedEvent,
    notice: &EndNotice,
    status: ExecutionStatus,
    output: Value,
    error: Option<NodeError>,
) -> Vec<Reaction> {
    let release = notice.lane.map(|lane| {
        let command = Command::Lane(LaneCommand::Release { execution: event.stream });
        reaction_of(event, "release", lane, command)
    });
    let finish = notice.parent.as_ref().map(|parent| {
        let (node, child) = (parent.node_run(), event.stream);
        let command = ExecutionCommand::FinishChild { node, child, status, output, error };
        reaction(event, "finish_child", parent.execution_id, command)
    });
    release.into_iter().chain(finish).collect()
}

fn start_child(event: &RecordedEvent, e: &ChildStarted) -> Reaction {
    // Also where nobody waits: how deep it is must be known.
    let parent = ParentRef {
        execution_id: event.stream,
        node_id: e.node_id.clone(),
        run: e.run,
        attempt: e.attempt,
        depth: e.depth,
        detached: !e.wait,
    };
    let workflow_id = parse_id(&e.workflow);
    let command = ExecutionCommand::Start(StartExecution {
        workflow_id: workflow_id.unwrap_or_default(),
        workflow_version: e.workflow_version,
        input: e.input.clone(),
        trigger: Trigger { kind: "parent".to_owned() },
        priority: Some(e.priority),
        attributes: Map::new(),
        parent: Some(parent.clone()),
        owner: e.owner,
    });
    let parent = e.wait.then_some(parent);
    let workflow_name = workflow_id.is_none().then(|| e.workflow.clone());
    let starting = reaction(event, "start_child", e.child_id, command);
    Reaction { workflow_name, parent, ..starting }
}

fn fork_child(event: &RecordedEvent, fork: &ExecutionForked, child: &ForkedChild) -> Reaction {
    let parent = ParentRef {
        execution_id: event.stream,
        node_id: child.node_id.clone(),
        run: child.run,
        attempt: child.attempt,
        depth: child.depth,
        detached: false,
    };
    let command = ExecutionCommand::Fork(ForkExecution {
        origin: child.origin,
        at_version: child.at_version,
        input: None,
        node_outputs: Map::new(),
        workflow_version: None,
        effects: fork.effects,
        parent: Some(parent.clone()),
        owner: fork.owner,
    });
    let forking = reaction(event, "fork_child", child.child, command);
    Reaction { parent: Some(parent), ..forking }
}

fn stopped(how: &str, reason: Option<&str>) -> NodeError {
    let message = match reason {
        Some(reason) => format!("the child was {how}: {reason}"),
        None => format!("the child was {how}"),
    };
    NodeError { kind: ErrorKind::Cancelled, message, retryable: false, details: Value::Null }
}

fn reaction(event: &RecordedEvent, label: &str, target: Uuid, command: ExecutionCommand) -> Reaction {
    reaction_of(event, label, target, Command::Execution(command))
}

fn reaction_of(event: &RecordedEvent, label: &str, target: Uuid, command: Command) -> Reaction {
    let parts: [&[u8]; 4] = [b"reaction", event.id.as_bytes(), label.as_bytes(), target.as_bytes()];
    let command = CommandEnvelope {
        id: derived_id(event.recorded_at, Slot::of(target), &parts),
        tenant: event.tenant.clone(),
        actor: Actor::system("reactor"),
        stream: target,
        correlation_id: event.correlation_id,
        causation_id: event.id,
        traceparent: event.traceparent.clone(),
        digest: None,
        command,
        authority: None,
    };
    Reaction { command, workflow_name: None, source: event.stream, parent: None }
}
