//! A running command-service on a log in a folder, and the commands that tests send to it.

use command_service::{
    CommandService, CommandServiceConfig, CommandServiceError, CommandServicePorts, ReactorPorts,
};
use serde_json::{Map, Value, json};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use bus::in_process::{InProcessCommands, InProcessFeed, InProcessTasks};
use bus::tasks::{Task, TaskQueue};
use bus::{CommandError, CommandHandler, CommandReply, CommitFeed, FeedMessage, FeedSubscription};
use domain::command::{Command, CommandEnvelope};
use domain::event::RecordedEvent;
use domain::execution::command::{ExecutionCommand, StartExecution};
use domain::execution::event::{ErrorKind, NodeError, Trigger};
use domain::ids::{Actor, Partition, Slot, TenantId, new_id};
use domain::node_type::NodeType;
use domain::time::{Clock, Timestamp};
use domain::workflow::command::WorkflowCommand;
use event_store::sqlite::{SqliteLog, SqliteOptions};
use event_store::{Log, LogReader, StoreError};

/// How long anything may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct WallClock;

impl Clock for WallClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970");
        Timestamp::from_unix_ms(i64::try_from(since.as_millis()).expect("a clock before the year 9999"))
    }
}

/// Fresh ids: the counter makes them differ, the slot is drawn from it.
pub(crate) fn fresh() -> Uuid {
    static COUNTER: AtomicU64 = AtomicU64::new(1);
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    new_id(WallClock.now(), Slot::from_bits(number.wrapping_mul(2_654_435_761)), number)
}

pub(crate) struct Service {
    pub(crate) log: Arc<SqliteLog>,
    pub(crate) handler: Arc<dyn CommandHandler>,
    pub(crate) tasks: Arc<InProcessTasks>,
    pub(crate) feed: Arc<InProcessFeed>,
    shutdown: CancellationToken,
    running: tokio::task::JoinHandle<Result<(), CommandServiceError>>,
}

impl Service {
    pub(crate) async fn start(folder: &Path) -> Self {
        Self::start_with(folder, CommandServiceConfig::default()).await
    }

    pub(crate) async fn start_with(folder: &Path, config: CommandServiceConfig) -> Self {
        let log = Arc::new(open(folder).await);
        let (feed, tasks) = (Arc::new(InProcessFeed::new()), Arc::new(InProcessTasks::new()));
        let commands = InProcessCommands::new();
        let reactor = ReactorPorts { commands: Arc::new(commands.clone()), checkpoints: log.clone() };
        let ports = CommandServicePorts::alone(log.clone(), feed.clone(), tasks.clone(), Arc::new(WallClock));
        let service = CommandService::new(config, CommandServicePorts { reactor: Some(reactor), ..ports });
        let handler = service.handler();
        commands.serve(handler.clone());
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(service.run(shutdown.clone()));
        Self { log, handler, tasks, feed, shutdown, running }
    }

    pub(crate) async fn stop(self) {
        self.shutdown.cancel();
        self.ended().await.expect("a clean end");
    }

