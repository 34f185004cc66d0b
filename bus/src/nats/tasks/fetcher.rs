//! From the stream to the workers of this process: one fetcher per type, which asks for as many tasks as workers wait.
//!
//! A task that comes for nobody goes back at once. The server forgets a request after [`EXPIRES`], and so do we: where
//! a server has lost them, with the connection or with its store, they are made again. A consumer or stream that is
//! gone is made again too. While there is no connection nothing is tried.

use async_nats::jetstream::stream::Config;
use async_nats::{Message, StatusCode, Subscriber};
use bytes::Bytes;
use futures::StreamExt;
use serde_json::json;
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use domain::node_type::NodeType;

use super::outbox::Outbox;
use crate::nats::connect::HAND_OVER;
use crate::nats::requests::Requests;
use crate::nats::streams::{ensure_consumer, ensure_stream};
use crate::nats::subjects::{TASKS_STREAM, task_consumer};
use crate::nats::wire;
use crate::tasks::Task;

/// How long a request for tasks waits at the server.
const EXPIRES: Duration = Duration::from_secs(5);
/// How much longer we wait for it to say so.
const GRACE: Duration = Duration::from_secs(1);
/// The most tasks of one request.
const BATCH: usize = 256;
/// Tasks that may be on their way back.
const RETURNS: usize = 1_024;
/// The pause after a refusal.
const PAUSE: Duration = Duration::from_millis(250);
/// The acknowledgement that takes a task out of the queue.
pub(super) const ACK: &[u8] = b"+ACK";
/// The one that gives it back at once.
const NAK: &[u8] = b"-NAK";
/// The one that gives it to somebody who can read it, later.
const NAK_LATER: &[u8] = br#"-NAK {"delay": 5000000000}"#;

/// The workers that wait for tasks of a type.
#[derive(Default)]
pub(super) struct Lane {
    slots: Mutex<VecDeque<Arc<Slot>>>,
    wanted: Notify,
}

/// A worker that waits, perhaps in several lanes.
struct Slot(Mutex<Option<oneshot::Sender<Delivery>>>);

impl Lane {
    fn slots(&self) -> MutexGuard<'_, VecDeque<Arc<Slot>>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands a delivery to the worker that has waited longest; without one it comes back.
    fn offer(&self, mut delivery: Delivery) -> Option<Delivery> {
        loop {
            let Some(slot) = self.slots().pop_front() else {
                return Some(delivery);
            };
            // Empty where another lane was faster.
            let Some(sender) = slot.0.lock().unwrap_or_else(PoisonError::into_inner).take() else {
                continue;
            };
            match sender.send(delivery) {
                Ok(()) => return None,
                Err(back) => delivery = back,
            }
        }
    }
}

/// A worker's place in the lanes; it leaves them with this.
pub(super) struct Place<'a> {
    lanes: &'a [Arc<Lane>],
    slot: Arc<Slot>,
}

impl<'a> Place<'a> {
    /// Waits in these lanes.
    pub(super) fn take(lanes: &'a [Arc<Lane>]) -> (Self, oneshot::Receiver<Delivery>) {
        let (sender, delivery) = oneshot::channel();
        let slot = Arc::new(Slot(Mutex::new(Some(sender))));
        for lane in lanes {
            lane.slots().push_back(slot.clone());
            lane.wanted.notify_one();
        }
        (Self { lanes, slot }, delivery)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        for lane in self.lanes {
            lane.slots().retain(|slot| !Arc::ptr_eq(slot, &self.slot));
        }
    }
}

/// A task that was delivered and is not acknowledged. Dropped without [`Delivery::keep`], it goes back.
pub(super) struct Delivery {
    /// The task.
    pub(super) task: Task,
    /// Its way out of the queue, or back.
    pub(super) ticket: Ticket,
}

impl Delivery {
    /// It is acknowledged: it does not go back.
    pub(super) fn keep(mut self) -> Task {
        self.ticket.returns = None;
        self.task
    }
}

/// The right to acknowledge a delivery.
pub(super) struct Ticket {
    /// The subject for that.
    pub(super) ack: String,
    returns: Option<mpsc::Sender<String>>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(returns) = self.returns.take() {
            // Where this fails, the server hands it out again by itself after a while.
            let _ = returns.try_send(std::mem::take(&mut self.ack));
        }
    }
}

/// A request for tasks that waits at the server.
struct Open {
    remaining: usize,
    until: Instant,
}

struct Fetcher {
    node_type: NodeType,
    lane: Arc<Lane>,
    outbox: Arc<Outbox>,
    requests: Arc<Requests>,
    stream: Arc<Config>,
    inbox: String,
    /// By number, so the oldest first.
    open: BTreeMap<u64, Open>,
    next: u64,
    not_before: Instant,
    /// Whether the consumer was found or made since it was last missed.
    ready: bool,
    returns: mpsc::Sender<String>,
}

/// Fetches tasks of a type for as long as the bus lives.
pub(super) async fn fetch(
    node_type: NodeType,
    lane: Arc<Lane>,
    outbox: Arc<Outbox>,
    requests: Arc<Requests>,
    stream: Arc<Config>,
    stop: CancellationToken,
) {
    let inbox = requests.link().client.new_inbox();
    let (returns, mut returned) = mpsc::channel(RETURNS);
    let mut losses = requests.link().losses();
    let mut answers = tokio::select! {
        answers = subscribe(&requests, format!("{inbox}.*")) => answers,
        () = stop.cancelled() => return,
    };
    let (open, not_before) = (BTreeMap::new(), Instant::now());
    let mut fetcher = Fetcher {
        node_type,
        lane,
        outbox,
        requests,
        stream,
        inbox,
        open,
        next: 0,
        not_before,
        ready: false,
        returns,
    };
    loop {
        fetcher.ask_for_more().await;
        let lane = fetcher.lane.clone();
        tokio::select! {
            answer = answers.next() => match answer {
                Some(answer) => fetcher.take(answer).await,
                None => break,
            },
            () = lane.wanted.notified() => {}
            Some(ack) = returned.recv() => fetcher.acknowledge(ack, NAK).await,
            changed = losses.changed() => match changed {
                Ok(()) => fetcher.start_over(),
                Err(_) => break,
            },
            () = tokio::time::sleep_until(fetcher.look_again()) => fetcher.forget_expired(),
            () = stop.cancelled() => break,
        }
    }
}

