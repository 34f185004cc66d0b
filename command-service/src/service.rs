//! Wiring: one task per partition, one committer, timers and dispatcher, and the way in.

use async_trait::async_trait;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use bus::tasks::{TaskQueue, TaskRef};
use bus::{CommandDoors, CommandError, CommandHandler, CommandReply, CommitFeed, EventPublisher};
use domain::command::{Command, CommandEnvelope};
use domain::execution::command::ExecutionCommand;
use domain::ids::Partition;
use domain::time::{Clock, Timestamp};
use event_store::{Checkpoints, Log, LogReader, Ownership, StoreError};

use crate::aftermath::Aftermath;
use crate::committer::{Committer, by_number, first_generations};
use crate::config::CommandServiceConfig;
use crate::dispatcher::{Dispatcher, Stop};
use crate::error::{CommandServiceError, report};
use crate::fact_source::FactSource;
use crate::partition::{Memory, PartitionTask};
use crate::pending::Submitted;
use crate::recovery::recover;
use crate::timers::Timers;

/// Appends that may wait for the committer.
const PENDING_CAPACITY: usize = 1_024;

/// What the command-service needs from the rest of the process.
pub struct CommandServicePorts {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Where commits are announced.
    pub feed: Arc<dyn CommitFeed>,
    /// The way to the workers.
    pub tasks: Arc<dyn TaskQueue>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// With whom partitions are shared; `None`: this process owns all of them for as long as it runs.
    pub cluster: Option<ClusterPorts>,
    /// Where events are published for subscribers outside; `None`: nowhere.
    pub relay: Option<RelayPorts>,
}

impl CommandServicePorts {
    /// For a process that shares nothing.
    pub fn alone(
        log: Arc<dyn Log>,
        feed: Arc<dyn CommitFeed>,
        tasks: Arc<dyn TaskQueue>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { log, feed, tasks, clock, cluster: None, relay: None }
    }
}

/// Sharing partitions with other processes.
pub struct ClusterPorts {
    /// This process's name, for people.
    pub name: String,
    /// Who owns what.
    pub ownership: Arc<dyn Ownership>,
    /// Where commands come in.
    pub doors: Arc<dyn CommandDoors>,
}

/// Publishing events for subscribers outside.
pub struct RelayPorts {
    /// Where to.
    pub events: Arc<dyn EventPublisher>,
    /// How far it is.
    pub checkpoints: Arc<dyn Checkpoints>,
}

/// The command-service before it runs.
pub struct CommandService {
    config: CommandServiceConfig,
    log: Arc<dyn Log>,
    feed: Arc<dyn CommitFeed>,
    clock: Arc<dyn Clock>,
    dispatcher: Arc<Dispatcher>,
    handler: Arc<Handler>,
    inboxes: Vec<mpsc::Receiver<Submitted>>,
}

/// The way in: sends each command to its partition.
struct Handler {
    partitions: Vec<mpsc::Sender<Submitted>>,
    dispatcher: Arc<Dispatcher>,
}

#[async_trait]
impl CommandHandler for Handler {
    async fn handle(&self, envelope: CommandEnvelope) -> Result<CommandReply, CommandError> {
        let partition = Partition::of(envelope.stream, self.partitions.len() as u16);
        let (reply, answer) = oneshot::channel();
        let attempt = attempt_reported(&envelope);
        let submitted = Submitted { envelope, reply, refusals: 0 };
        match self.partitions[usize::from(partition.0)].try_send(submitted) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Err(CommandError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => return Err(CommandError::NotOwner),
        }
        let result = answer.await.unwrap_or(Err(CommandError::NotOwner));
        if let Some(task) = attempt
            && matches!(&result, Err(CommandError::Rejected(rejection)) if rejection.code == "stale_attempt")
        {
            // A result for an attempt that is over: whatever made it so, its place in the window is free.
            self.dispatcher.resolved(&task, Stop::No);
            self.dispatcher.release().await;
        }
        result
    }
}

/// The attempt whose result a command brings.
fn attempt_reported(envelope: &CommandEnvelope) -> Option<TaskRef> {
    match &envelope.command {
        Command::Execution(ExecutionCommand::CompleteNode { node, .. }) => {
            Some(TaskRef { execution: envelope.stream, node: node.clone() })
        }
        Command::Execution(_) | Command::Workflow(_) | Command::Variables(_) => None,
    }
}

