//! Tasks on their way into the stream, and where they are in it.
//!
//! A task that was handed over is published until the stream has it, it is cancelled, or its deadline has passed: the
//! server may be away for an hour meanwhile. It is known until a worker gives its first sign of life, so what is known
//! is what waits. One that is published again while it has not been sent is sent once; while it is on its way, it is sent
//! again after that, for the first copy may be with a worker already.

use async_nats::HeaderMap;
use async_nats::jetstream::stream::Config;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use domain::time::Timestamp;

use super::TASK_HEADER;
use crate::cancelled::Cancelled;
use crate::nats::api::{ApiError, stored};
use crate::nats::requests::{AskError, Requests};
use crate::nats::streams::ensure_stream;
use crate::nats::subjects::{self, TASKS_STREAM};
use crate::nats::wire::{encode_task, task_name};
use crate::tasks::{Task, TaskRef, Waiting};

/// Tasks that may wait to be published. Owners bound what they have out to far less.
const QUEUE: usize = 65_536;
/// Stored tasks that are remembered although no worker gave a sign of life.
const STORED: usize = 65_536;
/// Copies of one task in the stream that are remembered.
const COPIES: usize = 8;
/// Publishes that are not acknowledged yet.
const WINDOW: usize = 256;
/// How long an acknowledgement may take.
const ACK: Duration = Duration::from_secs(5);
/// The first pause after a failure.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often a connection that is gone is looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// A task on its way to the stream.
struct Outgoing {
    content: Task,
    /// One for all tries of one publish, so that a try whose answer was lost is not stored twice (within the stream's
    /// window for repetitions); another for a task that is handed out again, which must not pass for a repetition.
    message_id: Uuid,
}

impl std::ops::Deref for Outgoing {
    type Target = Task;

    fn deref(&self) -> &Task {
        &self.content
    }
}

/// One task: in the queue, on its way, in the stream, or several of these.
#[derive(Default)]
struct Entry {
    queued: Option<Arc<Outgoing>>,
    /// Publishes on their way. What they carry may be stored, and even delivered, before we hear of it.
    sending: u32,
    /// A worker has given a sign of life for what is on its way: that is faster than its acknowledgement.
    delivered: bool,
    /// Its numbers in the stream.
    stored: Vec<u64>,
    /// Its place among those that are remembered.
    remembered: Option<u64>,
    /// Too large for the bus: nobody will ever get it, and to publish it again would not help.
    undeliverable: bool,
}

impl Entry {
    fn is_idle(&self) -> bool {
        self.queued.is_none() && self.sending == 0
    }
}

#[derive(Default)]
struct Lists {
    entries: HashMap<TaskRef, Entry>,
    queue: VecDeque<TaskRef>,
    /// Those that wait in the stream, in the order in which they were stored; bounds what is remembered of lost ones.
    stored: BTreeMap<u64, TaskRef>,
    /// How often something was stored.
    count: u64,
    cancelled: Cancelled,
}

impl Lists {
    /// Bounds what is known of tasks that nobody asks for any more. Only what still waits counts: a task that waits for
    /// long must not be forgotten, and so published again, because others pass it.
    fn remember(&mut self, task: &TaskRef) {
        let Some(entry) = self.entries.get_mut(task) else { return };
        self.count += 1;
        if let Some(earlier) = entry.remembered.replace(self.count) {
            self.stored.remove(&earlier);
        }
        self.stored.insert(self.count, task.clone());
        if self.stored.len() > STORED
            && let Some((_, oldest)) = self.stored.pop_first()
            && let Some(entry) = self.entries.get_mut(&oldest)
        {
            entry.remembered = None;
            if entry.is_idle() {
                self.entries.remove(&oldest);
            }
        }
    }

    fn remove(&mut self, task: &TaskRef) {
        if let Some(number) = self.entries.remove(task).and_then(|entry| entry.remembered) {
            self.stored.remove(&number);
        }
    }
}

/// What was published by this process and is with no worker yet.
#[derive(Default)]
pub(super) struct Outbox {
    lists: Mutex<Lists>,
    arrived: Notify,
}

impl Outbox {
    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a task to publish.
    pub(super) fn add(&self, task: Task) {
        {
            let mut lists = self.lists();
            let lists = &mut *lists;
            // A cancelled attempt is never wanted again: the next one has a higher number.
            if lists.cancelled.contains(&task.task) {
                return;
            }
            let full = lists.queue.len() >= QUEUE;
            let entry = lists.entries.entry(task.task.clone()).or_default();
            if entry.queued.is_some() || entry.undeliverable {
                return;
            }
            if full {
                tracing::error!(
                    execution.id = %task.task.execution,
                    "a task was dropped because {QUEUE} wait to be published; NATS must come back"
                );
                return;
            }
            lists.queue.push_back(task.task.clone());
            entry.queued = Some(Arc::new(Outgoing { content: task, message_id: Uuid::new_v4() }));
            entry.delivered = false;
        }
        self.arrived.notify_one();
    }

