//! Several command-services on one log: a SQLite log that several can own partitions of, doors between them, and
//! nodes that can be silenced, stopped and killed. Everything here takes an `event_store::Store`, so that the same
//! tests run on Postgres.

use async_trait::async_trait;
use bytes::Bytes;
use command_service::{
    ClusterPorts, CommandService, CommandServiceConfig, CommandServiceError, CommandServiceHandle,
    CommandServicePorts, RelayPorts,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use bus::in_process::InProcessFeed;
use bus::tasks::TaskQueue;
use bus::{BusError, CommandDoors, CommandError, CommandHandler, CommandReply, Commands};
use domain::blob::{Blob, BlobRef};
use domain::command::{Command, CommandEnvelope};
use domain::event::RecordedEvent;
use domain::ids::{Actor, Partition, TenantId};
use domain::time::Timestamp;
use event_store::log::{ChainReport, StoredWakeup, WakeupCursor};
use event_store::ownership::{LiveNode, Membership, NodeBeat, PartitionOwner};
use event_store::sqlite::{SqliteLog, SqliteOptions};
use event_store::{
    AppendAnswer, AppendError, Batch, Committed, Log, LogReader, Ownership, PartitionHead, Store, StoreError,
};

use crate::harness::{PATIENCE, WallClock, fresh};

/// The SQLite log as if several processes could have it open: it remembers who has taken what over.
pub(crate) struct SharedLog {
    inner: Arc<SqliteLog>,
    nodes: Mutex<BTreeMap<Uuid, (NodeBeat, Instant)>>,
    owners: Mutex<BTreeMap<u16, PartitionOwner>>,
}

/// A store of its own, and the folder that it lives in.
pub(crate) async fn sqlite_store() -> (Store, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let log = SqliteLog::open(&folder.path().join("log.db"), SqliteOptions::default()).await.expect("a log");
    let inner = Arc::new(log);
    let owner = |number| PartitionOwner { partition: Partition(number), epoch: 0, node: None };
    let owners = (0..inner.partitions()).map(|number| (number, owner(number))).collect();
    let shared = SharedLog { inner: inner.clone(), nodes: Mutex::default(), owners: Mutex::new(owners) };
    let shared = Arc::new(shared);
    let store = Store { log: shared.clone(), ownership: Some(shared), ..Store::sqlite(inner) };
    (store, folder)
}

#[async_trait]
impl Ownership for SharedLog {
    async fn beat(&self, beat: &NodeBeat) -> Result<Membership, StoreError> {
        self.nodes.lock().expect("no panic").insert(beat.node, (beat.clone(), Instant::now() + beat.lease));
        self.membership().await
    }

    async fn membership(&self) -> Result<Membership, StoreError> {
        let now = Instant::now();
        let nodes = self.nodes.lock().expect("no panic");
        let live = nodes.values().filter(|(_, until)| *until > now).map(|(beat, _)| LiveNode {
            node: beat.node,
            name: beat.name.clone(),
            draining: beat.draining,
        });
        let owners = self.owners.lock().expect("no panic").values().copied().collect();
        Ok(Membership { nodes: live.collect(), owners })
    }

    async fn release(&self, partition: Partition, epoch: u64) -> Result<(), StoreError> {
        if let Some(owner) = self.owners.lock().expect("no panic").get_mut(&partition.0)
            && owner.epoch == epoch
        {
            owner.node = None;
        }
        Ok(())
    }

    async fn leave(&self, node: Uuid) -> Result<(), StoreError> {
        self.nodes.lock().expect("no panic").remove(&node);
        Ok(())
    }
}

#[async_trait]
impl LogReader for SharedLog {
    fn partitions(&self) -> u16 {
        self.inner.partitions()
    }
    async fn read_stream(
        &self,
        stream: Uuid,
        after: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        self.inner.read_stream(stream, after, limit).await
    }
    async fn read_partition(
        &self,
        partition: Partition,
        after: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        self.inner.read_partition(partition, after, limit).await
    }
    async fn heads(&self) -> Result<Vec<PartitionHead>, StoreError> {
        self.inner.heads().await
    }
    async fn claim_holder(
        &self,
        tenant: &TenantId,
        kind: &str,
        key: &str,
    ) -> Result<Option<Uuid>, StoreError> {
        self.inner.claim_holder(tenant, kind, key).await
    }

    async fn installation_claim_holder(&self, kind: &str, key: &str) -> Result<Option<Uuid>, StoreError> {
        self.inner.installation_claim_holder(kind, key).await
    }
    async fn command_answer(
        &self,
        partition: Partition,
        id: Uuid,
    ) -> Result<Option<AppendAnswer>, StoreError> {
        self.inner.command_answer(partition, id).await
    }
    async fn read_blob(&self, tenant: &TenantId, reference: &BlobRef) -> Result<Option<Bytes>, StoreError> {
        self.inner.read_blob(tenant, reference).await
    }
    async fn verify_chain(&self, partition: Partition) -> Result<ChainReport, StoreError> {
        self.inner.verify_chain(partition).await
    }
}

#[async_trait]
impl Log for SharedLog {
    async fn take_over(&self, partition: Partition, node: Uuid) -> Result<PartitionHead, StoreError> {
        let head = self.inner.take_over(partition, node).await?;
        let mut owners = self.owners.lock().expect("no panic");
        let owner = owners.get_mut(&partition.0).expect("a partition");
        if owner.epoch < head.epoch {
            *owner = PartitionOwner { partition, epoch: head.epoch, node: Some(node) };
        }
        Ok(head)
    }
    async fn append(&self, batch: Arc<Batch>) -> Result<Committed, AppendError> {
        self.inner.append(batch).await
    }
    async fn write_blob(&self, tenant: &TenantId, blob: &Blob) -> Result<(), StoreError> {
        self.inner.write_blob(tenant, blob).await
    }
    async fn wakeups(
        &self,
        partition: Partition,
        after: &WakeupCursor,
        until: Timestamp,
        final_types: &[&str],
        limit: usize,
    ) -> Result<Vec<StoredWakeup>, StoreError> {
        self.inner.wakeups(partition, after, until, final_types, limit).await
    }
    async fn forget_past(
        &self,
        partition: Partition,
        until: Timestamp,
        now: Timestamp,
        limit: usize,
    ) -> Result<bool, StoreError> {
        self.inner.forget_past(partition, until, now, limit).await
    }
}

/// One node's way to the table of nodes, which a test can cut.
struct Line {
    inner: Arc<dyn Ownership>,
    cut: AtomicBool,
    /// Whether beats get no answer at all.
    stuck: AtomicBool,
}

#[async_trait]
impl Ownership for Line {
    async fn beat(&self, beat: &NodeBeat) -> Result<Membership, StoreError> {
        if self.cut.load(Ordering::SeqCst) {
            return Err(StoreError::Corrupt("the line is cut".to_owned()));
        }
        if self.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        self.inner.beat(beat).await
    }
    async fn membership(&self) -> Result<Membership, StoreError> {
        self.inner.membership().await
    }
    async fn release(&self, partition: Partition, epoch: u64) -> Result<(), StoreError> {
        self.inner.release(partition, epoch).await
    }
    async fn leave(&self, node: Uuid) -> Result<(), StoreError> {
        self.inner.leave(node).await
    }
}

/// Commands between nodes of one process: each partition's go to the door that was opened last.
#[derive(Default)]
pub(crate) struct Network {
    doors: Mutex<HashMap<u16, Vec<OpenDoor>>>,
    partitions: u16,
}

impl Network {
    /// How many doors are open.
    pub(crate) fn open_doors(&self) -> usize {
        self.doors.lock().expect("no panic").values().map(Vec::len).sum()
    }
}

/// Whose, and where it leads.
type OpenDoor = (Uuid, Arc<dyn CommandHandler>);

/// A node's doors.
struct NodeDoors {
    node: Uuid,
    network: Arc<Network>,
}

#[async_trait]
impl CommandDoors for NodeDoors {
    async fn open(&self, partition: Partition, handler: Arc<dyn CommandHandler>) -> Result<(), BusError> {
        self.close(partition).await;
        let mut doors = self.network.doors.lock().expect("no panic");
        doors.entry(partition.0).or_default().push((self.node, handler));
        Ok(())
    }

    async fn close(&self, partition: Partition) {
        let mut doors = self.network.doors.lock().expect("no panic");
        doors.entry(partition.0).or_default().retain(|(node, _)| *node != self.node);
    }
}

#[async_trait]
impl Commands for Network {
    /// Again with the same id until the deadline, as over NATS.
    async fn send(&self, command: CommandEnvelope) -> Result<CommandReply, CommandError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let partition = Partition::of(command.stream, self.partitions);
            let door = self
                .doors
                .lock()
                .expect("no panic")
                .get(&partition.0)
                .and_then(|doors| doors.last())
                .map(|d| d.1.clone());
            let answer = match door {
                // One that was killed does not answer.
                Some(door) => {
                    let answer = tokio::time::timeout(Duration::from_secs(1), door.handle(command.clone()));
                    answer.await.unwrap_or(Err(CommandError::NotOwner))
                }
                None => Err(CommandError::NotOwner),
            };
            match answer {
                Err(CommandError::NotOwner | CommandError::Unknown(_)) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                answer => return answer,
            }
        }
    }
}

