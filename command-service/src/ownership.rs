//! Sharing partitions with other processes: beats, takeovers, giving up, draining.
//!
//! ```text
//!   beats ──Seen──► Manager ──► take over, move in, open the door
//!                      ▲   └──► close the door, move out, release
//!                      └── Lost (fenced), from the committer
//! ```
//!
//! Every beat brings back who lives and who owns what, by the database's clock. A partition that `assignment` gives to
//! this node is taken over if nobody alive holds it, or if its holder has not given it up for ten seconds; one that it
//! gives to another is given up. A partition on which this process was fenced is dropped at once, and is looked at
//! again with what the next beat says. While no beat is heard for a whole lease, the doors are closed. Nothing here blocks: what takes time runs as futures, one per partition.
//! Invariant: none of this is the safety. Any number of processes may believe what they like; the store's epochs
//! decide.

mod beats;
mod doors;

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use bus::CommandHandler;
use domain::ids::Partition;
use event_store::ownership::{Membership, NodeBeat, PartitionOwner};
use event_store::{Ownership, StoreError};

use crate::assignment::assigned;
use crate::committer::Lost;
use crate::error::{CommandServiceError, report};
use crate::service::ClusterPorts;
use crate::tenancy::{Household, Takeover, Tenancy};

use beats::{Beats, Seen};
use doors::Doors;

/// After this long a partition is taken from a live holder who ought to have given it up.
const OVERDUE: Duration = Duration::from_secs(10);
/// How long the store may take to note that a partition or a node is given up.
const RELEASE_LIMIT: Duration = Duration::from_secs(2);

/// What this process has of a partition.
enum Place {
    /// Nothing, since this time.
    Free(Instant),
    /// It is taking it over, or finishing with it.
    Busy,
    Held(Held),
}

struct Held {
    tenancy: Tenancy,
    /// When the takeover was known here: what was seen before says nothing of it.
    since: Instant,
    door: Door,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Door {
    Shut,
    Opening,
    Open,
    Closing,
}

/// Something that took time has come to its end.
enum Done {
    Taken(Partition, Result<Takeover, StoreError>),
    Opened { partition: Partition, epoch: u64, open: bool },
    Closed { partition: Partition, epoch: u64 },
    Gone(Partition),
    Released,
}

/// Decides what to take over and what to give up.
pub(crate) struct Manager {
    node: Uuid,
    household: Household,
    ownership: Arc<dyn Ownership>,
    doors: Arc<Doors>,
    lost: mpsc::UnboundedReceiver<Lost>,
    places: Vec<Place>,
    /// Partitions that another holds though they are ours: under which epoch, and since when that is known.
    overdue: HashMap<Partition, (u64, Instant)>,
    work: FuturesUnordered<BoxFuture<'static, Done>>,
    tasks: JoinSet<()>,
    /// When the lease runs out that the open doors rest on.
    lapses_at: Option<Instant>,
    draining: bool,
}

/// Owns what it ought to until the shutdown, then gives everything up.
pub(crate) async fn share(
    household: Household,
    ports: ClusterPorts,
    handler: Arc<dyn CommandHandler>,
    lost: mpsc::UnboundedReceiver<Lost>,
    shutdown: CancellationToken,
) -> Result<(), CommandServiceError> {
    let node = Uuid::new_v4();
    let ClusterPorts { name, ownership, doors } = ports;
    let (seen_sender, seen) = watch::channel(None);
    let config = &household.config;
    let beats = Beats {
        ownership: ownership.clone(),
        beat: NodeBeat { node, name, draining: false, lease: config.lease() },
        every: config.beat_every(),
        owned: household.owned.clone(),
        draining: shutdown.clone(),
        seen: seen_sender,
    };
    let doors = Doors::new(doors, handler, household.owned.clone(), household.log.partitions());
    let now = Instant::now();
    let manager = Manager {
        node,
        places: (0..household.log.partitions()).map(|_| Place::Free(now)).collect(),
        household,
        ownership: ownership.clone(),
        doors: Arc::new(doors),
        lost,
        overdue: HashMap::new(),
        work: FuturesUnordered::new(),
        tasks: JoinSet::new(),
        lapses_at: None,
        draining: false,
    };
    let silence = CancellationToken::new();
    let managing = async {
        let ended = manager.run(seen, shutdown).await;
        silence.cancel();
        ended
    };
    let (ended, ()) = tokio::join!(managing, beats.run(silence.clone()));
    ended?;
    // After the last beat: it would bring the node back.
    match tokio::time::timeout(RELEASE_LIMIT, ownership.leave(node)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(error = %report(&error), "the database was not told that this node ends; its lease runs out");
        }
        Err(_) => tracing::warn!("the database was not told in time that this node ends; its lease runs out"),
    }
    Ok(())
}

