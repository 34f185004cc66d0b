//! A log with its owner, a feed that says what the test wants, and streams as short as a sentence.

use async_trait::async_trait;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use bus::{CommitFeed, CommittedBatch, FeedMessage, FeedSubscription};
use domain::blob::BlobRef;
use domain::event::{Codec, Event, ExecutionEvent, RecordedEvent, WorkflowEvent};
use domain::execution::event::{EndNotice, ExecutionCompleted, ExecutionStarted, NodeCompleted, Trigger};
use domain::ids::{Actor, Partition, Position, Slot, TenantId, new_id};
use domain::node_type::NodeType;
use domain::time::Timestamp;
use domain::workflow::event::{WorkflowCreated, WorkflowPublished, WorkflowUpdated};
use event_store::log::ChainReport;
use event_store::sqlite::{SqliteLog, SqliteOptions};
use event_store::{Append, AppendAnswer, Batch, Log, LogReader, PartitionHead, StoreError, StreamAppend};
use projection_service::{ProjectionConfig, ProjectionError, ProjectionHandle, ProjectionService};
use read_models::{MAIN_PROJECTION, PostgresOptions, ReadModels, Table, Viewer};

pub(crate) const PARTITIONS: u16 = 4;
pub(crate) const LONG: Duration = Duration::from_secs(30);

/// A feed by hand.
pub(crate) struct TestFeed(broadcast::Sender<FeedMessage>);

struct TestSubscription(broadcast::Receiver<FeedMessage>);

#[async_trait]
impl FeedSubscription for TestSubscription {
    async fn next(&mut self) -> Option<FeedMessage> {
        match self.0.recv().await {
            Ok(message) => Some(message),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(FeedMessage::Lagged),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl CommitFeed for TestFeed {
    fn publish(&self, batch: CommittedBatch) {
        self.say(FeedMessage::Batch(Arc::new(batch)));
    }

    fn subscribe(&self) -> Box<dyn FeedSubscription> {
        Box::new(TestSubscription(self.0.subscribe()))
    }
}

impl TestFeed {
    pub(crate) fn say(&self, message: FeedMessage) {
        let _ = self.0.send(message);
    }
}

/// What the read models are kept in.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Backend {
    Sqlite,
    Postgres,
}

/// A database of read models that can be opened more than once.
pub(crate) enum Place {
    File(tempfile::TempDir),
    Server(PostgresOptions),
}

impl Place {
    pub(crate) async fn new(backend: Backend) -> Self {
        match backend {
            Backend::Sqlite => Self::File(tempfile::tempdir().unwrap()),
            Backend::Postgres => Self::Server(PostgresOptions::new(test_services::database().await.unwrap())),
        }
    }

    pub(crate) async fn open(&self) -> ReadModels {
        match self {
            Self::File(folder) => ReadModels::open(folder.path().join("read-models.db")).await.unwrap(),
            Self::Server(options) => ReadModels::open_postgres(options.clone()).await.unwrap(),
        }
    }
}

/// Makes a test of each function that takes a [`Backend`].
macro_rules! on_every_backend {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $test() { super::$test(crate::support::Backend::Sqlite).await })*
        }
        mod postgres {
            $(#[tokio::test] async fn $test() { super::$test(crate::support::Backend::Postgres).await })*
        }
    };
}
pub(crate) use on_every_backend;

/// Everything that a projection needs.
pub(crate) struct World {
    pub(crate) log: Arc<SqliteLog>,
    pub(crate) feed: Arc<TestFeed>,
    pub(crate) models: ReadModels,
    /// Where `models` are at first.
    pub(crate) place: Place,
    heads: BTreeMap<Partition, PartitionHead>,
}

/// A service that runs.
pub(crate) struct Running {
    pub(crate) handle: ProjectionHandle,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), ProjectionError>>,
}

impl Running {
    /// Sees that so many events were projected. The count comes a moment after the rows.
    pub(crate) async fn projected(&self, events: u64) {
        let begun = std::time::Instant::now();
        while self.handle.events() < events && begun.elapsed() < LONG {
            tokio::task::yield_now().await;
        }
        assert_eq!(self.handle.events(), events);
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.end().await.unwrap();
    }

    /// Waits until it ends by itself.
    pub(crate) async fn end(self) -> Result<(), ProjectionError> {
        self.task.await.unwrap()
    }
}

/// A log whose partitions cannot be read while it fails.
pub(crate) struct FlakyLog {
    pub(crate) log: Arc<SqliteLog>,
    pub(crate) fails: AtomicBool,
}

#[async_trait]
impl LogReader for FlakyLog {
    fn partitions(&self) -> u16 {
        self.log.partitions()
    }

