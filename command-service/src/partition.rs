//! One partition: folds its streams, decides its commands one after another, and hands appends to the committer.
//!
//! Decisions run ahead of the disk: the next command is decided on events that are still being flushed. If the
//! store refuses one of them, the committer raises the partition's *generation*, sends everything decided on the
//! old one back in its order, and the partition forgets what it had folded ahead. If the log has grown unheard, the
//! partition forgets everything it had folded.

use bytes::Bytes;
use lru::LruCache;
use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;
use uuid::Uuid;

use bus::CommandError;
use domain::aggregate::{Aggregate, AggregateState};
use domain::command::{Command, CommandEnvelope};
use domain::decision::{Decision, Outcome};
use domain::event::{Codec, Event, RecordedEvent};
use domain::execution::Phase;
use domain::execution::command::ExecutionCommand;
use domain::facts::Facts;
use domain::ids::{Partition, Position, event_id};
use domain::time::{Clock, Timestamp};
use event_store::log::MAX_ANSWER_BYTES;
use event_store::{Append, Log, StreamAppend};

use crate::error::report;
use crate::fact_source::FactSource;
use crate::folding::load;
use crate::pending::{Notice, Pending, Submitted, Work, first_answer};

/// Commands that may wait for an append on its way.
const MAX_HELD: usize = 1_024;
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

/// What a partition has folded and what of it is not durable yet.
pub(crate) struct Memory {
    /// Streams as the log has them; any of them can be folded again.
    streams: LruCache<Uuid, Aggregate>,
    /// Streams that are ahead of the log. They are few: the committer's queue bounds them.
    ahead: HashMap<Uuid, Ahead>,
    /// Command ids on their way.
    commands: HashSet<Uuid>,
    /// Commands that came again while the first was on its way, by id.
    repeated: Held,
    /// Commands that failed on what is not durable yet, by stream.
    doubtful: Held,
    generation: u64,
    last_decided_at: Timestamp,
}

/// A stream with appends on their way.
struct Ahead {
    aggregate: Aggregate,
    appends: usize,
}

/// Commands that wait for an append, by what they wait for.
#[derive(Default)]
struct Held {
    commands: HashMap<Uuid, Vec<Submitted>>,
    count: usize,
}

impl Held {
    /// Keeps a command, or gives it back if too many wait already.
    fn keep(&mut self, key: Uuid, submitted: Submitted) -> Option<Submitted> {
        if self.count >= MAX_HELD {
            return Some(submitted);
        }
        self.count += 1;
        self.commands.entry(key).or_default().push(submitted);
        None
    }

    fn take(&mut self, key: Uuid) -> Vec<Submitted> {
        let taken = self.commands.remove(&key).unwrap_or_default();
        self.count -= taken.len();
        taken
    }

    fn take_all(&mut self) -> Vec<Submitted> {
        self.count = 0;
        self.commands.drain().flat_map(|(_, waiting)| waiting).collect()
    }
}

impl Memory {
    /// Nothing folded; `last_recorded_at` is the time of the partition's last event.
    pub(crate) fn new(capacity: usize, last_recorded_at: Timestamp) -> Self {
        Self {
            streams: LruCache::new(NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN)),
            ahead: HashMap::new(),
            commands: HashSet::new(),
            repeated: Held::default(),
            doubtful: Held::default(),
            generation: 0,
            last_decided_at: last_recorded_at,
        }
    }

    /// A folded stream.
    fn stream(&mut self, stream: Uuid) -> Option<&Aggregate> {
        match self.ahead.get(&stream) {
            Some(ahead) => Some(&ahead.aggregate),
            None => self.streams.get(&stream),
        }
    }

    /// A folded stream that an append is being made for.
    fn move_ahead(&mut self, stream: Uuid) -> Option<&mut Aggregate> {
        if !self.ahead.contains_key(&stream) {
            let aggregate = self.streams.pop(&stream)?;
            self.ahead.insert(stream, Ahead { aggregate, appends: 0 });
        }
        let ahead = self.ahead.get_mut(&stream)?;
        ahead.appends += 1;
        Some(&mut ahead.aggregate)
    }

    /// An append is durable. Returns the commands that waited for it.
    fn committed(&mut self, command: Uuid, stream: Uuid) -> Vec<Submitted> {
        self.commands.remove(&command);
        let mut waiting = self.repeated.take(command);
        if let Some(ahead) = self.ahead.get_mut(&stream) {
            ahead.appends -= 1;
            if ahead.appends == 0 {
                waiting.extend(self.doubtful.take(stream));
                if let Some(ahead) = self.ahead.remove(&stream)
                    && !is_finished(&ahead.aggregate)
                {
                    self.streams.put(stream, ahead.aggregate);
                }
            }
        }
        waiting
    }

    /// Forgets everything that is not durable. Returns the commands that waited for some of it.
    fn reset(&mut self, generation: u64) -> Vec<Submitted> {
        self.generation = generation;
        self.ahead.clear();
        self.commands.clear();
        let mut waiting = self.repeated.take_all();
        waiting.extend(self.doubtful.take_all());
        waiting
    }
}

/// A finished execution is rarely asked for again; its state is not worth the memory.
fn is_finished(aggregate: &Aggregate) -> bool {
    matches!(&aggregate.state, AggregateState::Execution(state) if matches!(state.phase, Phase::Finished(_)))
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
                    for waiting in self.memory.committed(command, stream) {
                        self.decide(waiting).await;
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
            // What it failed on may never become durable: it is decided again when that is known.
            Err(_) if self.memory.ahead.contains_key(&stream) => {
                overloaded(self.memory.doubtful.keep(stream, submitted));
            }
            Err(error) => self.refuse(submitted, error).await,
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
        let Some(aggregate) = self.memory.move_ahead(stream) else { return };
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
        self.memory.commands.insert(envelope.id);
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
