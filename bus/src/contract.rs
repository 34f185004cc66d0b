//! What every implementation of the ports must do. A test binary per implementation calls each function with
//! fresh instances; a failed promise panics with its name.

use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use uuid::Uuid;

use domain::command::{Command, CommandEnvelope};
use domain::decision::NodeRun;
use domain::event::{Codec, RecordedEvent};
use domain::execution::command::ExecutionCommand;
use domain::ids::{Actor, Partition, Position, Slot, TenantId, new_id};
use domain::node_type::NodeType;
use domain::time::Timestamp;

use crate::commands::{CommandError, CommandHandler, CommandReply, Commands};
use crate::feed::{CommitFeed, CommittedBatch, FeedMessage};
use crate::tasks::{Beat, Task, TaskQueue, TaskRef};

/// How long a message may take.
const PATIENCE: Duration = Duration::from_secs(5);

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

/// Without a handler the sender hears so at once instead of waiting.
pub async fn a_command_without_an_owner_is_refused(commands: &dyn Commands) {
    let error = commands.send(cancel(id(1))).await.expect_err("nobody is there");
    assert!(matches!(error, CommandError::NotOwner), "{error}");
}

/// Batches published after the subscription arrive, each once, in the order of their partition.
pub async fn the_feed_keeps_the_order_of_a_partition(feed: &dyn CommitFeed) {
    let mut subscription = feed.subscribe();
    for offset in 1..=100 {
        feed.publish(batch(offset));
    }
    for offset in 1..=100 {
        match tokio::time::timeout(PATIENCE, subscription.next()).await.expect("a message in time") {
            Some(FeedMessage::Batch(batch)) => assert_eq!(batch.first_offset, offset),
            other => panic!("expected batch {offset}, got {other:?}"),
        }
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
pub async fn every_task_reaches_one_worker(queue: Arc<dyn TaskQueue>) {
    let workers: Vec<_> = (0..4)
        .map(|_| {
            let queue = queue.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while let Ok(Some(task)) =
                    tokio::time::timeout(Duration::from_millis(500), queue.pull(&[NodeType::HttpRequest]))
                        .await
                {
                    seen.push(task.task);
                }
                seen
            })
        })
        .collect();
    for number in 0..200 {
        queue.publish(task(number)).await;
    }
    let mut all = Vec::new();
    for worker in workers {
        all.extend(worker.await.expect("a worker that ends"));
    }
    assert_eq!(all.len(), 200);
    assert_eq!(all.into_iter().collect::<HashSet<_>>().len(), 200);
}

/// A worker gets only tasks of the types that it asks for.
pub async fn a_worker_gets_only_its_types(queue: &dyn TaskQueue) {
    queue.publish(task(1)).await;
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

/// A task that was cancelled while it waited goes to no worker; the others do.
pub async fn a_cancelled_task_is_not_delivered(queue: &dyn TaskQueue) {
    for number in 1..=3 {
        queue.publish(task(number)).await;
    }
    // A silent worker's task is handed out again: then it waits twice.
    queue.publish(task(2)).await;
    queue.cancel(task(2).task);
    for number in [1, 3] {
        let pulled = tokio::time::timeout(PATIENCE, queue.pull(&[NodeType::HttpRequest])).await;
        assert_eq!(pulled.expect("in time").map(|task| task.task), Some(task(number).task));
    }
    let left = tokio::time::timeout(Duration::from_millis(100), queue.pull(&[NodeType::HttpRequest])).await;
    assert!(left.is_err(), "a cancelled task was delivered");
}

/// A cancel that overtakes the publish of its task wins; a further attempt is another task.
pub async fn a_task_cancelled_before_its_publish_is_not_delivered(queue: &dyn TaskQueue) {
    queue.cancel(task(1).task);
    queue.publish(task(1)).await;
    let mut next = task(1);
    next.task.node.attempt = 2;
    queue.publish(next.clone()).await;
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

fn id(number: u64) -> Uuid {
    new_id(Timestamp::from_unix_ms(1_795_000_000_000), Slot::from_bits(number), number)
}

fn cancel(stream: Uuid) -> CommandEnvelope {
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
    }
}

fn batch(offset: u64) -> CommittedBatch {
    let event = RecordedEvent {
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
    };
    CommittedBatch { partition: Partition(3), first_offset: offset, events: vec![Arc::new(event)] }
}

fn task(number: u32) -> Task {
    Task {
        task: TaskRef {
            execution: id(u64::from(number)),
            node: NodeRun { node_id: "fetch".to_owned(), run: 1, attempt: 1 },
        },
        tenant: TenantId::default_tenant(),
        node_type: NodeType::HttpRequest,
        config: Value::Null,
        deadline: Timestamp::MAX,
        correlation_id: id(1),
        causation_id: id(1),
        traceparent: None,
    }
}
