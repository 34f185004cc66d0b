//! The hub: routes what the commit feed brings.
//!
//! Registrations are guards: dropping one removes it. The table is locked for the time of one batch.

use bus::{CommittedBatch, FeedMessage, FeedSubscription};
use domain::event::RecordedEvent;
use domain::execution::FINAL_EVENT_TYPES;
use domain::ids::Partition;
use event_store::log::{LogReader, PartitionHead, StoreError};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::event::LiveEvent;
use super::mailbox::{Mailbox, Postbox, mailbox};
use super::{IDLE_REREAD, MAILBOX, PAGE};
use crate::cache::ExecutionCache;
use crate::random;

/// Routes live events to those who registered.
pub(crate) struct Hub {
    table: Mutex<Table>,
    /// Who hears every event before anybody else.
    listener: OnceLock<Arc<dyn Listener>>,
    idle_reread: Duration,
    /// The log's heads, and when they were asked for.
    heads: tokio::sync::Mutex<Option<(Instant, Heads)>>,
}

/// Hears every event of the feed, before whoever follows it is told. Must be quick.
pub(crate) trait Listener: Send + Sync {
    /// An event was committed.
    fn heard(&self, event: &RecordedEvent);

    /// Events may have been missed.
    fn missed(&self);
}

/// Where every partition ends.
type Heads = Arc<[PartitionHead]>;

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// By execution: who waits for its end.
    waiters: HashMap<Uuid, Vec<(u64, oneshot::Sender<News>)>>,
    /// By stream: who follows it.
    streams: HashMap<Uuid, Vec<(u64, Postbox<LiveEvent>)>>,
    /// Who follows all partitions.
    feeds: Vec<(u64, Postbox<Arc<LiveBatch>>)>,
}

/// A committed batch on its way to feeds.
#[derive(Debug)]
pub(super) struct LiveBatch {
    pub(super) partition: Partition,
    pub(super) first_offset: u64,
    pub(super) events: Vec<LiveEvent>,
}

/// What a waiter is told.
#[derive(Debug)]
pub(crate) enum News {
    /// The execution ended with this event.
    Ended(Arc<RecordedEvent>),
    /// Something was missed: read the log.
    Lagged,
}

/// What a registration is for.
#[derive(Debug, Clone, Copy)]
enum Place {
    Waiter(Uuid),
    Stream(Uuid),
    Feed,
}

/// Removes a registration when it is dropped.
#[derive(Debug)]
struct Registration {
    hub: Arc<Hub>,
    place: Place,
    number: u64,
}

/// A wait for the end of an execution.
#[derive(Debug)]
pub(crate) struct Waiter {
    news: oneshot::Receiver<News>,
    _registration: Registration,
}

/// A mailbox that is registered.
#[derive(Debug)]
pub(super) struct Subscribed<T> {
    pub(super) mailbox: Mailbox<T>,
    _registration: Registration,
}

