//! An owner of all partitions in few lines: one command at a time, nothing cached.

use async_trait::async_trait;
use bus::{CommandError, CommandReply, Commands, CommitFeed, CommittedBatch};
use domain::aggregate::{Aggregate, AggregateState, claim_taken};
use domain::blob::BlobRef;
use domain::command::CommandEnvelope;
use domain::decision::{Decision, Need, Outcome};
use domain::event::{Codec, Event, RecordedEvent};
use domain::execution::Recording;
use domain::facts::{Fact, Facts, Origin};
use domain::ids::{Partition, Position, Slot, new_id};
use domain::time::Clock;
use domain::workflow::definition::Definition;
use event_store::log::{Append, AppendError, Batch, Log, LogReader, PartitionHead, Refusal, StreamAppend};
use event_store::sqlite::SqliteLog;
use serde_json::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use tokio::sync::Mutex;
use uuid::Uuid;

pub(crate) struct Owner {
    log: Arc<SqliteLog>,
    feed: Arc<dyn CommitFeed>,
    clock: Arc<dyn Clock>,
    heads: Mutex<HashMap<Partition, PartitionHead>>,
    ids: AtomicU64,
    /// How often to answer that nobody owns the partition, before deciding.
    pub(crate) refusals: AtomicUsize,
}

impl Owner {
    pub(crate) async fn new(log: Arc<SqliteLog>, feed: Arc<dyn CommitFeed>, clock: Arc<dyn Clock>) -> Self {
        let mut heads = HashMap::new();
        for number in 0..log.partitions() {
            let head = log.take_over(Partition(number), uuid::Uuid::nil()).await.expect("taken over");
            heads.insert(head.partition, head);
        }
        Self {
            log,
            feed,
            clock,
            heads: Mutex::new(heads),
            ids: AtomicU64::new(1),
            refusals: AtomicUsize::new(0),
        }
    }

    async fn fold(&self, stream: Uuid, until: u64) -> Aggregate {
        let mut aggregate = Aggregate::default();
        for event in self.log.read_stream(stream, 0, 100_000).await.expect("read") {
            if event.version <= until {
                aggregate.apply_recorded(&event).expect("decodes");
            }
        }
        aggregate
    }

    async fn satisfy(&self, facts: &mut Facts, need: Need, command: &CommandEnvelope) {
        match need {
            Need::Workflow(id) => {
                facts.workflow = match self.fold(id, u64::MAX).await.state {
                    AggregateState::Workflow(state) => {
                        state.head().map_or(Fact::Absent, |head| Fact::Is(Arc::new(head)))
                    }
                    _ => Fact::Absent,
                };
            }
            Need::Definition { workflow, version } => {
                let state = self.fold(workflow, u64::MAX).await.state;
                let AggregateState::Workflow(state) = state else { panic!("no workflow") };
                let mut document = state.version(version).expect("the version").definition.clone();
                if let Some(reference) = BlobRef::from_value(&document) {
                    document = self.blob(command, &reference).await;
                }
                facts.definition = Fact::Is(Arc::new(Definition::parse(&document).expect("valid")));
            }
            Need::Variables(version) => {
                let stream = domain::variables::stream_of(&command.tenant);
                facts.variables = match self.fold(stream, version.unwrap_or(u64::MAX)).await.state {
                    AggregateState::Variables(state) => Fact::Is(Arc::new(state.as_fact())),
                    _ => Fact::Is(Arc::default()),
                };
            }
            Need::Blob(reference) => {
                let content = self.blob(command, &reference).await;
                facts.blobs.insert(reference.sha256.clone(), Arc::new(content));
            }
            Need::Origin { execution, at_version } => {
                let latest_version = self.fold(execution, u64::MAX).await.version;
                facts.origin = match self.fold(execution, at_version).await.state {
                    AggregateState::Execution(state) if at_version <= latest_version => {
                        Fact::Is(Arc::new(Origin {
                            state: *state,
                            latest_version,
                            depth: 0,
                            children: HashMap::new(),
                        }))
                    }
                    _ => Fact::Absent,
                };
            }
            Need::Recording { execution, until } => {
                let mut recording = Recording::default();
                for recorded in self.log.read_stream(execution, 0, 100_000).await.expect("read") {
                    if recorded.version <= until
                        && let Event::Execution(event) = recorded.decode().expect("decodes")
                    {
                        recording.fold(&event);
                    }
                }
                facts.recording = Fact::Is(Arc::new(recording));
            }
        }
    }

