//! What can happen next, and which of it does.

use domain::command::{Command, CommandEnvelope};
use domain::execution::command::ExecutionCommand;
use domain::ids::{Actor, Slot, TenantId, derived_id};
use domain::rejection::Rejection;
use domain::time::Timestamp;

use super::owner::{Handled, Owner};
use super::{Fault, Load, Message, Sender, World};

/// The longest jump of time, in milliseconds.
const LONGEST_JUMP_MS: u64 = 40_000;

/// Something that can happen now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Deliver(usize),
    Client(usize),
    React,
    Dispatch,
    Timer,
}

impl World {
    /// Lets one thing happen; false if nothing is left.
    pub(super) fn step(&mut self) -> bool {
        if self.chaos {
            self.disturb();
        }
        let turns = self.turns();
        let turn = if self.chaos { self.random.pick(&turns).copied() } else { turns.first().copied() };
        match turn {
            None => return self.pass_time(),
            Some(Turn::Deliver(at)) => self.deliver(at),
            Some(Turn::Client(number)) => {
                if let Some((_, envelope)) = self.clients[number].steps.front().cloned() {
                    self.waiting_clients.insert(number);
                    self.send(self.now, Sender::Client(number), Load::Command(Box::new(envelope)));
                }
            }
            Some(Turn::React) => self.react(),
            Some(Turn::Dispatch) => self.dispatch(),
            Some(Turn::Timer) => self.fire(),
        }
        true
    }

    /// Everything that can happen now, in the order in which it does without faults.
    fn turns(&mut self) -> Vec<Turn> {
        let (now, chaos) = (self.now, self.chaos);
        let mut turns = Vec::new();
        if chaos {
            // One draw among the messages, so that they do not crowd out the rest.
            let count = self.bus.len() as u64;
            if count > 0 {
                let at = if self.random.chance(60) { 0 } else { self.random.below(count) as usize };
                turns.extend([Turn::Deliver(at); 3]);
            }
        } else {
            let due = self.bus.iter().enumerate().filter(|(_, message)| message.due <= now);
            turns.extend(due.min_by_key(|(_, message)| message.number).map(|(at, _)| Turn::Deliver(at)));
        }
        if self.can_react() {
            turns.push(Turn::React);
        }
        if self.can_dispatch() {
            turns.push(Turn::Dispatch);
        }
        if self.due_timer().is_some() {
            turns.push(Turn::Timer);
        }
        for (number, client) in self.clients.iter().enumerate() {
            let due = client.steps.front().is_some_and(|(due, _)| chaos || *due <= now);
            if due && !self.waiting_clients.contains(&number) {
                turns.push(Turn::Client(number));
            }
        }
        turns
    }

    /// Moves time to what is next.
    fn pass_time(&mut self) -> bool {
        let messages = self.bus.iter().map(|message| message.due).min();
        let steps = self.clients.iter().filter_map(|client| client.steps.front()).map(|(due, _)| *due).min();
        let next = [messages, steps, self.log.next_wakeup()].into_iter().flatten().min();
        match next {
            Some(next) if !self.all_ended() => {
                self.now = self.now.max(next);
                true
            }
            _ => false,
        }
    }

    fn deliver(&mut self, at: usize) {
        let message = self.bus.remove(at);
        if self.chaos {
            if at > 0 {
                self.count(Fault::Reorder);
            }
            if self.random.chance(self.rates.duplicate) {
                self.count(Fault::Duplicate);
                let repeated = Message { sender: repeated(&message), ..message.clone() };
                self.bus.push(repeated);
            }
            if self.random.chance(self.rates.drop) {
                self.count(Fault::Drop);
                return self.missed(&message.sender);
            }
        }
        match message.load {
            Load::Task => self.work(&message.sender),
            Load::Command(envelope) => self.command(&message.sender, &envelope),
        }
    }

    fn command(&mut self, sender: &Sender, envelope: &CommandEnvelope) {
        let handled = match self.stale.take() {
            Some(stale) if self.random.chance(40) => self.ask_former_owner(stale, envelope),
            stale => {
                self.stale = stale;
                let mut owner = std::mem::take(&mut self.owner);
                let handled = self.handle(&mut owner, envelope);
                self.owner = owner;
                handled
            }
        };
        match handled {
            Handled::Done => self.answered(sender, envelope, None),
            Handled::Refused(rejection) => self.answered(sender, envelope, Some(&rejection)),
            Handled::Unanswered => self.missed(sender),
            Handled::Crashed => {
                self.missed(sender);
                self.crash();
            }
        }
    }