/// A store, and what nodes need beside it.
pub(crate) struct Site {
    pub(crate) store: Store,
    pub(crate) network: Arc<Network>,
    pub(crate) tasks: Arc<dyn TaskQueue>,
    pub(crate) feed: Arc<InProcessFeed>,
    pub(crate) config: CommandServiceConfig,
}

/// Quick beats: tests do not wait for seconds.
pub(crate) fn quick() -> CommandServiceConfig {
    CommandServiceConfig {
        beat_every_ms: 50,
        lease_ms: 600,
        redeliver_after_ms: 600,
        lost_after_ms: 400,
        ..CommandServiceConfig::default()
    }
}

impl Site {
    pub(crate) fn new(store: Store, tasks: Arc<dyn TaskQueue>) -> Self {
        let network = Network { partitions: store.log.partitions(), ..Network::default() };
        let feed = Arc::new(InProcessFeed::new());
        Self { store, network: Arc::new(network), tasks, feed, config: quick() }
    }

    pub(crate) fn node(&self) -> Node {
        self.node_with(None)
    }

    pub(crate) fn node_with(&self, relay: Option<RelayPorts>) -> Node {
        self.node_on(&self.store, relay)
    }

    /// A node with connections of its own.
    pub(crate) fn node_on(&self, store: &Store, relay: Option<RelayPorts>) -> Node {
        let ownership = store.ownership.clone().expect("a shared store");
        let line =
            Arc::new(Line { inner: ownership, cut: AtomicBool::new(false), stuck: AtomicBool::new(false) });
        let doors = Arc::new(NodeDoors { node: fresh(), network: self.network.clone() });
        let ports = CommandServicePorts {
            log: store.log.clone(),
            feed: self.feed.clone(),
            tasks: self.tasks.clone(),
            clock: Arc::new(WallClock),
            cluster: Some(ClusterPorts {
                name: "test".to_owned(),
                ownership: line.clone(),
                doors: doors.clone(),
            }),
            relay,
            reactor: None,
        };
        let service = CommandService::new(self.config.clone(), ports);
        let (handler, handle, shutdown) = (service.handler(), service.handle(), CancellationToken::new());
        let running = tokio::spawn(service.run(shutdown.clone()));
        Node { handler, handle, line, doors, shutdown, running }
    }

