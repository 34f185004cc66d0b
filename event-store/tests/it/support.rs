//! Appends as short as a sentence, and an owner that knows its heads.

use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use uuid::Uuid;

use domain::decision::{ClaimChange, ClaimOp, ClaimScope, Wakeup, WakeupKind};
use domain::event::{Codec, RecordedEvent};
use domain::ids::{Actor, Partition, Position, Slot, TenantId, new_id};
use domain::time::Timestamp;
use event_store::verifiers::Verifiers;
use event_store::{
    Append, AppendError, Batch, Checkpoints, Committed, Log, Loser, PartitionHead, Refusal, StoreError,
    StreamAppend,
};

/// Partitions of every store in these tests.
pub(crate) const PARTITIONS: u16 = 4;

/// A place where a log lives, which can be opened again.
#[async_trait]
pub(crate) trait Store: Sized + Send + Sync {
    type Log: Log + Checkpoints + Verifiers + 'static;

    /// An empty place.
    async fn create() -> Self;

    /// Opens the log, with [`PARTITIONS`].
    async fn open(&self) -> Self::Log;

    /// Puts something else where a large value is, past the log.
    async fn damage_value(&self, tenant: &TenantId, sha256: &str);
}

/// Whoever owns the partitions of a log, as command-service does.
pub(crate) struct Owner<L> {
    pub(crate) log: Arc<L>,
    pub(crate) heads: BTreeMap<Partition, PartitionHead>,
}

impl<L: Log> Owner<L> {
    pub(crate) async fn of<S: Store<Log = L>>(store: &S) -> Self {
        let log = Arc::new(store.open().await);
        let mut heads = BTreeMap::new();
        for partition in (0..PARTITIONS).map(Partition) {
            heads.insert(partition, log.take_over(partition, uuid::Uuid::nil()).await.unwrap());
        }
        Self { log, heads }
    }

    /// A batch under the heads that the owner knows.
    pub(crate) fn batch(&self, appends: Vec<Append>) -> Arc<Batch> {
        let touched = |head: &&PartitionHead| appends.iter().any(|a| a.partition == head.partition);
        let heads = self.heads.values().filter(touched).copied().collect();
        Arc::new(Batch { heads, appends })
    }

    /// A batch that says that nothing was written yet: every version will be probed.
    pub(crate) fn unsure(&self, appends: Vec<Append>) -> Arc<Batch> {
        let mut batch = Arc::unwrap_or_clone(self.batch(appends));
        batch.heads.iter_mut().for_each(|head| head.offset = u64::MAX >> 1);
        Arc::new(batch)
    }

    pub(crate) async fn append(&mut self, appends: Vec<Append>) -> Result<Committed, AppendError> {
        let committed = self.log.append(self.batch(appends)).await?;
        self.heads.extend(committed.heads.iter().map(|head| (head.partition, *head)));
        Ok(committed)
    }

    /// What an append is refused for.
    pub(crate) async fn refused(&mut self, appends: Vec<Append>) -> Vec<Loser> {
        losers(self.append(appends).await)
    }
}

/// The losers of an append that must be refused.
pub(crate) fn losers(outcome: Result<Committed, AppendError>) -> Vec<Loser> {
    match outcome {
        Err(AppendError::Refused(losers)) => losers,
        other => panic!("expected a refusal, got {other:?}"),
    }
}

/// The only refusal, with its index.
pub(crate) fn only(losers: Vec<Loser>) -> (usize, Refusal) {
    let [loser] = <[Loser; 1]>::try_from(losers).unwrap();
    (loser.index, loser.refusal)
}

/// A number that no other call gets.
pub(crate) fn fresh() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_unix_ms(1_695_000_000_000 + second * 1000)
}

/// A new stream in a partition.
pub(crate) fn stream(partition: u16) -> Uuid {
    new_id(at(0), Slot::from_bits(u64::from(partition)), fresh())
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::try_from(name.to_owned()).unwrap()
}

pub(crate) fn event(stream: Uuid, version: u64) -> RecordedEvent {
    RecordedEvent {
        position: Position { partition: Partition(0), offset: 0 },
        stream,
        version,
        tenant: TenantId::default_tenant(),
        event_type: "execution.node.completed".into(),
        schema_version: 1,
        id: new_id(at(0), Slot::from_bits(0), fresh()),
        recorded_at: at(0),
        correlation_id: stream,
        causation_id: Uuid::from_u128(7),
        actor: Actor::new("worker", "w1"),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        codec: Codec::Json,
        key_id: None,
        data: Bytes::from(format!("{{\"version\":{version}}}")),
    }
}

/// An append of `count` events to a stream at `version`.
pub(crate) fn append(stream: Uuid, version: u64, count: u64) -> Append {
    let events = (version + 1..=version + count).map(|version| event(stream, version)).collect();
    Append {
        partition: Partition::of(stream, PARTITIONS),
        command_id: new_id(at(0), Slot::from_bits(0), fresh()),
        digest: Some([7; 32]),
        answer: Bytes::from_static(b"{\"ok\":true}"),
        decided_at: at(0),
        tenant: TenantId::default_tenant(),
        streams: vec![StreamAppend { stream, expected_version: version, events }],
        claims: Vec::new(),
        wakeups: Vec::new(),
        blobs: Vec::new(),
    }
}

/// The append with a last event of another type.
pub(crate) fn ending(mut append: Append, event_type: &'static str) -> Append {
    append.streams[0].events.last_mut().unwrap().event_type = event_type.into();
    append
}

pub(crate) fn claim(append: Append, op: ClaimOp, key: &str) -> Append {
    claim_in(append, op, key, ClaimScope::Tenant)
}

/// A claim on a name of which there is one in the installation.
pub(crate) fn claim_of_all(append: Append, op: ClaimOp, key: &str) -> Append {
    claim_in(append, op, key, ClaimScope::Installation)
}

fn claim_in(mut append: Append, op: ClaimOp, key: &str, scope: ClaimScope) -> Append {
    append.claims.push(ClaimChange { kind: "workflow_name", key: key.to_owned(), op, scope });
    append
}

pub(crate) fn wakeup(mut append: Append, second: i64) -> Append {
    append.wakeups.push(Wakeup { due_at: at(second), kind: WakeupKind::ExecutionDeadline });
    append
}

/// Every event of a partition, read in one go.
pub(crate) async fn partition<L: Log>(log: &L, partition: u16) -> Vec<RecordedEvent> {
    log.read_partition(Partition(partition), 0, 100_000).await.unwrap()
}

/// Everything that can be read of the events: to see that nothing has changed.
pub(crate) async fn everything<L: Log>(log: &L) -> (Vec<PartitionHead>, Vec<RecordedEvent>) {
    let mut events = Vec::new();
    for number in 0..PARTITIONS {
        events.extend(partition(log, number).await);
    }
    (log.heads().await.unwrap(), events)
}

/// The text of the damage that a verification finds.
pub(crate) async fn damage(verification: impl Future<Output = Result<impl Sized, StoreError>>) -> String {
    match verification.await {
        Err(StoreError::Corrupt(what)) => what,
        Err(other) => panic!("expected damage, got {other}"),
        Ok(_) => panic!("expected damage, found none"),
    }
}
