//! `append`: events per second through `Log::append`, against a bare insert of the same rows.
//!
//! One store is written through the log; after each append its new rows are read back and written to a second,
//! equal store by plain multi-row inserts. Both are timed alone, one after the other, batch by batch, so that
//! whatever else the machine does meets both. Streams are new in every batch, as those of executions are.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clap::Args;
use serde_json::json;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use uuid::Uuid;

use domain::event::{Codec, RecordedEvent};
use domain::ids::{Actor, Partition, Position, Slot, TenantId, new_id};
use domain::time::Timestamp;
use event_store::sqlite::{SqliteLog, SqliteOptions};
use event_store::{Append, Batch, Log, LogReader, PartitionHead, StreamAppend};

use crate::bare::{Bare, RowReader};
use crate::report::{Latencies, Report, Row};

/// Events that one command appends to its stream; a smaller batch is one shorter command.
const EVENTS_PER_STREAM: usize = 5;
/// Batches that are written before time is taken.
const WARM_UP: usize = 20;

#[derive(Args)]
pub(crate) struct Options {
    /// Events in a batch.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 500])]
    batches: Vec<usize>,
    /// Seconds for each size of batch, log and bare insert together.
    #[arg(long, default_value_t = 20)]
    seconds: u64,
}

/// How one of the two sides fared.
#[derive(Default)]
struct Side {
    time: Duration,
    latencies: Latencies,
}

impl Side {
    fn add(&mut self, time: Duration) {
        self.time += time;
        self.latencies.add(time);
    }

    fn per_second(&self, count: usize) -> f64 {
        count as f64 / self.time.as_secs_f64()
    }
}

pub(crate) async fn run(options: &Options, dir: &Path) -> Result<Report> {
    let mut rows = Vec::new();
    for events in &options.batches {
        if !(1..=500).contains(events) {
            bail!("a batch has 1 to 500 events, not {events}");
        }
        let dir = dir.join(format!("append-{events}"));
        std::fs::create_dir(&dir)?;
        rows.push(measure(*events, Duration::from_secs(options.seconds), &dir).await?);
    }
    Ok(Report {
        scenario: "append",
        parameters: json!({"batches": options.batches, "seconds": options.seconds, "events_per_stream": EVENTS_PER_STREAM}),
        notes: vec![
            "log: Log::append, all that an append does; bare: multi-row inserts of the same rows of events, commands \
             and commits in one transaction; both synchronous=full; ratio: events/s of the log over those of bare"
                .to_owned(),
        ],
        rows,
        failures: 0,
    })
}

async fn measure(events: usize, time: Duration, dir: &Path) -> Result<Row> {
    let path = dir.join("log.db");
    let log = SqliteLog::open(&path, SqliteOptions::default()).await.context("the log does not open")?;
    let mut reader = RowReader::open(&path).await?;
    let mut bare = Bare::open(&dir.join("bare.db")).await?;
    let mut writer = Writer::own_all(&log).await?;
    let (mut through_log, mut through_bare) = (Side::default(), Side::default());
    let (mut count, mut commands) = (0, 0);
    let mut began = Instant::now();
    for round in 0.. {
        if round == WARM_UP {
            (through_log, through_bare) = (Side::default(), Side::default());
            (count, commands) = (0, 0);
            began = Instant::now();
        } else if round > WARM_UP && began.elapsed() >= time {
            break;
        }
        let batch = Arc::new(writer.batch(events));
        let appends = batch.appends.len();
        let start = Instant::now();
        let committed = log.append(batch).await.context("the log refused a batch")?;
        through_log.add(start.elapsed());
        let new = reader.read_new(&committed.heads, &writer.touched).await?;
        writer.advance(committed.heads);
        let start = Instant::now();
        bare.insert(&new).await?;
        through_bare.add(start.elapsed());
        count += events;
        commands += appends;
    }
    log.close().await;
    through_log.latencies.sort();
    through_bare.latencies.sort();
    let (of_log, of_bare) = (through_log.per_second(count), through_bare.per_second(count));
    Ok(Row::default()
        .number("batch", events as f64, 0)
        .number("commands/s", through_log.per_second(commands), 0)
        .number("log events/s", of_log, 0)
        .latency(["log p50 ms", "log p99 ms", "log max ms"], &through_log.latencies)
        .number("bare events/s", of_bare, 0)
        .latency(["bare p50 ms", "bare p99 ms", "bare max ms"], &through_bare.latencies)
        .number("ratio", of_log / of_bare, 2))
}

