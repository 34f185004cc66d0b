//! The bus inside one process: channels, all bounded.

use async_trait::async_trait;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{Mutex as AsyncMutex, Notify, broadcast, mpsc};

use domain::command::CommandEnvelope;
use domain::node_type::NodeType;

use crate::cancelled::Cancelled;
use crate::commands::{CommandError, CommandHandler, CommandReply, Commands};
use crate::feed::{CommitFeed, CommittedBatch, FeedMessage, FeedSubscription};
use crate::tasks::{Beat, Task, TaskQueue, TaskRef, Waiting};

/// Batches that a feed subscriber may be behind before it is sent to the log.
const FEED_CAPACITY: usize = 1_024;
/// Beats that may wait for the owner; further ones are dropped, as on a network.
const BEAT_CAPACITY: usize = 4_096;
/// Requests to stop that a worker may be behind.
const CANCEL_CAPACITY: usize = 4_096;

/// Commands by a direct call. The handler is set once, when the command-service is up.
#[derive(Clone, Default)]
pub struct InProcessCommands {
    handler: Arc<OnceLock<Arc<dyn CommandHandler>>>,
}

impl InProcessCommands {
    /// No handler yet: commands answer [`CommandError::NotOwner`].
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets who takes the commands. Later calls change nothing.
    pub fn serve(&self, handler: Arc<dyn CommandHandler>) {
        if self.handler.set(handler).is_err() {
            tracing::warn!("a second command handler was offered to the in-process bus and ignored");
        }
    }
}

#[async_trait]
impl Commands for InProcessCommands {
    async fn send(&self, command: CommandEnvelope) -> Result<CommandReply, CommandError> {
        match self.handler.get() {
            Some(handler) => handler.handle(command).await,
            None => Err(CommandError::NotOwner),
        }
    }
}

/// For those that hand commands on to whoever is in this process, as to any handler.
#[async_trait]
impl CommandHandler for InProcessCommands {
    async fn handle(&self, command: CommandEnvelope) -> Result<CommandReply, CommandError> {
        self.send(command).await
    }
}

/// The commit feed as a broadcast channel.
#[derive(Clone)]
pub struct InProcessFeed {
    sender: broadcast::Sender<FeedMessage>,
}

impl InProcessFeed {
    /// A feed without subscribers.
    pub fn new() -> Self {
        Self { sender: broadcast::Sender::new(FEED_CAPACITY) }
    }

    /// Hands a message to every subscriber.
    pub(crate) fn send(&self, message: FeedMessage) {
        // No subscriber is not an error: the log has the events.
        let _ = self.sender.send(message);
    }
}

impl Default for InProcessFeed {
    fn default() -> Self {
        Self::new()
    }
}

struct InProcessSubscription(broadcast::Receiver<FeedMessage>);

#[async_trait]
impl FeedSubscription for InProcessSubscription {
    async fn next(&mut self) -> Option<FeedMessage> {
        match self.0.recv().await {
            Ok(message) => Some(message),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(FeedMessage::Lagged),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl CommitFeed for InProcessFeed {
    fn publish(&self, batch: CommittedBatch) {
        self.send(FeedMessage::Batch(Arc::new(batch)));
    }

    fn subscribe(&self) -> Box<dyn FeedSubscription> {
        Box::new(InProcessSubscription(self.sender.subscribe()))
    }
}

/// What waits, and what must not be delivered any more. One lock for both: between a publish and a cancel of the
/// same task there is no order in which the task stays.
#[derive(Default)]
struct Lists {
    ready: VecDeque<Task>,
    cancelled: Cancelled,
}

/// The task queue as a list. Its length is bounded by the owner's release window.
pub struct InProcessTasks {
    waiting: Mutex<Lists>,
    arrived: Notify,
    beats: mpsc::Sender<Beat>,
    beat_receiver: AsyncMutex<mpsc::Receiver<Beat>>,
    cancellations: broadcast::Sender<TaskRef>,
}

impl InProcessTasks {
    /// An empty queue.
    pub fn new() -> Self {
        let (beats, beat_receiver) = mpsc::channel(BEAT_CAPACITY);
        Self {
            waiting: Mutex::default(),
            arrived: Notify::new(),
            beats,
            beat_receiver: AsyncMutex::new(beat_receiver),
            cancellations: broadcast::Sender::new(CANCEL_CAPACITY),
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Lists> {
        // Nothing under the lock panics but for want of memory, and then the process ends.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, types: &[NodeType]) -> Option<Task> {
        let mut waiting = self.waiting();
        let index = waiting.ready.iter().position(|task| types.contains(&task.node_type))?;
        let task = waiting.ready.remove(index);
        if !waiting.ready.is_empty() {
            // One notification wakes one worker; pass the word on while there is work.
            self.arrived.notify_one();
        }
        task
    }
}

impl Default for InProcessTasks {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl TaskQueue for InProcessTasks {
    async fn publish(&self, task: Task) {
        {
            let mut waiting = self.waiting();
            // A cancelled attempt is never wanted again: the next one has a higher number.
            if waiting.cancelled.contains(&task.task) {
                return;
            }
            waiting.ready.push_back(task);
        }
        self.arrived.notify_one();
    }

    async fn is_waiting(&self, task: &TaskRef) -> Waiting {
        if self.waiting().ready.iter().any(|ready| ready.task == *task) { Waiting::Yes } else { Waiting::No }
    }

    async fn pull(&self, types: &[NodeType]) -> Option<Task> {
        loop {
            let arrived = self.arrived.notified();
            if let Some(task) = self.take(types) {
                return Some(task);
            }
            arrived.await;
        }
    }

    fn beat(&self, beat: Beat) {
        if self.beats.try_send(beat).is_err() {
            tracing::debug!("a worker's beat was dropped because the owner is behind");
        }
    }

    async fn next_beat(&self) -> Option<Beat> {
        self.beat_receiver.lock().await.recv().await
    }

    fn cancel(&self, task: TaskRef) {
        {
            let mut waiting = self.waiting();
            // All of them: a task that was handed out again may wait twice.
            waiting.ready.retain(|ready| ready.task != task);
            waiting.cancelled.remember(task.clone());
        }
        // After the removal, so that who hears of it does not take the task anew. No worker listening means that nobody holds the task.
        let _ = self.cancellations.send(task);
    }

    fn cancellations(&self) -> broadcast::Receiver<TaskRef> {
        self.cancellations.subscribe()
    }
}