async fn subscribe(requests: &Requests, subject: String) -> Subscriber {
    loop {
        let subscribed = requests.link().client.subscribe(subject.clone());
        if let Ok(Ok(subscriber)) = tokio::time::timeout(HAND_OVER, subscribed).await {
            return subscriber;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

impl Fetcher {
    /// How many tasks are wanted and not asked for.
    fn wanted(&self) -> usize {
        let asked: usize = self.open.values().map(|open| open.remaining).sum();
        self.lane.slots().len().saturating_sub(asked)
    }

    /// When there may be something to do without a message.
    fn look_again(&self) -> Instant {
        if self.wanted() > 0 {
            return self.not_before.max(Instant::now() + PAUSE);
        }
        self.open.values().map(|open| open.until).min().unwrap_or_else(|| Instant::now() + EXPIRES)
    }

    /// After a loss of the connection: the server forgets the requests with it, and may come back without its store.
    fn start_over(&mut self) {
        self.open.clear();
        self.ready = false;
    }

    /// A server without the consumer says nothing at all before 2.10: where a request ends without a word, the consumer
    /// is looked for.
    fn forget_expired(&mut self) {
        let (now, before) = (Instant::now(), self.open.len());
        self.open.retain(|_, open| open.until > now);
        if self.open.len() < before {
            self.ready = false;
        }
    }

    async fn ask_for_more(&mut self) {
        let wanted = self.wanted().min(BATCH);
        if wanted == 0 || !self.requests.link().connected() || Instant::now() < self.not_before {
            return;
        }
        if !self.ready {
            self.make_ready().await;
        }
        if !self.ready {
            return;
        }
        let number = self.next;
        self.next += 1;
        let subject = format!("$JS.API.CONSUMER.MSG.NEXT.{TASKS_STREAM}.{}", task_consumer(self.node_type));
        let expires = u64::try_from(EXPIRES.as_nanos()).unwrap_or(u64::MAX);
        let body = Bytes::from(json!({ "batch": wanted, "expires": expires }).to_string());
        let reply = format!("{}.{number}", self.inbox);
        let sent = self.requests.link().client.publish_with_reply(subject, reply, body);
        match tokio::time::timeout(HAND_OVER, sent).await {
            Ok(Ok(())) => {
                let until = Instant::now() + EXPIRES + GRACE;
                self.open.insert(number, Open { remaining: wanted, until });
            }
            Ok(Err(_)) | Err(_) => self.not_before = Instant::now() + PAUSE,
        }
    }

    /// Finds or makes the stream and the consumer.
    async fn make_ready(&mut self) {
        let made = async {
            ensure_stream(&self.requests, &self.stream).await?;
            ensure_consumer(&self.requests, self.node_type).await
        };
        match made.await {
            Ok(()) => self.ready = true,
            Err(error) => {
                tracing::warn!("tasks are not fetched: {error}: {}", error.source);
                self.not_before = Instant::now() + PAUSE * 4;
            }
        }
    }

    async fn take(&mut self, message: Message) {
        match message.status {
            None | Some(StatusCode::OK) => self.deliver(message).await,
            Some(StatusCode::IDLE_HEARTBEAT) => {}
            Some(status) => {
                let number = message.subject.as_str().rsplit('.').next().and_then(|token| token.parse().ok());
                number.map(|number: u64| self.open.remove(&number));
                let deleted = message.description.as_deref().is_some_and(|text| text.contains("Deleted"));
                if status == StatusCode::NO_RESPONDERS || deleted {
                    self.ready = false;
                    self.not_before = Instant::now() + PAUSE;
                } else if status != StatusCode::TIMEOUT && status != StatusCode::NOT_FOUND {
                    self.not_before = Instant::now() + PAUSE;
                }
            }
        }
    }

    async fn deliver(&mut self, message: Message) {
        // A delivered message does not name its request. They are as good as each other: the oldest has it.
        if let Some(mut oldest) = self.open.first_entry() {
            oldest.get_mut().remaining -= 1;
            if oldest.get().remaining == 0 {
                oldest.remove();
            }
        }
        let Some(ack) = message.reply.as_ref().map(ToString::to_string) else {
            return;
        };
        let task = match wire::decode_task(&message.payload) {
            Ok(task) => task,
            Err(error) => {
                tracing::error!("a task was not read and waits for another worker: {error}");
                return self.acknowledge(ack, NAK_LATER).await;
            }
        };
        if self.outbox.is_cancelled(&task.task) {
            return self.acknowledge(ack, ACK).await;
        }
        let ticket = Ticket { ack, returns: Some(self.returns.clone()) };
        let delivery = Delivery { task, ticket };
        // Without a taker it is dropped here, and goes back.
        drop(self.lane.offer(delivery));
    }

    async fn acknowledge(&self, ack: String, answer: &'static [u8]) {
        self.requests.link().publish(ack, Bytes::from_static(answer)).await;
    }
}