    async fn blob(&self, command: &CommandEnvelope, reference: &BlobRef) -> Value {
        let content = self.log.read_blob(&command.tenant, reference).await.expect("read").expect("stored");
        serde_json::from_slice(&content).expect("JSON")
    }

    fn record(
        &self,
        command: &CommandEnvelope,
        outcome: &Outcome,
        version: u64,
        facts: &Facts,
    ) -> Vec<RecordedEvent> {
        let partition = Partition::of(command.stream, self.log.partitions());
        let events = outcome.events.iter().zip(version + 1..);
        events
            .map(|(event, version)| RecordedEvent {
                position: Position { partition, offset: 0 },
                stream: command.stream,
                version,
                tenant: command.tenant.clone(),
                event_type: Cow::Borrowed(event.event_type()),
                schema_version: event.schema_version(),
                id: new_id(facts.now, Slot::of(command.stream), self.ids.fetch_add(1, Ordering::Relaxed)),
                recorded_at: facts.now,
                correlation_id: command.correlation_id,
                causation_id: command.causation_id,
                actor: command.actor.clone(),
                traceparent: command.traceparent.clone(),
                codec: Codec::Json,
                key_id: None,
                data: event.encode(),
            })
            .collect()
    }
}

#[async_trait]
impl Commands for Owner {
    async fn send(&self, command: CommandEnvelope) -> Result<CommandReply, CommandError> {
        if self.refusals.load(Ordering::Relaxed) > 0 {
            self.refusals.fetch_sub(1, Ordering::Relaxed);
            return Err(CommandError::NotOwner);
        }
        let mut heads = self.heads.lock().await;
        let partition = Partition::of(command.stream, self.log.partitions());
        if let Some(first) = self.log.command_answer(partition, command.id).await.expect("read") {
            if first.digest != command.digest {
                return Err(CommandError::DigestMismatch);
            }
            let answer = serde_json::from_slice(&first.answer).expect("JSON");
            return Ok(CommandReply { answer, position: Some(first.position), repeated: true });
        }
        let aggregate = self.fold(command.stream, u64::MAX).await;
        let mut facts = Facts::new(self.clock.now(), command.id, command.stream, command.tenant.clone());
        facts.authority.clone_from(&command.authority);
        let outcome = loop {
            match aggregate.decide(&command, &facts).map_err(CommandError::Rejected)? {
                Decision::Events(outcome) => break outcome,
                Decision::Needs(needs) => {
                    for need in needs {
                        self.satisfy(&mut facts, need, &command).await;
                    }
                }
            }
        };
        let events = self.record(&command, &outcome, aggregate.version, &facts);
        let append = Append {
            partition,
            command_id: command.id,
            digest: command.digest,
            answer: outcome.answer.to_string().into(),
            decided_at: facts.now,
            tenant: command.tenant.clone(),
            streams: vec![StreamAppend {
                stream: command.stream,
                expected_version: aggregate.version,
                events,
            }],
            claims: outcome.claims,
            wakeups: outcome.wakeups,
            blobs: outcome.blobs,
        };
        let head = heads[&partition];
        let batch = Batch { heads: vec![head], appends: vec![append] };
        let committed = match self.log.append(Arc::new(batch)).await {
            Ok(committed) => committed,
            Err(AppendError::Refused(losers)) => match &losers[0].refusal {
                Refusal::ClaimTaken { claim, holder } => {
                    return Err(CommandError::Rejected(claim_taken(claim, *holder)));
                }
                other => panic!("refused: {other:?}"),
            },
            Err(error) => panic!("{error}"),
        };
        heads.insert(partition, committed.heads[0]);
        if !committed.events.is_empty() {
            let first_offset = committed.events[0].position.offset;
            let events = committed.events.into_iter().map(Arc::new).collect();
            self.feed.publish(CommittedBatch { partition, first_offset, events });
        }
        Ok(CommandReply { answer: outcome.answer, position: Some(committed.positions[0]), repeated: false })
    }
}
