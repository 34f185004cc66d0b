//! A worker with a recorded other end, and servers for it to call.

use agents::{AgentsConfig, EgressConfig, Executors, WorkerRuntime};
use async_trait::async_trait;
use axum::Router;
use bus::commands::{CommandError, CommandHandler, CommandReply};
use bus::in_process::{InProcessCommands, InProcessTasks};
use bus::{Task, TaskQueue, TaskRef};
use bytes::Bytes;
use domain::blob::{Blob, BlobRef};
use domain::command::{Command, CommandEnvelope};
use domain::decision::NodeRun;
use domain::execution::command::ExecutionCommand;
use domain::execution::event::NodeError;
use domain::ids::{Slot, TenantId, new_id};
use domain::node_type::NodeType;
use domain::time::{Clock, Timestamp};
use event_store::{Blobs, StoreError};
use serde_json::Value;
use std::collections::{HashMap, VecDeque};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use tokio::sync::mpsc;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Follows tokio's time, so that a test that pauses it holds deadlines too.
pub(crate) struct TestClock {
    base: Timestamp,
    since: Instant,
}

impl TestClock {
    fn new() -> Self {
        Self { base: Timestamp::from_unix_ms(1_795_000_000_000), since: Instant::now() }
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        self.base.plus_ms(self.since.elapsed().as_millis() as u64)
    }
}

/// Answers as told, else that all is well, and passes on what it was sent.
struct Recorder {
    answers: Mutex<VecDeque<CommandError>>,
    received: mpsc::UnboundedSender<CommandEnvelope>,
}

#[async_trait]
impl CommandHandler for Recorder {
    async fn handle(&self, command: CommandEnvelope) -> Result<CommandReply, CommandError> {
        let _ = self.received.send(command);
        match self.answers.lock().unwrap().pop_front() {
            Some(error) => Err(error),
            None => Ok(CommandReply { answer: Value::Null, position: None, repeated: false }),
        }
    }
}

/// Blobs in memory, which fail as often as told first.
#[derive(Default)]
pub(crate) struct MemoryBlobs {
    pub(crate) stored: Mutex<HashMap<(TenantId, String), Bytes>>,
    pub(crate) failures: AtomicUsize,
}

