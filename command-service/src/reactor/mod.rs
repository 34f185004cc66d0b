//! The reactor: what follows from committed events for other streams, as commands to their owners, at least once and
//! with one effect.
//!
//! ```text
//!   aftermath ──offer (bounded, may drop)──► lane ──► backlog, by target ──► Commands (local, or over the bus)
//!   log ───────pages, wherever there is a gap─┘          └── what is done ──► Checkpoints
//! ```
//!
//! What follows is `domain::reactor`'s; this carries it out. One lane for each partition that this process owns, all in
//! one task. The log and the checkpoint are the truth; what the aftermath offers only saves reading, and a wake-up
//! that is lost costs a second. Invariants:
//! - A checkpoint stands before the first event of which something is not done. Whoever takes a partition over goes on
//!   from it and repeats what was done since; the same command ids have no second effect.
//! - Commands to one target go one after another, in the order of their causes; different targets at the same time.
//! - A command is sent again until it is answered. What a *refusal* leads to is part of the event's reaction: the
//!   checkpoint does not pass the event before. A refused command is not tried again once its refusal was dealt with,
//!   not even by the next owner, who asks the log first.
//! - The committer never waits. What is read ahead of the checkpoint is bounded; a target that does not answer holds
//!   up its own commands, and the lane when the bound is reached.
//! - An event that this process cannot read stops its lane, loudly, rather than being passed over: an owner of a newer
//!   version goes on.
//!
//! Deliberately absent: rules, and an order between partitions.

mod backlog;
mod checkpoint;
mod lane;
mod rights;
mod sending;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use domain::event::RecordedEvent;
use domain::ids::Partition;
use domain::reactor::reacts_to;
use event_store::{Checkpoints, Log};

use crate::owned::Owned;
use crate::service::ReactorPorts;

use lane::Lane;
use rights::ChildRights;
use sending::Sender;

/// The reactor's name among the readers of the log.
const READER: &str = "reactor";
/// Batches that may wait for a lane.
const OFFERS: usize = 256;
/// Bytes that may wait for all lanes; what is beyond is read from the log later.
const OFFERED_BYTES: usize = 4 * 1024 * 1024;
/// Commands that are sent at the same time.
const SENDING: usize = 64;
/// What an event costs in memory beside its data, about.
const OVERHEAD: usize = 512;

/// By partition number.
type Doors = Arc<RwLock<BTreeMap<u16, mpsc::Sender<Offer>>>>;

/// Where the aftermath of commits offers events.
#[derive(Clone)]
pub(crate) struct ReactorInput {
    doors: Doors,
    bytes: Arc<AtomicUsize>,
}

/// Committed events of a partition, of which only those that may concern others are carried along.
struct Offer {
    first: u64,
    last: u64,
    events: Vec<Arc<RecordedEvent>>,
    _weight: Weight,
}

/// Counts bytes while it lives.
struct Weight {
    total: Arc<AtomicUsize>,
    bytes: usize,
}