    /// One who does not know that it is no owner any more. What it answers without an append counts for nothing.
    fn ask_former_owner(&mut self, mut stale: Owner, envelope: &CommandEnvelope) -> Handled {
        let handled = self.handle(&mut stale, envelope);
        let has_answer = matches!(handled, Handled::Done | Handled::Refused(_));
        if has_answer && !stale.fenced && self.guards().epoch {
            self.stale = Some(stale);
            return Handled::Unanswered;
        }
        handled
    }

    /// The sender has its answer.
    fn answered(&mut self, sender: &Sender, envelope: &CommandEnvelope, refusal: Option<&Rejection>) {
        match sender {
            Sender::Client(number) => {
                self.waiting_clients.remove(number);
                self.clients[*number].steps.pop_front();
            }
            Sender::Timer(due, stream, wakeup) => {
                let key = (*due, *stream, wakeup.clone());
                self.timers_sent.remove(&key);
                self.log.wakeups.remove(&key);
            }
            Sender::Reactor(stream) => self.reacted(*stream, envelope.id, refusal),
            Sender::Task(stream, node) => {
                self.tasks.remove(&(*stream, node.clone()));
            }
            Sender::Nobody => {}
        }
    }

    /// The sender has no answer and sends again.
    fn missed(&mut self, sender: &Sender) {
        match sender {
            Sender::Client(number) => {
                self.waiting_clients.remove(number);
            }
            Sender::Timer(due, stream, wakeup) => {
                self.timers_sent.remove(&(*due, *stream, wakeup.clone()));
            }
            Sender::Reactor(stream) => self.reaction_missed(*stream),
            Sender::Task(stream, node) => self.task_missed(*stream, node),
            Sender::Nobody => {}
        }
    }

    fn due_timer(&self) -> Option<(Timestamp, uuid::Uuid, domain::decision::Wakeup)> {
        let due = self.log.wakeups.iter().take_while(|(due, _, _)| *due <= self.now);
        due.into_iter().find(|key| !self.timers_sent.contains(key)).cloned()
    }

    fn fire(&mut self) {
        let Some((due, stream, wakeup)) = self.due_timer() else { return };
        self.timers_sent.insert((due, stream, wakeup.clone()));
        let kind = wakeup.kind.to_string();
        let id = derived_id(due, Slot::of(stream), &[b"wake", stream.as_bytes(), kind.as_bytes()]);
        let envelope = CommandEnvelope {
            id,
            tenant: TenantId::default_tenant(),
            actor: Actor::system("timer"),
            stream,
            correlation_id: stream,
            causation_id: id,
            traceparent: None,
            digest: None,
            command: Command::Execution(ExecutionCommand::Wake(wakeup.clone())),
            authority: None,
        };
        self.send(self.now, Sender::Timer(due, stream, wakeup), Load::Command(Box::new(envelope)));
    }

    /// Faults that come by themselves.
    fn disturb(&mut self) {
        if self.random.chance(self.rates.takeover) && self.random.chance(30) {
            self.count(Fault::Takeover);
            self.log.epoch += 1;
            self.stale = Some(std::mem::take(&mut self.owner));
            self.crash();
        }
        if self.random.chance(self.rates.rewind) && self.random.chance(30) {
            self.count(Fault::ReactorRewound);
            let back = self.random.below(4) as usize;
            self.rewind(back);
        }
        if self.rates.jump > 0 && self.random.chance(self.rates.jump) {
            self.count(Fault::TimeJump);
            self.jumped = true;
            let ms = self.random.below(LONGEST_JUMP_MS);
            self.now = self.now.plus_ms(ms);
        }
    }

    /// The owner begins again from what is durable.
    pub(super) fn crash(&mut self) {
        if self.breaks(super::Breakage::ForgetWakeups) {
            self.log.wakeups.clear();
        }
        self.owner = Owner { epoch: self.log.epoch, ..Owner::default() };
        self.timers_sent.clear();
        self.recover_tasks();
    }
}

/// Who waits for a repetition: nobody, but a task that comes twice is worked on twice.
fn repeated(message: &Message) -> Sender {
    match &message.load {
        Load::Task => message.sender.clone(),
        Load::Command(_) => Sender::Nobody,
    }
}
