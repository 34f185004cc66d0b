//! What every implementation of the ports must do. A test binary per implementation calls each function with
//! fresh instances; a failed promise panics with its name.
//!
//! Where two sides are asked for, they may be two processes' buses on one network, or the same instance twice. What a
//! network may lose or delay is waited for or repeated; the direct promises of one process have functions of their own.

use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;
use uuid::Uuid;

use domain::command::{Command, CommandEnvelope};
use domain::decision::NodeRun;
use domain::event::{Codec, RecordedEvent};
use domain::execution::command::ExecutionCommand;
use domain::ids::{Actor, Partition, Position, Slot, TenantId, new_id};
use domain::node_type::NodeType;
use domain::time::Timestamp;

use crate::commands::{CommandDoors, CommandError, CommandHandler, CommandReply, Commands};
use crate::events::EventPublisher;
use crate::feed::{CommitFeed, CommittedBatch, FeedMessage, FeedSubscription};
use crate::tasks::{Beat, Task, TaskQueue, TaskRef, Waiting};

/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often something that a network may lose is sent again.
const AGAIN: Duration = Duration::from_millis(50);

/// Counts the commands that it answers.
#[derive(Default)]
pub struct CountingHandler(AtomicUsize);

#[async_trait]
impl CommandHandler for CountingHandler {
    async fn handle(&self, command: CommandEnvelope) -> Result<CommandReply, CommandError> {
        let count = self.0.fetch_add(1, Ordering::SeqCst) + 1;
        let answer = json!({ "count": count, "stream": command.stream });
        Ok(CommandReply { answer, position: None, repeated: false })
    }
}

/// A command reaches the handler once and its reply reaches the sender.
pub async fn a_command_is_answered_by_the_handler(commands: &dyn Commands) {
    let stream = id(1);
    let reply = commands.send(cancel(stream)).await.expect("a reply");
    assert_eq!(reply.answer, json!({ "count": 1, "stream": stream }));
}

/// Without a handler the sender hears so: at once within a process, by its deadline over a network.
pub async fn a_command_without_an_owner_is_refused(commands: &dyn Commands) {
    let error = commands.send(cancel(id(1))).await.expect_err("nobody is there");
    assert!(matches!(error, CommandError::NotOwner), "{error}");
}

/// A door takes the commands of its partition until it is closed, and can be opened again. The stream of these
/// commands is in partition 1.
pub async fn doors_take_commands_until_they_are_closed(commands: &dyn Commands, doors: &dyn CommandDoors) {
    let handler = Arc::new(CountingHandler::default());
    for round in 1..=3 {
        doors.open(Partition(1), handler.clone()).await.expect("an open door");
        let reply = commands.send(cancel(id(1))).await.expect("a reply");
        assert_eq!(reply.answer, json!({ "count": round, "stream": id(1) }));
        let other = commands.send(cancel(id(2))).await.expect_err("the door of another partition");
        assert!(matches!(other, CommandError::NotOwner), "{other}");
        doors.close(Partition(1)).await;
        let closed = commands.send(cancel(id(1))).await.expect_err("the door is closed");
        assert!(matches!(closed, CommandError::NotOwner), "{closed}");
    }
}

/// A command that has come in when its door is closed is still answered.
pub async fn a_closing_door_answers_what_has_come_in(commands: Arc<dyn Commands>, doors: &dyn CommandDoors) {
    let handler = Arc::new(HeldHandler::default());
    doors.open(Partition(1), handler.clone()).await.expect("an open door");
    let sent = tokio::spawn(async move { commands.send(cancel(id(1))).await });
    tokio::time::timeout(PATIENCE, handler.entered.notified()).await.expect("a command in time");
    let release = async {
        tokio::task::yield_now().await;
        handler.release.notify_one();
    };
    tokio::join!(doors.close(Partition(1)), release);
    let reply = tokio::time::timeout(PATIENCE, sent).await.expect("in time").expect("a sender that ends");
    assert_eq!(reply.expect("a reply").answer, json!("held"));
}

/// Answers when it is told to.
#[derive(Default)]
pub struct HeldHandler {
    /// A command has come in.
    pub entered: Notify,
    /// It may be answered.
    pub release: Notify,
}

#[async_trait]
impl CommandHandler for HeldHandler {
    async fn handle(&self, _command: CommandEnvelope) -> Result<CommandReply, CommandError> {
        self.entered.notify_one();
        self.release.notified().await;
        Ok(CommandReply { answer: json!("held"), position: None, repeated: false })
    }
}

/// Batches published after the subscription arrive, each once, in the order of their partition, and so does a sign of
/// life without events.
pub async fn the_feed_keeps_the_order_of_a_partition(
    feed: &dyn CommitFeed,
    subscription: &mut dyn FeedSubscription,
) {
    for offset in 1..=100 {
        feed.publish(batch(offset));
    }
    feed.publish(CommittedBatch { partition: Partition(3), first_offset: 101, events: Vec::new() });
    for offset in 1..=100 {
        match tokio::time::timeout(PATIENCE, subscription.next()).await.expect("a message in time") {
            Some(FeedMessage::Batch(batch)) => assert_eq!(batch.first_offset, offset),
            other => panic!("expected batch {offset}, got {other:?}"),
        }
    }
    match tokio::time::timeout(PATIENCE, subscription.next()).await.expect("a message in time") {
        Some(FeedMessage::Batch(batch)) => assert_eq!((batch.first_offset, batch.events.len()), (101, 0)),
        other => panic!("expected a sign of life, got {other:?}"),
    }
}