    async fn read_partition(
        &self,
        partition: Partition,
        after: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        if self.fails.load(Ordering::Relaxed) {
            let source = std::io::Error::other("unplugged");
            return Err(StoreError::Io { path: "the log".to_owned(), source });
        }
        self.log.read_partition(partition, after, limit).await
    }

    async fn heads(&self) -> Result<Vec<PartitionHead>, StoreError> {
        self.log.heads().await
    }

    async fn read_stream(&self, _: Uuid, _: u64, _: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        unreachable!("a projection reads partitions")
    }

    async fn claim_holder(&self, _: &TenantId, _: &str, _: &str) -> Result<Option<Uuid>, StoreError> {
        unreachable!("a projection asks for no names")
    }

    async fn installation_claim_holder(&self, _: &str, _: &str) -> Result<Option<Uuid>, StoreError> {
        unreachable!("a projection asks for no names")
    }

    async fn command_answer(&self, _: Partition, _: Uuid) -> Result<Option<AppendAnswer>, StoreError> {
        unreachable!("a projection asks for no commands")
    }

    async fn read_blob(&self, _: &TenantId, _: &BlobRef) -> Result<Option<Bytes>, StoreError> {
        unreachable!("a projection reads no blobs")
    }

    async fn verify_chain(&self, _: Partition) -> Result<ChainReport, StoreError> {
        unreachable!("a projection verifies nothing")
    }
}

/// A service that only the feed can wake: whatever it reads from the log, the feed has sent it there.
pub(crate) fn deaf_to_time() -> ProjectionConfig {
    ProjectionConfig { silence: Duration::from_secs(3_600), ..ProjectionConfig::default() }
}

impl World {
    /// With read models in a file.
    pub(crate) async fn new() -> Self {
        Self::on(Backend::Sqlite).await
    }

    pub(crate) async fn on(backend: Backend) -> Self {
        Self::at(Place::new(backend).await).await
    }

    pub(crate) async fn at(place: Place) -> Self {
        let options = SqliteOptions { partitions: Some(PARTITIONS), ..SqliteOptions::default() };
        let log = Arc::new(SqliteLog::open_temporary(options).await.unwrap());
        let mut heads = BTreeMap::new();
        for partition in (0..PARTITIONS).map(Partition) {
            heads.insert(partition, log.take_over(partition, uuid::Uuid::nil()).await.unwrap());
        }
        let feed = Arc::new(TestFeed(broadcast::Sender::new(64)));
        Self { log, feed, models: place.open().await, place, heads }
    }

    pub(crate) fn start(&self, config: ProjectionConfig) -> Running {
        self.start_on(config, self.models.clone())
    }

    pub(crate) fn start_on(&self, config: ProjectionConfig, models: ReadModels) -> Running {
        self.start_with(config, self.log.clone(), models)
    }

    pub(crate) fn start_with(
        &self,
        config: ProjectionConfig,
        log: Arc<dyn LogReader>,
        models: ReadModels,
    ) -> Running {
        let service = ProjectionService::new(config, log, self.feed.clone(), models);
        let handle = service.handle();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(service.run(shutdown.clone()));
        Running { handle, shutdown, task }
    }

    /// Appends events, each to its stream, and returns what the feed would say of them.
    pub(crate) async fn append(&mut self, events: Vec<RecordedEvent>) -> Vec<CommittedBatch> {
        let mut streams: BTreeMap<Uuid, Vec<RecordedEvent>> = BTreeMap::new();
        for event in events {
            streams.entry(event.stream).or_default().push(event);
        }
        let appends: Vec<Append> = streams.into_iter().map(append_of).collect();
        let touched = |head: &&PartitionHead| appends.iter().any(|a| a.partition == head.partition);
        let heads = self.heads.values().filter(touched).copied().collect();
        let committed = self.log.append(Arc::new(Batch { heads, appends })).await.unwrap();
        self.heads.extend(committed.heads.iter().map(|head| (head.partition, *head)));
        let mut batches: BTreeMap<Partition, Vec<Arc<RecordedEvent>>> = BTreeMap::new();
        for event in committed.events {
            batches.entry(event.position.partition).or_default().push(Arc::new(event));
        }
        let batch = |(partition, events): (Partition, Vec<Arc<RecordedEvent>>)| CommittedBatch {
            partition,
            first_offset: events[0].position.offset,
            events,
        };
        batches.into_iter().map(batch).collect()
    }

    /// Appends and announces.
    pub(crate) async fn commit(&mut self, events: Vec<RecordedEvent>) {
        for batch in self.append(events).await {
            self.feed.publish(batch);
        }
    }

    /// Says where every partition ends, as owners do every second.
    pub(crate) fn beat(&self) {
        for head in self.heads.values() {
            let (partition, first_offset) = (head.partition, head.offset + 1);
            self.feed.publish(CommittedBatch { partition, first_offset, events: Vec::new() });
        }
    }

