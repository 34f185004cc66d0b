//! One partition: folds its streams, decides its commands one after another, and hands appends to the committer.
//!
//! Decisions run ahead of the disk: the next command is decided on events that are still being flushed. If the
//! store refuses one of them, the committer raises the partition's *generation*, sends everything decided on the
//! old one back in its order, and the partition forgets what it had folded ahead.

use bytes::Bytes;
use lru::LruCache;
use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use bus::CommandError;
use domain::aggregate::{Aggregate, AggregateState};
use domain::command::{Command, CommandEnvelope};
use domain::decision::{Decision, Outcome};
use domain::event::{Codec, Event, RecordedEvent};
use domain::execution::command::ExecutionCommand;
use domain::facts::Facts;
use domain::ids::{Partition, Position, Slot, derived_id};
use domain::time::{Clock, Timestamp};
use event_store::log::MAX_ANSWER_BYTES;
use event_store::{Append, Log, StreamAppend};

use crate::error::report;
use crate::fact_source::FactSource;
use crate::folding::load;
use crate::pending::{Notice, Pending, Submitted, first_answer};

/// How often a decider may ask for facts before the command is given up.
const MAX_ROUNDS: usize = 64;

/// The task of one partition.
pub(crate) struct PartitionTask {
    pub(crate) partition: Partition,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) facts: Arc<FactSource>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) commands: mpsc::Receiver<Submitted>,
    pub(crate) notices: mpsc::UnboundedReceiver<Notice>,
    pub(crate) committer: mpsc::Sender<Pending>,
    /// How many partitions are deciding now: the committer lingers while it is not zero.
    pub(crate) deciding: Arc<AtomicUsize>,
    pub(crate) memory: Memory,
}

/// What a partition has folded and what of it is not durable yet.
pub(crate) struct Memory {
    streams: LruCache<Uuid, Aggregate>,
    /// Streams with appends on their way, and how many.
    in_flight: HashMap<Uuid, usize>,
    /// Command ids on their way.
    commands: HashSet<Uuid>,
    /// Commands that came again while the first was on its way.
    repeated: HashMap<Uuid, Vec<Submitted>>,
    generation: u64,
    last_decided_at: Timestamp,
}

impl Memory {
    /// Nothing folded; `last_recorded_at` is the time of the partition's last event.
    pub(crate) fn new(capacity: usize, last_recorded_at: Timestamp) -> Self {
        Self {
            streams: LruCache::new(NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN)),
            in_flight: HashMap::new(),
            commands: HashSet::new(),
            repeated: HashMap::new(),
            generation: 0,
            last_decided_at: last_recorded_at,
        }
    }

    /// Keeps a folded stream. One with appends on their way is never dropped: the log does not have them yet.
    fn keep(&mut self, stream: Uuid, aggregate: Aggregate) {
        let mut evicted = self.streams.push(stream, aggregate);
        for _ in 0..self.streams.len() {
            match evicted {
                Some((old, aggregate)) if old != stream && self.in_flight.contains_key(&old) => {
                    evicted = self.streams.push(old, aggregate);
                }
                _ => return,
            }
        }
    }

    fn committed(&mut self, command: Uuid, stream: Uuid) {
        self.commands.remove(&command);
        if let Some(count) = self.in_flight.get_mut(&stream) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(&stream);
                self.drop_if_finished(stream);
            }
        }
    }

    /// A finished execution is rarely asked for again; its state is not worth the memory.
    fn drop_if_finished(&mut self, stream: Uuid) {
        let finished = matches!(
            self.streams.peek(&stream).map(|aggregate| &aggregate.state),
            Some(AggregateState::Execution(state)) if matches!(state.phase, domain::execution::Phase::Finished(_))
        );
        if finished {
            self.streams.pop(&stream);
        }
    }

    /// Forgets everything that is not durable.
    fn reset(&mut self, generation: u64) {
        self.generation = generation;
        for (stream, _) in self.in_flight.drain() {
            self.streams.pop(&stream);
        }
        self.commands.clear();
    }
}

