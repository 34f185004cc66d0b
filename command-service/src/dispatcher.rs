//! Ready tasks and leases: which attempts are with workers, and who is next.
//!
//! Highest priority first, then tenants in turn, then first come. A bounded window is out at a time. None of it
//! is stored: the streams say which attempts are in flight, and `recovery` fills this again after a start.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use bus::tasks::{Beat, Task, TaskQueue, TaskRef};
use bus::{CommandError, CommandHandler};
use domain::command::{Command, CommandEnvelope};
use domain::execution::command::ExecutionCommand;
use domain::ids::{Actor, Slot, TenantId, derived_id};
use domain::time::Timestamp;

use crate::config::CommandServiceConfig;

/// How often leases are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A look that comes later than this by so much means that the process stood still.
const LATE: Duration = Duration::from_secs(2);

/// The tasks of all partitions that this process owns.
pub(crate) struct Dispatcher {
    config: CommandServiceConfig,
    queue: Arc<dyn TaskQueue>,
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

#[derive(Default)]
struct Tasks {
    /// By priority, highest first (9 is stored as 0).
    ready: BTreeMap<u8, Turn>,
    waiting: HashSet<TaskRef>,
    out: HashMap<TaskRef, Lease>,
}

/// Tenants of one priority, in turn.
#[derive(Default)]
struct Turn {
    tenants: VecDeque<TenantId>,
    tasks: HashMap<TenantId, VecDeque<Task>>,
}

struct Lease {
    task: Task,
    /// The last sign of life; `None` while it waits in the queue.
    beat_at: Option<Instant>,
    /// Whether it was handed out again since then.
    redelivered: bool,
}

impl Turn {
    fn push(&mut self, task: Task) {
        let tasks = self.tasks.entry(task.tenant.clone()).or_default();
        if tasks.is_empty() {
            self.tenants.push_back(task.tenant.clone());
        }
        tasks.push_back(task);
    }

    fn pop(&mut self) -> Option<Task> {
        let tenant = self.tenants.pop_front()?;
        let tasks = self.tasks.get_mut(&tenant)?;
        let task = tasks.pop_front();
        if tasks.is_empty() {
            self.tasks.remove(&tenant);
        } else {
            self.tenants.push_back(tenant);
        }
        task
    }
}

impl Tasks {
    fn next(&mut self) -> Option<Task> {
        loop {
            let mut turn = self.ready.first_entry()?;
            match turn.get_mut().pop() {
                // Resolved while it waited: its place in the list was left behind.
                Some(task) if !self.waiting.remove(&task.task) => {}
                Some(task) => return Some(task),
                None => {
                    turn.remove();
                }
            }
        }
    }
}

impl Dispatcher {
    pub(crate) fn new(config: CommandServiceConfig, queue: Arc<dyn TaskQueue>) -> Self {
        Self { config, queue, tasks: Mutex::default() }
    }

    /// Takes in an attempt that is ready. One that is known already is left as it is.
    pub(crate) fn ready(&self, task: Task, priority: u8) {
        let mut tasks = self.tasks();
        if tasks.out.contains_key(&task.task) || !tasks.waiting.insert(task.task.clone()) {
            return;
        }
        tasks.ready.entry(9 - priority.min(9)).or_default().push(task);
    }

    /// Forgets an attempt that has its outcome.
    pub(crate) fn resolved(&self, task: &TaskRef, stop: Stop) {
        let mut tasks = self.tasks();
        tasks.waiting.remove(task);
        let lease = tasks.out.remove(task);
        drop(tasks);
        // A task that was handed out twice may still wait in the queue, though its result is here.
        if lease.is_some_and(|lease| stop == Stop::Yes || lease.redelivered) {
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
        let task = tasks.next()?;
        let lease = Lease { task: task.clone(), beat_at: None, redelivered: false };
        tasks.out.insert(task.task.clone(), lease);
        Some(task)
    }

    /// Follows signs of life until the shutdown.
    pub(crate) async fn run(&self, handler: Arc<dyn CommandHandler>, shutdown: CancellationToken) {
        let mut losing = FuturesUnordered::new();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
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
                due = look.tick() => {
                    if due.elapsed() > LATE {
                        // This process stood still, so it has heard nobody: that says nothing about the workers.
                        self.hear_all();
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
                    self.release().await;
                }
            }
        }
    }

    /// Gives every leased task a fresh start.
    fn hear_all(&self) {
        let now = Instant::now();
        for lease in self.tasks().out.values_mut().filter(|lease| lease.beat_at.is_some()) {
            lease.beat_at = Some(now);
        }
    }

    fn beat(&self, beat: &Beat) {
        let now = Instant::now();
        if let Some(lease) = self.tasks().out.get_mut(&beat.task) {
            lease.beat_at = Some(now);
            lease.redelivered = false;
        }
    }

    /// Tasks to hand out again, and tasks whose worker is lost.
    fn silent(&self) -> (Vec<Task>, Vec<Task>) {
        let (mut again, mut lost) = (Vec::new(), Vec::new());
        for lease in self.tasks().out.values_mut() {
            // A task without a beat waits in the queue; its attempt's deadline watches over it.
            let Some(beat_at) = lease.beat_at else { continue };
            let silent_ms = beat_at.elapsed().as_millis() as u64;
            if silent_ms >= self.config.worker_lost_after_ms {
                // If this is not answered, it is silent again after as long.
                lease.beat_at = Some(Instant::now());
                lost.push(lease.task.clone());
            } else if silent_ms >= self.config.redeliver_after_ms && !lease.redelivered {
                lease.redelivered = true;
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
