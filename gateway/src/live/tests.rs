//! The hand-over from history to live, on a real log, with a feed that loses, repeats and floods.

use bus::in_process::InProcessFeed;
use bus::{CommitFeed, CommittedBatch};
use domain::event::{Codec, RecordedEvent};
use domain::ids::{Actor, Partition, Position, Slot, TenantId, new_id};
use domain::time::Timestamp;
use event_store::log::{Append, Batch, Log, LogReader, PartitionHead, StreamAppend};
use event_store::sqlite::{SqliteLog, SqliteOptions};
use serde_json::json;
use std::borrow::Cow;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::cache::ExecutionCache;
use crate::position::Offsets;

use super::history::{find_first_end, is_over_after};
use super::{FeedFilter, FeedReader, FeedTail, Hub, IDLE_REREAD, MAILBOX, Resume, StreamTail, Tail};

struct Bench {
    log: Arc<SqliteLog>,
    hub: Arc<Hub>,
    stream: Uuid,
    head: PartitionHead,
    version: u64,
}

impl Bench {
    async fn new() -> Self {
        let log = Arc::new(SqliteLog::open_temporary(SqliteOptions::default()).await.expect("a log"));
        let stream = new_id(Timestamp::from_unix_ms(1), Slot::from_bits(3), 1);
        let head = log
            .take_over(Partition::of(stream, log.partitions()), uuid::Uuid::nil())
            .await
            .expect("taken over");
        Self { log, hub: Arc::default(), stream, head, version: 0 }
    }

    /// Appends so many events of one stream and gives the batch that the feed would bring.
    async fn append(&mut self, count: u64, event_type: &'static str) -> CommittedBatch {
        self.append_with(count, event_type, "{}".to_owned()).await
    }

    async fn append_with(&mut self, count: u64, event_type: &'static str, data: String) -> CommittedBatch {
        let tenant = TenantId::default_tenant();
        let at = Timestamp::from_unix_ms(1);
        let events = (1..=count).map(|number| RecordedEvent {
            position: Position { partition: self.head.partition, offset: 0 },
            stream: self.stream,
            version: self.version + number,
            tenant: tenant.clone(),
            event_type: Cow::Borrowed(event_type),
            schema_version: 1,
            id: new_id(at, Slot::of(self.stream), self.version + number),
            recorded_at: at,
            correlation_id: self.stream,
            causation_id: self.stream,
            actor: Actor::system("test"),
            traceparent: None,
            codec: Codec::Json,
            key_id: None,
            data: data.clone().into(),
        });
        let streams = vec![StreamAppend {
            stream: self.stream,
            expected_version: self.version,
            events: events.collect(),
        }];
        let append = Append {
            partition: self.head.partition,
            command_id: new_id(at, Slot::of(self.stream), 1_000_000 + self.version),
            digest: None,
            answer: "null".into(),
            decided_at: at,
            tenant,
            streams,
            claims: Vec::new(),
            wakeups: Vec::new(),
            blobs: Vec::new(),
        };
        let batch = Batch { heads: vec![self.head], appends: vec![append] };
        let committed = self.log.append(Arc::new(batch)).await.expect("appended");
        let first_offset = self.head.offset + 1;
        self.head = committed.heads[0];
        self.version += count;
        let events = committed.events.into_iter().map(Arc::new).collect();
        CommittedBatch { partition: self.head.partition, first_offset, events }
    }

    fn stream_tail(&self, after: u64) -> StreamTail {
        StreamTail::new(&self.hub, self.log.clone(), self.stream, after)
    }

    fn feed_tail(&self) -> FeedTail {
        let reader = FeedReader {
            log: self.log.clone(),
            tenant: TenantId::default_tenant(),
            filter: FeedFilter::default(),
        };
        FeedTail::new(&self.hub, reader, Offsets::start(self.log.partitions()))
    }
}

