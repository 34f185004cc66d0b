//! The commit feed: every committed event, soon after it is durable, at most once.
//!
//! A reader that sees a gap (a batch whose `first_offset` is not the one it expects, or
//! [`FeedMessage::Lagged`]) pages the log from its own position. Nothing else depends on the feed.

use async_trait::async_trait;
use std::sync::Arc;

use domain::event::RecordedEvent;
use domain::ids::Partition;

/// Events of one partition that became durable together. Without events it is a sign of life of the owner, which
/// says where the partition ends: at the offset before `first_offset`.
#[derive(Debug, Clone)]
pub struct CommittedBatch {
    /// The partition.
    pub partition: Partition,
    /// The offset of the first of the events.
    pub first_offset: u64,
    /// The events, in order and without a gap.
    pub events: Vec<Arc<RecordedEvent>>,
}

/// What a subscriber receives.
#[derive(Debug, Clone)]
pub enum FeedMessage {
    /// New events.
    Batch(Arc<CommittedBatch>),
    /// Messages were dropped because this subscriber was slow, or the connection was lost: page the log.
    Lagged,
}

/// A running subscription.
#[async_trait]
pub trait FeedSubscription: Send {
    /// The next message; `None` when the bus is shut down. Cancel-safe.
    async fn next(&mut self) -> Option<FeedMessage>;
}

/// Publishing and following commits.
pub trait CommitFeed: Send + Sync {
    /// Announces a committed batch. Never blocks; slow subscribers lag.
    fn publish(&self, batch: CommittedBatch);

    /// Follows every partition from now on.
    fn subscribe(&self) -> Box<dyn FeedSubscription>;
}
