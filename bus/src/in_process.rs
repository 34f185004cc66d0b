//! The bus inside one process: channels, all bounded.

use async_trait::async_trait;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use tokio::sync::{Mutex as AsyncMutex, Notify, broadcast, mpsc};

use domain::command::CommandEnvelope;
use domain::node_type::NodeType;

use crate::commands::{CommandError, CommandHandler, CommandReply, Commands};
use crate::feed::{CommitFeed, CommittedBatch, FeedMessage, FeedSubscription};
use crate::tasks::{Beat, Task, TaskQueue, TaskRef};

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

/// The commit feed as a broadcast channel.
#[derive(Clone)]
pub struct InProcessFeed {
    sender: broadcast::Sender<Arc<CommittedBatch>>,
}

impl InProcessFeed {
    /// A feed without subscribers.
    pub fn new() -> Self {
        Self { sender: broadcast::Sender::new(FEED_CAPACITY) }
    }
}

impl Default for InProcessFeed {
    fn default() -> Self {
        Self::new()
    }
}

struct InProcessSubscription(broadcast::Receiver<Arc<CommittedBatch>>);

#[async_trait]
impl FeedSubscription for InProcessSubscription {
    async fn next(&mut self) -> Option<FeedMessage> {
        match self.0.recv().await {
            Ok(batch) => Some(FeedMessage::Batch(batch)),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(FeedMessage::Lagged),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

impl CommitFeed for InProcessFeed {
    fn publish(&self, batch: CommittedBatch) {
        // No subscriber is not an error: the log has the events.
        let _ = self.sender.send(Arc::new(batch));
    }

    fn subscribe(&self) -> Box<dyn FeedSubscription> {
        Box::new(InProcessSubscription(self.sender.subscribe()))
    }
}

/// The task queue as a list. Its length is bounded by the owner's release window.
pub struct InProcessTasks {
    ready: Mutex<VecDeque<Task>>,
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
            ready: Mutex::default(),
            arrived: Notify::new(),
            beats,
            beat_receiver: AsyncMutex::new(beat_receiver),
            cancellations: broadcast::Sender::new(CANCEL_CAPACITY),
        }
    }

    fn take(&self, types: &[NodeType]) -> Option<Task> {
        // A panic elsewhere cannot leave the list half-changed: each use is one call on it.
        let mut ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let index = ready.iter().position(|task| types.contains(&task.node_type))?;
        let task = ready.remove(index);
        if !ready.is_empty() {
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
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).push_back(task);
        self.arrived.notify_one();
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
        // No worker listening means that nobody holds the task.
        let _ = self.cancellations.send(task);
    }

    fn cancellations(&self) -> broadcast::Receiver<TaskRef> {
        self.cancellations.subscribe()
    }
}
