//! Finding events for the waits that are for one, wherever in the log they are, and offering them to their executions.
//!
//! ```text
//!   aftermath ──opens, meets, ends──► registry ◄── wakeups and folded streams (after a takeover)
//!                                       │ followed positions, under the same lock
//!   commit feed of all partitions ──► live: each event against the index ─┐
//!   log, since the wait's `since` ──► past: rounds over what came before ─┴─► offers ──► OfferEvent, to its owner
//! ```
//!
//! A wait is a predicate over the log, of which the decider is the judge; here are only candidates. Invariants:
//! - A wait that comes in notes how far each partition was followed at that moment. Its past is looked for up to there,
//!   what follows meets it in the index: an event that comes between is not missed, and one that is found twice has one
//!   command id.
//! - Every open wait has a wakeup of kind `EventWait`, so a new owner finds them all.
//! - Nothing is followed while no wait is open: a process without event waits reads nothing and hears no feed.
//! - Waits, candidates and readings are bounded, and the committer only ever takes a lock. Beyond the limit of waits,
//!   further ones are found later, loudly.
//!
//! Deliberately absent: filters and everything else that decides; waits of partitions that others own.

mod index;
mod load;
mod matcher;
mod offering;
mod past;
mod registry;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

use domain::decision::{Wakeup, WakeupKind};
use domain::event::{Event, ExecutionEvent, RecordedEvent};
use domain::ids::Partition;
use domain::node_type::NodeType;

pub(crate) use matcher::Matcher;
use registry::{Registry, wanted_of};

/// The most open waits for events of one process.
const MAX_WAITS: usize = 500_000;

/// The open waits of this process, for those who tell of them.
pub(crate) struct EventWaits {
    registry: Mutex<Registry>,
    /// Whether an end can be of interest: most processes have no such waits.
    watching: AtomicBool,
    changed: Notify,
}

impl EventWaits {
    pub(crate) fn new(partitions: u16) -> Arc<Self> {
        let registry = Mutex::new(Registry::new(partitions, MAX_WAITS));
        Arc::new(Self { registry, watching: AtomicBool::new(false), changed: Notify::new() })
    }

    /// A partition is owned from now on, or was written without this process hearing of it.
    pub(crate) fn adopt(&self, partition: Partition) {
        self.change(|registry| registry.load(partition));
        self.changed.notify_one();
    }

    /// A partition is not owned any more: whoever owns it finds its waits.
    pub(crate) fn drop_partition(&self, partition: Partition) {
        self.change(|registry| registry.drop_partition(partition));
    }

    /// Opens and ends what an event of an execution opens and ends.
    pub(crate) fn follow(&self, event: &ExecutionEvent, stored: &RecordedEvent) {
        let execution = stored.stream;
        match event {
            ExecutionEvent::NodeWaiting(e) => {
                let wanted = wanted_of(&e.conditions);
                if !wanted.is_empty() {
                    self.change(|registry| {
                        registry.open(&stored.tenant, execution, &e.node_id, e.run, wanted);
                    });
                    self.changed.notify_one();
                }
            }
            ExecutionEvent::WaitSatisfied(e) => {
                self.ends(|registry| registry.met(execution, &e.node_id, e.condition));
            }
            ExecutionEvent::NodeCompleted(e) if e.node_type == NodeType::Wait => {
                self.ends(|registry| registry.close(execution, &e.node_id));
            }
            ExecutionEvent::NodeFailed(e) if e.node_type == NodeType::Wait => {
                self.ends(|registry| registry.close(execution, &e.node_id));
            }
            ExecutionEvent::NodeCancelled(e) if e.node_type == NodeType::Wait => {
                self.ends(|registry| registry.close(execution, &e.node_id));
            }
            ExecutionEvent::RunStarted(e) => {
                self.ends(|registry| e.nodes.iter().for_each(|path| registry.close(execution, path)));
            }
            ExecutionEvent::Completed(_)
            | ExecutionEvent::Failed(_)
            | ExecutionEvent::Cancelled(_)
            | ExecutionEvent::Terminated(_) => self.ends(|registry| registry.end(execution)),
            // No wait begins or ends with any other.
            _ => {}
        }
    }

    /// Takes the wakeups of an append: a wait of which its events do not tell, as in a fork, is found in its stream.
    pub(crate) fn take(&self, stream: uuid::Uuid, events: &[Event], wakeups: &[Wakeup]) {
        let told = |path: &str| {
            events.iter().any(|event| {
                matches!(event, Event::Execution(ExecutionEvent::NodeWaiting(e)) if e.node_id == path)
            })
        };
        let is_untold =
            |wakeup: &Wakeup| matches!(&wakeup.kind, WakeupKind::EventWait(node) if !told(&node.node_id));
        if wakeups.iter().any(is_untold) {
            self.change(|registry| registry.look(stream));
            self.changed.notify_one();
        }
    }

    /// Something may end: nothing to do where nothing is open.
    fn ends(&self, change: impl FnOnce(&mut Registry)) {
        if self.watching.load(Ordering::Acquire) {
            self.change(change);
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut Registry) -> T) -> T {
        let mut registry = self.registry();
        let changed = change(&mut registry);
        // Under the lock: what is told after this sees it.
        self.watching.store(!registry.is_idle(), Ordering::Release);
        changed
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        // What is in it can be read from the log again; a panic elsewhere cannot make it wrong.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
