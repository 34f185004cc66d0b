//! Taking a partition on and giving it up: who is told what, and in which order.
//!
//! Taking on: the takeover fences the owner before; then caches are forgotten, the committer, the timers, the
//! dispatcher, the relay, the reactor and the event waits learn of the partition, and its door opens. What was in flight is looked for beside that.
//! Giving up: the door closes, what was accepted is finished and answered, then all of them forget the partition.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use uuid::Uuid;

use domain::ids::Partition;
use domain::time::{Clock, Timestamp};
use event_store::{Log, LogReader, PartitionHead, StoreError};

use crate::config::CommandServiceConfig;
use crate::dispatcher::Dispatcher;
use crate::error::report;
use crate::event_waits::EventWaits;
use crate::fact_source::FactSource;
use crate::owned::Owned;
use crate::partition::{Memory, PartitionTask};
use crate::pending::{Submitted, Work};
use crate::reactor::ReactorControl;
use crate::recovery::recover;
use crate::relay::RelayControl;
use crate::timers::Timers;

/// Partitions that are recovered at the same time.
pub(crate) const RECOVERIES: usize = 2;
/// First pause before what was in flight is looked for again; doubled each time.
const RECOVERY_PAUSE: Duration = Duration::from_millis(200);
/// The longest such pause.
const LONGEST_RECOVERY_PAUSE: Duration = Duration::from_secs(10);
/// How long the relay, or the reactor, may take to store how far it is; what it has not stored is done again.
const RELAY_LIMIT: Duration = Duration::from_secs(2);

/// A partition's commands on their way in.
pub(crate) type Inbox = (mpsc::Sender<Submitted>, mpsc::Receiver<Submitted>);

/// Everybody who is told. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Household {
    pub(crate) config: CommandServiceConfig,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) owned: Arc<Owned>,
    pub(crate) facts: Arc<FactSource>,
    pub(crate) timers: Arc<Timers>,
    pub(crate) dispatcher: Arc<Dispatcher>,
    pub(crate) committer: mpsc::Sender<Work>,
    pub(crate) deciding: Arc<AtomicUsize>,
    pub(crate) relay: Option<RelayControl>,
    pub(crate) reactor: Option<ReactorControl>,
    pub(crate) event_waits: Arc<EventWaits>,
    /// Partitions whose attempts in flight are looked for at the same time: commands come first.
    pub(crate) recoveries: Arc<Semaphore>,
    /// How long workers that may hold a task are listened for before it is handed out again.
    pub(crate) listen: Duration,
}

/// A takeover that the store has recorded.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Takeover {
    pub(crate) head: PartitionHead,
    /// When the last event was recorded: time does not go back behind it.
    last_recorded_at: Timestamp,
}

/// A partition that is owned, for whoever gives it up.
#[derive(Debug)]
pub(crate) struct Tenancy {
    pub(crate) partition: Partition,
    pub(crate) epoch: u64,
    /// Dropped when its task has ended.
    ended: oneshot::Receiver<()>,
}

impl Household {
    /// Takes a partition over from whoever had it.
    pub(crate) async fn take_over(&self, partition: Partition, node: Uuid) -> Result<Takeover, StoreError> {
        let head = self.log.take_over(partition, node).await?;
        let last_recorded_at = last_recorded_at(&*self.log, partition, head.offset).await?;
        Ok(Takeover { head, last_recorded_at })
    }

    /// An empty inbox.
    pub(crate) fn inbox(config: &CommandServiceConfig) -> Inbox {
        mpsc::channel(config.queue_capacity.max(1))
    }