    /// Where a task is: its numbers in the stream, or the answer to whether it waits.
    pub(super) fn whereabouts(&self, task: &TaskRef) -> Result<Vec<u64>, Waiting> {
        match self.lists().entries.get(task) {
            None => Err(Waiting::No),
            Some(entry) if !entry.is_idle() || entry.undeliverable => Err(Waiting::Yes),
            Some(entry) if entry.stored.is_empty() => Err(Waiting::No),
            Some(entry) => Ok(entry.stored.clone()),
        }
    }

    /// Notes that the stream does not hold these any more.
    pub(super) fn forget(&self, task: &TaskRef, gone: &[u64]) {
        let mut lists = self.lists();
        if let Some(entry) = lists.entries.get_mut(task) {
            entry.stored.retain(|seq| !gone.contains(seq));
            if entry.is_idle() && entry.stored.is_empty() {
                lists.remove(task);
            }
        }
    }

    /// Notes that a worker has it.
    pub(super) fn delivered(&self, task: &TaskRef) {
        let mut lists = self.lists();
        let Some(entry) = lists.entries.get_mut(task) else { return };
        if entry.sending == 0 && !entry.undeliverable {
            // A second copy that waits to be sent is not needed: the worker that was thought silent has it.
            lists.remove(task);
        } else {
            entry.delivered = entry.sending > 0;
        }
    }

    /// Notes that it is not wanted any more; the answer is where it is in the stream.
    pub(super) fn cancel(&self, task: &TaskRef) -> Vec<u64> {
        let mut lists = self.lists();
        lists.cancelled.remember(task.clone());
        let Some(entry) = lists.entries.get_mut(task) else {
            return Vec::new();
        };
        entry.queued = None;
        let stored = entry.stored.clone();
        if entry.is_idle() && stored.is_empty() {
            lists.remove(task);
        }
        stored
    }

    /// Whether it is known to be cancelled.
    pub(super) fn is_cancelled(&self, task: &TaskRef) -> bool {
        self.lists().cancelled.contains(task)
    }

    /// Whether nothing is left to publish.
    pub(super) fn is_empty(&self) -> bool {
        let lists = self.lists();
        lists.queue.is_empty() && lists.entries.values().all(Entry::is_idle)
    }

    /// The next task to publish.
    fn next(&self, now: Timestamp) -> Option<Arc<Outgoing>> {
        let mut lists = self.lists();
        loop {
            let name = lists.queue.pop_front()?;
            let Some(entry) = lists.entries.get_mut(&name) else { continue };
            match entry.queued.take() {
                Some(task) if task.deadline > now => {
                    entry.sending += 1;
                    return Some(task);
                }
                // Cancelled, or past its deadline: the owner has written that already.
                _ if entry.is_idle() && entry.stored.is_empty() => {
                    lists.remove(&name);
                }
                _ => {}
            }
        }
    }

    /// Notes what became of a publish. The answer is a number in the stream to take out again.
    fn settle(&self, task: Arc<Outgoing>, outcome: Outcome) -> Option<u64> {
        let mut lists = self.lists();
        let lists = &mut *lists;
        let name = &task.task;
        let cancelled = lists.cancelled.contains(name);
        let entry = lists.entries.get_mut(name)?;
        entry.sending -= 1;
        if entry.delivered && entry.is_idle() {
            lists.remove(name);
            return None;
        }
        match outcome {
            Outcome::Stored(seq) => {
                entry.stored.push(seq);
                if entry.stored.len() > COPIES {
                    entry.stored.remove(0);
                }
                lists.remember(name);
                return cancelled.then_some(seq);
            }
            Outcome::Undeliverable => {
                entry.undeliverable = true;
                lists.remember(name);
            }
            Outcome::Failed if cancelled => {
                if entry.is_idle() && entry.stored.is_empty() {
                    lists.remove(name);
                }
            }
            // It is in the queue again by itself.
            Outcome::Failed if entry.queued.is_some() => {}
            Outcome::Failed => {
                lists.queue.push_front(name.clone());
                entry.queued = Some(task);
            }
        }
        None
    }
}

