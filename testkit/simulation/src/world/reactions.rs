//! The reactor: reads every stream in order and sends what its events ask of other streams.
//!
//! Within a stream, an event's commands are answered before the next event is read. Ids are derived from the event, so
//! what is sent again after a crash has no second effect.

use domain::command::{Command, CommandEnvelope};
use domain::event::{Event, ExecutionEvent, LaneEvent, RecordedEvent};
use domain::execution::ExecutionStatus;
use domain::execution::command::{ExecutionCommand, StartExecution};
use domain::execution::event::{ChildStarted, EndNotice, NodeError, ParentRef, StopChild, Trigger};
use domain::decision::NodeRun;
use domain::ids::{Actor, Slot, derived_id};
use domain::lane::command::LaneCommand;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use uuid::Uuid;

use super::script::workflow_id;
use super::{Breakage, Load, Sender, World};

/// How far the reactor is.
#[derive(Debug, Default)]
pub(super) struct Reactor {
    /// The events of each stream that are dealt with.
    done: BTreeMap<Uuid, usize>,
    /// Streams that may have more.
    ready: BTreeSet<Uuid>,
    outstanding: BTreeMap<Uuid, Outstanding>,
}

/// Commands of one event that are not all answered.
#[derive(Debug)]
struct Outstanding {
    commands: VecDeque<CommandEnvelope>,
    sent: bool,
}

impl Reactor {
    /// A stream has more events.
    pub(super) fn wake(&mut self, stream: Uuid) {
        self.ready.insert(stream);
    }
}

impl World {
    pub(super) fn can_react(&self) -> bool {
        let reactor = &self.reactor;
        reactor.outstanding.values().any(|outstanding| !outstanding.sent)
            || reactor.ready.iter().any(|stream| !reactor.outstanding.contains_key(stream))
    }

    /// Sends the next command of some stream.
    pub(super) fn react(&mut self) {
        let reactor = &self.reactor;
        let mut streams: Vec<Uuid> = reactor
            .ready
            .iter()
            .filter(|stream| !reactor.outstanding.contains_key(stream))
            .copied()
            .collect();
        streams.extend(reactor.outstanding.iter().filter(|(_, one)| !one.sent).map(|(stream, _)| *stream));
        let picked = if self.chaos { self.random.pick(&streams) } else { streams.first() };
        let Some(stream) = picked.copied() else { return };
        if !self.reactor.outstanding.contains_key(&stream) && !self.read_on(stream) {
            self.reactor.ready.remove(&stream);
            return;
        }
        let Some(outstanding) = self.reactor.outstanding.get_mut(&stream) else { return };
        outstanding.sent = true;
        if let Some(command) = outstanding.commands.front().cloned() {
            self.send(self.now, Sender::Reactor(stream), Load::Command(command));
        }
    }

    /// Reads up to the next event that asks for something; false at the end of the stream.
    fn read_on(&mut self, stream: Uuid) -> bool {
        let done = self.reactor.done.entry(stream).or_default();
        let events = self.log.streams.get(&stream).map(Vec::as_slice).unwrap_or_default();
        while let Some(recorded) = events.get(*done) {
            let commands = asked(recorded, &self.case, self.breakage);
            if !commands.is_empty() {
                self.reactor.outstanding.insert(stream, Outstanding { commands: commands.into(), sent: false });
                return true;
            }
            *done += 1;
        }
        false
    }

    /// A command has its answer.
    pub(super) fn reacted(&mut self, stream: Uuid, command: Uuid) {
        let Some(outstanding) = self.reactor.outstanding.get_mut(&stream) else { return };
        if outstanding.commands.front().is_some_and(|front| front.id == command) {
            outstanding.commands.pop_front();
            outstanding.sent = false;
            if outstanding.commands.is_empty() {
                self.reactor.outstanding.remove(&stream);
                *self.reactor.done.entry(stream).or_default() += 1;
                self.reactor.ready.insert(stream);
            }
        }
    }

    /// A command's answer does not come.
    pub(super) fn reaction_missed(&mut self, stream: Uuid) {
        if let Some(outstanding) = self.reactor.outstanding.get_mut(&stream) {
            outstanding.sent = false;
        }
    }

    /// The reactor begins again some events earlier.
    pub(super) fn rewind(&mut self, back: usize) {
        let streams: Vec<Uuid> = self.reactor.done.keys().copied().collect();
        if let Some(stream) = self.random.pick(&streams) {
            let done = self.reactor.done.entry(*stream).or_default();
            *done = done.saturating_sub(back);
            self.reactor.outstanding.remove(stream);
            self.reactor.ready.insert(*stream);
        }
    }
}

