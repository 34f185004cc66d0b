//! What a lane has read and not finished: which commands must be sent, in which order, and how far everything is done.

use std::collections::{BTreeMap, HashMap, VecDeque};
use uuid::Uuid;

use domain::reactor::Reaction;

/// One command on its way.
#[derive(Debug)]
pub(super) struct Job {
    /// The event that it follows from.
    pub(super) offset: u64,
    /// What it takes up, about.
    pub(super) bytes: usize,
    /// What is asked of whom.
    pub(super) reaction: Reaction,
    /// Whether an earlier owner may have dealt with it.
    pub(super) again: bool,
}

/// A job that is done.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) offset: u64,
    pub(super) bytes: usize,
    pub(super) target: Uuid,
    /// What its refusal leads to.
    pub(super) follow_up: Option<Reaction>,
}

/// The unfinished work of a lane.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// By target: what waits for the one that is on its way.
    targets: HashMap<Uuid, VecDeque<Job>>,
    /// How many jobs of each event are open.
    open: BTreeMap<u64, usize>,
    jobs: usize,
    bytes: usize,
}

impl Backlog {
    pub(super) fn jobs(&self) -> usize {
        self.jobs
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The last offset up to which everything is done, of what was read up to `position`.
    pub(super) fn done(&self, position: u64) -> u64 {
        self.open.first_key_value().map_or(position, |(first, _)| first - 1)
    }

    /// Takes a job on. Returned: it can be sent now.
    pub(super) fn add(&mut self, job: Job) -> Option<Job> {
        *self.open.entry(job.offset).or_default() += 1;
        self.jobs += 1;
        self.bytes += job.bytes;
        match self.targets.get_mut(&job.reaction.command.stream) {
            Some(waiting) => {
                waiting.push_back(job);
                None
            }
            None => {
                self.targets.insert(job.reaction.command.stream, VecDeque::new());
                Some(job)
            }
        }
    }

    /// A job is done. Returns those that can be sent now: the target's next, and what a refusal leads to.
    pub(super) fn finished(&mut self, finished: Finished) -> impl Iterator<Item = Job> + use<> {
        let Finished { offset, bytes, target, follow_up } = finished;
        let again = follow_up.and_then(|reaction| self.add(Job { offset, bytes, reaction, again: false }));
        self.jobs -= 1;
        self.bytes -= bytes;
        if let Some(open) = self.open.get_mut(&offset) {
            *open -= 1;
            if *open == 0 {
                self.open.remove(&offset);
            }
        }
        let next = self.targets.get_mut(&target).and_then(VecDeque::pop_front);
        if next.is_none() {
            self.targets.remove(&target);
        }
        next.into_iter().chain(again)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::command::{Command, CommandEnvelope};
    use domain::event::{Codec, Event, RecordedEvent};
    use domain::ids::{Actor, Partition, Position, Slot, TenantId, new_id};
    use domain::lane::event::LaneGranted;
    use domain::reactor::reactions;
    use domain::time::Timestamp;

    fn id(number: u64) -> Uuid {
        new_id(Timestamp::from_unix_ms(1), Slot::from_bits(1), number)
    }

    fn job(offset: u64, target: u64) -> Job {
        let event = Event::Lane(LaneGranted { execution_id: id(target) }.into());
        let recorded = RecordedEvent {
            position: Position { partition: Partition(1), offset },
            stream: id(99),
            version: offset,
            tenant: TenantId::default_tenant(),
            event_type: event.event_type().into(),
            schema_version: 1,
            id: id(1_000 + offset),
            recorded_at: Timestamp::default(),
            correlation_id: id(99),
            causation_id: id(99),
            actor: Actor::system("test"),
            traceparent: None,
            codec: Codec::Json,
            key_id: None,
            data: event.encode(),
        };
        let reaction = reactions(&recorded, &event).remove(0);
        Job { offset, bytes: 10, reaction, again: false }
    }

    fn done(job: Job) -> Finished {
        let target = job.reaction.command.stream;
        Finished { offset: job.offset, bytes: job.bytes, target, follow_up: None }
    }

    #[test]
    fn commands_to_one_target_go_one_after_another_and_others_beside_them() {
        let mut backlog = Backlog::default();
        let first = backlog.add(job(5, 1)).expect("nothing before it");
        assert!(backlog.add(job(6, 1)).is_none(), "behind the first");
        let other = backlog.add(job(7, 2)).expect("another target");
        assert_eq!((backlog.done(9), backlog.jobs()), (4, 3));
        assert_eq!(backlog.finished(done(other)).count(), 0);
        assert_eq!(backlog.done(9), 4, "the first is still open");
        let second: Vec<_> = backlog.finished(done(first)).collect();
        assert_eq!(second[0].offset, 6);
        assert_eq!(backlog.done(9), 5);
        assert_eq!(backlog.finished(done(job(6, 1))).count(), 0);
        assert_eq!((backlog.done(9), backlog.jobs(), backlog.bytes()), (9, 0, 0));
        assert!(backlog.targets.is_empty(), "nothing is kept of targets that are done with");
    }

    #[test]
    fn an_event_is_done_when_what_its_refusal_leads_to_is() {
        let mut backlog = Backlog::default();
        let first = backlog.add(job(5, 1)).expect("nothing before it");
        let behind = backlog.add(job(6, 3)).expect("another target");
        let follow_up = Some(job(5, 3).reaction);
        let sent: Vec<_> = backlog.finished(Finished { follow_up, ..done(first) }).collect();
        assert!(sent.is_empty(), "its target is busy");
        assert_eq!((backlog.done(9), backlog.jobs()), (4, 2));
        let follow: Vec<_> = backlog.finished(done(behind)).collect();
        assert!(matches!(
            &follow[0].reaction.command,
            CommandEnvelope { command: Command::Execution(_), stream, .. } if *stream == id(3)
        ));
        assert_eq!(backlog.finished(done(job(5, 3))).count(), 0);
        assert_eq!(backlog.done(9), 9);
    }
}
