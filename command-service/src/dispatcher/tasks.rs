//! The dispatcher's lists: who waits for room, who is with a worker, who may be.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;

use bus::tasks::{Task, TaskRef};
use domain::ids::TenantId;

/// Every attempt is in one of `waiting`, `listening` and `out`.
#[derive(Default)]
pub(super) struct Tasks {
    /// By priority, highest first (9 is stored as 0).
    ready: BTreeMap<u8, Turn>,
    pub(super) waiting: HashSet<TaskRef>,
    /// Found after a takeover: a worker may hold them, and is given time to say so.
    pub(super) listening: HashMap<TaskRef, Listening>,
    pub(super) out: HashMap<TaskRef, Lease>,
    /// By number of each partition whose attempts in flight are being looked for.
    pub(super) recovering: HashMap<u16, Recovering>,
}

/// Tenants of one priority, in turn.
#[derive(Default)]
struct Turn {
    tenants: VecDeque<TenantId>,
    tasks: HashMap<TenantId, VecDeque<Ready>>,
}

/// An attempt that waits for room in the window.
pub(super) struct Ready {
    pub(super) task: Task,
    /// Whether it may be in the queue or with a worker already.
    pub(super) again: bool,
}

pub(super) struct Listening {
    pub(super) task: Task,
    pub(super) priority: u8,
    pub(super) until: Instant,
}

/// A partition that was taken over.
pub(super) struct Recovering {
    /// The tenure.
    pub(super) epoch: u64,
    /// For how long workers are listened for.
    pub(super) listen: Duration,
    /// What has got its outcome meanwhile: what is read of it is old.
    pub(super) resolved: HashSet<TaskRef>,
}

/// An attempt that was handed out.
pub(super) struct Lease {
    pub(super) task: Task,
    /// The last sign of life; `None` while it waits in the queue.
    pub(super) beat_at: Option<Instant>,
    /// Whether it was handed out again since then.
    pub(super) redelivered: bool,
    /// Whether it was ever handed out more than once: then one may wait in the queue though a worker holds another.
    pub(super) copies: bool,
    /// Without a sign of life: when to ask the queue for it.
    pub(super) ask_at: Instant,
    /// Since when the queue does not know it.
    pub(super) missing_since: Option<Instant>,
}

impl Lease {
    /// For a task that is being published.
    pub(super) fn published(task: Task, redelivered: bool, ask_at: Instant) -> Self {
        Self { task, beat_at: None, redelivered, copies: redelivered, ask_at, missing_since: None }
    }

    /// A worker holds it.
    pub(super) fn heard(&mut self, now: Instant) {
        self.beat_at = Some(now);
        self.redelivered = false;
        self.missing_since = None;
    }
}

impl Turn {
    fn push(&mut self, ready: Ready) {
        let tenant = &ready.task.tenant;
        let tasks = self.tasks.entry(tenant.clone()).or_default();
        if tasks.is_empty() {
            self.tenants.push_back(tenant.clone());
        }
        tasks.push_back(ready);
    }

    fn pop(&mut self) -> Option<Ready> {
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

    /// Keeps what is asked for.
    fn retain(&mut self, keep: impl Fn(&TaskRef) -> bool) {
        self.tasks.retain(|_, tasks| {
            tasks.retain(|ready| keep(&ready.task.task));
            !tasks.is_empty()
        });
        self.tenants.retain(|tenant| self.tasks.contains_key(tenant));
    }
}

impl Tasks {
    /// Has an attempt wait for room.
    pub(super) fn wait(&mut self, task: Task, priority: u8, again: bool) {
        if self.waiting.insert(task.task.clone()) {
            self.ready.entry(9 - priority.min(9)).or_default().push(Ready { task, again });
        }
    }

    /// The next attempt that waits for room.
    pub(super) fn next(&mut self) -> Option<Ready> {
        loop {
            let mut turn = self.ready.first_entry()?;
            match turn.get_mut().pop() {
                // Resolved while it waited: its place in the list was left behind.
                Some(ready) if !self.waiting.remove(&ready.task.task) => {}
                Some(ready) => return Some(ready),
                None => {
                    turn.remove();
                }
            }
        }
    }

    /// A worker has given a sign of life for an attempt that is not out: so it is, whoever handed it out.
    pub(super) fn heard_elsewhere(&mut self, task: &TaskRef, now: Instant) {
        let found = match self.listening.remove(task) {
            Some(listening) => Some(listening.task),
            None if self.waiting.remove(task) => {
                let waiting = self.ready.values().flat_map(|turn| turn.tasks.values().flatten());
                let found = waiting.map(|ready| &ready.task).find(|ready| ready.task == *task).cloned();
                self.ready.values_mut().for_each(|turn| turn.retain(|other| other != task));
                found
            }
            None => None,
        };
        if let Some(found) = found {
            let mut lease = Lease::published(found, false, now);
            lease.heard(now);
            self.out.insert(task.clone(), lease);
        }
    }

    /// Forgets every attempt that is not asked for.
    pub(super) fn retain(&mut self, keep: impl Fn(&TaskRef) -> bool) {
        self.ready.values_mut().for_each(|turn| turn.retain(&keep));
        self.waiting.retain(&keep);
        self.listening.retain(|task, _| keep(task));
        self.out.retain(|task, _| keep(task));
    }
}
