//! Beats and requests to stop, on core NATS: at most once, to every process that listens.
//!
//! What is for this process too is handed over directly: the connection does not hear what it publishes.

use bytes::Bytes;
use futures::StreamExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, broadcast, mpsc};

use domain::ids::Partition;

use super::TASK_HEADER;
use super::fetcher::{ACK, Delivery};
use super::outbox::Outbox;
use crate::nats::api;
use crate::nats::connect::HAND_OVER;
use crate::nats::lifetime::Lifetime;
use crate::nats::requests::Requests;
use crate::nats::subjects::{self, TASKS_STREAM};
use crate::nats::wire;
use crate::tasks::{Beat, Task, TaskRef};

/// Beats that may wait for the owner, or to be sent; further ones are dropped.
const BEAT_CAPACITY: usize = 4_096;
/// Requests to stop that a worker may be behind, or that may wait to be sent.
const CANCEL_CAPACITY: usize = 4_096;
/// Requests to stop that are carried out at once.
const CANCELS_AT_ONCE: usize = 16;
/// The pause before another try to subscribe.
const TRY_AGAIN: Duration = Duration::from_millis(500);
/// The worker that gives the first sign of life, before the worker itself knows the task.
const FIRST_WORKER: &str = "bus";

/// Beats and requests to stop.
pub(super) struct Signals {
    requests: Arc<Requests>,
    outbox: Arc<Outbox>,
    lifetime: Lifetime,
    partitions: u16,
    heard: mpsc::Sender<Beat>,
    beats: AsyncMutex<mpsc::Receiver<Beat>>,
    outgoing: mpsc::Sender<Beat>,
    cancelling: mpsc::Sender<(TaskRef, Vec<u64>)>,
    cancellations: broadcast::Sender<TaskRef>,
    hears_beats: AtomicBool,
    hears_cancels: AtomicBool,
}

impl Signals {
    pub(super) fn start(
        requests: Arc<Requests>,
        outbox: Arc<Outbox>,
        partitions: u16,
        lifetime: Lifetime,
    ) -> Self {
        let (heard, beats) = mpsc::channel(BEAT_CAPACITY);
        let (outgoing, to_send) = mpsc::channel(BEAT_CAPACITY);
        let (cancelling, to_cancel) = mpsc::channel(CANCEL_CAPACITY);
        lifetime.spawn(send_beats(requests.clone(), to_send, partitions, lifetime.clone()));
        lifetime.spawn(carry_out(requests.clone(), outbox.clone(), to_cancel, lifetime.clone()));
        Self {
            requests,
            outbox,
            lifetime,
            partitions,
            heard,
            beats: AsyncMutex::new(beats),
            outgoing,
            cancelling,
            cancellations: broadcast::Sender::new(CANCEL_CAPACITY),
            hears_beats: AtomicBool::new(false),
            hears_cancels: AtomicBool::new(false),
        }
    }

    /// Gives a delivered task's first sign of life and then takes it out of the queue, in this order and on one
    /// connection, so that its owner never finds it in neither place.
    pub(super) async fn accept(&self, delivery: Delivery) -> Option<Task> {
        let beat = Beat { task: delivery.task.task.clone(), worker: FIRST_WORKER.into() };
        let link = self.requests.link();
        let subject = subjects::beat(Partition::of(beat.task.execution, self.partitions));
        let accepted = link.publish(subject, wire::encode_beat(&beat)).await
            && link.publish(delivery.ticket.ack.clone(), Bytes::from_static(ACK)).await;
        if !accepted {
            return None;
        }
        self.hear(beat);
        Some(delivery.keep())
    }

    pub(super) fn beat(&self, beat: Beat) {
        if self.outgoing.try_send(beat.clone()).is_err() {
            tracing::debug!("a worker's beat was dropped because NATS is behind");
        }
        self.hear(beat);
    }

    /// Hands a beat of this process to its own owner, if it has one.
    fn hear(&self, beat: Beat) {
        self.outbox.delivered(&beat.task);
        if self.hears_beats.load(Ordering::Relaxed) && self.heard.try_send(beat).is_err() {
            tracing::debug!("a worker's beat was dropped because the owner is behind");
        }
    }