    /// The process is gone, with all that was only in its memory.
    pub(crate) async fn kill(self) {
        let Self { log, running, .. } = self;
        running.abort();
        assert!(running.await.is_err_and(|error| error.is_cancelled()));
        // Its tasks are dropped when they are next scheduled, and with the last of them the lock of the store.
        let held = Arc::downgrade(&log);
        drop(log);
        while held.strong_count() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits for the service to end by itself.
    pub(crate) async fn ended(self) -> Result<(), CommandServiceError> {
        let ended = tokio::time::timeout(PATIENCE, self.running).await.expect("an end in time");
        ended.expect("no panic")
    }

    pub(crate) async fn send(&self, stream: Uuid, command: Command) -> Result<CommandReply, CommandError> {
        self.send_as(fresh(), None, stream, command).await
    }

    pub(crate) async fn send_as(
        &self,
        id: Uuid,
        digest: Option<[u8; 32]>,
        stream: Uuid,
        command: Command,
    ) -> Result<CommandReply, CommandError> {
        let envelope = CommandEnvelope {
            id,
            tenant: TenantId::default_tenant(),
            actor: Actor::new("user", "test"),
            stream,
            correlation_id: stream,
            causation_id: id,
            traceparent: None,
            digest,
            command,
            authority: None,
        };
        tokio::time::timeout(PATIENCE, self.handler.handle(envelope)).await.expect("an answer in time")
    }

    pub(crate) async fn create_workflow(&self, document: Value) -> Uuid {
        let id = workflow_id();
        let create = WorkflowCommand::Create { definition: document, publish: true };
        self.send(id, Command::Workflow(create)).await.expect("a workflow");
        id
    }

    /// The next task, as a worker gets it.
    pub(crate) async fn task(&self) -> Task {
        let pull = self.tasks.pull(&[NodeType::HttpRequest]);
        tokio::time::timeout(PATIENCE, pull).await.expect("a task in time").expect("a task")
    }

    pub(crate) async fn complete(&self, task: &Task, output: Value) -> Result<CommandReply, CommandError> {
        let command = ExecutionCommand::CompleteNode { node: task.task.node.clone(), result: Ok(output) };
        self.send(task.task.execution, Command::Execution(command)).await
    }

    pub(crate) async fn fail(&self, task: &Task, kind: ErrorKind) -> Result<CommandReply, CommandError> {
        let error = NodeError {
            kind,
            message: "as the test wants".to_owned(),
            retryable: false,
            details: Value::Null,
        };
        let command = ExecutionCommand::CompleteNode { node: task.task.node.clone(), result: Err(error) };
        self.send(task.task.execution, Command::Execution(command)).await
    }

    pub(crate) async fn events(&self, stream: Uuid) -> Vec<RecordedEvent> {
        self.log.read_stream(stream, 0, 5_000).await.expect("events")
    }

    /// Waits until the stream has an event of a type, now or later.
    pub(crate) async fn wait_for(&self, stream: Uuid, event_type: &str) {
        let mut feed = self.feed.subscribe();
        if self.types(stream).await.iter().any(|known| known == event_type) {
            return;
        }
        let seen = async {
            loop {
                match next(&mut *feed).await {
                    FeedMessage::Batch(batch) => {
                        if batch.events.iter().any(|e| e.stream == stream && e.event_type == event_type) {
                            return;
                        }
                    }
                    FeedMessage::Lagged => panic!("the test's feed lagged"),
                }
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("no {event_type} in time"));
    }

    pub(crate) async fn types(&self, stream: Uuid) -> Vec<String> {
        self.events(stream).await.into_iter().map(|event| event.event_type.into_owned()).collect()
    }

    /// Offsets are dense, versions too, and the chain verifies, in every partition.
    pub(crate) async fn check_log(&self) -> u64 {
        let mut total = 0;
        for head in self.log.heads().await.expect("heads") {
            let mut last = 0;
            while last < head.offset {
                let page = self.log.read_partition(head.partition, last, 500).await.expect("a page");
                for event in page {
                    assert_eq!(event.position.offset, last + 1, "partition {}", head.partition);
                    last += 1;
                }
            }
            let report = self.log.verify_chain(head.partition).await.expect("a sound chain");
            assert_eq!(report.events, head.offset);
            total += head.offset;
        }
        total
    }

    /// Takes a partition over as another process would.
    pub(crate) async fn steal(&self, stream: Uuid) {
        self.log
            .take_over(Partition::of(stream, self.log.partitions()), uuid::Uuid::nil())
            .await
            .expect("a new epoch");
    }
}

/// The log in a folder. Tasks of a service that was killed before may hold it for a moment.
async fn open(folder: &Path) -> SqliteLog {
    let opening = async {
        loop {
            match SqliteLog::open(&folder.join("log.db"), SqliteOptions::default()).await {
                Ok(log) => return log,
                Err(StoreError::Locked { .. }) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, opening).await.expect("a log that nobody holds")
}

async fn next(feed: &mut dyn FeedSubscription) -> FeedMessage {
    feed.next().await.expect("the feed goes on")
}

pub(crate) fn workflow_id() -> Uuid {
    let id = fresh();
    new_id(WallClock.now(), Slot::of_tenant(&TenantId::default_tenant()), id.as_u64_pair().1)
}

pub(crate) fn start(workflow_id: Uuid, input: Value) -> Command {
    Command::Execution(ExecutionCommand::Start(StartExecution {
        workflow_id,
        workflow_version: None,
        input,
        trigger: Trigger { kind: "api".to_owned() },
        priority: None,
        attributes: Map::new(),
        parent: None,
        owner: None,
    }))
}

/// start → nodes in a row → end, whose output is the last node's.
pub(crate) fn chain(name: &str, nodes: Value) -> Value {
    let nodes = nodes.as_array().expect("a list").clone();
    let ids: Vec<String> = nodes.iter().map(|node| node["id"].as_str().expect("an id").to_owned()).collect();
    let mut all = vec![json!({"id": "start", "type": "start"})];
    all.extend(nodes);
    let last = ids.last().expect("a node");
    let output = format!("{{{{ nodes.{last}.output }}}}");
    all.push(json!({"id": "end", "type": "end", "config": {"output": output}}));
    let mut steps = vec!["start".to_owned()];
    steps.extend(ids);
    steps.push("end".to_owned());
    let edges: Vec<Value> =
        steps.windows(2).map(|pair| json!({"source": pair[0], "target": pair[1]})).collect();
    json!({"name": name, "nodes": all, "edges": edges})
}

pub(crate) fn request(id: &str) -> Value {
    json!({"id": id, "type": "http_request", "config": {"url": "http://127.0.0.1:1/{{ input }}"}})
}

pub(crate) fn transform(id: &str, output: Value) -> Value {
    json!({"id": id, "type": "transform", "config": {"output": output}})
}

pub(crate) fn delay(id: &str, ms: u64) -> Value {
    json!({"id": id, "type": "delay", "config": {"duration_ms": ms}})
}
