//! Ready tasks and leases: which attempts are with workers, and who is next.
//!
//! Highest priority first, then tenants in turn, then first come. A bounded window is out at a time. None of it
//! is stored: the streams say which attempts are in flight, and `recovery` fills this again after a takeover. Then
//! workers may hold some of them: those are not handed out before the workers have had time to be heard.
//!
//! The queue may lose tasks. One that was published, that no worker has given a sign of life for, and that the queue
//! does not know for some seconds is published again. Silence counts only while the queue can be heard. No lock is held across a call of the queue.

mod tasks;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use bus::tasks::{Beat, Task, TaskQueue, TaskRef, Waiting};
use bus::{CommandError, CommandHandler};
use domain::command::{Command, CommandEnvelope};
use domain::execution::command::ExecutionCommand;
use domain::ids::{Actor, Partition, Slot, derived_id};
use domain::time::Timestamp;

use crate::config::CommandServiceConfig;
use crate::owned::Owned;

use tasks::{Lease, Listening, Ready, Recovering, Tasks};

/// How often leases are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A look that comes later than this by so much means that the process stood still.
const LATE: Duration = Duration::from_secs(2);
/// Questions to the queue at the same time.
const MAX_ASKING: usize = 16;

/// The tasks of all partitions that this process owns.
pub(crate) struct Dispatcher {
    config: CommandServiceConfig,
    queue: Arc<dyn TaskQueue>,
    owned: Arc<Owned>,
    tasks: Mutex<Tasks>,
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
        Self { config, queue, owned, tasks: Mutex::default() }
    }

    /// Attempts in flight of a partition are being looked for. Workers that may hold one are listened for before it is
    /// handed out again.
    pub(crate) fn adopt(&self, partition: Partition, epoch: u64, listen: Duration) {
        let mut tasks = self.tasks();
        if self.owned.epoch(partition) == Some(epoch) {
            tasks.recovering.insert(partition.0, Recovering { epoch, listen, resolved: HashSet::new() });
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
        if tasks.out.contains_key(&task.task) {
            return;
        }
        // Found by a recovery before we were told: nobody can have it yet.
        tasks.listening.remove(&task.task);
        tasks.wait(task, priority, false);
    }

    /// Takes in an attempt that was in flight according to the log, as read in a tenure.
    pub(crate) fn recovered(&self, task: Task, priority: u8, epoch: u64) {
        let partition = self.owned.partition_of(task.task.execution);
        let mut tasks = self.tasks();
        if self.owned.epoch(partition) != Some(epoch) {
            return;
        }
        let Tasks { recovering, listening, .. } = &mut *tasks;
        let listen = match recovering.get(&partition.0) {
            Some(recovering) if recovering.resolved.contains(&task.task) => return,
            Some(recovering) => recovering.listen,
            None => Duration::ZERO,
        };
        if listening.contains_key(&task.task)
            || tasks.out.contains_key(&task.task)
            || tasks.waiting.contains(&task.task)
        {
            return;
        }
        if listen.is_zero() {
            return tasks.wait(task, priority, false);
        }
        let until = Instant::now() + listen;
        tasks.listening.insert(task.task.clone(), Listening { task, priority, until });
    }

    /// Forgets an attempt that has its outcome.
    pub(crate) fn resolved(&self, task: &TaskRef, stop: Stop) {
        let mut tasks = self.tasks();
        let recovering = match tasks.recovering.get_mut(&self.owned.partition_of(task.execution).0) {
            Some(recovering) => recovering.resolved.insert(task.clone()),
            None => false,
        };
        tasks.waiting.remove(task);
        let found = tasks.listening.remove(task).is_some();
        let lease = tasks.out.remove(task);
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
        let Ready { task, again } = tasks.next()?;
        let lease = Lease::published(task.clone(), again, self.ask_at());
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
                    losing.extend(lost.into_iter().map(|task| self.lose(&*handler, task)));
                    self.listened();
                    self.release().await;
                    if asking.is_empty() {
                        asking.push(self.ask_for_missing());
                    }
                }
            }
        }
    }

    /// Has attempts that were listened for in vain wait for room.
    fn listened(&self) {
        let now = Instant::now();
        let mut tasks = self.tasks();
        let silent: Vec<Listening> = tasks
            .listening
            .extract_if(|_, listening| listening.until <= now)
            .map(|(_, found)| found)
            .collect();
        for Listening { task, priority, .. } in silent {
            tasks.wait(task, priority, true);
        }
    }

    /// Asks the queue for tasks that no worker has, and publishes those anew that it has lost.
    async fn ask_for_missing(&self) {
        let now = Instant::now();
        let unheard: Vec<TaskRef> = {
            let tasks = self.tasks();
            let due = tasks.out.values().filter(|lease| lease.beat_at.is_none() && lease.ask_at <= now);
            due.map(|lease| lease.task.task.clone()).collect()
        };
        futures::stream::iter(unheard)
            .for_each_concurrent(MAX_ASKING, |task| async move {
                let waiting = self.queue.is_waiting(&task).await;
                if let Some(lost) = self.lost_from_queue(&task, waiting) {
                    tracing::warn!(
                        execution.id = %lost.task.execution, node.id = lost.task.node.node_id,
                        node.attempt = lost.task.node.attempt, "the queue has lost a task; it is handed out again"
                    );
                    self.queue.publish(lost).await;
                }
            })
            .await;
    }

    /// What the queue says of a task. Returns the task if it must be published again.
    fn lost_from_queue(&self, task: &TaskRef, waiting: Waiting) -> Option<Task> {
        let (now, ask_at, lost_after) = (Instant::now(), self.ask_at(), self.lost_after());
        let mut tasks = self.tasks();
        let lease = tasks.out.get_mut(task).filter(|lease| lease.beat_at.is_none())?;
        lease.ask_at = ask_at;
        match waiting {
            Waiting::Yes => lease.missing_since = None,
            Waiting::Unknown => {}
            Waiting::No => {
                let since = *lease.missing_since.get_or_insert(now);
                if now.duration_since(since) >= lost_after {
                    // Perhaps it was only its sign of life that was lost.
                    *lease = Lease::published(lease.task.clone(), true, ask_at);
                    return Some(lease.task.clone());
                }
            }
        }
        None
    }

    /// Gives every leased task a fresh start.
    fn hear_all(&self) {
        let now = Instant::now();
        let mut tasks = self.tasks();
        for lease in tasks.out.values_mut() {
            lease.missing_since = None;
            lease.beat_at = lease.beat_at.map(|_| now);
        }
        for listening in tasks.listening.values_mut() {
            listening.until = listening.until.max(now + self.config.redeliver_after());
        }
    }

    fn beat(&self, beat: &Beat) {
        let now = Instant::now();
        let mut tasks = self.tasks();
        match tasks.out.get_mut(&beat.task) {
            Some(lease) => lease.heard(now),
            None => tasks.heard_elsewhere(&beat.task, now),
        }
    }

    /// Tasks to hand out again, and tasks whose worker is lost.
    fn silent(&self) -> (Vec<Task>, Vec<Task>) {
        let (mut again, mut lost) = (Vec::new(), Vec::new());
        for lease in self.tasks().out.values_mut() {
            // A task without a beat waits in the queue, which is asked for it.
            let Some(beat_at) = lease.beat_at else { continue };
            let silent_ms = beat_at.elapsed().as_millis() as u64;
            if silent_ms >= self.config.worker_lost_after_ms {
                // If this is not answered, it is silent again after as long.
                lease.beat_at = Some(Instant::now());
                lost.push(lease.task.clone());
            } else if silent_ms >= self.config.redeliver_after_ms && !lease.redelivered {
                (lease.redelivered, lease.copies) = (true, true);
                again.push(lease.task.clone());
            }
        }
        (again, lost)
    }

    async fn lose(&self, handler: &dyn CommandHandler, task: Task) {
        let node = &task.task.node;
        let parts: [&[u8]; 5] = [
            b"worker_lost",
            task.task.execution.as_bytes(),
            node.node_id.as_bytes(),
            &node.run.to_be_bytes(),
            &node.attempt.to_be_bytes(),
        ];
        let id: Uuid = derived_id(Timestamp::default(), Slot::of(task.task.execution), &parts);
        let command = CommandEnvelope {
            id,
            tenant: task.tenant.clone(),
            actor: Actor::system("dispatcher"),
            stream: task.task.execution,
            correlation_id: task.correlation_id,
            causation_id: task.causation_id,
            traceparent: task.traceparent.clone(),
            digest: None,
            command: Command::Execution(ExecutionCommand::LoseWorker { node: node.clone() }),
        };
        match handler.handle(command).await {
            // The commit's aftermath has resolved it.
            Ok(_) => {}
            Err(CommandError::Rejected(_) | CommandError::DigestMismatch) => {
                self.resolved(&task.task, Stop::Yes)
            }
            // Still silent at the next look, and then tried again.
            Err(CommandError::Overloaded | CommandError::NotOwner | CommandError::Unknown(_)) => {}
        }
    }

    fn tasks(&self) -> std::sync::MutexGuard<'_, Tasks> {
        // Every use is one step on the maps; a panic elsewhere cannot leave them half-changed.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