impl PartitionTask {
    /// Decides commands until the shutdown, then finishes what was accepted.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        let mut open = true;
        while open || !self.memory.commands.is_empty() {
            tokio::select! {
                biased;
                notice = self.notices.recv() => match notice {
                    Some(notice) => self.notice(notice).await,
                    // The committer is gone: nothing can be appended any more.
                    None => return,
                },
                () = shutdown.cancelled(), if open => {
                    self.commands.close();
                    while let Ok(submitted) = self.commands.try_recv() {
                        self.decide(submitted).await;
                    }
                    open = false;
                }
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
                    self.memory.committed(command, stream);
                    for repeated in self.memory.repeated.remove(&command).unwrap_or_default() {
                        self.decide(repeated).await;
                    }
                }
            }
            Notice::Again { generation, commands } => {
                if generation != self.memory.generation {
                    self.memory.reset(generation);
                }
                let repeated: Vec<_> =
                    self.memory.repeated.drain().flat_map(|(_, waiting)| waiting).collect();
                for submitted in commands.into_iter().chain(repeated) {
                    self.decide(submitted).await;
                }
            }
        }
    }

    async fn decide(&mut self, submitted: Submitted) {
        let id = submitted.envelope.id;
        if self.memory.commands.contains(&id) {
            self.memory.repeated.entry(id).or_default().push(submitted);
            return;
        }
        self.deciding.fetch_add(1, Ordering::Relaxed);
        let decided = self.outcome(&submitted.envelope).await;
        match decided {
            Ok((outcome, now)) => self.submit(submitted, outcome, now).await,
            Err(error) => self.refuse(submitted, error).await,
        }
        self.deciding.fetch_sub(1, Ordering::Relaxed);
    }

    /// What follows from a command, fetching the facts that its decider asks for.
    async fn outcome(&mut self, envelope: &CommandEnvelope) -> Result<(Outcome, Timestamp), CommandError> {
        let unknown = |error: &dyn std::fmt::Display| CommandError::Unknown(error.to_string().into());
        let stream = envelope.stream;
        if !self.memory.streams.contains(&stream) {
            let aggregate = load(&*self.log, stream, None).await.map_err(|error| {
                tracing::error!(stream.id = %stream, error = %report(&error), "a stream could not be folded");
                unknown(&error)
            })?;
            self.memory.keep(stream, aggregate);
        }
        // Never back within a partition, whatever the clock does.
        let now = self.clock.now().max(self.memory.last_decided_at);
        let mut facts = Facts::new(now, envelope.id, stream);
        for _ in 0..MAX_ROUNDS {
            let aggregate =
                self.memory.streams.get(&stream).ok_or_else(|| unknown(&"the folded stream was dropped"))?;
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
        let Some(aggregate) = self.memory.streams.get_mut(&stream) else { return };
        let expected_version = aggregate.version;
        let mut recorded = Vec::with_capacity(outcome.events.len());
        for event in &outcome.events {
            let version = aggregate.version + 1;
            recorded.push(record(envelope, event, version, now, self.partition));
            aggregate.apply(&envelope.tenant, event, now);
        }
        let priority = match &aggregate.state {
            AggregateState::Execution(state) => state.started.as_ref().map_or(0, |started| started.priority),
            _ => 0,
        };
        let bytes = recorded.iter().map(|event| event.data.len()).sum();
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
        self.memory.commands.insert(envelope.id);
        *self.memory.in_flight.entry(stream).or_default() += 1;
        let pending = Pending {
            append: Some(append),
            events: outcome.events,
            wakeups: outcome.wakeups,
            answer: outcome.answer,
            partition: self.partition,
            generation: self.memory.generation,
            bytes,
            priority,
            submitted,
        };
        if let Err(refused) = self.committer.send(pending).await {
            // Nobody waiting for the answer is not an error.
            let _ = refused.0.submitted.reply.send(Err(CommandError::NotOwner));
        }
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
        // Derived, so that a command decided again gives the same event ids.
        id: derived_id(now, Slot::of(stream), &[envelope.id.as_bytes(), &version.to_be_bytes()]),
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
