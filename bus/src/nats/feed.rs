//! The commit feed over core NATS.
//!
//! A process hears its own commits without the network; its connection for the feed does not hear what it publishes.
//! What comes from the others is fanned out by the same channel. Publishing never waits: a full queue drops, and every
//! reader finds the gap by the offsets.

use async_nats::Subscriber;
use async_trait::async_trait;
use futures::StreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::connect::{HAND_OVER, Link};
use super::lifetime::Lifetime;
use super::{subjects, wire};
use crate::feed::{CommitFeed, CommittedBatch, FeedMessage, FeedSubscription};
use crate::in_process::InProcessFeed;

/// Batches that may wait to be published.
const QUEUE: usize = 1_024;
/// The pause before another try to subscribe.
const TRY_AGAIN: Duration = Duration::from_millis(500);

/// The feed of all processes.
pub(super) struct NatsFeed {
    local: InProcessFeed,
    queue: mpsc::Sender<Arc<CommittedBatch>>,
    dropped: Arc<AtomicU64>,
    link: Link,
    lifetime: Lifetime,
    listening: AtomicBool,
}

impl NatsFeed {
    /// Starts publishing.
    pub(super) fn start(link: Link, lifetime: Lifetime) -> Self {
        let (queue, batches) = mpsc::channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        lifetime.spawn(publish(link.clone(), batches, dropped.clone(), lifetime.stop.clone()));
        Self {
            local: InProcessFeed::new(),
            queue,
            dropped,
            link,
            lifetime,
            listening: AtomicBool::new(false),
        }
    }
}

impl CommitFeed for NatsFeed {
    fn publish(&self, batch: CommittedBatch) {
        let batch = Arc::new(batch);
        self.local.send(FeedMessage::Batch(batch.clone()));
        if self.queue.try_send(batch).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn subscribe(&self) -> Box<dyn FeedSubscription> {
        let inner = self.local.subscribe();
        if !self.listening.swap(true, Ordering::SeqCst) {
            self.lifetime.spawn(listen(self.link.clone(), self.local.clone(), self.lifetime.stop.clone()));
        }
        Box::new(NatsSubscription { inner, stop: self.lifetime.stop.clone() })
    }
}

struct NatsSubscription {
    inner: Box<dyn FeedSubscription>,
    stop: CancellationToken,
}

#[async_trait]
impl FeedSubscription for NatsSubscription {
    async fn next(&mut self) -> Option<FeedMessage> {
        tokio::select! {
            message = self.inner.next() => message,
            () = self.stop.cancelled() => None,
        }
    }
}

async fn publish(
    link: Link,
    mut batches: mpsc::Receiver<Arc<CommittedBatch>>,
    dropped: Arc<AtomicU64>,
    stop: CancellationToken,
) {
    loop {
        let batch = tokio::select! {
            batch = batches.recv() => batch,
            () = stop.cancelled() => break,
        };
        let Some(batch) = batch else { break };
        let subject = subjects::log(batch.partition);
        if link.connected() {
            for piece in wire::encode_batch(&batch, link.client.max_payload()) {
                if !link.publish(subject.clone(), piece).await {
                    dropped.fetch_add(1, Ordering::Relaxed);
                    break;
                }
            }
        } else {
            dropped.fetch_add(1, Ordering::Relaxed);
        }
        let missing = dropped.swap(0, Ordering::Relaxed);
        if missing > 0 {
            tracing::debug!(
                batches = missing,
                "batches of the commit feed were dropped; their readers page the log"
            );
        }
    }
}

async fn listen(link: Link, local: InProcessFeed, stop: CancellationToken) {
    let mut missed = link.missed();
    let mut batches = tokio::select! {
        subscriber = subscribe(&link) => subscriber,
        () = stop.cancelled() => return,
    };
    // What was published before the server knew the subscription was not heard.
    local.send(FeedMessage::Lagged);
    loop {
        tokio::select! {
            message = batches.next() => match message {
                Some(message) => local.send(match wire::decode_batch(&message.payload) {
                    Ok(batch) => FeedMessage::Batch(Arc::new(batch)),
                    Err(error) => {
                        tracing::warn!("a batch of the commit feed was not read, its readers page the log: {error}");
                        FeedMessage::Lagged
                    }
                }),
                None => break,
            },
            changed = missed.changed() => match changed {
                Ok(()) => local.send(FeedMessage::Lagged),
                Err(_) => break,
            },
            () = stop.cancelled() => break,
        }
    }
}

async fn subscribe(link: &Link) -> Subscriber {
    loop {
        let subscribed = tokio::time::timeout(HAND_OVER, link.client.subscribe(subjects::EVERY_LOG)).await;
        if let Ok(Ok(subscriber)) = subscribed {
            let _ = tokio::time::timeout(HAND_OVER, link.client.flush()).await;
            return subscriber;
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}