impl CommandService {
    /// A service over a log. Commands are accepted at once and decided when it runs.
    pub fn new(config: CommandServiceConfig, ports: CommandServicePorts) -> Self {
        let CommandServicePorts { log, feed, tasks, clock, .. } = ports;
        let dispatcher = Arc::new(Dispatcher::new(config.clone(), tasks));
        let (partitions, inboxes) =
            (0..log.partitions()).map(|_| mpsc::channel(config.queue_capacity.max(1))).unzip();
        let handler = Arc::new(Handler { partitions, dispatcher: dispatcher.clone() });
        Self { config, log, feed, clock, dispatcher, handler, inboxes }
    }

    /// The way in.
    pub fn handler(&self) -> Arc<dyn CommandHandler> {
        self.handler.clone()
    }

    /// Owns every partition of the store until the shutdown; then finishes what was accepted.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), CommandServiceError> {
        let start = |operation| move |source| CommandServiceError::Start { operation, source };
        let mut heads = Vec::new();
        for number in 0..self.log.partitions() {
            heads.push(
                self.log
                    .take_over(Partition(number), uuid::Uuid::nil())
                    .await
                    .map_err(start("take its partitions over"))?,
            );
        }
        let timers =
            Arc::new(Timers::new(self.config.timer_horizon_ms, self.log.partitions(), self.clock.clone()));
        let facts = Arc::new(FactSource::new(self.log.clone()));
        let deciding = Arc::new(AtomicUsize::new(0));
        let (committer, pending) = mpsc::channel(PENDING_CAPACITY);
        let mut notices = Vec::new();
        let mut workers = JoinSet::new();
        for (inbox, head) in self.inboxes.into_iter().zip(&heads) {
            let (sender, receiver) = mpsc::unbounded_channel();
            notices.push(sender);
            let last = last_recorded_at(&*self.log, head.partition, head.offset)
                .await
                .map_err(start("read where its partitions end"))?;
            let task = PartitionTask {
                partition: head.partition,
                log: self.log.clone(),
                facts: facts.clone(),
                clock: self.clock.clone(),
                commands: inbox,
                notices: receiver,
                committer: committer.clone(),
                deciding: deciding.clone(),
                memory: Memory::new(self.config.cached_streams, last),
            };
            workers.spawn(task.run(shutdown.clone()));
        }
        drop(committer);
        let aftermath =
            Aftermath { facts, timers: timers.clone(), dispatcher: self.dispatcher.clone(), feed: self.feed };
        let committer = Committer {
            log: self.log.clone(),
            config: self.config.clone(),
            pending,
            partitions: notices,
            generations: first_generations(self.log.partitions()),
            heads: by_number(heads),
            deciding,
            aftermath,
            held: None,
        };
        let mut committer = tokio::spawn(committer.run());
        let handler: Arc<dyn CommandHandler> = self.handler;
        let helpers = async {
            pick_up(&self.log, &timers, &self.dispatcher).await;
            tokio::join!(
                timers.run(self.log.clone(), handler.clone(), shutdown.clone()),
                self.dispatcher.run(handler.clone(), shutdown.clone()),
            );
        };
        let mut helpers = std::pin::pin!(helpers);
        let mut helping = true;
        loop {
            tokio::select! {
                ended = &mut committer => {
                    shutdown.cancel();
                    return ended.unwrap_or_else(|error| Err(CommandServiceError::Task(error.to_string())));
                }
                Some(Err(error)) = workers.join_next() => {
                    shutdown.cancel();
                    return Err(CommandServiceError::Task(error.to_string()));
                }
                () = &mut helpers, if helping => helping = false,
            }
        }
    }
}

/// Goes on with what was in flight when the last process ended. A stream that cannot be read is left, loudly.
async fn pick_up(log: &Arc<dyn Log>, timers: &Timers, dispatcher: &Dispatcher) {
    for number in 0..log.partitions() {
        match recover(log, timers, dispatcher, Partition(number)).await {
            Ok(0) => {}
            Ok(found) => {
                tracing::info!(
                    partition = number,
                    tasks = found,
                    "tasks that were in flight are handed out again"
                );
            }
            Err(error) => {
                tracing::error!(partition = number, error = %report(&error), "what was in flight could not be picked up");
            }
        }
    }
}

async fn last_recorded_at<L: LogReader + ?Sized>(
    log: &L,
    partition: Partition,
    head: u64,
) -> Result<Timestamp, StoreError> {
    if head == 0 {
        return Ok(Timestamp::default());
    }
    let last = log.read_partition(partition, head - 1, 1).await?;
    Ok(last.first().map_or(Timestamp::default(), |event| event.recorded_at))
}
