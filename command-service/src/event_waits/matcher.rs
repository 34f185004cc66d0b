//! The task that follows events while waits for some are open.

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use bus::{CommandHandler, CommitFeed, FeedMessage, FeedSubscription};
use domain::event::RecordedEvent;
use domain::ids::Partition;
use event_store::{Log, StoreError};

use crate::error::report;
use crate::owned::Owned;

use super::EventWaits;
use super::load::{load_partition, look_at};
use super::offering::{Candidate, Offers};
use super::past::Round;

/// Rounds over the past at the same time.
const ROUNDS: usize = 4;
/// Waits whose past is looked at in one round.
const ROUND_WAITS: usize = 1_000;
/// Readings of open waits at the same time.
const READINGS: usize = 4;
/// Candidates on their way from rounds.
const FOUND: usize = 64;
/// Events read from the log at a time.
const PAGE: usize = 500;
/// How often partitions of this process are looked at for what the feed did not say.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause after the log could not be read.
const READ_PAUSE: Duration = Duration::from_secs(1);
/// The feed is followed for so long after the last wait is gone: the next one often comes soon.
const LINGER: Duration = Duration::from_secs(30);

pub(crate) struct Matcher {
    log: Arc<dyn Log>,
    feed: Arc<dyn CommitFeed>,
    owned: Arc<Owned>,
    waits: Arc<EventWaits>,
    offers: Offers,
    /// While something is followed.
    subscription: Option<Box<dyn FeedSubscription>>,
    /// Partitions whose log must be paged, by number.
    behind: BTreeSet<u16>,
    /// The log is not paged before.
    not_before: Instant,
    /// Since when nobody waits.
    idle_since: Option<Instant>,
    rounds: FuturesUnordered<BoxFuture<'static, ()>>,
    readings: FuturesUnordered<BoxFuture<'static, ()>>,
    found: (mpsc::Sender<Candidate>, mpsc::Receiver<Candidate>),
}

impl Matcher {
    pub(crate) fn new(
        log: Arc<dyn Log>,
        feed: Arc<dyn CommitFeed>,
        owned: Arc<Owned>,
        waits: Arc<EventWaits>,
        handler: Arc<dyn CommandHandler>,
    ) -> Self {
        Self {
            log,
            feed,
            owned,
            offers: Offers::new(waits.clone(), handler),
            waits,
            subscription: None,
            behind: BTreeSet::new(),
            not_before: Instant::now(),
            idle_since: None,
            rounds: FuturesUnordered::new(),
            readings: FuturesUnordered::new(),
            found: mpsc::channel(FOUND),
        }
    }