    pub(crate) async fn send(&self, stream: Uuid, command: Command) -> Result<CommandReply, CommandError> {
        self.network.send(envelope(fresh(), stream, command)).await
    }

    /// Offsets are dense and the chain verifies in every partition. Returns all events.
    pub(crate) async fn check_log(&self) -> Vec<RecordedEvent> {
        let mut all = Vec::new();
        for head in self.store.log.heads().await.expect("heads") {
            let mut last = 0;
            while last < head.offset {
                let page = self.store.log.read_partition(head.partition, last, 500).await.expect("a page");
                for event in page {
                    assert_eq!(event.position.offset, last + 1, "partition {}", head.partition);
                    last += 1;
                    all.push(event);
                }
            }
            self.store.log.verify_chain(head.partition).await.expect("a sound chain");
        }
        all
    }

    pub(crate) async fn types(&self, stream: Uuid) -> Vec<String> {
        let events = self.store.log.read_stream(stream, 0, 1_000).await.expect("events");
        events.into_iter().map(|event| event.event_type.into_owned()).collect()
    }

    pub(crate) async fn wait_for(&self, stream: Uuid, event_type: &str) {
        until(event_type, async || self.types(stream).await.iter().any(|known| known == event_type)).await;
    }
}

/// A command-service that shares its partitions.
pub(crate) struct Node {
    pub(crate) handler: Arc<dyn CommandHandler>,
    pub(crate) handle: CommandServiceHandle,
    line: Arc<Line>,
    doors: Arc<NodeDoors>,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), CommandServiceError>>,
}

impl Node {
    pub(crate) fn owns(&self) -> usize {
        self.handle.owned().len()
    }

    pub(crate) async fn owning(&self, count: usize) {
        until(&format!("{count} partitions"), async || self.owns() == count).await;
    }

    /// Its beats fail from now on; it goes on otherwise.
    pub(crate) fn silence(&self) {
        self.line.cut.store(true, Ordering::SeqCst);
    }

    pub(crate) fn heard_again(&self) {
        self.line.cut.store(false, Ordering::SeqCst);
    }

    /// Its beats get no answer from now on.
    pub(crate) fn hang(&self) {
        self.line.stuck.store(true, Ordering::SeqCst);
    }

    /// Asks it to end.
    pub(crate) fn shut_down(&self) {
        self.shutdown.cancel();
    }

    pub(crate) async fn ended(self) {
        let ended = tokio::time::timeout(PATIENCE, self.running).await.expect("an end in time");
        ended.expect("no panic").expect("a clean end");
    }

    pub(crate) async fn stop(self) {
        self.shut_down();
        self.ended().await;
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) async fn kill(self) {
        self.running.abort();
        assert!(self.running.await.is_err());
        for number in 0..self.doors.network.partitions {
            self.doors.close(Partition(number)).await;
        }
    }
}

pub(crate) fn envelope(id: Uuid, stream: Uuid, command: Command) -> CommandEnvelope {
    CommandEnvelope {
        id,
        tenant: TenantId::default_tenant(),
        actor: Actor::new("user", "test"),
        stream,
        correlation_id: stream,
        causation_id: id,
        traceparent: None,
        digest: None,
        command,
        authority: None,
    }
}

/// Waits for a state.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
