//! Rendered executions, by partition.

use bus::CommittedBatch;
use bytes::Bytes;
use domain::ids::{Partition, TenantId};
use std::sync::Arc;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use uuid::Uuid;

use super::counters::Counted;
use super::shelf::Shelf;

/// What an entry weighs beside its text.
const OVERHEAD: usize = 256;

/// An execution as it was last answered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Whose it is.
    pub(crate) tenant: TenantId,
    /// The version of its last event.
    pub(crate) version: u64,
    /// The body of the answer.
    pub(crate) body: Bytes,
}

/// What a look finds.
#[derive(Debug)]
pub(crate) enum Found {
    /// The answer.
    Kept(Arc<Kept>),
    /// Nothing; what is read now may be put.
    Nothing(Ticket),
    /// The feed cannot be trusted at the moment: nothing is found, and nothing may be put.
    Unknown,
}

/// What the feed had shown when a read began.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub(super) gaps: u64,
    /// What is put must come from a read model that had reached this offset of its partition before it was asked.
    pub(crate) floor: u64,
}

impl Kept {
    pub(super) fn weight(&self) -> usize {
        self.body.len() + OVERHEAD
    }
}

/// Rendered executions of all tenants, bounded in bytes.
pub(crate) struct ExecutionCache {
    /// By partition, each with its share of the room.
    shelves: Vec<Mutex<Shelf>>,
    /// How often it was of use.
    pub(crate) counted: Counted,
}

impl ExecutionCache {
    /// With room for so many bytes; without room nothing is kept.
    pub(crate) fn new(bytes: usize, partitions: u16) -> Self {
        let share = bytes / usize::from(partitions.max(1));
        let shelves = (0..partitions).map(|_| Mutex::new(Shelf::new(share))).collect();
        Self { shelves, counted: Counted::default() }
    }

    /// The last answer for an execution of a tenant, if it is known to be current for a reader who needs to see its
    /// partition up to an offset.
    pub(crate) fn look(&self, partition: Partition, tenant: &TenantId, id: Uuid, needed: u64) -> Found {
        let Some(mut shelf) = self.shelf(partition) else { return Found::Unknown };
        let now = Instant::now();
        if !shelf.is_trusted(needed, now) {
            return Found::Unknown;
        }
        match shelf.find(id, now) {
            Some(kept) if kept.tenant == *tenant => Found::Kept(kept),
            Some(_) => Found::Unknown,
            None => Found::Nothing(shelf.ticket()),
        }
    }

    /// Keeps an answer that was read after its ticket was given. Whether it was kept.
    pub(crate) fn put(&self, partition: Partition, id: Uuid, kept: Kept, ticket: &Ticket) -> bool {
        let shelf = self.shelf(partition);
        shelf.is_some_and(|mut shelf| shelf.put(id, Arc::new(kept), ticket, Instant::now()))
    }

    /// Hears a message of the feed.
    pub(crate) fn committed(&self, batch: &CommittedBatch) {
        if let Some(mut shelf) = self.shelf(batch.partition) {
            shelf.committed(batch, Instant::now());
        }
    }

    /// Hears that messages may be missing.
    pub(crate) fn lagged(&self) {
        self.shelves.iter().for_each(|shelf| lock(shelf).lagged());
    }

    /// How many bytes are kept.
    pub(crate) fn bytes(&self) -> usize {
        self.shelves.iter().map(|shelf| lock(shelf).bytes()).sum()
    }

    fn shelf(&self, partition: Partition) -> Option<MutexGuard<'_, Shelf>> {
        self.shelves.get(usize::from(partition.0)).map(lock)
    }
}

fn lock(shelf: &Mutex<Shelf>) -> MutexGuard<'_, Shelf> {
    // A panic in between may leave an entry too few; the bytes counted for it are room that is not used.
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}