    /// Finds and offers events until it is told to stop. What is not answered then is found again by the next owner.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let waits = self.waits.clone();
        while !stop.is_cancelled() {
            self.begin_or_end().await;
            self.start_readings();
            self.start_rounds();
            let paged = self.page().await;
            let room = self.offers.has_room();
            let following = room && self.behind.is_empty();
            tokio::select! {
                () = stop.cancelled() => return,
                () = std::future::ready(()), if paged => {}
                () = waits.changed.notified() => {}
                Some(candidate) = self.found.1.recv(), if room => self.offers.add(candidate),
                () = self.offers.answered() => {}
                Some(()) = self.rounds.next(), if !self.rounds.is_empty() => {}
                Some(()) = self.readings.next(), if !self.readings.is_empty() => {}
                message = next(&mut self.subscription), if following => self.hear(message),
                _ = look.tick() => self.look(),
            }
        }
    }

    /// Follows the feed while somebody waits.
    async fn begin_or_end(&mut self) {
        let somebody_waits = !self.waits.registry().is_empty();
        if somebody_waits {
            self.idle_since = None;
            if self.subscription.is_none() && self.not_before <= Instant::now() {
                // Heard from before the ends are read: what comes between is heard.
                let subscription = self.feed.subscribe();
                match self.log.heads().await {
                    Ok(heads) => {
                        let heads = heads.into_iter().map(|head| head.offset).collect();
                        self.waits.change(|registry| registry.activate(heads));
                        self.subscription = Some(subscription);
                    }
                    Err(error) => self.failed(&error),
                }
            }
        } else if self.subscription.is_some() && self.rounds.is_empty() && self.offers.is_idle() {
            let since = *self.idle_since.get_or_insert_with(Instant::now);
            if since.elapsed() >= LINGER && self.waits.change(|registry| registry.deactivate()) {
                self.subscription = None;
                self.behind.clear();
            }
        }
    }

    fn start_readings(&mut self) {
        while self.readings.len() < READINGS {
            let (log, waits) = (self.log.clone(), self.waits.clone());
            let mut registry = self.waits.registry();
            if let Some(execution) = registry.next_to_look() {
                self.readings.push(look_at(log, waits, execution).boxed());
            } else if let Some((partition, reading)) = registry.next_to_load() {
                self.readings.push(load_partition(log, waits, partition, reading).boxed());
            } else {
                return;
            }
        }
    }

    fn start_rounds(&mut self) {
        while self.rounds.len() < ROUNDS {
            let fresh = self.waits.registry().take_fresh(ROUND_WAITS);
            if fresh.is_empty() {
                return;
            }
            let (log, waits, found) = (self.log.clone(), self.waits.clone(), self.found.0.clone());
            self.rounds.push(Round::new(log, waits, found, fresh).run().boxed());
        }
    }

    fn hear(&mut self, message: Option<FeedMessage>) {
        match message {
            Some(FeedMessage::Batch(batch)) => {
                let Some(followed) = self.waits.registry().followed(batch.partition) else { return };
                if batch.first_offset > followed + 1 {
                    self.behind.insert(batch.partition.0);
                    return;
                }
                for event in &batch.events {
                    self.follow(event);
                }
            }
            Some(FeedMessage::Lagged) => self.all_behind(),
            // The bus is shut down; the log is looked at now and then.
            None => {
                self.subscription = Some(Box::new(Silence));
                self.all_behind();
            }
        }
    }

    fn all_behind(&mut self) {
        self.behind.extend(0..self.log.partitions());
    }

    fn follow(&mut self, event: &RecordedEvent) {
        let candidates = self.waits.registry().follow(event);
        for (place, found) in candidates.into_iter().flatten() {
            self.offers.add(Candidate { place, found });
        }
    }

    /// Pages the log of one partition that is behind. True: there may be more to page.
    async fn page(&mut self) -> bool {
        if self.subscription.is_none() || !self.offers.has_room() || self.not_before > Instant::now() {
            return false;
        }
        let Some(number) = self.behind.pop_first() else { return false };
        let partition = Partition(number);
        let Some(followed) = self.waits.registry().followed(partition) else { return false };
        match self.log.read_partition(partition, followed, PAGE).await {
            Ok(page) => {
                page.iter().for_each(|event| self.follow(event));
                if page.len() >= PAGE {
                    self.behind.insert(number);
                }
            }
            Err(error) => {
                self.behind.insert(number);
                self.failed(&error);
            }
        }
        !self.behind.is_empty()
    }

    fn failed(&mut self, error: &StoreError) {
        tracing::warn!(error = %report(error), "events that somebody may wait for cannot be read; trying again");
        self.not_before = Instant::now() + READ_PAUSE;
    }

    /// Looks for what the feed did not say of partitions that this process writes itself, and for room.
    fn look(&mut self) {
        if self.subscription.is_some() {
            for held in self.owned.list() {
                let followed = self.waits.registry().followed(held.partition);
                if followed.is_some_and(|followed| held.head > followed) {
                    self.behind.insert(held.partition.0);
                }
            }
        }
        if self.waits.registry().overflowed {
            let full = self.waits.change(|registry| {
                let room = registry.has_room_again();
                if room {
                    registry.overflowed = false;
                    self.owned.list().iter().for_each(|held| registry.load(held.partition));
                }
                !room
            });
            if full {
                tracing::error!(
                    "this process has more open waits for events than it can follow; further ones are found when some are over, or when other processes share the partitions"
                );
            }
        }
    }
}

/// A feed that says nothing.
struct Silence;

#[async_trait::async_trait]
impl FeedSubscription for Silence {
    async fn next(&mut self) -> Option<FeedMessage> {
        std::future::pending().await
    }
}

/// The next message of the feed, while it is followed.
async fn next(subscription: &mut Option<Box<dyn FeedSubscription>>) -> Option<FeedMessage> {
    match subscription {
        Some(subscription) => subscription.next().await,
        None => std::future::pending().await,
    }
}