/// A subscriber that does not read never holds a publisher up, and is told that it has missed something.
pub async fn a_slow_subscriber_lags_and_blocks_nobody(feed: &dyn CommitFeed) {
    let mut slow = feed.subscribe();
    let last = 10_000;
    for offset in 1..=last {
        feed.publish(batch(offset));
    }
    let mut lagged = false;
    loop {
        match tokio::time::timeout(PATIENCE, slow.next()).await.expect("a message in time") {
            Some(FeedMessage::Lagged) => lagged = true,
            Some(FeedMessage::Batch(batch)) if batch.first_offset == last => break,
            Some(FeedMessage::Batch(_)) => {}
            None => panic!("the feed ended"),
        }
    }
    assert!(lagged, "the subscriber was not told that it has missed batches");
}

/// Every task is delivered, and to one worker only while nothing fails.
pub async fn every_task_reaches_one_worker(owner: &dyn TaskQueue, queue: Arc<dyn TaskQueue>) {
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while let Ok(Some(task)) =
                    tokio::time::timeout(Duration::from_secs(2), queue.pull(&[NodeType::HttpRequest])).await
                {
                    seen.push(task.task);
                }
                seen
            })
        })
        .collect();
    for number in 0..200 {
        owner.publish(task(number)).await;
    }
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.expect("a worker that ends"));
    }
    assert_eq!(all.len(), 200);
    assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), 200);
}

/// A worker gets only tasks of the types that it asks for.
pub async fn a_worker_gets_only_its_types(owner: &dyn TaskQueue, queue: &dyn TaskQueue) {
    owner.publish(task(1)).await;
    let other = tokio::time::timeout(Duration::from_millis(100), queue.pull(&[NodeType::Delay])).await;
    assert!(other.is_err(), "a task of another type was delivered");
    let mine = tokio::time::timeout(PATIENCE, queue.pull(&[NodeType::HttpRequest])).await.expect("in time");
    assert_eq!(mine.map(|task| task.task), Some(task(1).task));
}

/// A sign of life reaches the owner.
pub async fn a_beat_reaches_the_owner(queue: &dyn TaskQueue) {
    let beat = Beat { task: task(1).task, worker: "w1".into() };
    queue.beat(beat.clone());
    let seen = tokio::time::timeout(PATIENCE, queue.next_beat()).await.expect("in time");
    assert_eq!(seen, Some(beat));
}