impl Weight {
    /// None: there is no room.
    fn of(bytes: usize, total: &Arc<AtomicUsize>) -> Option<Self> {
        if bytes > 0 && total.fetch_add(bytes, Ordering::Relaxed) + bytes > OFFERED_BYTES {
            total.fetch_sub(bytes, Ordering::Relaxed);
            return None;
        }
        Some(Self { total: total.clone(), bytes })
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// What an event takes up.
fn size(event: &RecordedEvent) -> usize {
    event.data.len() + OVERHEAD
}

impl ReactorInput {
    /// Offers committed events of one partition. Never waits: what there is no room for is read from the log.
    pub(crate) fn offer(&self, events: &[Arc<RecordedEvent>]) {
        let (Some(first), Some(last)) = (events.first(), events.last()) else { return };
        let doors = self.doors.read().unwrap_or_else(PoisonError::into_inner);
        let Some(door) = doors.get(&first.position.partition.0) else { return };
        let (first, last) = (first.position.offset, last.position.offset);
        let events: Vec<_> = events.iter().filter(|event| reacts_to(&event.event_type)).cloned().collect();
        let bytes = events.iter().map(|event| size(event)).sum();
        let Some(weight) = Weight::of(bytes, &self.bytes) else { return };
        // A lane without room, or gone, reads the log.
        let _ = door.try_send(Offer { first, last, events, _weight: weight });
    }
}

/// Tells the reactor which partitions to follow.
#[derive(Clone)]
pub(crate) struct ReactorControl(mpsc::UnboundedSender<Control>);

enum Control {
    Adopt { partition: Partition, epoch: u64 },
    Drop { partition: Partition, done: oneshot::Sender<()> },
}

impl ReactorControl {
    pub(crate) fn adopt(&self, partition: Partition, epoch: u64) {
        // A reactor that is gone is gone with the whole service.
        let _ = self.0.send(Control::Adopt { partition, epoch });
    }

    /// Has the reactor stop with a partition and store how far it is.
    pub(crate) async fn drop_partition(&self, partition: Partition) {
        let (done, dropped) = oneshot::channel();
        if self.0.send(Control::Drop { partition, done }).is_ok() {
            // Gone without a word: with the whole service.
            let _ = dropped.await;
        }
    }
}

/// The task that has the lanes.
pub(crate) struct Reactor {
    sender: Arc<Sender>,
    owned: Arc<Owned>,
    checkpoints: Arc<dyn Checkpoints>,
    control: mpsc::UnboundedReceiver<Control>,
    doors: Doors,
    /// By partition number.
    running: HashMap<u16, Running>,
    lanes: FuturesUnordered<BoxFuture<'static, ()>>,
}

/// A lane that runs.
struct Running {
    stop: CancellationToken,
    /// Dropped when it has ended.
    ended: oneshot::Receiver<()>,
}

impl Reactor {
    pub(crate) fn new(
        log: Arc<dyn Log>,
        ports: ReactorPorts,
        owned: Arc<Owned>,
    ) -> (Self, ReactorInput, ReactorControl) {
        let (control_sender, control) = mpsc::unbounded_channel();
        let (doors, bytes) = (Doors::default(), Arc::new(AtomicUsize::new(0)));
        let ReactorPorts { commands, checkpoints } = ports;
        let rights = ChildRights::new(log.clone());
        let sender = Arc::new(Sender { log, commands, permits: Semaphore::new(SENDING), rights });
        let (running, lanes) = (HashMap::new(), FuturesUnordered::new());
        let reactor = Self { sender, owned, checkpoints, control, doors: doors.clone(), running, lanes };
        (reactor, ReactorInput { doors, bytes }, ReactorControl(control_sender))
    }

    /// Keeps a lane for every partition until it is told to stop.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            tokio::select! {
                control = self.control.recv() => match control {
                    Some(control) => self.control(control),
                    None => return,
                },
                Some(()) = self.lanes.next(), if !self.lanes.is_empty() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Adopt { partition, epoch } => {
                // One of an earlier tenure may still store how far it is; it never moves a checkpoint that has moved.
                drop(self.end(partition));
                let (door, offers) = mpsc::channel(OFFERS);
                self.doors.write().unwrap_or_else(PoisonError::into_inner).insert(partition.0, door);
                let port = self.checkpoints.clone();
                let lane = Lane::new(partition, epoch, offers, self.sender.clone(), self.owned.clone(), port);
                let (stop, (end, ended)) = (CancellationToken::new(), oneshot::channel());
                self.running.insert(partition.0, Running { stop: stop.clone(), ended });
                let running = async move {
                    lane.run(stop).await;
                    drop::<oneshot::Sender<()>>(end);
                };
                self.lanes.push(running.boxed());
            }
            Control::Drop { partition, done } => {
                let Some(running) = self.end(partition) else { return };
                let ending = async move {
                    // An error is how a dropped sender tells.
                    let _ = running.ended.await;
                    drop(done);
                };
                self.lanes.push(ending.boxed());
            }
        }
    }

    /// Has a lane end.
    fn end(&mut self, partition: Partition) -> Option<Running> {
        self.doors.write().unwrap_or_else(PoisonError::into_inner).remove(&partition.0);
        let running = self.running.remove(&partition.0)?;
        running.stop.cancel();
        Some(running)
    }
}
