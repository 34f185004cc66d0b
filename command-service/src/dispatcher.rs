//! Ready tasks and leases: which attempts are with workers, and who is next.
//!
//! Highest priority first, then tenants in turn, then first come. A bounded window is out at a time. None of it
//! is stored: the streams say which attempts are in flight, and `recovery` fills this again after a takeover. Then
//! workers may hold some of them: those are not handed out before the workers have had time to be heard.
//!
//! The queue may lose tasks. One that was published, that no worker has given a sign of life for, and that the queue
//! does not know for some seconds is published again. Silence counts only while the queue can be heard. No lock is held across a call of the queue.
//!
//! An execution that begins to undo its work has its attempts asked to stop, and waits for them for a while. They are
//! not resolved by that: a result that comes in time counts, and one that stops reports that it was cancelled. What
//! nobody had begun is reported from here.

mod silence;
mod tasks;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use bus::CommandHandler;
use bus::tasks::{Task, TaskQueue, TaskRef};
use domain::ids::Partition;

use crate::config::CommandServiceConfig;
use crate::owned::Owned;

use silence::Word;
use tasks::{History, Lease, Ready, Recovering, Tasks};

pub(crate) use tasks::Standing;

/// How often leases are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A look that comes later than this by so much means that the process stood still.
const LATE: Duration = Duration::from_secs(2);

/// The tasks of all partitions that this process owns.
pub(crate) struct Dispatcher {
    config: CommandServiceConfig,
    queue: Arc<dyn TaskQueue>,
    owned: Arc<Owned>,
    tasks: Mutex<Tasks>,
    /// There are attempts that were asked to stop before anybody had them.
    untouched: Notify,
}

/// Whether the worker that may still hold the task is asked to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// It has just given its result.
    No,
    /// Its result is not wanted any more.
    Yes,
}

impl Dispatcher {
    pub(crate) fn new(config: CommandServiceConfig, queue: Arc<dyn TaskQueue>, owned: Arc<Owned>) -> Self {
        Self { config, queue, owned, tasks: Mutex::default(), untouched: Notify::new() }
    }

    /// Attempts in flight of a partition are being looked for. Workers that may hold one are listened for before it is
    /// handed out again.
    pub(crate) fn adopt(&self, partition: Partition, epoch: u64, listen: Duration) {
        let mut tasks = self.tasks();
        if self.owned.epoch(partition) == Some(epoch) {
            tasks.recovering.insert(partition.0, Recovering::new(epoch, listen));
        }
    }

    /// All attempts that were in flight in a partition have been found.
    pub(crate) fn recovered_all(&self, partition: Partition, epoch: u64) {
        let mut tasks = self.tasks();
        if tasks.recovering.get(&partition.0).is_some_and(|recovering| recovering.epoch == epoch) {
            tasks.recovering.remove(&partition.0);
        }
    }

    /// A partition is not owned any more: its tasks are another's. Workers go on with them.
    pub(crate) fn drop_partition(&self, partition: Partition) {
        let mut tasks = self.tasks();
        tasks.recovering.remove(&partition.0);
        tasks.retain(|task| self.owned.partition_of(task.execution) != partition);
    }

    /// Takes in an attempt that is ready. One that is known already is left as it is.
    pub(crate) fn ready(&self, task: Task, priority: u8) {
        let mut tasks = self.tasks();
        match tasks.out.get(&task.task) {
            // Taken for one that had been asked to stop, by a recovery that knew less.
            Some(lease) if lease.stopping => {
                tasks.remove(&task.task);
            }
            Some(_) => return,
            None => {}
        }
        // Found by a recovery before we were told: nobody can have it yet.
        tasks.stop_listening_for(&task.task);
        tasks.wait(task, priority, History::None);
    }

    /// Takes in an attempt that was in flight according to the log, as read in a tenure.
    pub(crate) fn recovered(&self, task: Task, priority: u8, standing: Standing, epoch: u64) {
        let execution = task.task.execution;
        let partition = self.owned.partition_of(execution);
        let mut tasks = self.tasks();
        if self.owned.epoch(partition) != Some(epoch) {
            return;
        }
        let (listen, stopped) = match tasks.recovering.get(&partition.0) {
            Some(recovering)
                if recovering.resolved.contains(&task.task) || recovering.ended.contains(&execution) =>
            {
                return;
            }
            Some(recovering) => (recovering.listen, recovering.stopped.contains(&execution)),
            None => (Duration::ZERO, false),
        };
        if tasks.knows(&task.task) {
            return;
        }
        let stopping = match standing {
            Standing::Wanted => stopped,
            Standing::Stopping => true,
            Standing::Compensates => false,
        };
        if stopping {
            let asked = task.task.clone();
            tasks.hold_stopping(task);
            drop(tasks);
            // The owner before may not have come to it.
            self.queue.cancel(asked);
        } else if listen.is_zero() {
            tasks.wait(task, priority, History::Begun);
        } else {
            tasks.listen(task, priority, Instant::now() + listen);
        }
    }

