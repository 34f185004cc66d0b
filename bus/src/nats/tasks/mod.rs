//! Tasks over JetStream: a work queue per type of node, and signals on core NATS beside it.
//!
//! ```text
//!   owner: publish ─► outbox ─► EVERLINE_TASKS ─► fetcher ─► pull :worker
//!             ▲                                               │ first beat, then ack
//!             └──────── signals: everline.beat.<p> ◄──────────┤
//!                                everline.cancel  ───────────►┘
//! ```
//!
//! The queue only delivers; truth is the execution's stream. What is lost here is found missing by its owner.

mod fetcher;
mod outbox;
mod signals;

use async_nats::jetstream::stream::Config;
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::time::Instant;

use domain::node_type::NodeType;

use self::fetcher::{Lane, Place};
use self::outbox::Outbox;
use self::signals::Signals;
use super::api;
use super::lifetime::Lifetime;
use super::requests::Requests;
use super::subjects::TASKS_STREAM;
use super::wire::task_name;
use crate::tasks::{Beat, Task, TaskQueue, TaskRef, Waiting};

/// The header that names a stored task.
const TASK_HEADER: &str = "Everline-Task";
/// How often [`NatsTasks::flush`] looks whether the outbox is empty.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// The task queue of all processes.
pub(super) struct NatsTasks {
    requests: Arc<Requests>,
    lifetime: Lifetime,
    stream: Arc<Config>,
    outbox: Arc<Outbox>,
    signals: Signals,
    lanes: Mutex<HashMap<NodeType, Arc<Lane>>>,
}

impl NatsTasks {
    /// Starts publishing.
    pub(super) fn start(
        requests: Arc<Requests>,
        stream: Config,
        partitions: u16,
        lifetime: Lifetime,
    ) -> Self {
        let outbox = Arc::new(Outbox::default());
        let stream = Arc::new(stream);
        let publisher =
            outbox::publish(outbox.clone(), requests.clone(), stream.clone(), lifetime.stop.clone());
        lifetime.spawn(publisher);
        let signals = Signals::start(requests.clone(), outbox.clone(), partitions, lifetime.clone());
        Self { requests, lifetime, stream, outbox, signals, lanes: Mutex::default() }
    }

    /// Waits until everything is stored, but not longer than this.
    pub(super) async fn flush(&self, patience: Duration) {
        let started = Instant::now();
        while !self.outbox.is_empty() && started.elapsed() < patience && self.requests.link().connected() {
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// The workers of this process that wait for a type, with their fetcher.
    fn lane(&self, node_type: NodeType) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let start = || {
            let (lane, outbox) = (Arc::new(Lane::default()), self.outbox.clone());
            let (requests, stream) = (self.requests.clone(), self.stream.clone());
            let stop = self.lifetime.stop.clone();
            self.lifetime.spawn(fetcher::fetch(node_type, lane.clone(), outbox, requests, stream, stop));
            lane
        };
        lanes.entry(node_type).or_insert_with(start).clone()
    }
}

#[async_trait]
impl TaskQueue for NatsTasks {
    async fn publish(&self, task: Task) {
        self.outbox.add(task);
    }

    fn hears(&self) -> bool {
        self.requests.link().connected()
    }

    async fn is_waiting(&self, task: &TaskRef) -> Waiting {
        let stored = match self.outbox.whereabouts(task) {
            Ok(stored) => stored,
            Err(waiting) => return waiting,
        };
        let name = task_name(task);
        for &seq in &stored {
            match api::headers_at(&self.requests, TASKS_STREAM, seq).await {
                // After a wipe another task may have the number.
                Ok(Some(headers)) if headers.get(TASK_HEADER) == Some(&name) => return Waiting::Yes,
                Ok(_) => {}
                Err(_) => return Waiting::Unknown,
            }
        }
        self.outbox.forget(task, &stored);
        Waiting::No
    }

    async fn pull(&self, types: &[NodeType]) -> Option<Task> {
        self.signals.follow_cancels();
        let lanes: Vec<_> = types.iter().map(|&node_type| self.lane(node_type)).collect();
        loop {
            let (place, delivery) = Place::take(&lanes);
            let delivery = tokio::select! {
                delivery = delivery => delivery.ok()?,
                () = self.lifetime.stop.cancelled() => return None,
            };
            drop(place);
            if let Some(task) = self.signals.accept(delivery).await {
                return Some(task);
            }
        }
    }

    fn beat(&self, beat: Beat) {
        self.signals.beat(beat);
    }

    async fn next_beat(&self) -> Option<Beat> {
        self.signals.next_beat().await
    }

    fn cancel(&self, task: TaskRef) {
        let stored = self.outbox.cancel(&task);
        self.signals.cancel(task, stored);
    }

    fn cancellations(&self) -> broadcast::Receiver<TaskRef> {
        self.signals.cancellations()
    }
}