/// Makes batches as an owner of every partition would.
struct Writer {
    heads: Vec<PartitionHead>,
    /// The partitions of the last batch.
    touched: BTreeSet<Partition>,
    tenant: TenantId,
    actor: Actor,
    random: u64,
}

impl Writer {
    async fn own_all(log: &SqliteLog) -> Result<Self> {
        let mut heads = Vec::new();
        for partition in 0..log.partitions() {
            heads.push(log.take_over(Partition(partition), uuid::Uuid::nil()).await?);
        }
        Ok(Self {
            heads,
            touched: BTreeSet::new(),
            tenant: TenantId::default_tenant(),
            actor: Actor::system("bench"),
            random: 0x5eed,
        })
    }

    fn advance(&mut self, committed: Vec<PartitionHead>) {
        for head in committed {
            self.heads[usize::from(head.partition.0)] = head;
        }
    }

    /// New streams with up to five events each, one command per stream.
    fn batch(&mut self, events: usize) -> Batch {
        let now = now();
        let mut appends = Vec::with_capacity(events.div_ceil(EVENTS_PER_STREAM));
        let mut left = events;
        while left > 0 {
            let of_stream = left.min(EVENTS_PER_STREAM);
            appends.push(self.append(now, of_stream));
            left -= of_stream;
        }
        self.touched = appends.iter().map(|append| append.partition).collect();
        let heads = self.heads.iter().filter(|head| self.touched.contains(&head.partition));
        Batch { heads: heads.copied().collect(), appends }
    }

    fn append(&mut self, now: Timestamp, events: usize) -> Append {
        let stream = self.id(now);
        let partition = Partition::of(stream, self.heads.len() as u16);
        let command_id = self.id(now);
        let events = (1..=events as u64)
            .map(|version| self.event(now, stream, partition, version, command_id))
            .collect();
        Append {
            partition,
            command_id,
            digest: Some([7; 32]),
            answer: Bytes::from(format!(r#"{{"execution_id":"{stream}","status":"completed"}}"#)),
            decided_at: now,
            tenant: self.tenant.clone(),
            streams: vec![StreamAppend { stream, expected_version: 0, events }],
            claims: Vec::new(),
            wakeups: Vec::new(),
            blobs: Vec::new(),
        }
    }

    fn event(
        &mut self,
        now: Timestamp,
        stream: Uuid,
        partition: Partition,
        version: u64,
        cause: Uuid,
    ) -> RecordedEvent {
        let data = json!({
            "node_id": format!("step_{version}"), "run": 1, "attempt": 1, "node_type": "transform",
            "output": {"order_id": stream, "total": 129.5, "currency": "EUR", "items": 3, "express": version.is_multiple_of(2)},
            "duration_ms": 0,
        });
        RecordedEvent {
            position: Position { partition, offset: 0 },
            stream,
            version,
            tenant: self.tenant.clone(),
            event_type: Cow::Borrowed("execution.node.completed"),
            schema_version: 1,
            id: self.id(now),
            recorded_at: now,
            correlation_id: stream,
            causation_id: cause,
            actor: self.actor.clone(),
            traceparent: None,
            codec: Codec::Json,
            key_id: None,
            data: Bytes::from(data.to_string()),
        }
    }

    /// An id whose slot and lower bits look random and are the same in every run.
    fn id(&mut self, now: Timestamp) -> Uuid {
        // SplitMix64 (Steele, Lea, Flood 2014, "Fast splittable pseudorandom number generators").
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        new_id(now, Slot::from_bits(mixed >> 52), mixed)
    }
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_ms(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