    /// Forgets an attempt that has its outcome.
    pub(crate) fn resolved(&self, task: &TaskRef, stop: Stop) {
        let mut tasks = self.tasks();
        let recovering = match tasks.recovering.get_mut(&self.owned.partition_of(task.execution).0) {
            Some(recovering) => recovering.resolved.insert(task.clone()),
            None => false,
        };
        let (found, lease) = tasks.remove(task);
        drop(tasks);
        // One that was handed out twice may still wait in the queue, though its result is here.
        let cancel = match lease {
            Some(lease) => stop == Stop::Yes || lease.copies,
            None => stop == Stop::Yes && (found || recovering),
        };
        if cancel {
            self.queue.cancel(task.clone());
        }
    }

    /// An execution undoes its work: its attempts are asked to stop, and what they bring still counts.
    pub(crate) fn stop(&self, execution: Uuid) {
        let mut tasks = self.tasks();
        if let Some(recovering) = tasks.recovering.get_mut(&self.owned.partition_of(execution).0) {
            recovering.stopped.insert(execution);
        }
        let asked = tasks.stop(execution);
        let untouched = !tasks.untouched.is_empty();
        drop(tasks);
        asked.into_iter().for_each(|task| self.queue.cancel(task));
        if untouched {
            self.untouched.notify_one();
        }
    }

    /// An execution has ended: nothing that its attempts bring is wanted any more.
    pub(crate) fn end(&self, execution: Uuid) {
        let left = {
            let mut tasks = self.tasks();
            if let Some(recovering) = tasks.recovering.get_mut(&self.owned.partition_of(execution).0) {
                recovering.ended.insert(execution);
            }
            tasks.of_execution(execution)
        };
        for task in left {
            self.resolved(&task, Stop::Yes);
        }
    }

    /// Hands out tasks while the window has room.
    pub(crate) async fn release(&self) {
        while let Some(task) = self.take_next() {
            self.queue.publish(task).await;
        }
    }

    fn take_next(&self) -> Option<Task> {
        let mut tasks = self.tasks();
        if tasks.out.len() >= self.config.release_window {
            return None;
        }
        let Ready { task, history } = tasks.next()?;
        let lease = Lease::published(task.clone(), history == History::Out, self.ask_at());
        tasks.out.insert(task.task.clone(), lease);
        Some(task)
    }

    /// When the queue is asked for a task that no worker has given a sign of life for.
    fn ask_at(&self) -> Instant {
        Instant::now() + self.lost_after() / 2
    }

    fn lost_after(&self) -> Duration {
        Duration::from_millis(self.config.lost_after_ms)
    }

    /// Follows signs of life until the shutdown.
    pub(crate) async fn run(&self, handler: Arc<dyn CommandHandler>, shutdown: CancellationToken) {
        let mut losing = FuturesUnordered::new();
        let mut asking = FuturesUnordered::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut deaf_until = None;
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                // Beats that wait are heard before anybody is called silent.
                beat = self.queue.next_beat() => match beat {
                    Some(beat) => self.beat(&beat),
                    None => return,
                },
                Some(()) = losing.next(), if !losing.is_empty() => {}
                Some(()) = asking.next(), if !asking.is_empty() => {}
                () = self.untouched.notified() => {
                    let untouched = std::mem::take(&mut self.tasks().untouched);
                    losing.extend(untouched.into_iter().map(|task| self.tell(&*handler, task, Word::NeverBegun)));
                }
                due = look.tick() => {
                    if !self.queue.hears() {
                        // Workers have as long as ever to be heard when they can be again.
                        deaf_until = Some(Instant::now() + self.config.redeliver_after());
                    }
                    if due.elapsed() > LATE || deaf_until.is_some_and(|until| Instant::now() < until) {
                        // This process stood still or was cut off, so it has heard nobody: that says nothing about
                        // the workers.
                        self.hear_all();
                        continue;
                    }
                    if !self.owned.leased() {
                        // Another may own them by now; if not, the next beat says so.
                        continue;
                    }
                    let (again, lost) = self.silent();
                    for task in again {
                        tracing::info!(
                            execution.id = %task.task.execution, node.id = task.task.node.node_id,
                            node.attempt = task.task.node.attempt, "a silent worker's task is handed out again"
                        );
                        self.queue.publish(task).await;
                    }
                    losing.extend(lost.into_iter().map(|task| self.tell(&*handler, task, Word::Lost)));
                    self.tasks().stop_listening(Instant::now());
                    self.release().await;
                    if asking.is_empty() {
                        asking.push(self.ask_for_missing());
                    }
                }
            }
        }
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Tasks> {
        // Every use is one step on the maps; a panic elsewhere cannot leave them half-changed.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