async fn versions(tail: &mut StreamTail, until: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.last() != Some(&until) {
        match tail.next().await {
            Tail::Event { event, resume } => {
                assert_eq!(resume, Resume::Version(event.event().version));
                seen.push(event.event().version);
            }
            Tail::CaughtUp(_) => {}
            other => panic!("{other:?}"),
        }
    }
    seen
}

async fn offsets(tail: &mut FeedTail, until: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.last() != Some(&until) {
        match tail.next().await {
            Tail::Event { event, .. } => seen.push(event.event().position.offset),
            Tail::CaughtUp(_) => {}
            other => panic!("{other:?}"),
        }
    }
    seen
}

#[tokio::test]
async fn what_is_in_history_and_in_the_mailbox_is_told_once() {
    let mut bench = Bench::new().await;
    let early = bench.append(3, "test.happened").await;
    let (mut stream, mut feed) = (bench.stream_tail(0), bench.feed_tail());
    // Committed before the history is read, and routed all the same.
    let late = bench.append(3, "test.happened").await;
    bench.hub.route(&early);
    bench.hub.route(&late);
    assert_eq!(versions(&mut stream, 6).await, (1..=6).collect::<Vec<_>>());
    assert_eq!(offsets(&mut feed, 6).await, (1..=6).collect::<Vec<_>>());
    let next = bench.append(1, "test.happened").await;
    bench.hub.route(&late);
    bench.hub.route(&next);
    assert_eq!(versions(&mut stream, 7).await, [7]);
    assert_eq!(offsets(&mut feed, 7).await, [7]);
}

