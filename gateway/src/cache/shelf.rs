//! One partition of the cache: what is kept of its executions, and what the feed has shown of it.
//!
//! `latest` holds the last version of every stream that the feed has shown an event of, as far as there is room; all
//! events of other streams are at or before `floor`. So whatever a reader has read can be compared with what the feed
//! has shown, however the two overtake each other:
//!
//! - the stream is in `latest`: what was read must have its version or a later one;
//! - it is not: what was read must come from a read model that had reached `floor`, and `floor` must be the same still.

use bus::CommittedBatch;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

use super::executions::{Kept, Ticket};

/// How many streams `latest` holds.
const LATEST: NonZeroUsize = NonZeroUsize::new(2_048).expect("not zero");
/// How many executions are kept at most, however small.
const KEPT: NonZeroUsize = NonZeroUsize::new(65_536).expect("not zero");
/// How long the silence of a partition is trusted. Its owner says where it ends every second.
const SILENCE: Duration = Duration::from_millis(2_500);
/// How long an answer is kept at most. It bounds what no invariant covers: a read model that a crash of Postgres has
/// set back for a moment.
const AGE: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Shelf {
    /// The last offset that the feed has shown without a gap; `None` before its first message.
    seen: Option<u64>,
    heard: Instant,
    /// Counts the gaps, so that what was read before one is not put after it.
    gaps: u64,
    floor: u64,
    latest: LruCache<Uuid, Latest>,
    kept: LruCache<Uuid, (Arc<Kept>, Instant)>,
    bytes: usize,
    room: usize,
}

/// The last event of a stream that the feed has shown.
struct Latest {
    version: u64,
    offset: u64,
}

impl Shelf {
    pub(super) fn new(room: usize) -> Self {
        Self {
            seen: None,
            heard: Instant::now(),
            gaps: 0,
            floor: 0,
            latest: LruCache::new(LATEST),
            kept: LruCache::new(KEPT),
            bytes: 0,
            room,
        }
    }

    /// Whether the feed is known to have shown everything up to `needed`.
    pub(super) fn is_trusted(&self, needed: u64, now: Instant) -> bool {
        self.seen.is_some_and(|seen| needed <= seen) && now.saturating_duration_since(self.heard) < SILENCE
    }

    pub(super) fn find(&mut self, id: Uuid, now: Instant) -> Option<Arc<Kept>> {
        let (kept, since) = self.kept.get(&id)?;
        if now.saturating_duration_since(*since) < AGE {
            return Some(kept.clone());
        }
        self.remove(id);
        None
    }

    pub(super) fn ticket(&self) -> Ticket {
        Ticket { gaps: self.gaps, floor: self.floor }
    }

    /// Keeps what was read with a ticket, unless the feed has shown something later since, or may have.
    pub(super) fn put(&mut self, id: Uuid, kept: Arc<Kept>, ticket: &Ticket, now: Instant) -> bool {
        let current = match self.latest.peek(&id) {
            Some(latest) => kept.version >= latest.version,
            None => self.floor == ticket.floor,
        };
        let weight = kept.weight();
        if !current || self.gaps != ticket.gaps || self.seen.is_none() || weight > self.room / 4 {
            return false;
        }
        self.remove(id);
        self.bytes += weight;
        if let Some((_, (pushed_out, _))) = self.kept.push(id, (kept, now)) {
            self.bytes -= pushed_out.weight();
        }
        while self.bytes > self.room {
            let Some((_, (oldest, _))) = self.kept.pop_lru() else { break };
            self.bytes -= oldest.weight();
        }
        true
    }

    /// A message of the feed.
    pub(super) fn committed(&mut self, batch: &CommittedBatch, now: Instant) {
        let end = (batch.first_offset + batch.events.len() as u64).saturating_sub(1);
        match self.seen {
            // A message that was overtaken says nothing of now.
            Some(seen) if end < seen => return,
            Some(seen) if batch.first_offset <= seen + 1 => {}
            _ => self.gap(batch.first_offset.saturating_sub(1)),
        }
        self.seen = Some(end);
        self.heard = now;
        for event in &batch.events {
            let (version, offset) = (event.version, event.position.offset);
            if self.kept.peek(&event.stream).is_some_and(|(kept, _)| kept.version < version) {
                self.remove(event.stream);
            }
            let known = self.latest.push(event.stream, Latest { version, offset });
            if let Some((stream, forgotten)) = known
                && stream != event.stream
            {
                self.floor = self.floor.max(forgotten.offset);
            }
        }
    }

    /// Messages may have been lost, nobody knows which.
    pub(super) fn lagged(&mut self) {
        self.gap(self.floor);
        self.seen = None;
    }

    /// Nothing is known of what was committed up to an offset.
    fn gap(&mut self, until: u64) {
        self.gaps += 1;
        self.floor = self.floor.max(until);
        self.latest.clear();
        self.kept.clear();
        self.bytes = 0;
    }

    fn remove(&mut self, id: Uuid) {
        if let Some((kept, _)) = self.kept.pop(&id) {
            self.bytes -= kept.weight();
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