    /// Waits until everything in the log is projected.
    pub(crate) async fn settled(&self) {
        self.settled_on(&self.models).await;
    }

    pub(crate) async fn settled_on(&self, models: &ReadModels) {
        let heads: Vec<_> = self.heads.values().map(|head| (head.partition, head.offset)).collect();
        let reached = models.wait_for(&heads, LONG).await;
        assert!(reached, "{heads:?} not in {:?}", models.checkpoints(MAIN_PROJECTION).await);
    }

    /// Every row of every table.
    pub(crate) async fn rows(&self) -> Vec<(Table, Vec<Vec<String>>)> {
        let mut rows = Vec::new();
        for table in Table::ALL {
            rows.push((table, self.models.dump_rows(table).await.unwrap()));
        }
        rows
    }
}

fn append_of((stream, events): (Uuid, Vec<RecordedEvent>)) -> Append {
    Append {
        partition: Partition::of(stream, PARTITIONS),
        command_id: fresh_id(0),
        digest: None,
        answer: Bytes::from_static(b"{}"),
        decided_at: events[0].recorded_at,
        tenant: tenant(),
        streams: vec![StreamAppend { stream, expected_version: events[0].version - 1, events }],
        claims: Vec::new(),
        wakeups: Vec::new(),
        blobs: Vec::new(),
    }
}

pub(crate) fn tenant() -> TenantId {
    TenantId::default_tenant()
}

/// Who sees all of the tenant.
pub(crate) fn everything() -> Viewer {
    Viewer::any(&tenant())
}

/// An id that no other call gets, in a partition.
pub(crate) fn fresh_id(partition: u16) -> Uuid {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let at = Timestamp::from_unix_ms(1_795_000_000_000 + number as i64);
    new_id(at, Slot::from_bits(u64::from(partition)), number)
}

pub(crate) fn recorded(stream: Uuid, version: u64, event: impl Into<Event>) -> RecordedEvent {
    let event = event.into();
    RecordedEvent {
        position: Position { partition: Partition(0), offset: 0 },
        stream,
        version,
        tenant: tenant(),
        event_type: event.event_type().into(),
        schema_version: event.schema_version(),
        id: fresh_id(0),
        recorded_at: Timestamp::from_unix_ms(1_795_000_000_000),
        correlation_id: stream,
        causation_id: stream,
        actor: Actor::new("user", "1"),
        traceparent: None,
        codec: Codec::Json,
        key_id: None,
        data: event.encode(),
    }
}

/// `started`, `nodes` times `node.completed`, `completed`.
pub(crate) fn execution(stream: Uuid, nodes: u64) -> Vec<RecordedEvent> {
    let started = ExecutionStarted {
        workflow_id: stream,
        workflow_name: "orders".to_owned(),
        workflow_version: 1,
        definition_hash: "00".repeat(32),
        input: json!({"order": 17, "lines": [{"sku": "a", "count": 2}]}),
        trigger: Trigger { kind: "api".to_owned() },
        vars_version: 0,
        priority: 5,
        attributes: Map::from_iter([("customer".to_owned(), Value::from("c-1"))]),
        deadline: None,
        parent: None,
        owner: None,
    };
    let mut events = vec![recorded(stream, 1, ExecutionEvent::from(started))];
    for node in 0..nodes {
        let completed = NodeCompleted {
            node_id: format!("node_{node}"),
            run: 1,
            attempt: 1,
            node_type: NodeType::Transform,
            output: json!({"total": node, "currency": "EUR"}),
            handle: None,
            duration_ms: 0,
        };
        events.push(recorded(stream, node + 2, ExecutionEvent::from(completed)));
    }
    let output = json!({"total": 42});
    let notice = EndNotice::default();
    let completed = ExecutionCompleted { output, ends: vec!["end".to_owned()], duration_ms: 3, notice };
    events.push(recorded(stream, nodes + 2, ExecutionEvent::from(completed)));
    events
}

/// A workflow: created, updated, published.
pub(crate) fn workflow(stream: Uuid) -> Vec<RecordedEvent> {
    let created = WorkflowCreated {
        name: "orders".to_owned(),
        definition: json!({"name": "orders", "description": "takes orders", "nodes": []}),
        definition_hash: "01".repeat(32),
        owner: None,
    };
    let updated = WorkflowUpdated {
        definition_version: 2,
        name: "orders, new".to_owned(),
        definition: json!({"name": "orders, new", "nodes": []}),
        definition_hash: "02".repeat(32),
    };
    let published = WorkflowPublished { definition_version: 1 };
    vec![
        recorded(stream, 1, WorkflowEvent::from(created)),
        recorded(stream, 2, WorkflowEvent::from(updated)),
        recorded(stream, 3, WorkflowEvent::from(published)),
    ]
}