/// What an event asks of other streams.
fn asked(recorded: &RecordedEvent, case: &crate::generate::Case, breakage: Option<Breakage>) -> Vec<CommandEnvelope> {
    let Ok(event) = recorded.decode() else { return Vec::new() };
    let wanted = match &event {
        Event::Execution(event) => of_execution(recorded.stream, event, case),
        Event::Lane(event) => of_lane(recorded.stream, event),
        Event::Workflow(_) | Event::Variables(_) => Vec::new(),
    };
    let kept = wanted.into_iter().filter(|(_, command)| match command {
        Command::Lane(LaneCommand::Release { .. }) => breakage != Some(Breakage::ForgetReleases),
        Command::Execution(ExecutionCommand::FinishChild { .. }) => breakage != Some(Breakage::ForgetChildren),
        _ => true,
    });
    let sealed = kept.enumerate().map(|(number, (stream, command))| {
        let parts: [&[u8]; 3] = [b"reactor", recorded.id.as_bytes(), &[number as u8]];
        CommandEnvelope {
            id: derived_id(recorded.recorded_at, Slot::of(stream), &parts),
            tenant: recorded.tenant.clone(),
            actor: Actor::system("reactor"),
            stream,
            correlation_id: recorded.correlation_id,
            causation_id: recorded.id,
            traceparent: None,
            digest: None,
            command,
        }
    });
    sealed.collect()
}

fn of_lane(lane: Uuid, event: &LaneEvent) -> Vec<(Uuid, Command)> {
    let (execution, command) = match event {
        LaneEvent::Granted(granted) => (granted.execution_id, ExecutionCommand::Admit { lane }),
        LaneEvent::Refused(refused) => (refused.execution_id, ExecutionCommand::Drop { lane }),
        LaneEvent::EvictionRequested(eviction) => {
            let reason = Some("concurrency_limit".to_owned());
            (eviction.execution_id, ExecutionCommand::Cancel { reason })
        }
        LaneEvent::Requested(_) | LaneEvent::Released(_) => return Vec::new(),
    };
    vec![(execution, Command::Execution(command))]
}

fn of_execution(stream: Uuid, event: &ExecutionEvent, case: &crate::generate::Case) -> Vec<(Uuid, Command)> {
    match event {
        ExecutionEvent::Queued(queued) => {
            let request = LaneCommand::Request {
                execution: stream,
                workflow_id: queued.workflow_id,
                key: queued.key.clone(),
                limit: queued.limit,
                on_limit: queued.on_limit,
                priority: queued.priority,
            };
            vec![(queued.lane, Command::Lane(request))]
        }
        ExecutionEvent::ChildStarted(child) => vec![start(stream, child, case)],
        ExecutionEvent::NodeCancelled(node) => {
            let stop = node.child.iter().map(|child| {
                let command = match child.how {
                    StopChild::Cancel => ExecutionCommand::Cancel { reason: None },
                    StopChild::Terminate => ExecutionCommand::Terminate { reason: None },
                };
                (child.execution_id, Command::Execution(command))
            });
            stop.collect()
        }
        ExecutionEvent::ChildCompensationRequested(asked) => {
            let (node_id, run, attempt) = (asked.node_id.clone(), asked.run, asked.attempt);
            let parent = ParentRef { execution_id: stream, node_id, run, attempt, depth: 0 };
            vec![(asked.child_id, Command::Execution(ExecutionCommand::Compensate { parent }))]
        }
        ExecutionEvent::CompensationFinished(end) => {
            let told = end.parent.iter().map(|parent| {
                let (child, status, error) = (stream, end.status, end.error.clone());
                let command = ExecutionCommand::ChildCompensated { node: node_of(parent), child, status, error };
                (parent.execution_id, Command::Execution(command))
            });
            told.collect()
        }
        ExecutionEvent::Completed(end) => {
            ended(stream, &end.notice, ExecutionStatus::Completed, end.output.clone(), None)
        }
        ExecutionEvent::Failed(end) => {
            ended(stream, &end.notice, ExecutionStatus::Failed, Value::Null, Some(end.error.clone()))
        }
        ExecutionEvent::Cancelled(end) => {
            ended(stream, &end.notice, ExecutionStatus::Cancelled, Value::Null, None)
        }
        ExecutionEvent::Terminated(end) => {
            ended(stream, &end.notice, ExecutionStatus::Terminated, Value::Null, None)
        }
        _ => Vec::new(),
    }
}

fn start(stream: Uuid, child: &ChildStarted, case: &crate::generate::Case) -> (Uuid, Command) {
    let parent = ParentRef {
        execution_id: stream,
        node_id: child.node_id.clone(),
        run: child.run,
        attempt: child.attempt,
        depth: child.depth,
    };
    let command = ExecutionCommand::Start(StartExecution {
        workflow_id: workflow_id(case, &child.workflow).unwrap_or_default(),
        workflow_version: child.workflow_version,
        input: child.input.clone(),
        trigger: Trigger { kind: "parent".to_owned() },
        priority: Some(child.priority),
        attributes: Map::new(),
        parent: Some(parent),
    });
    (child.child_id, Command::Execution(command))
}

fn ended(
    stream: Uuid,
    notice: &EndNotice,
    status: ExecutionStatus,
    output: Value,
    error: Option<NodeError>,
) -> Vec<(Uuid, Command)> {
    let released = notice.lane.map(|lane| (lane, Command::Lane(LaneCommand::Release { execution: stream })));
    let told = notice.parent.as_ref().map(|parent| {
        let command = ExecutionCommand::FinishChild { node: node_of(parent), child: stream, status, output, error };
        (parent.execution_id, Command::Execution(command))
    });
    released.into_iter().chain(told).collect()
}

fn node_of(parent: &ParentRef) -> NodeRun {
    NodeRun { node_id: parent.node_id.clone(), run: parent.run, attempt: parent.attempt }
}