    pub(super) async fn next_beat(&self) -> Option<Beat> {
        if !self.hears_beats.swap(true, Ordering::SeqCst) {
            let (heard, outbox) = (self.heard.clone(), self.outbox.clone());
            self.listen(subjects::EVERY_BEAT, move |payload| {
                if let Ok(beat) = wire::decode_beat(payload) {
                    outbox.delivered(&beat.task);
                    // A full channel drops: the next beat comes.
                    let _ = heard.try_send(beat);
                }
            });
        }
        let mut beats = self.beats.lock().await;
        tokio::select! {
            beat = beats.recv() => beat,
            () = self.lifetime.stop.cancelled() => None,
        }
    }

    /// Asks every worker to stop and takes the task out of the stream.
    pub(super) fn cancel(&self, task: TaskRef, stored: Vec<u64>) {
        // No worker listening means that nobody here holds the task.
        let _ = self.cancellations.send(task.clone());
        if self.cancelling.try_send((task, stored)).is_err() {
            tracing::debug!("a request to stop was dropped because NATS is behind");
        }
    }

    pub(super) fn cancellations(&self) -> broadcast::Receiver<TaskRef> {
        self.follow_cancels();
        self.cancellations.subscribe()
    }

    /// Hears what other processes cancel.
    pub(super) fn follow_cancels(&self) {
        if self.hears_cancels.swap(true, Ordering::SeqCst) {
            return;
        }
        let (outbox, cancellations) = (self.outbox.clone(), self.cancellations.clone());
        self.listen(subjects::CANCEL, move |payload| {
            if let Ok(task) = wire::decode_cancel(payload) {
                outbox.cancel(&task);
                let _ = cancellations.send(task);
            }
        });
    }

    /// Calls for every message of a subject.
    fn listen(&self, subject: &'static str, hear: impl Fn(&[u8]) + Send + Sync + 'static) {
        let (requests, stop) = (self.requests.clone(), self.lifetime.stop.clone());
        self.lifetime.spawn(async move {
            let follow = async {
                loop {
                    let subscribed = requests.link().client.subscribe(subject);
                    if let Ok(Ok(mut messages)) = tokio::time::timeout(HAND_OVER, subscribed).await {
                        while let Some(message) = messages.next().await {
                            hear(&message.payload);
                        }
                        return;
                    }
                    tokio::time::sleep(TRY_AGAIN).await;
                }
            };
            tokio::select! {
                () = follow => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

async fn send_beats(
    requests: Arc<Requests>,
    mut beats: mpsc::Receiver<Beat>,
    partitions: u16,
    lifetime: Lifetime,
) {
    loop {
        let beat = tokio::select! {
            beat = beats.recv() => beat,
            () = lifetime.stop.cancelled() => break,
        };
        let Some(beat) = beat else { break };
        let subject = subjects::beat(Partition::of(beat.task.execution, partitions));
        requests.link().publish(subject, wire::encode_beat(&beat)).await;
    }
}

async fn carry_out(
    requests: Arc<Requests>,
    outbox: Arc<Outbox>,
    mut cancels: mpsc::Receiver<(TaskRef, Vec<u64>)>,
    lifetime: Lifetime,
) {
    let stream = futures::stream::poll_fn(move |context| cancels.poll_recv(context));
    let work = stream.for_each_concurrent(CANCELS_AT_ONCE, |(task, stored)| {
        let (requests, outbox) = (requests.clone(), outbox.clone());
        async move {
            requests.link().wait_connected().await;
            requests.link().publish(subjects::CANCEL.to_owned(), wire::encode_cancel(&task)).await;
            let name = wire::task_name(&task);
            for &seq in &stored {
                // After a wipe another task may have the number.
                let held = api::headers_at(&requests, TASKS_STREAM, seq).await;
                if held.is_ok_and(|held| held.is_some_and(|held| held.get(TASK_HEADER) == Some(&name))) {
                    let _ = api::delete(&requests, TASKS_STREAM, seq).await;
                }
            }
            outbox.forget(&task, &stored);
        }
    });
    tokio::select! {
        () = work => {}
        () = lifetime.stop.cancelled() => {}
    }
}
