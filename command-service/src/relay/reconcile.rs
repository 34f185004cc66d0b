//! Comparing a lane with the end of the stream, which may have lost a tail, or everything.
//!
//! The stream is believed where it has less than this process knows to be published, never where it has more: its last
//! event says nothing of those before it, and may be of a log that was restored since. A stream that was made anew or
//! has lost its end since this process last published (`Continuity::Broken`) is not believed at all: every lane goes
//! back over the time for which the stream keeps events, as where the stream holds nothing of a partition.
//!
//! Known limit: a quiet partition whose events the stream has dropped for want of room looks like one that was wiped,
//! and what it may keep of it is published again. Subscribers drop that by the events' ids; whoever gives the stream
//! room for `max_age` does not see it. Going back no further than the checkpoint would not tell the two apart, for a
//! stream may also be purged without this process hearing of it.

use futures::future::join_all;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use bus::BusError;
use domain::ids::{Partition, Position};
use domain::time::{Clock, Timestamp};
use event_store::{Checkpoints, Log, LogReader, StoreError};

use crate::error::report;
use crate::owned::Owned;

use super::lane::Lane;
use super::{PUBLISHER_LIMIT, READER, RECONCILE_EVERY, Relay};

/// What the stream is compared with.
struct Truth {
    log: Arc<dyn Log>,
    checkpoints: Arc<dyn Checkpoints>,
    clock: Arc<dyn Clock>,
    owned: Arc<Owned>,
    max_age: Duration,
}

impl Relay {
    /// Compares every lane whose time has come. One whose checkpoint cannot be read is tried again later.
    pub(super) async fn reconcile(&mut self) -> Result<(), BusError> {
        let now = Instant::now();
        let due: Vec<Partition> =
            self.lanes.values().filter(|lane| lane.compare_at <= now).map(|lane| lane.partition).collect();
        if due.is_empty() {
            return Ok(());
        }
        let events = &self.events.clone();
        let ends = due.iter().map(|partition| async {
            let asked = tokio::time::timeout(PUBLISHER_LIMIT, events.last_published(*partition)).await;
            asked.unwrap_or_else(|late| {
                Err(BusError::of("read the end of the stream of events in time")(late))
            })
        });
        let ends = join_all(ends).await;
        let truth = Truth {
            log: self.log.clone(),
            checkpoints: self.checkpoints.clone(),
            clock: self.clock.clone(),
            owned: self.owned.clone(),
            max_age: self.events.max_age(),
        };
        for (partition, end) in due.into_iter().zip(ends) {
            let end = end?;
            // In its place, so that it is still there should the relay be stopped meanwhile.
            let Some(lane) = self.lanes.get_mut(&partition.0) else { continue };
            match truth.compare(lane, end).await {
                Ok(()) => {
                    lane.compared = true;
                    lane.compare_at = now + RECONCILE_EVERY;
                }
                Err(error) => {
                    tracing::warn!(partition = %partition, error = %report(&error), "how far events are published cannot be read; trying again");
                    lane.compare_at = Instant::now() + super::LOOK_EVERY;
                }
            }
        }
        Ok(())
    }
}

impl Truth {
    /// Has a lane go on from where it must.
    async fn compare(&self, lane: &mut Lane, end: Option<Position>) -> Result<(), StoreError> {
        let partition = lane.partition;
        // Without a head the lane is about to be dropped.
        let Some(head) = self.owned.head(partition) else { return Ok(()) };
        let checkpoint = match lane.checkpoint {
            Some(checkpoint) => checkpoint,
            None => {
                let checkpoint = self.checkpoints.checkpoint(READER, partition).await?;
                lane.checkpoint = Some(checkpoint);
                checkpoint
            }
        };
        let known = lane.position.unwrap_or(checkpoint).min(head);
        // Of a stream that is not the one it was, the end says nothing of what comes before it.
        let position = match end.filter(|_| !lane.broken) {
            Some(end) if end.offset < known => {
                tracing::warn!(
                    partition = %partition, known, found = end.offset,
                    "the stream of events has lost what it had; it is published again"
                );
                end.offset
            }
            Some(end) => {
                if end.offset > head && !lane.said_shorter {
                    tracing::error!(
                        partition = %partition, head, found = end.offset,
                        "the stream of events is ahead of the log: was the log restored from a backup? Subscribers have seen events that are not in it"
                    );
                    lane.said_shorter = true;
                }
                known
            }
            None => {
                let age = self.max_age.as_millis().try_into().unwrap_or(i64::MAX);
                let oldest = Timestamp::from_unix_ms(self.clock.now().unix_ms().saturating_sub(age));
                let kept = before(&*self.log, partition, head, oldest).await?;
                // What was never published does not grow too old for it, unless nothing ever was: then the log may
                // be as old as it likes.
                if checkpoint == 0 && lane.position.is_none() { kept } else { known.min(kept) }
            }
        };
        if lane.broken {
            tracing::warn!(
                partition = %partition, known, from = position,
                "the stream of events is not the one it was; what it may keep is published again"
            );
            lane.broken = false;
        }
        lane.go_to(position, &self.owned);
        Ok(())
    }
}

/// The last offset whose event was recorded before a time; 0 without one. `recorded_at` never goes back within a
/// partition.
async fn before<L: LogReader + ?Sized>(
    log: &L,
    partition: Partition,
    head: u64,
    time: Timestamp,
) -> Result<u64, StoreError> {
    // Everything up to `low` is before it, everything from `high` on is not.
    let (mut low, mut high) = (0, head + 1);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        let page = log.read_partition(partition, middle - 1, 1).await?;
        let is_before = page.first().is_some_and(|event| event.recorded_at < time);
        if is_before { low = middle } else { high = middle }
    }
    Ok(low)
}
