//! One partition on its way out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use bus::Continuity;
use domain::event::RecordedEvent;
use domain::ids::Partition;
use event_store::LogReader;

use crate::error::report;
use crate::owned::Owned;

use super::PAGE;

/// What an event costs in memory beside its data, about.
const OVERHEAD: usize = 512;
/// Pause after another was seen to relay: many beats, of which each would end a tenure that is over.
const STOP_FOR: Duration = Duration::from_secs(5);
/// Pause after the log could not be read.
const READ_PAUSE: Duration = Duration::from_secs(1);

/// What an event takes up.
pub(super) fn size(event: &RecordedEvent) -> usize {
    event.data.len() + OVERHEAD
}

pub(super) struct Lane {
    pub(super) partition: Partition,
    /// The tenure.
    pub(super) epoch: u64,
    /// The last offset that the stream is known to have; `None` until that was found out.
    pub(super) position: Option<u64>,
    /// What follows the position, without a gap.
    pub(super) held: VecDeque<Arc<RecordedEvent>>,
    pub(super) held_bytes: usize,
    /// What the store has; `None` until it was read.
    pub(super) checkpoint: Option<u64>,
    /// When it was last moved.
    pub(super) moved_at: Instant,
    /// Whether it is being moved.
    pub(super) moving: bool,
    /// When the lane is compared with the stream again.
    pub(super) compare_at: Instant,
    /// Whether it agreed with the stream when they were last compared; until then nothing is published.
    pub(super) compared: bool,
    /// Whether the stream may lack anything before its end, too.
    pub(super) broken: bool,
    /// Whether it was said that the log is shorter than the stream.
    pub(super) said_shorter: bool,
    not_before: Instant,
}

impl Lane {
    pub(super) fn new(partition: Partition, epoch: u64) -> Self {
        let now = Instant::now();
        Self {
            partition,
            epoch,
            position: None,
            held: VecDeque::new(),
            held_bytes: 0,
            checkpoint: None,
            moved_at: now,
            moving: false,
            compare_at: now,
            compared: false,
            broken: false,
            said_shorter: false,
            not_before: now,
        }
    }

    /// The stream may not have what it had.
    pub(super) fn doubt(&mut self, continuity: Continuity) {
        self.broken |= continuity == Continuity::Broken;
        if self.compared {
            self.compared = false;
            self.compare_at = Instant::now();
        }
    }

    /// Another owner relays, it seems. Should the lane be ours all the same after a while, it goes on.
    pub(super) fn stop_for_a_while(&mut self) {
        self.compared = false;
        self.checkpoint = None;
        self.compare_at = Instant::now() + STOP_FOR;
    }

    /// Goes on from a position.
    pub(super) fn go_to(&mut self, position: u64, owned: &Owned) {
        if self.position != Some(position) {
            self.held.clear();
            self.held_bytes = 0;
            self.position = Some(position);
        }
        owned.relayed(self.partition, self.epoch, position);
    }

    /// Takes an event in if it is the next one.
    pub(super) fn take(&mut self, event: Arc<RecordedEvent>) {
        let Some(position) = self.position else { return };
        if event.position.offset == position + self.held.len() as u64 + 1
            && event.position.partition == self.partition
        {
            self.held_bytes += size(&event);
            self.held.push_back(event);
        }
    }

    /// The first of what is held is stored.
    pub(super) fn published(&mut self, owned: &Owned) {
        if let Some(event) = self.held.pop_front() {
            self.held_bytes -= size(&event);
            self.position = Some(event.position.offset);
            owned.relayed(self.partition, self.epoch, event.position.offset);
        }
    }

    /// Whether there is something to publish, and it may be.
    pub(super) fn is_behind(&self, owned: &Owned) -> bool {
        let Some(position) = self.position else { return false };
        self.compared
            && (!self.held.is_empty()
                || (self.not_before <= Instant::now()
                    && owned.head(self.partition).is_some_and(|head| head > position)))
    }

    /// Reads what follows the position.
    pub(super) async fn read<L: LogReader + ?Sized>(&mut self, log: &L) {
        let Some(position) = self.position else { return };
        match log.read_partition(self.partition, position, PAGE).await {
            Ok(page) => page.into_iter().for_each(|event| self.take(Arc::new(event))),
            Err(error) => {
                tracing::warn!(partition = %self.partition, error = %report(&error), "events that are to be published cannot be read; trying again");
                self.not_before = Instant::now() + READ_PAUSE;
            }
        }
        if self.held.is_empty() {
            self.not_before = Instant::now() + READ_PAUSE;
        }
    }
}