impl Waiter {
    /// The news; [`News::Lagged`] if the hub is gone. Cancel-safe.
    pub(crate) async fn news(&mut self) -> News {
        (&mut self.news).await.unwrap_or(News::Lagged)
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl Default for Hub {
    fn default() -> Self {
        Self::new(IDLE_REREAD)
    }
}

impl Hub {
    /// A hub whose tails trust the silence of the feed for about so long.
    pub(crate) fn new(idle_reread: Duration) -> Self {
        Self {
            table: Mutex::default(),
            listener: OnceLock::new(),
            idle_reread,
            heads: tokio::sync::Mutex::default(),
        }
    }

    /// Says who hears every event. The first one stays.
    pub(crate) fn listen(&self, listener: Arc<dyn Listener>) {
        let _ = self.listener.set(listener);
    }

    /// How long one tail trusts the silence of the feed: between three and five quarters of the period, so that tails
    /// that began together do not read together for ever.
    pub(super) fn idle_reread(&self) -> Duration {
        let share = (random::number() % 512) as u32;
        self.idle_reread * (768 + share) / 1_024
    }

    /// The log's heads, as they were a moment ago at most: idle feeds look for what they missed, and all of them
    /// look at the same.
    pub(super) async fn recent_heads(&self, log: &dyn LogReader) -> Result<Heads, StoreError> {
        let mut recent = self.heads.lock().await;
        if let Some((at, heads)) = &*recent
            && at.elapsed() < self.idle_reread / 4
        {
            return Ok(heads.clone());
        }
        let at = Instant::now();
        let heads: Heads = log.heads().await?.into();
        *recent = Some((at, heads.clone()));
        Ok(heads)
    }

    /// Follows the feed until the shutdown or the end of the bus.
    pub(crate) async fn follow(
        &self,
        mut subscription: Box<dyn FeedSubscription>,
        cache: &ExecutionCache,
        shutdown: CancellationToken,
    ) {
        let mut expected: HashMap<Partition, u64> = HashMap::new();
        loop {
            let message = tokio::select! {
                message = subscription.next() => message,
                () = shutdown.cancelled() => None,
            };
            match message {
                Some(FeedMessage::Batch(batch)) => {
                    // Whoever is told of an event finds nothing older in the cache.
                    cache.committed(&batch);
                    let next = batch.first_offset + batch.events.len() as u64;
                    let known = expected.entry(batch.partition).or_insert(batch.first_offset);
                    if batch.first_offset > *known {
                        self.lag();
                    }
                    // A message that was overtaken, such as an owner's sign of life, takes nothing back.
                    *known = next.max(*known);
                    self.route(&batch);
                }
                Some(FeedMessage::Lagged) => {
                    expected.clear();
                    cache.lagged();
                    self.lag();
                }
                // Whoever still waits finds the rest in the log.
                None => {
                    cache.lagged();
                    return self.lag();
                }
            }
        }
    }

    /// Waits for the end of an execution. Register before what may end it is sent.
    pub(crate) fn wait_for_end(self: &Arc<Self>, execution: Uuid) -> Waiter {
        let (sender, news) = oneshot::channel();
        let mut table = self.lock();
        let number = table.number();
        table.waiters.entry(execution).or_default().push((number, sender));
        drop(table);
        Waiter { news, _registration: self.registered(Place::Waiter(execution), number) }
    }

    /// Follows a stream from now on.
    pub(super) fn subscribe_stream(self: &Arc<Self>, stream: Uuid) -> Subscribed<LiveEvent> {
        let (postbox, mailbox) = mailbox(MAILBOX);
        let mut table = self.lock();
        let number = table.number();
        table.streams.entry(stream).or_default().push((number, postbox));
        drop(table);
        Subscribed { mailbox, _registration: self.registered(Place::Stream(stream), number) }
    }

    /// Follows all partitions from now on.
    pub(super) fn subscribe_feed(self: &Arc<Self>) -> Subscribed<Arc<LiveBatch>> {
        let (postbox, mailbox) = mailbox(MAILBOX);
        let mut table = self.lock();
        let number = table.number();
        table.feeds.push((number, postbox));
        drop(table);
        Subscribed { mailbox, _registration: self.registered(Place::Feed, number) }
    }

    /// Routes a batch.
    pub(super) fn route(&self, batch: &CommittedBatch) {
        if let Some(listener) = self.listener.get() {
            batch.events.iter().for_each(|event| listener.heard(event));
        }
        let mut table = self.lock();
        let live: Option<Vec<LiveEvent>> = (!table.feeds.is_empty())
            .then(|| batch.events.iter().map(|event| LiveEvent::new(event.clone())).collect());
        for (index, event) in batch.events.iter().enumerate() {
            if let Some(followers) = table.streams.get(&event.stream) {
                let one = live.as_ref().and_then(|live| live.get(index)).cloned();
                let one = one.unwrap_or_else(|| LiveEvent::new(event.clone()));
                for (_, postbox) in followers {
                    postbox.post(one.clone());
                }
            }
            if !table.waiters.is_empty()
                && FINAL_EVENT_TYPES.contains(&event.event_type.as_ref())
                && let Some(waiters) = table.waiters.remove(&event.stream)
            {
                for (_, waiter) in waiters {
                    // A waiter that is gone needs no news.
                    let _ = waiter.send(News::Ended(event.clone()));
                }
            }
        }
        if let Some(events) = live {
            // Large batches are told in parts, so that a mailbox never holds much more than its messages.
            for (index, part) in events.chunks(PAGE).enumerate() {
                let first_offset = batch.first_offset + (index * PAGE) as u64;
                let message =
                    Arc::new(LiveBatch { partition: batch.partition, first_offset, events: part.to_vec() });
                for (_, postbox) in &table.feeds {
                    postbox.post(message.clone());
                }
            }
        }
    }

    /// Tells everybody that something was missed.
    fn lag(&self) {
        if let Some(listener) = self.listener.get() {
            listener.missed();
        }
        let mut table = self.lock();
        for (_, waiter) in table.waiters.drain().flat_map(|(_, waiters)| waiters) {
            let _ = waiter.send(News::Lagged);
        }
        table.streams.values().flatten().for_each(|(_, postbox)| postbox.lag());
        table.feeds.iter().for_each(|(_, postbox)| postbox.lag());
    }

    fn registered(self: &Arc<Self>, place: Place, number: u64) -> Registration {
        Registration { hub: self.clone(), place, number }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Every change of the table is one call on a collection; a panic cannot leave it half-changed.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        fn remove<T>(places: &mut HashMap<Uuid, Vec<(u64, T)>>, key: Uuid, number: u64) {
            if let Some(entries) = places.get_mut(&key) {
                entries.retain(|(other, _)| *other != number);
                if entries.is_empty() {
                    places.remove(&key);
                }
            }
        }
        let mut table = self.hub.lock();
        match self.place {
            Place::Waiter(execution) => remove(&mut table.waiters, execution, self.number),
            Place::Stream(stream) => remove(&mut table.streams, stream, self.number),
            Place::Feed => table.feeds.retain(|(other, _)| *other != self.number),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dropped_registration_leaves_nothing_behind() {
        let hub = Arc::new(Hub::default());
        let (waiter, stream, feed) =
            (hub.wait_for_end(Uuid::nil()), hub.subscribe_stream(Uuid::nil()), hub.subscribe_feed());
        drop((waiter, stream, feed));
        let table = hub.lock();
        assert!(table.waiters.is_empty() && table.streams.is_empty() && table.feeds.is_empty());
    }

    #[tokio::test]
    async fn a_lag_reaches_waiters() {
        let hub = Arc::new(Hub::default());
        let mut waiter = hub.wait_for_end(Uuid::nil());
        hub.lag();
        assert!(matches!(waiter.news().await, News::Lagged));
    }
}
