//! Which attempts this worker holds, so that a request to stop finds the right one.
//!
//! Invariant: an attempt is held at most once; a second delivery of one that is running is not carried out again.

use bus::TaskRef;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

/// The attempts that are being carried out. Bounded by the number of slots.
#[derive(Default)]
pub(crate) struct Running {
    tasks: Mutex<HashMap<TaskRef, CancellationToken>>,
}

/// An attempt's place among the running ones; given up when dropped.
pub(crate) struct Held<'a> {
    running: &'a Running,
    task: TaskRef,
    stop: CancellationToken,
}

impl Running {
    /// A place for the attempt; none if it is being carried out already.
    pub(crate) fn hold(&self, task: &TaskRef) -> Option<Held<'_>> {
        match self.lock().entry(task.clone()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(free) => {
                let stop = free.insert(CancellationToken::new()).clone();
                Some(Held { running: self, task: task.clone(), stop })
            }
        }
    }

    /// Passes requests to stop on to the attempts, until the bus is shut down.
    pub(crate) async fn follow(&self, mut requests: broadcast::Receiver<TaskRef>) {
        loop {
            match requests.recv().await {
                Ok(task) => {
                    if let Some(stop) = self.lock().get(&task) {
                        stop.cancel();
                    }
                }
                // A request to stop may be lost: the attempt then runs to its end and its result is refused.
                Err(RecvError::Lagged(missed)) => {
                    tracing::warn!(missed, "the worker missed requests to stop attempts");
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<TaskRef, CancellationToken>> {
        // Each use is one call on the map, so a panic elsewhere cannot leave it half-changed.
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held<'_> {
    /// Resolves when the attempt is asked to stop.
    pub(crate) async fn asked_to_stop(&self) {
        self.stop.cancelled().await;
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.running.lock().remove(&self.task);
    }
}