impl Manager {
    async fn run(
        mut self,
        mut seen: watch::Receiver<Option<Arc<Seen>>>,
        shutdown: CancellationToken,
    ) -> Result<(), CommandServiceError> {
        loop {
            if self.draining && self.work.is_empty() {
                // What is still being looked for is another's.
                self.tasks.shutdown().await;
                return Ok(());
            }
            tokio::select! {
                Ok(()) = seen.changed() => {
                    let latest = seen.borrow_and_update().clone();
                    if let Some(latest) = latest {
                        self.judge(&latest);
                    }
                }
                Some(lost) = self.lost.recv() => self.fenced(lost),
                Some(done) = self.work.next(), if !self.work.is_empty() => self.done(done),
                Some(ended) = self.tasks.join_next() => {
                    ended.map_err(|error| CommandServiceError::Task(error.to_string()))?;
                }
                () = tokio::time::sleep_until(self.lapses_at.unwrap_or_else(Instant::now)),
                    if self.lapses_at.is_some() && !self.draining => self.lapsed(),
                () = shutdown.cancelled(), if !self.draining => {
                    self.draining = true;
                    for number in 0..self.places.len() {
                        self.give_up(Partition(number as u16));
                    }
                }
            }
        }
    }

    /// Acts on who lives and who owns what.
    fn judge(&mut self, seen: &Seen) {
        let nodes: Vec<Uuid> = seen
            .membership
            .nodes
            .iter()
            .filter(|node| !node.draining)
            .map(|node| node.node)
            // What the database has of ourselves may be older than our own decision.
            .filter(|node| *node != self.node || !self.draining)
            .collect();
        for owner in &seen.membership.owners {
            let ours = assigned(owner.partition, &nodes) == Some(self.node);
            let given = nodes.iter().any(|node| *node != self.node);
            match self.places.get(usize::from(owner.partition.0)) {
                Some(Place::Held(held)) if held.since < seen.asked_at && owner.epoch > held.tenancy.epoch => {
                    let (partition, epoch) = (owner.partition, held.tenancy.epoch);
                    self.fenced(Lost { partition, epoch, current: owner.epoch });
                }
                Some(Place::Held(_)) if !ours && given => self.give_up(owner.partition),
                Some(Place::Held(held)) if held.door == Door::Shut => self.open_door(owner.partition),
                Some(Place::Free(since)) if *since < seen.asked_at && !self.draining => {
                    self.consider(*owner, ours, &seen.membership);
                }
                Some(Place::Held(_) | Place::Free(_) | Place::Busy) | None => {}
            }
        }
        // Only now: what another has taken is not held any more.
        let until = seen.asked_at + self.household.config.lease();
        self.household.owned.renewed(until);
        self.lapses_at = Some(until);
    }

    /// The database has not been heard for as long as others wait for us. Should only this process be cut off, its
    /// commands are for those who take over; the doors open again with the next beat that finds the partitions ours.
    fn lapsed(&mut self) {
        self.lapses_at = None;
        tracing::warn!(
            "the lease has run out without a sign from the database; no commands are taken over the bus until it is back"
        );
        for number in 0..self.places.len() {
            self.close_door(Partition(number as u16));
        }
    }

    /// A partition that this process has nothing of.
    fn consider(&mut self, owner: PartitionOwner, ours: bool, membership: &Membership) {
        let partition = owner.partition;
        let holder = owner.node.filter(|holder| membership.nodes.iter().any(|node| node.node == *holder));
        let overdue = match holder {
            None => true,
            // A takeover of ours whose outcome was not heard.
            Some(holder) if holder == self.node => {
                if !ours {
                    self.release(partition, owner.epoch);
                }
                true
            }
            Some(_) => {
                let now = Instant::now();
                let known = self.overdue.entry(partition).or_insert((owner.epoch, now));
                if known.0 != owner.epoch {
                    *known = (owner.epoch, now);
                }
                now.duration_since(known.1) >= OVERDUE
            }
        };
        if !ours || overdue {
            self.overdue.remove(&partition);
        }
        if ours && overdue {
            self.take_over(partition);
        }
    }

