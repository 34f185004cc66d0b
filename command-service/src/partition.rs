//! One partition: folds its streams, decides its commands one after another, and hands appends to the committer.
//!
//! Decisions run ahead of the disk: the next command is decided on events that are still being flushed. If the
//! store refuses one of them, the committer raises the partition's *generation*, sends everything decided on the
//! old one back in its order, and the partition forgets what it had folded ahead. If the log has grown unheard, the
//! partition forgets everything it had folded. A refusal that rests on what is being flushed is given when that is
//! durable: until then nobody is told of it.

mod memory;

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

use bus::CommandError;
use domain::aggregate::AggregateState;
use domain::command::{Command, CommandEnvelope};
use domain::decision::{Decision, Outcome};
use domain::event::{Codec, Event, RecordedEvent};
use domain::execution::command::ExecutionCommand;
use domain::facts::Facts;
use domain::ids::{Partition, Position, event_id};
use domain::time::{Clock, Timestamp};
use event_store::log::MAX_ANSWER_BYTES;
use event_store::{Append, Log, StreamAppend};

use crate::error::report;
use crate::fact_source::FactSource;
use crate::folding::{follow, load};
use crate::pending::{Notice, Pending, Submitted, Work, first_answer};

pub(crate) use memory::Memory;

/// How often a decider may ask for facts before the command is given up.
const MAX_ROUNDS: usize = 64;

/// The task of one partition.
pub(crate) struct PartitionTask {
    pub(crate) partition: Partition,
    /// Under which it was taken over.
    pub(crate) epoch: u64,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) facts: Arc<FactSource>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) commands: mpsc::Receiver<Submitted>,
    pub(crate) notices: mpsc::UnboundedReceiver<Notice>,
    pub(crate) committer: mpsc::Sender<Work>,
    /// How many partitions are deciding now: the committer lingers while it is not zero.
    pub(crate) deciding: Arc<AtomicUsize>,
    pub(crate) memory: Memory,
}

impl PartitionTask {
    /// Decides commands until its door is closed, then finishes what was accepted. Ends at once when the committer has
    /// dropped the partition; whatever it holds then is answered by being dropped.
    pub(crate) async fn run(mut self) {
        let mut open = true;
        while open || !self.memory.ahead.is_empty() {
            tokio::select! {
                biased;
                notice = self.notices.recv() => match notice {
                    Some(notice) => self.notice(notice).await,
                    // Nothing can be appended any more.
                    None => return,
                },
                submitted = self.commands.recv(), if open => match submitted {
                    Some(submitted) => self.decide(submitted).await,
                    None => open = false,
                },
            }
        }
    }

    async fn notice(&mut self, notice: Notice) {
        match notice {
            Notice::Committed(done) => {
                for (command, stream) in done {
                    let released = self.memory.committed(command, stream);
                    for (submitted, error) in released.failed {
                        self.refuse(submitted, error).await;
                    }
                    for submitted in released.repeated {
                        self.decide(submitted).await;
                    }
                }
            }
            Notice::Again { generation, commands } => {
                let mut all = commands;
                if generation != self.memory.generation {
                    all.extend(self.memory.reset(generation));
                }
                for submitted in all {
                    self.decide(submitted).await;
                }
            }
            Notice::Grew { generation } => {
                let waiting = self.memory.reset(generation);
                // Any of them may have grown, also one that was folded as empty.
                self.memory.streams.clear();
                for submitted in waiting {
                    self.decide(submitted).await;
                }
            }
        }
    }

    async fn decide(&mut self, submitted: Submitted) {
        let Submitted { envelope, .. } = &submitted;
        let (id, stream) = (envelope.id, envelope.stream);
        if self.memory.commands.contains(&id) {
            return overloaded(self.memory.repeated.keep(id, submitted));
        }
        self.deciding.fetch_add(1, Ordering::Relaxed);
        match self.outcome(&submitted.envelope).await {
            Ok((outcome, now)) => self.submit(submitted, outcome, now).await,
            Err(error) => match self.memory.ahead.get(&stream).map(|ahead| ahead.last) {
                // What it failed on may never become durable.
                Some(last) => {
                    let given_back = self.memory.doubtful.keep(last, (submitted, error));
                    overloaded(given_back.map(|(submitted, _)| submitted));
                }
                None => self.refuse(submitted, error).await,
            },
        }
        self.deciding.fetch_sub(1, Ordering::Relaxed);
    }