enum Outcome {
    Stored(u64),
    Failed,
    Undeliverable,
}

/// Publishes what is handed over until told to stop.
pub(super) async fn publish(
    outbox: Arc<Outbox>,
    requests: Arc<Requests>,
    stream: Arc<Config>,
    stop: CancellationToken,
) {
    let mut sending = FuturesUnordered::new();
    let mut pause = Duration::ZERO;
    let mut not_before = Instant::now();
    loop {
        let ready = requests.link().connected() && Instant::now() >= not_before;
        while ready && sending.len() < WINDOW {
            match outbox.next(now()) {
                Some(task) => sending.push(send(requests.clone(), task)),
                None => break,
            }
        }
        tokio::select! {
            Some((task, result)) = sending.next(), if !sending.is_empty() => {
                let (outcome, wait) = judge(&task, result, &requests, &stream, pause.is_zero()).await;
                pause = if wait { (pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE) } else { Duration::ZERO };
                not_before = Instant::now() + pause;
                let name = task.task.clone();
                if let Some(seq) = outbox.settle(task, outcome) {
                    // Cancelled on its way: it must not wait in the stream.
                    let _ = crate::nats::api::delete(&requests, TASKS_STREAM, seq).await;
                    outbox.forget(&name, &[seq]);
                }
            }
            () = outbox.arrived.notified(), if ready && sending.len() < WINDOW => {}
            () = tokio::time::sleep(LOOK_AGAIN.min(pause.max(FIRST_PAUSE))), if !ready => {}
            () = stop.cancelled() => break,
        }
    }
}