impl MemoryBlobs {
    fn fail_if_told(&self) -> Result<(), StoreError> {
        let told = self.failures.try_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if told.is_ok() { Err(StoreError::Corrupt("told to fail".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl Blobs for MemoryBlobs {
    async fn put(&self, tenant: &TenantId, blob: &Blob) -> Result<(), StoreError> {
        self.fail_if_told()?;
        let key = (tenant.clone(), blob.reference.sha256.clone());
        self.stored.lock().unwrap().insert(key, blob.content.clone());
        Ok(())
    }

    async fn get(&self, tenant: &TenantId, reference: &BlobRef) -> Result<Option<Bytes>, StoreError> {
        self.fail_if_told()?;
        Ok(self.stored.lock().unwrap().get(&(tenant.clone(), reference.sha256.clone())).cloned())
    }
}

/// A running worker and the other end of everything it talks to.
pub(crate) struct Worker {
    pub(crate) tasks: Arc<InProcessTasks>,
    pub(crate) blobs: Arc<MemoryBlobs>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) ended: tokio::task::JoinHandle<()>,
    recorder: Arc<Recorder>,
    received: mpsc::UnboundedReceiver<CommandEnvelope>,
}

impl Worker {
    /// With the executors of the build, allowed to call this machine.
    pub(crate) fn start() -> Self {
        Self::start_with(config(), None)
    }

    /// With `executors`, else those of the build.
    pub(crate) fn start_with(config: AgentsConfig, executors: Option<Executors>) -> Self {
        install_tls();
        let executors = executors.unwrap_or_else(|| Executors::standard(&config).unwrap());
        let (sender, received) = mpsc::unbounded_channel();
        let recorder = Arc::new(Recorder { answers: Mutex::default(), received: sender });
        let commands = InProcessCommands::new();
        commands.serve(Arc::clone(&recorder) as _);
        let tasks = Arc::new(InProcessTasks::new());
        let blobs = Arc::new(MemoryBlobs::default());
        let clock = Arc::new(TestClock::new());
        let shutdown = CancellationToken::new();
        let runtime = WorkerRuntime::with_executors(
            config,
            executors,
            Arc::clone(&tasks) as _,
            Arc::new(commands),
            Arc::clone(&blobs) as _,
            Arc::clone(&clock) as _,
        );
        let ended = tokio::spawn(runtime.run(shutdown.clone()));
        Self { tasks, blobs, clock, shutdown, ended, recorder, received }
    }

    /// The next commands are answered with these.
    pub(crate) fn answer(&self, errors: impl IntoIterator<Item = CommandError>) {
        self.recorder.answers.lock().unwrap().extend(errors);
    }

    /// A task with half a minute to do it.
    pub(crate) fn task(&self, config: Value) -> Task {
        static RANDOM: AtomicU64 = AtomicU64::new(1);
        let random = RANDOM.fetch_add(1, Ordering::Relaxed);
        let execution = new_id(self.clock.now(), Slot::from_bits(random), random);
        let node = NodeRun { node_id: "fetch".to_owned(), run: 1, attempt: 1 };
        Task {
            task: TaskRef { execution, node },
            tenant: TenantId::default_tenant(),
            node_type: NodeType::HttpRequest,
            config,
            deadline: self.clock.now().plus_ms(30_000),
            heartbeat_timeout_ms: None,
            correlation_id: execution,
            causation_id: new_id(self.clock.now(), Slot::from_bits(random), !random),
            traceparent: Some(Arc::from("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")),
        }
    }

    /// The next command that the worker sends.
    pub(crate) async fn command(&mut self) -> CommandEnvelope {
        // Under paused time this passes only when nothing else can happen any more.
        let next = tokio::time::timeout(Duration::from_secs(60), self.received.recv());
        next.await.expect("the worker sends a command").expect("the recorder lives")
    }

    /// The next result that the worker sends, and for which execution.
    pub(crate) async fn result(&mut self) -> (uuid::Uuid, Result<Value, NodeError>) {
        loop {
            let command = self.command().await;
            if let Command::Execution(ExecutionCommand::CompleteNode { result, .. }) = command.command {
                return (command.stream, result);
            }
        }
    }

    /// Whether nothing that was sent has not been looked at.
    pub(crate) fn sent_nothing_more(&mut self) -> bool {
        self.received.is_empty()
    }

    /// Carries out one node.
    pub(crate) async fn call(&mut self, config: Value) -> Result<Value, NodeError> {
        self.call_task(self.task(config)).await
    }

    /// Carries out one task.
    pub(crate) async fn call_task(&mut self, task: Task) -> Result<Value, NodeError> {
        let execution = task.task.execution;
        self.tasks.publish(task).await;
        let (of, result) = self.result().await;
        assert_eq!(of, execution);
        result
    }
}

/// Settings that let a worker call this machine.
pub(crate) fn config() -> AgentsConfig {
    AgentsConfig {
        worker: Arc::from("w1"),
        egress: EgressConfig { allow_private: true },
        ..Default::default()
    }
}

/// The same with one slot, so that attempts come one after the other.
pub(crate) fn one_slot() -> AgentsConfig {
    AgentsConfig { slots: NonZeroUsize::MIN, ..config() }
}

/// Serves `router` on a free port of 127.0.0.1; gives `http://127.0.0.1:port`.
pub(crate) async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    format!("http://{address}")
}

/// Answers the first connection with `bytes` and hangs up.
pub(crate) async fn serve_bytes(bytes: &'static [u8]) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(bytes).await;
        }
    });
    format!("http://{address}")
}

fn install_tls() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}
