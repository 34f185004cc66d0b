//! The reactor: reads every stream in order and sends what its events ask of other streams.
//!
//! Within a stream, an event's commands are answered before the next event is read. Ids are derived from the event, so
//! what is sent again after a crash has no second effect.

use domain::command::Command;
use domain::event::RecordedEvent;
use domain::execution::command::ExecutionCommand;
use domain::lane::command::LaneCommand;
use domain::reactor::{self, Reaction};
use domain::rejection::Rejection;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use uuid::Uuid;

use crate::generate::Case;

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
    commands: VecDeque<Reaction>,
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
        if let Some(reaction) = outstanding.commands.front() {
            let command = reaction.command.clone();
            self.send(self.now, Sender::Reactor(stream), Load::Command(Box::new(command)));
        }
    }

    /// Reads up to the next event that asks for something; false at the end of the stream.
    fn read_on(&mut self, stream: Uuid) -> bool {
        let done = self.reactor.done.entry(stream).or_default();
        let events = self.log.streams.get(&stream).map(Vec::as_slice).unwrap_or_default();
        while let Some(recorded) = events.get(*done) {
            let commands = asked(recorded, &self.case, self.breakage);
            if !commands.is_empty() {
                self.reactor.outstanding.insert(stream, Outstanding { commands, sent: false });
                return true;
            }
            *done += 1;
        }
        false
    }

    /// A command has its answer.
    pub(super) fn reacted(&mut self, stream: Uuid, command: Uuid, refusal: Option<&Rejection>) {
        let Some(outstanding) = self.reactor.outstanding.get_mut(&stream) else { return };
        if outstanding.commands.front().is_some_and(|front| front.command.id == command) {
            let asked = outstanding.commands.pop_front();
            let follow_up =
                asked.zip(refusal).and_then(|(asked, refusal)| reactor::after_refusal(&asked, refusal));
            if let Some(follow_up) = follow_up {
                outstanding.commands.push_front(follow_up);
            }
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
fn asked(recorded: &RecordedEvent, case: &Case, breakage: Option<Breakage>) -> VecDeque<Reaction> {
    let Ok(event) = recorded.decode() else { return VecDeque::new() };
    let mut asked = reactor::reactions(recorded, &event);
    for reaction in &mut asked {
        if let Some(name) = reaction.workflow_name.clone() {
            reaction.resolve(workflow_id(case, &name));
        }
    }
    let is_kept = |reaction: &Reaction| match &reaction.command.command {
        Command::Lane(LaneCommand::Release { .. }) => breakage != Some(Breakage::ForgetReleases),
        Command::Execution(ExecutionCommand::FinishChild { .. }) => {
            breakage != Some(Breakage::ForgetChildren)
        }
        _ => true,
    };
    asked.into_iter().filter(is_kept).collect()
}