#[tokio::test]
async fn what_the_feed_loses_is_read_from_the_log() {
    let mut bench = Bench::new().await;
    bench.append(1, "test.happened").await;
    let (mut stream, mut feed) = (bench.stream_tail(0), bench.feed_tail());
    versions(&mut stream, 1).await;
    offsets(&mut feed, 1).await;
    bench.append(5, "test.happened").await;
    let seen = bench.append(1, "test.happened").await;
    bench.hub.route(&seen);
    assert_eq!(versions(&mut stream, 7).await, (2..=7).collect::<Vec<_>>());
    assert_eq!(offsets(&mut feed, 7).await, (2..=7).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_reader_that_falls_behind_its_mailbox_still_gets_everything_in_order() {
    let mut bench = Bench::new().await;
    bench.append(1, "test.happened").await;
    let (mut stream, mut feed) = (bench.stream_tail(0), bench.feed_tail());
    versions(&mut stream, 1).await;
    offsets(&mut feed, 1).await;
    let last = MAILBOX as u64 * 2 + 1;
    for _ in 1..last {
        let batch = bench.append(1, "test.happened").await;
        bench.hub.route(&batch);
    }
    assert_eq!(versions(&mut stream, last).await, (2..=last).collect::<Vec<_>>());
    assert_eq!(offsets(&mut feed, last).await, (2..=last).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_resumed_tail_begins_after_its_version_and_ends_with_the_execution() {
    let mut bench = Bench::new().await;
    bench.append(450, "test.happened").await;
    let mut tail = bench.stream_tail(100);
    assert_eq!(versions(&mut tail, 450).await, (101..=450).collect::<Vec<_>>());
    let end = bench.append(1, "execution.cancelled").await;
    bench.hub.route(&end);
    assert_eq!(versions(&mut tail, 451).await, [451]);
    assert!(matches!(tail.next().await, Tail::CaughtUp(_) | Tail::End));
    assert!(matches!(tail.next().await, Tail::End));
    for after in [451, 9_999] {
        let mut late = bench.stream_tail(after);
        assert!(matches!(late.next().await, Tail::CaughtUp(_)));
        assert!(matches!(late.next().await, Tail::End));
    }
}

#[tokio::test]
async fn an_execution_that_goes_on_after_its_end_is_told_to_whoever_subscribes_again() {
    let mut bench = Bench::new().await;
    bench.append(2, "test.happened").await;
    bench.append(1, "execution.failed").await;
    let mut first = bench.stream_tail(0);
    assert_eq!(versions(&mut first, 3).await, [1, 2, 3]);
    assert!(matches!(first.next().await, Tail::CaughtUp(_) | Tail::End));
    assert!(matches!(first.next().await, Tail::End));
    assert!(is_over_after(bench.log.as_ref(), bench.stream, 3).await.expect("read"));

    bench.append(1, "execution.retried").await;
    assert!(!is_over_after(bench.log.as_ref(), bench.stream, 3).await.expect("read"));
    let mut whole = bench.stream_tail(0);
    assert_eq!(versions(&mut whole, 4).await, [1, 2, 3, 4], "an end in the history does not end the tail");
    let mut again = bench.stream_tail(3);
    assert_eq!(versions(&mut again, 4).await, [4]);
    let end = bench.append(1, "execution.terminated").await;
    bench.hub.route(&end);
    for tail in [&mut whole, &mut again] {
        assert_eq!(versions(tail, 5).await, [5]);
        assert!(matches!(tail.next().await, Tail::CaughtUp(_) | Tail::End));
        assert!(matches!(tail.next().await, Tail::End));
    }
    let mut read = 0;
    let first_end = find_first_end(bench.log.as_ref(), bench.stream, &mut read).await.expect("read");
    assert_eq!(first_end.map(|event| event.version), Some(3), "whoever waits is told of the first end");
}

#[tokio::test]
async fn an_execution_whose_work_was_undone_for_its_parent_is_over_again() {
    let mut bench = Bench::new().await;
    bench.append(1, "execution.completed").await;
    bench.append(1, "execution.compensation.started").await;
    assert!(!is_over_after(bench.log.as_ref(), bench.stream, 2).await.expect("read"));
    let parent =
        json!({"execution_id": bench.stream, "node_id": "child", "run": 1, "attempt": 1, "depth": 1});
    let data = json!({"status": "completed", "parent": parent}).to_string();
    bench.append_with(1, "execution.compensation.finished", data).await;
    let mut tail = bench.stream_tail(0);
    assert_eq!(versions(&mut tail, 3).await, [1, 2, 3]);
    assert!(matches!(tail.next().await, Tail::CaughtUp(_) | Tail::End));
    assert!(matches!(tail.next().await, Tail::End));
}

#[tokio::test]
async fn an_owners_sign_of_life_shows_what_the_feed_has_lost_and_a_late_one_does_no_harm() {
    let mut bench = Bench::new().await;
    let (feed, stop) = (InProcessFeed::new(), CancellationToken::new());
    let (hub, subscription) = (bench.hub.clone(), feed.subscribe());
    let following = tokio::spawn({
        let stop = stop.clone();
        async move { hub.follow(subscription, &ExecutionCache::new(0, 16), stop).await }
    });
    let sign_of_life = |head: PartitionHead| CommittedBatch {
        partition: head.partition,
        first_offset: head.offset + 1,
        events: Vec::new(),
    };
    let empty = bench.head;
    let (mut stream, mut all) = (bench.stream_tail(0), bench.feed_tail());
    feed.publish(bench.append(3, "test.happened").await);
    assert_eq!(versions(&mut stream, 3).await, [1, 2, 3]);
    assert_eq!(offsets(&mut all, 3).await, [1, 2, 3]);
    // Overtaken by the batch.
    feed.publish(sign_of_life(empty));
    // Lost on the way.
    bench.append(2, "test.happened").await;
    feed.publish(sign_of_life(bench.head));
    let found = async { (versions(&mut stream, 5).await, offsets(&mut all, 5).await) };
    let found = tokio::time::timeout(IDLE_REREAD / 2, found).await.expect("sooner than the idle look");
    assert_eq!(found, (vec![4, 5], vec![4, 5]));
    stop.cancel();
    following.await.expect("an end");
}