    /// Begins to decide a partition's commands. Its task and its recovery run among `tasks`.
    pub(crate) fn move_in(
        &self,
        takeover: Takeover,
        (door, commands): Inbox,
        tasks: &mut JoinSet<()>,
    ) -> Tenancy {
        let head = takeover.head;
        let (partition, epoch) = (head.partition, head.epoch);
        // After the takeover, before anybody may trust what is cached: nobody else can write from now on.
        self.facts.forget_all();
        self.timers.adopt(partition, epoch);
        self.owned.hold(head);
        self.dispatcher.adopt(partition, epoch, self.listen);
        if let Some(relay) = &self.relay {
            relay.adopt(partition, epoch);
        }
        if let Some(reactor) = &self.reactor {
            reactor.adopt(partition, epoch);
        }
        self.event_waits.adopt(partition);
        let (notices_sender, notices) = mpsc::unbounded_channel();
        let task = PartitionTask {
            partition,
            epoch,
            log: self.log.clone(),
            facts: self.facts.clone(),
            clock: self.clock.clone(),
            commands,
            notices,
            committer: self.committer.clone(),
            deciding: self.deciding.clone(),
            memory: Memory::new(self.config.cached_streams, takeover.last_recorded_at),
        };
        let (end, ended) = oneshot::channel();
        tasks.spawn(async move {
            // Before the task's appends, in the same queue.
            let adopt = Work::Adopt { head, notices: notices_sender };
            if task.committer.send(adopt).await.is_ok() {
                task.run().await;
            }
            drop::<oneshot::Sender<()>>(end);
        });
        self.owned.open(partition, door);
        let household = self.clone();
        tasks.spawn(async move { household.pick_up(partition, epoch).await });
        Tenancy { partition, epoch, ended }
    }

    /// Goes on with what was in flight under the owner before. A stream that cannot be read is left, loudly.
    async fn pick_up(&self, partition: Partition, epoch: u64) {
        let mut pause = RECOVERY_PAUSE;
        while self.owned.epoch(partition) == Some(epoch) {
            // Never closed.
            let turn = self.recoveries.acquire().await;
            // What was resolved before this is not read as in flight.
            self.dispatcher.adopt(partition, epoch, self.listen);
            let recovered = recover(&self.log, &self.timers, &self.dispatcher, partition, epoch).await;
            drop(turn);
            match recovered {
                Ok(found) => {
                    if found > 0 {
                        tracing::info!(partition = %partition, tasks = found, "goes on with tasks that were in flight");
                    }
                    return self.dispatcher.recovered_all(partition, epoch);
                }
                Err(error) => {
                    tracing::error!(partition = %partition, error = %report(&error), "what was in flight could not be picked up; trying again");
                }
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_RECOVERY_PAUSE);
        }
    }

    /// Behind a closed door: finishes what was accepted, then has everybody forget the partition. Nothing is left to
    /// do but to tell the store.
    pub(crate) async fn move_out(&self, tenancy: Tenancy) {
        let Tenancy { partition, epoch, ended } = tenancy;
        // An error is how a dropped sender tells.
        let _ = ended.await;
        let (done, dropped) = oneshot::channel();
        if self.committer.send(Work::Drop { partition, epoch, done }).await.is_ok() {
            // The committer may be gone, and with it everything that could be waited for.
            let _ = dropped.await;
        }
        // Before the others drop it: what they are told of it later is not taken in.
        self.owned.forget(partition);
        self.timers.drop_partition(partition);
        self.dispatcher.drop_partition(partition);
        if let Some(relay) = &self.relay
            && tokio::time::timeout(RELAY_LIMIT, relay.drop_partition(partition)).await.is_err()
        {
            tracing::debug!(partition = %partition, "the relay's checkpoint was not stored in time");
        }
        self.event_waits.drop_partition(partition);
        if let Some(reactor) = &self.reactor
            && tokio::time::timeout(RELAY_LIMIT, reactor.drop_partition(partition)).await.is_err()
        {
            tracing::debug!(partition = %partition, "the reactor's checkpoint was not stored in time");
        }
    }
}

async fn last_recorded_at<L: LogReader + ?Sized>(
    log: &L,
    partition: Partition,
    head: u64,
) -> Result<Timestamp, StoreError> {
    if head == 0 {
        return Ok(Timestamp::default());
    }
    let last = log.read_partition(partition, head - 1, 1).await?;
    Ok(last.first().map_or(Timestamp::default(), |event| event.recorded_at))
}
