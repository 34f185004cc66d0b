//! What this process owns now: one small table, read on every command.
//!
//! It says where a partition's commands go, where the partition ends, and whether what is cached of it may be trusted.
//! Invariant: none of it is needed for safety, which is the store's fencing.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use tokio::sync::mpsc;
use tokio::time::Instant;
use uuid::Uuid;

use bus::CommandError;
use domain::ids::Partition;
use event_store::PartitionHead;

use crate::handle::OwnedPartition;
use crate::pending::Submitted;

/// The table.
pub(crate) struct Owned {
    seats: RwLock<Vec<Seat>>,
    lease: RwLock<Lease>,
    in_flight: AtomicUsize,
    beat_succeeded: AtomicBool,
}

/// For how long what is cached may be trusted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lease {
    /// Nobody else can own anything.
    Endless,
    /// Until then nobody else takes anything over, by the local monotonic clock.
    Until(Instant),
    /// Not now.
    Lapsed,
}

#[derive(Default)]
struct Seat {
    /// Where its commands go; `None` while its door is closed.
    inbox: Option<mpsc::Sender<Submitted>>,
    tenure: Option<Tenure>,
}

struct Tenure {
    epoch: u64,
    head: AtomicU64,
    /// Where the relay is, if there is one and it has found out.
    relayed: AtomicU64,
}

/// No position yet.
const NOWHERE: u64 = u64::MAX;