/// What an answer means, and whether to wait before the next publish.
async fn judge(
    task: &Task,
    result: Result<u64, PublishError>,
    requests: &Requests,
    stream: &Config,
    first: bool,
) -> (Outcome, bool) {
    match result {
        Ok(seq) => (Outcome::Stored(seq), false),
        Err(PublishError::Ask(AskError::TooLarge { size, limit })) => {
            let TaskRef { execution, node } = &task.task;
            tracing::error!(
                execution.id = %execution, node.path = %node.node_id, node.attempt = node.attempt,
                "a task of {size} bytes is larger than the {limit} that NATS takes and fails by its deadline; raise \
                 `max_payload` of nats-server"
            );
            (Outcome::Undeliverable, false)
        }
        Err(error) => {
            if first {
                tracing::warn!("a task was not taken by NATS and is sent again: {error}");
            }
            if matches!(error, PublishError::Ask(AskError::NoResponders) | PublishError::Api(_))
                && let Err(error) = ensure_stream(requests, stream).await
            {
                tracing::warn!("the stream of tasks is not as it must be: {error}: {}", error.source);
            }
            (Outcome::Failed, true)
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum PublishError {
    #[error(transparent)]
    Ask(#[from] AskError),
    #[error(transparent)]
    Api(#[from] ApiError),
}

async fn send(requests: Arc<Requests>, task: Arc<Outgoing>) -> (Arc<Outgoing>, Result<u64, PublishError>) {
    let mut headers = HeaderMap::new();
    headers.insert("Nats-Msg-Id", task.message_id.simple().to_string());
    headers.insert("Nats-Expected-Stream", TASKS_STREAM);
    headers.insert(TASK_HEADER, task_name(&task.task));
    let answer = requests.ask(subjects::task(task.node_type), headers, encode_task(&task), ACK).await;
    let result = match answer {
        Ok(message) => stored(&message.payload).map_err(PublishError::from),
        Err(error) => Err(error.into()),
    };
    (task, result)
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::decision::NodeRun;
    use domain::ids::TenantId;
    use domain::node_type::NodeType;

    fn task() -> Task {
        Task {
            task: TaskRef {
                execution: Uuid::nil(),
                node: NodeRun { node_id: "a".to_owned(), run: 1, attempt: 1 },
            },
            tenant: TenantId::default_tenant(),
            node_type: NodeType::HttpRequest,
            config: serde_json::Value::Null,
            deadline: Timestamp::MAX,
            heartbeat_timeout_ms: None,
            correlation_id: Uuid::nil(),
            causation_id: Uuid::nil(),
            traceparent: None,
        }
    }

    #[test]
    fn a_task_that_is_published_again_while_it_is_on_its_way_is_sent_twice() {
        let outbox = Outbox::default();
        outbox.add(task());
        outbox.add(task());
        let first = outbox.next(now()).expect("a task");
        assert!(outbox.next(now()).is_none(), "it was not sent yet and waits once");
        outbox.add(task());
        let second = outbox.next(now()).expect("a second copy");
        outbox.settle(first, Outcome::Stored(1));
        assert_eq!(outbox.whereabouts(&task().task), Err(Waiting::Yes));
        outbox.settle(second, Outcome::Stored(2));
        assert_eq!(outbox.whereabouts(&task().task), Ok(vec![1, 2]));
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_publish_that_is_tried_again_keeps_its_message_and_a_further_one_has_another() {
        let outbox = Outbox::default();
        outbox.add(task());
        let first = outbox.next(now()).expect("a task");
        let message = first.message_id;
        outbox.settle(first, Outcome::Failed);
        let again = outbox.next(now()).expect("the same once more");
        assert_eq!(again.message_id, message);
        outbox.settle(again, Outcome::Stored(1));
        outbox.add(task());
        assert_ne!(outbox.next(now()).expect("a second copy").message_id, message);
    }

    #[test]
    fn a_second_copy_is_not_sent_once_the_worker_is_heard() {
        let outbox = Outbox::default();
        outbox.add(task());
        let sent = outbox.next(now()).expect("a task");
        outbox.settle(sent, Outcome::Stored(1));
        outbox.add(task());
        outbox.delivered(&task().task);
        assert!(outbox.next(now()).is_none() && outbox.lists().entries.is_empty());
    }

    #[test]
    fn what_failed_is_sent_again_unless_it_is_cancelled_or_too_late() {
        let outbox = Outbox::default();
        outbox.add(task());
        let sent = outbox.next(now()).expect("a task");
        outbox.settle(sent, Outcome::Failed);
        assert!(outbox.next(Timestamp::MAX).is_none(), "its deadline has passed");
        outbox.add(task());
        let sent = outbox.next(now()).expect("a task");
        assert_eq!(outbox.cancel(&task().task), Vec::<u64>::new());
        outbox.settle(sent, Outcome::Failed);
        assert!(outbox.next(now()).is_none() && outbox.lists().entries.is_empty());
    }

    #[test]
    fn a_task_that_is_cancelled_on_its_way_is_taken_out_again() {
        let outbox = Outbox::default();
        outbox.add(task());
        let sent = outbox.next(now()).expect("a task");
        outbox.cancel(&task().task);
        assert_eq!(outbox.settle(sent, Outcome::Stored(9)), Some(9));
        outbox.forget(&task().task, &[9]);
        assert!(outbox.lists().entries.is_empty());
    }

    #[test]
    fn a_task_whose_worker_is_faster_than_its_acknowledgement_is_forgotten_with_it() {
        for outcome in [Outcome::Stored(1), Outcome::Failed] {
            let outbox = Outbox::default();
            outbox.add(task());
            let sent = outbox.next(now()).expect("a task");
            outbox.delivered(&task().task);
            outbox.settle(sent, outcome);
            assert!(outbox.next(now()).is_none() && outbox.lists().entries.is_empty());
        }
    }

    #[test]
    fn a_task_that_waits_is_known_however_many_others_pass_it() {
        let outbox = Outbox::default();
        let store = |number: u32| {
            let mut task = task();
            task.task.node.attempt = number;
            let name = task.task.clone();
            outbox.add(task);
            let sent = outbox.next(now()).expect("a task");
            outbox.settle(sent, Outcome::Stored(u64::from(number)));
            name
        };
        let known = |outbox: &Outbox| {
            let lists = outbox.lists();
            (lists.entries.len(), lists.stored.len())
        };
        let waiting = store(0);
        for number in 1..=70_000 {
            outbox.delivered(&store(number));
        }
        assert_eq!(outbox.whereabouts(&waiting), Ok(vec![0]));
        assert_eq!(known(&outbox), (1, 1));
        // What is lost for good is bounded, oldest first.
        let kept = u32::try_from(STORED).expect("a number of tasks");
        let lost: Vec<_> = (1..=kept).map(store).collect();
        assert_eq!(outbox.whereabouts(&waiting), Err(Waiting::No));
        assert_eq!(outbox.whereabouts(&lost[0]), Ok(vec![1]));
        assert_eq!(known(&outbox), (STORED, STORED));
    }

    #[test]
    fn a_task_that_is_too_large_waits_for_its_deadline_and_is_not_tried_again() {
        let outbox = Outbox::default();
        outbox.add(task());
        let sent = outbox.next(now()).expect("a task");
        outbox.settle(sent, Outcome::Undeliverable);
        outbox.add(task());
        assert!(outbox.next(now()).is_none());
        assert_eq!(outbox.whereabouts(&task().task), Err(Waiting::Yes));
    }
}