    fn take_over(&mut self, partition: Partition) {
        self.places[usize::from(partition.0)] = Place::Busy;
        let (household, node) = (self.household.clone(), self.node);
        self.work.push(Box::pin(async move {
            Done::Taken(partition, household.take_over(partition, node).await)
        }));
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Taken(partition, Err(error)) => {
                tracing::warn!(partition = %partition, error = %report(&error), "a partition could not be taken over; trying again");
                self.places[usize::from(partition.0)] = Place::Free(Instant::now());
            }
            Done::Taken(partition, Ok(takeover)) if self.draining => {
                self.places[usize::from(partition.0)] = Place::Free(Instant::now());
                self.release(partition, takeover.head.epoch);
            }
            Done::Taken(partition, Ok(takeover)) => {
                let inbox = Household::inbox(&self.household.config);
                let tenancy = self.household.move_in(takeover, inbox, &mut self.tasks);
                tracing::info!(partition = %partition, epoch = takeover.head.epoch, "took a partition over");
                let held = Held { tenancy, since: Instant::now(), door: Door::Shut };
                self.places[usize::from(partition.0)] = Place::Held(held);
                self.open_door(partition);
            }
            Done::Opened { partition, epoch, open } => {
                if let Place::Held(held) = &mut self.places[usize::from(partition.0)]
                    && held.tenancy.epoch == epoch
                {
                    held.door = if open { Door::Open } else { Door::Shut };
                    if !self.household.owned.leased() {
                        // It has lapsed meanwhile.
                        self.close_door(partition);
                    }
                }
            }
            Done::Closed { partition, epoch } => {
                if let Place::Held(held) = &mut self.places[usize::from(partition.0)]
                    && held.tenancy.epoch == epoch
                {
                    held.door = Door::Shut;
                }
            }
            Done::Gone(partition) => self.places[usize::from(partition.0)] = Place::Free(Instant::now()),
            Done::Released => {}
        }
    }

    fn open_door(&mut self, partition: Partition) {
        let Some(Place::Held(held)) = self.places.get_mut(usize::from(partition.0)) else { return };
        held.door = Door::Opening;
        let epoch = held.tenancy.epoch;
        let doors = self.doors.clone();
        self.work.push(Box::pin(async move {
            Done::Opened { partition, epoch, open: doors.open(partition, epoch).await }
        }));
    }

    /// Closes an open door of a partition that is kept: what comes in by other ways is still decided.
    fn close_door(&mut self, partition: Partition) {
        let Some(Place::Held(held)) = self.places.get_mut(usize::from(partition.0)) else { return };
        if held.door != Door::Open {
            return;
        }
        held.door = Door::Closing;
        let epoch = held.tenancy.epoch;
        let doors = self.doors.clone();
        self.work.push(Box::pin(async move {
            doors.close(partition).await;
            Done::Closed { partition, epoch }
        }));
    }

    /// Gives a partition up in order: what was accepted is finished first.
    fn give_up(&mut self, partition: Partition) {
        let place = &mut self.places[usize::from(partition.0)];
        if !matches!(place, Place::Held(_)) {
            return;
        }
        let Place::Held(held) = std::mem::replace(place, Place::Busy) else { return };
        let epoch = held.tenancy.epoch;
        self.household.owned.close(partition);
        let (household, doors) = (self.household.clone(), self.doors.clone());
        let ownership = self.ownership.clone();
        self.work.push(Box::pin(async move {
            doors.close(partition).await;
            household.move_out(held.tenancy).await;
            release(&*ownership, partition, epoch).await;
            tracing::info!(partition = %partition, epoch, "gave a partition up");
            Done::Gone(partition)
        }));
    }

    /// Another has taken a partition over: everything that was folded of it is worth nothing.
    fn fenced(&mut self, lost: Lost) {
        let Lost { partition, epoch, current } = lost;
        let Some(place) = self.places.get_mut(usize::from(partition.0)) else { return };
        match place {
            Place::Held(held) if held.tenancy.epoch == epoch => {}
            // It is being given up, or was taken over anew.
            Place::Held(_) | Place::Busy | Place::Free(_) => return,
        }
        let Place::Held(held) = std::mem::replace(place, Place::Busy) else { return };
        tracing::warn!(partition = %partition, epoch, current, "another process has taken a partition over; this one drops it");
        // At once: commands that are still accepted could only be turned away later.
        self.household.owned.close(partition);
        let (household, doors) = (self.household.clone(), self.doors.clone());
        self.work.push(Box::pin(async move {
            let ((), ()) = tokio::join!(doors.close(partition), household.move_out(held.tenancy));
            Done::Gone(partition)
        }));
    }

    fn release(&mut self, partition: Partition, epoch: u64) {
        let ownership = self.ownership.clone();
        self.work.push(Box::pin(async move {
            release(&*ownership, partition, epoch).await;
            Done::Released
        }));
    }
}

async fn release(ownership: &dyn Ownership, partition: Partition, epoch: u64) {
    let released = tokio::time::timeout(RELEASE_LIMIT, ownership.release(partition, epoch)).await;
    match released {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(partition = %partition, error = %report(&error), "a partition could not be released; another takes it all the same");
        }
        Err(_) => {
            tracing::warn!(partition = %partition, "a partition could not be released in time; another takes it all the same");
        }
    }
}
