//! The subscriptions of one connection. Each tail runs in a task of its own.

use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinError, JoinSet};

use crate::access::Followed;
use crate::live::Tail;
use crate::routes::AnyTail;

use super::messages;

/// What tails may have told before the connection takes it; further ones wait, holding nothing of the log's.
const WAITING: usize = 16;

/// What a tail gives, with the subscription that it is for.
pub(super) struct Told {
    pub(super) name: Arc<str>,
    /// What stands before its events.
    pub(super) prefix: Arc<str>,
    pub(super) tail: Tail,
    number: u64,
}

/// A subscription that runs.
struct Running {
    number: u64,
    followed: Followed,
    handle: AbortHandle,
}

/// Subscriptions by name.
///
/// A tail that reads the log holds one of the few connections to it, or was handed one that it does not know of yet.
/// Left unpolled while its connection does something else, it would keep that from everybody, so it never
/// depends on the connection to be polled.
pub(super) struct Subscriptions {
    names: HashMap<Arc<str>, Running>,
    tails: JoinSet<()>,
    sender: mpsc::Sender<Told>,
    told: mpsc::Receiver<Told>,
    next: u64,
}

impl Subscriptions {
    pub(super) fn new() -> Self {
        let (sender, told) = mpsc::channel(WAITING);
        Self { names: HashMap::new(), tails: JoinSet::new(), sender, told, next: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.names.len()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    /// Begins one. Its name must be free.
    pub(super) fn add(&mut self, name: &str, followed: Followed, tail: AnyTail) {
        self.next += 1;
        let number = self.next;
        let (name, prefix): (Arc<str>, Arc<str>) = (Arc::from(name), Arc::from(messages::event_prefix(name)));
        let handle = self.tails.spawn(follow(tail, self.sender.clone(), name.clone(), prefix, number));
        self.names.insert(name, Running { number, followed, handle });
    }

    /// Ends one; whether there was one.
    pub(super) fn remove(&mut self, name: &str) -> bool {
        let found = self.names.remove(name);
        if let Some(running) = &found {
            running.handle.abort();
        }
        found.is_some()
    }

    /// What each of them follows.
    pub(super) fn followed(&self) -> Vec<(Arc<str>, Followed)> {
        self.names.iter().map(|(name, running)| (name.clone(), running.followed)).collect()
    }

    /// What comes next of any. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Told> {
        loop {
            tokio::select! {
                Some(told) = self.told.recv() => {
                    // What was read before the client unsubscribed is not told any more, even if it has
                    // subscribed again under the same name.
                    if self.names.get(&told.name).is_some_and(|running| running.number == told.number) {
                        return Some(told);
                    }
                }
                Some(over) = self.tails.join_next() => check(over),
                else => return None,
            }
        }
    }
}

/// A panic in a task of a connection ends the connection, as if there were no task.
fn check(over: Result<(), JoinError>) {
    if let Err(error) = over
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

async fn follow(
    mut tail: AnyTail,
    sender: mpsc::Sender<Told>,
    name: Arc<str>,
    prefix: Arc<str>,
    number: u64,
) {
    loop {
        let next = tail.next().await;
        let over = matches!(next, Tail::End | Tail::Failed(_));
        let told = Told { name: name.clone(), prefix: prefix.clone(), tail: next, number };
        if sender.send(told).await.is_err() || over {
            return;
        }
    }
}
