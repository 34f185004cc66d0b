//! One partition: reads its events in order, sends what follows from them, stores how far everything is done.

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use domain::event::RecordedEvent;
use domain::ids::Partition;
use domain::reactor::{reactions, reacts_to};
use event_store::{Checkpoints, StoreError};

use crate::error::report;
use crate::owned::Owned;

use super::backlog::{Backlog, Finished, Job};
use super::checkpoint::{Checkpoint, Moved};
use super::sending::Sender;
use super::{Offer, size};

/// Commands of a lane that may be open before it reads on.
const WINDOW: usize = 512;
/// Bytes of events whose commands may be open before it reads on.
const WINDOW_BYTES: usize = 2 * 1024 * 1024;
/// Events read from the log at a time.
const PAGE: usize = 200;
/// How often a lane looks for what was not offered.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Pause after the log could not be read.
const READ_PAUSE: Duration = Duration::from_secs(1);
/// Pause after an event could not be understood, or another was seen to have moved the checkpoint.
const LONG_PAUSE: Duration = Duration::from_secs(5);

pub(super) struct Lane {
    partition: Partition,
    /// The tenure.
    epoch: u64,
    offers: mpsc::Receiver<Offer>,
    sender: Arc<Sender>,
    owned: Arc<Owned>,
    checkpoint: Checkpoint,
    /// The last offset that was read.
    position: u64,
    /// Up to here an earlier owner may have dealt with what it was refused.
    earlier: u64,
    backlog: Backlog,
    sending: FuturesUnordered<BoxFuture<'static, Finished>>,
    /// The log is not read before.
    not_before: Instant,
}

impl Lane {
    pub(super) fn new(
        partition: Partition,
        epoch: u64,
        offers: mpsc::Receiver<Offer>,
        sender: Arc<Sender>,
        owned: Arc<Owned>,
        checkpoints: Arc<dyn Checkpoints>,
    ) -> Self {
        Self {
            partition,
            epoch,
            offers,
            sender,
            owned,
            checkpoint: Checkpoint::new(checkpoints, partition),
            position: 0,
            earlier: 0,
            backlog: Backlog::default(),
            sending: FuturesUnordered::new(),
            not_before: Instant::now(),
        }
    }

    /// Goes on from the checkpoint until it is told to stop, then stores how far it is. What is on its way then is
    /// sent again by whoever is next.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = self.begin() => {}
            () = stop.cancelled() => return,
        }
        while !stop.is_cancelled() {
            tokio::select! {
                () = self.step() => {}
                () = stop.cancelled() => {}
            }
        }
        let done = self.backlog.done(self.position);
        self.checkpoint.move_to(done).await;
    }

    /// Finds the checkpoint.
    async fn begin(&mut self) {
        loop {
            match self.checkpoint.read().await {
                Ok(stored) => return self.go_to(stored),
                Err(error) => {
                    tracing::warn!(partition = %self.partition, error = %report(&error), "where events are to be followed from cannot be read; trying again");
                }
            }
            tokio::time::sleep(READ_PAUSE).await;
        }
    }

    fn go_to(&mut self, stored: u64) {
        let head = self.owned.head(self.partition).unwrap_or(stored);
        if stored > head {
            tracing::warn!(partition = %self.partition, stored, head, "events were followed further than the log goes; it goes on from the log's end");
        }
        // One that is dropped may have been carried out: it is sent again, or another has seen to it.
        self.sending.clear();
        self.backlog = Backlog::default();
        self.position = stored.min(head);
        self.earlier = head;
    }

    /// Takes in what there is room for, and waits until there may be more to do.
    async fn step(&mut self) {
        while let Some(Some(finished)) = self.sending.next().now_or_never() {
            self.finished(finished);
        }
        while self.has_room()
            && let Ok(offer) = self.offers.try_recv()
        {
            self.offered(&offer);
        }
        if self.is_behind() {
            return self.read().await;
        }
        let done = self.backlog.done(self.position);
        if let Moved::Elsewhere(stored) = self.checkpoint.move_if_due(done).await {
            tracing::info!(partition = %self.partition, stored, done, "another owner follows a partition's events; this process goes on from there, if it is still to");
            self.go_to(stored);
            self.not_before = Instant::now() + LONG_PAUSE;
        }
        let room = self.has_room();
        tokio::select! {
            Some(finished) = self.sending.next(), if !self.sending.is_empty() => self.finished(finished),
            Some(offer) = self.offers.recv(), if room => self.offered(&offer),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }

    fn has_room(&self) -> bool {
        self.backlog.jobs() < WINDOW && self.backlog.bytes() < WINDOW_BYTES
    }

    /// Whether the log has more than was offered, and it may be read.
    fn is_behind(&self) -> bool {
        self.has_room()
            && self.not_before <= Instant::now()
            && self.owned.epoch(self.partition) == Some(self.epoch)
            && self.owned.head(self.partition).is_some_and(|head| head > self.position)
    }

    fn offered(&mut self, offer: &Offer) {
        // Behind a gap: the log has it.
        if offer.first > self.position + 1 || offer.last <= self.position || self.not_before > Instant::now()
        {
            return;
        }
        for event in &offer.events {
            if event.position.offset > self.position && !self.take(event) {
                return;
            }
        }
        self.position = offer.last;
    }

    async fn read(&mut self) {
        let page = match self.page().await {
            Ok(page) => page,
            Err(error) => {
                tracing::warn!(partition = %self.partition, error = %report(&error), "events that others must hear of cannot be read; trying again");
                self.not_before = Instant::now() + READ_PAUSE;
                return;
            }
        };
        if page.is_empty() {
            self.not_before = Instant::now() + READ_PAUSE;
        }
        for event in &page {
            if !self.has_room() || !self.take(event) {
                return;
            }
        }
    }

    async fn page(&mut self) -> Result<Vec<RecordedEvent>, StoreError> {
        let page = self.sender.log.read_partition(self.partition, self.position, PAGE).await?;
        let expected = self.position + 1;
        match page.first() {
            Some(first) if first.position.offset != expected => Err(StoreError::Corrupt(format!(
                "partition {} has no event {expected}, but one at {}",
                self.partition, first.position.offset
            ))),
            _ => Ok(page),
        }
    }

    /// Takes the next event that may concern others, or one that does not. False: it must be looked at again.
    fn take(&mut self, event: &RecordedEvent) -> bool {
        let offset = event.position.offset;
        if reacts_to(&event.event_type) {
            let typed = match event.decode() {
                Ok(typed) => typed,
                Err(error) => {
                    tracing::error!(partition = %self.partition, position = %event.position, error = %report(&error), "an event that others may have to hear of cannot be understood; nothing of its partition is followed until it can");
                    self.not_before = Instant::now() + LONG_PAUSE;
                    return false;
                }
            };
            for reaction in reactions(event, &typed) {
                self.checkpoint.reacted();
                let again = offset <= self.earlier;
                let job = Job { offset, bytes: size(event), reaction, again };
                if let Some(job) = self.backlog.add(job) {
                    self.sending.push(self.sender.clone().send(job).boxed());
                }
            }
        }
        self.position = offset;
        true
    }

    fn finished(&mut self, finished: Finished) {
        for job in self.backlog.finished(finished) {
            self.sending.push(self.sender.clone().send(job).boxed());
        }
    }
}