    /// What follows from a command, fetching the facts that its decider asks for.
    async fn outcome(&mut self, envelope: &CommandEnvelope) -> Result<(Outcome, Timestamp), CommandError> {
        let unknown = |error: &dyn std::fmt::Display| CommandError::Unknown(error.to_string().into());
        let stream = envelope.stream;
        if self.memory.stream(stream).is_none() {
            let aggregate = load(&*self.log, stream, None).await.map_err(|error| {
                tracing::error!(stream.id = %stream, error = %report(&error), "a stream could not be folded");
                unknown(&error)
            })?;
            self.memory.streams.put(stream, aggregate);
        }
        // Never back within a partition, whatever the clock does.
        let now = self.clock.now().max(self.memory.last_decided_at);
        let mut facts = Facts::new(now, envelope.id, stream, envelope.tenant.clone());
        facts.authority = envelope.authority.clone();
        for _ in 0..MAX_ROUNDS {
            // Ahead of the log, if it is: whoever comes next builds on what is on its way.
            let aggregate =
                self.memory.stream(stream).ok_or_else(|| unknown(&"the folded stream was dropped"))?;
            match aggregate.decide(envelope, &facts).map_err(CommandError::Rejected)? {
                Decision::Events(outcome) => return Ok((outcome, now)),
                Decision::Needs(needs) => {
                    for need in needs {
                        self.facts
                            .fetch(&envelope.tenant, need, &mut facts)
                            .await
                            .map_err(|error| unknown(&error))?;
                    }
                }
            }
        }
        Err(unknown(&"the decider asked for too many facts"))
    }

    /// Folds the outcome and hands it to the committer.
    async fn submit(&mut self, submitted: Submitted, outcome: Outcome, now: Timestamp) {
        let envelope = &submitted.envelope;
        let answer = outcome.answer.to_string();
        debug_assert!(answer.len() <= MAX_ANSWER_BYTES, "an answer names things, it does not carry them");
        let stream = envelope.stream;
        let Some(aggregate) = self.memory.move_ahead(stream, envelope.id) else { return };
        let expected_version = aggregate.version;
        let versions = outcome.events.iter().zip(expected_version + 1..);
        let recorded: Vec<RecordedEvent> =
            versions.map(|(event, version)| record(envelope, event, version, now, self.partition)).collect();
        follow(aggregate, &envelope.tenant, &outcome.events, outcome.after, now);
        let priority = match &aggregate.state {
            AggregateState::Execution(state) => state.started.as_ref().map_or(0, |started| started.priority),
            _ => 0,
        };
        let bytes = recorded.iter().map(|event| event.data.len()).sum::<usize>()
            + outcome.blobs.iter().map(|blob| blob.content.len()).sum::<usize>();
        let append = Append {
            partition: self.partition,
            command_id: envelope.id,
            digest: envelope.digest,
            answer: Bytes::from(answer),
            decided_at: now,
            tenant: envelope.tenant.clone(),
            streams: vec![StreamAppend { stream, expected_version, events: recorded }],
            claims: outcome.claims,
            wakeups: outcome.wakeups.clone(),
            blobs: outcome.blobs,
        };
        self.memory.last_decided_at = now;
        let pending = Pending {
            append: Some(append),
            events: outcome.events,
            wakeups: outcome.wakeups,
            answer: outcome.answer,
            partition: self.partition,
            epoch: self.epoch,
            generation: self.memory.generation,
            bytes,
            priority,
            submitted,
        };
        // Should the committer be gone, the append is dropped with its reply: that is `NotOwner`.
        let _ = self.committer.send(Work::Append(pending)).await;
    }

    /// Answers a command that was not decided; one that was carried out before gets its first answer.
    async fn refuse(&self, submitted: Submitted, error: CommandError) {
        let Submitted { envelope, reply, .. } = submitted;
        let from_timer = matches!(envelope.command, Command::Execution(ExecutionCommand::Wake(_)));
        let mut answer = Err(error);
        if matches!(answer, Err(CommandError::Rejected(_))) && !from_timer {
            match self.log.command_answer(self.partition, envelope.id).await {
                Ok(Some(first)) => answer = first_answer(&first, envelope.digest),
                Ok(None) => {}
                Err(error) => answer = Err(CommandError::Unknown(error.to_string().into())),
            }
        }
        // Nobody waiting for the answer is not an error.
        let _ = reply.send(answer);
    }
}

/// Answers a command for which there was no room.
fn overloaded(given_back: Option<Submitted>) {
    if let Some(submitted) = given_back {
        // Nobody waiting for the answer is not an error.
        let _ = submitted.reply.send(Err(CommandError::Overloaded));
    }
}

fn record(
    envelope: &CommandEnvelope,
    event: &Event,
    version: u64,
    now: Timestamp,
    partition: Partition,
) -> RecordedEvent {
    let stream = envelope.stream;
    RecordedEvent {
        // The store gives the offset.
        position: Position { partition, offset: 0 },
        stream,
        version,
        tenant: envelope.tenant.clone(),
        event_type: event.event_type().into(),
        schema_version: event.schema_version(),
        id: event_id(now, stream, envelope.id, version),
        recorded_at: now,
        correlation_id: envelope.correlation_id,
        causation_id: envelope.causation_id,
        actor: envelope.actor.clone(),
        traceparent: envelope.traceparent.clone(),
        codec: Codec::Json,
        key_id: None,
        data: event.encode(),
    }
}