/// Of the signs of life that a worker gives one after the other, one reaches the owner.
pub async fn beats_reach_the_owner(owner: &dyn TaskQueue, worker: &dyn TaskQueue) {
    let beat = Beat { task: task(1).task, worker: "w1".into() };
    let beating = async {
        loop {
            worker.beat(beat.clone());
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::select! {
        seen = tokio::time::timeout(PATIENCE, owner.next_beat()) => assert_eq!(seen.expect("in time"), Some(beat.clone())),
        () = beating => {}
    }
}

/// The owner learns that a task waits, and that it does not once a worker has it. Its first sign of life comes with
/// the delivery, for whoever listens already.
pub async fn the_owner_learns_whether_a_task_waits(owner: &dyn TaskQueue, worker: &dyn TaskQueue) {
    assert_eq!(owner.is_waiting(&task(1).task).await, Waiting::No, "a task that was never published");
    owner.publish(task(1)).await;
    assert_eq!(owner.is_waiting(&task(1).task).await, Waiting::Yes, "a task that was just published");
    tokio::time::sleep(AGAIN * 4).await;
    assert_eq!(owner.is_waiting(&task(1).task).await, Waiting::Yes, "a task that is in the queue");
    let pulled =
        tokio::time::timeout(PATIENCE, worker.pull(&[NodeType::HttpRequest])).await.expect("in time");
    assert_eq!(pulled.map(|task| task.task), Some(task(1).task));
    until_gone(owner, 1).await;
    // The same attempt again, because its worker fell silent.
    owner.publish(task(1)).await;
    let pulled =
        tokio::time::timeout(PATIENCE, worker.pull(&[NodeType::HttpRequest])).await.expect("in time");
    assert_eq!(pulled.map(|task| task.task), Some(task(1).task));
}

/// Waits until the queue says that it does not hold a task.
pub async fn until_gone(owner: &dyn TaskQueue, number: u32) {
    let gone = async {
        while owner.is_waiting(&task(number).task).await != Waiting::No {
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("a task that leaves the queue in time");
}

/// Events are stored in order and once, also where they are sent again, and the end of a partition is known.
pub async fn published_events_are_in_order(publisher: &dyn EventPublisher) {
    assert!(publisher.publish(&[event(1)]).await.is_err(), "a publisher that was not made ready");
    publisher.reset().await.expect("a publisher that is ready");
    assert_eq!(publisher.last_published(Partition(3)).await.expect("an answer"), None);
    let events: Vec<_> = (1..=1_000).map(event).collect();
    for part in [&events[..600], &events[400..]] {
        publisher.publish(part).await.expect("stored events");
        let last = publisher.last_published(Partition(3)).await.expect("an answer");
        assert_eq!(last, part.last().map(|event| event.position));
    }
    publisher.reset().await.expect("a publisher that is ready again");
    let last = publisher.last_published(Partition(3)).await.expect("an answer");
    assert_eq!(last, Some(Position { partition: Partition(3), offset: 1_000 }));
    assert_eq!(publisher.last_published(Partition(2)).await.expect("an answer"), None);
}

/// A task that was cancelled while it waited goes to no worker; the others do.
pub async fn a_cancelled_task_is_not_delivered(owner: &dyn TaskQueue, queue: &dyn TaskQueue) {
    for number in 1..=3 {
        owner.publish(task(number)).await;
    }
    // A silent worker's task is handed out again: then it waits twice.
    owner.publish(task(2)).await;
    owner.cancel(task(2).task);
    until_gone(owner, 2).await;
    let mut seen = HashSet::new();
    for _ in 0..2 {
        let pulled = tokio::time::timeout(PATIENCE, queue.pull(&[NodeType::HttpRequest])).await;
        seen.extend(pulled.expect("in time").map(|task| task.task));
    }
    assert_eq!(seen, HashSet::from([task(1).task, task(3).task]));
    let left = tokio::time::timeout(Duration::from_millis(100), queue.pull(&[NodeType::HttpRequest])).await;
    assert!(left.is_err(), "a cancelled task was delivered");
}

/// A cancel that overtakes the publish of its task wins; a further attempt is another task.
pub async fn a_task_cancelled_before_its_publish_is_not_delivered(
    owner: &dyn TaskQueue,
    queue: &dyn TaskQueue,
) {
    owner.cancel(task(1).task);
    owner.publish(task(1)).await;
    let mut next = task(1);
    next.task.node.attempt = 2;
    owner.publish(next.clone()).await;
    let pulled = tokio::time::timeout(PATIENCE, queue.pull(&[NodeType::HttpRequest])).await;
    assert_eq!(pulled.expect("in time").map(|task| task.task), Some(next.task));
    let left = tokio::time::timeout(Duration::from_millis(100), queue.pull(&[NodeType::HttpRequest])).await;
    assert!(left.is_err(), "a cancelled task was delivered");
}

/// A request to stop reaches every worker that listens.
pub async fn a_cancellation_reaches_every_worker(queue: &dyn TaskQueue) {
    let (mut first, mut second) = (queue.cancellations(), queue.cancellations());
    queue.cancel(task(7).task);
    for worker in [&mut first, &mut second] {
        let seen = tokio::time::timeout(PATIENCE, worker.recv()).await.expect("in time");
        assert_eq!(seen.ok(), Some(task(7).task));
    }
}

/// An id; its number is its slot.
pub fn id(number: u64) -> Uuid {
    new_id(Timestamp::from_unix_ms(1_795_000_000_000), Slot::from_bits(number), number)
}

/// A command to a stream.
pub fn cancel(stream: Uuid) -> CommandEnvelope {
    CommandEnvelope {
        id: id(99),
        tenant: TenantId::default_tenant(),
        actor: Actor::system("contract"),
        stream,
        correlation_id: stream,
        causation_id: id(99),
        traceparent: None,
        digest: None,
        command: Command::Execution(ExecutionCommand::Cancel { reason: None }),
        authority: None,
    }
}

fn batch(offset: u64) -> CommittedBatch {
    CommittedBatch { partition: Partition(3), first_offset: offset, events: vec![event(offset)] }
}

/// An event of partition 3.
pub fn event(offset: u64) -> Arc<RecordedEvent> {
    Arc::new(RecordedEvent {
        position: Position { partition: Partition(3), offset },
        stream: id(3),
        version: offset,
        tenant: TenantId::default_tenant(),
        event_type: "execution.warning".into(),
        schema_version: 1,
        id: id(offset),
        recorded_at: Timestamp::from_unix_ms(1_795_000_000_000),
        correlation_id: id(3),
        causation_id: id(3),
        actor: Actor::system("contract"),
        traceparent: None,
        codec: Codec::Json,
        key_id: None,
        data: br#"{"code":"c","message":"m"}"#.as_slice().into(),
    })
}

/// A task of its own execution.
pub fn task(number: u32) -> Task {
    Task {
        task: TaskRef {
            execution: id(u64::from(number)),
            node: NodeRun { node_id: "fetch".to_owned(), run: 1, attempt: 1 },
        },
        tenant: TenantId::default_tenant(),
        node_type: NodeType::HttpRequest,
        config: Value::Null,
        deadline: Timestamp::MAX,
        heartbeat_timeout_ms: None,
        correlation_id: id(1),
        causation_id: id(1),
        traceparent: None,
    }
}