/// Counts a command while it lives.
pub(crate) struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Owned {
    pub(crate) fn new(partitions: u16, lease: Lease) -> Self {
        Self {
            seats: RwLock::new((0..partitions).map(|_| Seat::default()).collect()),
            lease: RwLock::new(lease),
            in_flight: AtomicUsize::new(0),
            beat_succeeded: AtomicBool::new(matches!(lease, Lease::Endless)),
        }
    }

    /// The partition of a stream.
    pub(crate) fn partition_of(&self, stream: Uuid) -> Partition {
        Partition::of(stream, self.seats().len() as u16)
    }

    /// Lets commands of a partition in.
    pub(crate) fn open(&self, partition: Partition, inbox: mpsc::Sender<Submitted>) {
        if let Some(seat) = self.seats_mut().get_mut(usize::from(partition.0)) {
            seat.inbox = Some(inbox);
        }
    }

    /// Lets no more commands of a partition in; its task ends when it has finished those that are.
    pub(crate) fn close(&self, partition: Partition) {
        if let Some(seat) = self.seats_mut().get_mut(usize::from(partition.0)) {
            seat.inbox = None;
        }
    }

    /// Whether commands of a partition are let in, in this tenure.
    pub(crate) fn accepts(&self, partition: Partition, epoch: u64) -> bool {
        let seats = self.seats();
        let seat = seats.get(usize::from(partition.0)).filter(|seat| seat.inbox.is_some());
        seat.and_then(|seat| seat.tenure.as_ref()).is_some_and(|tenure| tenure.epoch == epoch)
    }

    /// A partition was taken over.
    pub(crate) fn hold(&self, head: PartitionHead) {
        if let Some(seat) = self.seats_mut().get_mut(usize::from(head.partition.0)) {
            let (head_offset, relayed) = (AtomicU64::new(head.offset), AtomicU64::new(NOWHERE));
            seat.tenure = Some(Tenure { epoch: head.epoch, head: head_offset, relayed });
        }
    }

    /// A partition is not owned any more.
    pub(crate) fn forget(&self, partition: Partition) {
        if let Some(seat) = self.seats_mut().get_mut(usize::from(partition.0)) {
            *seat = Seat::default();
        }
    }

    /// Hands a command to its partition.
    pub(crate) fn submit(&self, submitted: Submitted) -> Result<(), CommandError> {
        let seats = self.seats();
        let partition = Partition::of(submitted.envelope.stream, seats.len() as u16);
        let Some(inbox) = seats.get(usize::from(partition.0)).and_then(|seat| seat.inbox.as_ref()) else {
            return Err(CommandError::NotOwner);
        };
        match inbox.try_send(submitted) {
            Ok(()) => Ok(()),
            Err(mpsc::error::TrySendError::Full(_)) => Err(CommandError::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(CommandError::NotOwner),
        }
    }

    /// Counts a command until the guard is dropped.
    pub(crate) fn count(&self) -> InFlight<'_> {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(&self.in_flight)
    }

    /// The epoch under which a partition is held.
    pub(crate) fn epoch(&self, partition: Partition) -> Option<u64> {
        self.tenure(partition, |tenure| tenure.epoch)
    }

    /// Where a partition that is held ends.
    pub(crate) fn head(&self, partition: Partition) -> Option<u64> {
        self.tenure(partition, |tenure| tenure.head.load(Ordering::Acquire))
    }

    /// A partition has grown.
    pub(crate) fn grew(&self, head: &PartitionHead) {
        self.tenure(head.partition, |tenure| {
            if tenure.epoch == head.epoch {
                tenure.head.fetch_max(head.offset, Ordering::AcqRel);
            }
        });
    }

    /// The relay is here.
    pub(crate) fn relayed(&self, partition: Partition, epoch: u64, offset: u64) {
        self.tenure(partition, |tenure| {
            if tenure.epoch == epoch {
                tenure.relayed.store(offset, Ordering::Relaxed);
            }
        });
    }

    /// Whether nobody else can have changed streams of a partition since it was taken over. One that takes no commands
    /// is being given up, or was fenced: another may own it already.
    pub(crate) fn trusts(&self, partition: Partition) -> bool {
        let is_kept = |seat: &Seat| seat.inbox.is_some() && seat.tenure.is_some();
        self.leased() && self.seats().get(usize::from(partition.0)).is_some_and(is_kept)
    }

    /// Whether the lease has not run out.
    pub(crate) fn leased(&self) -> bool {
        match *self.lease.read().unwrap_or_else(PoisonError::into_inner) {
            Lease::Endless => true,
            Lease::Until(until) => Instant::now() < until,
            Lease::Lapsed => false,
        }
    }

    /// The lease was renewed.
    pub(crate) fn renewed(&self, until: Instant) {
        *self.lease.write().unwrap_or_else(PoisonError::into_inner) = Lease::Until(until);
    }

    /// Whether the last beat was heard.
    pub(crate) fn beat_succeeded(&self) -> bool {
        self.beat_succeeded.load(Ordering::Relaxed)
    }

    pub(crate) fn note_beat(&self, succeeded: bool) {
        self.beat_succeeded.store(succeeded, Ordering::Relaxed);
    }

    pub(crate) fn commands_in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// What is held, ascending.
    pub(crate) fn list(&self) -> Vec<OwnedPartition> {
        let seats = self.seats();
        let held = seats.iter().enumerate().filter_map(|(number, seat)| {
            let tenure = seat.tenure.as_ref()?;
            let relayed = tenure.relayed.load(Ordering::Relaxed);
            Some(OwnedPartition {
                partition: Partition(number as u16),
                epoch: tenure.epoch,
                head: tenure.head.load(Ordering::Acquire),
                relayed: (relayed != NOWHERE).then_some(relayed),
            })
        });
        held.collect()
    }

    fn tenure<T>(&self, partition: Partition, read: impl FnOnce(&Tenure) -> T) -> Option<T> {
        self.seats().get(usize::from(partition.0)).and_then(|seat| seat.tenure.as_ref()).map(read)
    }

    // Every use is one step on the table; a panic elsewhere cannot leave it half-changed.
    fn seats(&self) -> RwLockReadGuard<'_, Vec<Seat>> {
        self.seats.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn seats_mut(&self) -> RwLockWriteGuard<'_, Vec<Seat>> {
        self.seats.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_is_trusted_only_while_it_takes_commands_under_a_lease() {
        let (owned, partition) = (Owned::new(16, Lease::Lapsed), Partition(3));
        let (door, _commands) = mpsc::channel(1);
        owned.hold(PartitionHead { partition, epoch: 1, offset: 0 });
        owned.open(partition, door);
        assert!(!owned.trusts(partition));
        owned.renewed(Instant::now() + std::time::Duration::from_secs(60));
        assert!(owned.trusts(partition));
        owned.close(partition);
        assert!(!owned.trusts(partition));
    }
}
