//! How fast batches are appended, beside a bare multi-row insert of the same rows into the same tables.
//!
//! `cargo run --release -p event-store --example append_rate [events per batch] [seconds]`; a batch has one
//! command per five events, over sixteen partitions. Both take turns, batch by batch, in files of their own
//! with `synchronous=full`, so that whatever else the machine does meets both alike.

use bytes::Bytes;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection};
use std::collections::BTreeMap;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

use domain::event::{Codec, RecordedEvent};
use domain::ids::{Actor, Partition, Position, Slot, TenantId, birth_bucket, new_id};
use domain::time::Timestamp;
use event_store::sqlite::{SqliteLog, SqliteOptions};
use event_store::{Append, Batch, Log, StreamAppend};

type Outcome<T> = Result<T, Box<dyn Error>>;

const EVENTS_PER_APPEND: u64 = 5;
const APPENDS_PER_STREAM: u64 = 4;
const LIVE_STREAMS: usize = 2000;
const PARTITIONS: u16 = 16;

#[tokio::main]
async fn main() -> Outcome<()> {
    let mut arguments = std::env::args().skip(1);
    let events: u64 = arguments.next().map_or(Ok(500), |text| text.parse())?;
    let seconds: u64 = arguments.next().map_or(Ok(20), |text| text.parse())?;
    let directory = std::env::var_os("APPEND_RATE_DIRECTORY").map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = directory.join(format!("append-rate-{}", Uuid::new_v4()));
    std::fs::create_dir(&directory)?;
    let outcome = measure(&directory, events, Duration::from_secs(seconds)).await;
    std::fs::remove_dir_all(&directory)?;
    outcome
}

async fn measure(directory: &Path, events: u64, time: Duration) -> Outcome<()> {
    let log = SqliteLog::open(&directory.join("log.db"), SqliteOptions::default()).await?;
    let mut heads = BTreeMap::new();
    for partition in (0..PARTITIONS).map(Partition) {
        heads.insert(partition, log.take_over(partition).await?);
    }
    let mut bare = Bare::open(&directory.join("bare.db")).await?;
    let mut work = Work::new();
    let (mut appending, mut inserting, mut batches) = (Duration::ZERO, Duration::ZERO, 0u32);
    while appending + inserting < time {
        let batch =
            Arc::new(Batch { heads: heads.values().copied().collect(), appends: work.appends(events) });
        let start = Instant::now();
        let committed = log.append(Arc::clone(&batch)).await?;
        appending += start.elapsed();
        let start = Instant::now();
        bare.insert(&committed.events, &batch.appends, &committed.positions).await?;
        inserting += start.elapsed();
        heads.extend(committed.heads.into_iter().map(|head| (head.partition, head)));
        batches += 1;
    }
    let rate = |time: Duration| (u64::from(batches) * events) as f64 / time.as_secs_f64();
    println!(
        "{events} events per batch, {batches} batches: append {:.0} events/s ({:.2} ms per batch), bare insert {:.0} \
         events/s ({:.2} ms), append reaches {:.0} %",
        rate(appending),
        (appending / batches).as_secs_f64() * 1000.0,
        rate(inserting),
        (inserting / batches).as_secs_f64() * 1000.0,
        100.0 * rate(appending) / rate(inserting)
    );
    Ok(())
}

/// Appends to a changing set of streams.
struct Work {
    seed: u64,
    now: Timestamp,
    live: Vec<(Uuid, u64)>,
}

impl Work {
    fn new() -> Self {
        Self {
            seed: 88_172_645_463_325_252,
            now: Timestamp::from_unix_ms(1_795_000_000_000),
            live: Vec::new(),
        }
    }

    fn random(&mut self) -> u64 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        self.seed
    }

    fn appends(&mut self, events: u64) -> Vec<Append> {
        self.now = self.now.plus_ms(10);
        let mut appends = Vec::new();
        let mut left = events;
        while left > 0 {
            let count = left.min(EVENTS_PER_APPEND);
            appends.push(self.append(count));
            left -= count;
        }
        appends
    }

    fn append(&mut self, count: u64) -> Append {
        if self.live.len() < LIVE_STREAMS {
            let slot = Slot::from_bits(self.random());
            let id = new_id(self.now, slot, self.random());
            self.live.push((id, 0));
        }
        let index = self.random() as usize % self.live.len();
        let (stream, expected_version) = self.live[index];
        let events =
            (expected_version + 1..=expected_version + count).map(|v| self.event(stream, v)).collect();
        self.live[index].1 += count;
        if self.live[index].1 >= APPENDS_PER_STREAM * EVENTS_PER_APPEND {
            self.live.swap_remove(index);
        }
        Append {
            partition: Partition::of(stream, PARTITIONS),
            command_id: new_id(self.now, Slot::from_bits(0), self.random()),
            digest: Some([7; 32]),
            answer: Bytes::from_static(b"{\"execution_id\":\"01990000-0000-7000-8000-000000000000\"}"),
            decided_at: self.now,
            tenant: TenantId::default_tenant(),
            streams: vec![StreamAppend { stream, expected_version, events }],
            claims: Vec::new(),
            wakeups: Vec::new(),
            blobs: Vec::new(),
        }
    }

    fn event(&mut self, stream: Uuid, version: u64) -> RecordedEvent {
        let size = 150 + (self.random() % 300) as usize;
        RecordedEvent {
            position: Position { partition: Partition(0), offset: 0 },
            stream,
            version,
            tenant: TenantId::default_tenant(),
            event_type: "execution.node.completed".into(),
            schema_version: 1,
            id: new_id(self.now, Slot::from_bits(0), self.random()),
            recorded_at: self.now,
            correlation_id: stream,
            causation_id: stream,
            actor: Actor::new("worker", "agents-1"),
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
            codec: Codec::Json,
            key_id: None,
            data: Bytes::from(vec![b'x'; size]),
        }
    }
}

/// The same tables without the log: one prepared statement per table and batch, nothing checked or hashed.
struct Bare {
    connection: SqliteConnection,
    texts: BTreeMap<(&'static str, usize), Arc<str>>,
}

impl Bare {
    async fn open(path: &Path) -> Outcome<Self> {
        drop(SqliteLog::open(path, SqliteOptions::default()).await?);
        let options = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(false)
            .pragma("cache_size", "-32768")
            .pragma("wal_autocheckpoint", "4000");
        Ok(Self { connection: SqliteConnection::connect_with(&options).await?, texts: BTreeMap::new() })
    }

    async fn insert(&mut self, events: &[RecordedEvent], appends: &[Append], at: &[Position]) -> Outcome<()> {
        let into_events = text(&mut self.texts, "events", events.len(), 17);
        let into_commands = text(&mut self.texts, "commands", appends.len(), 6);
        let mut commits: BTreeMap<Partition, (u64, i64)> = BTreeMap::new();
        let mut transaction = self.connection.begin_with("begin immediate").await?;
        let mut query = sqlx::query(AssertSqlSafe(into_events));
        for event in events {
            let commit = commits.entry(event.position.partition).or_default();
            *commit = (event.position.offset, commit.1 + 1);
            query = query
                .bind(i64::from(event.position.partition.0))
                .bind(event.position.offset as i64)
                .bind(i64::from(birth_bucket(event.stream)))
                .bind(event.stream)
                .bind(event.version as i64)
                .bind(event.tenant.as_str())
                .bind(&*event.event_type)
                .bind(i64::from(event.schema_version))
                .bind(event.id)
                .bind(event.recorded_at.unix_ms())
                .bind(event.correlation_id)
                .bind(event.causation_id)
                .bind(event.actor.as_str())
                .bind(event.traceparent.clone())
                .bind(event.codec.number())
                .bind(event.key_id.clone())
                .bind(&event.data[..]);
        }
        query.execute(&mut *transaction).await?;
        let mut query = sqlx::query(AssertSqlSafe(into_commands));
        for (append, position) in appends.iter().zip(at) {
            query = query
                .bind(append.command_id)
                .bind(append.digest.map(|digest| digest.to_vec()))
                .bind(&append.answer[..])
                .bind(i64::from(position.partition.0))
                .bind(position.offset as i64)
                .bind(append.decided_at.days_since_epoch());
        }
        query.execute(&mut *transaction).await?;
        let into_commits = text(&mut self.texts, "commits", commits.len(), 7);
        let mut query = sqlx::query(AssertSqlSafe(into_commits));
        for (partition, (head, count)) in &commits {
            query = query.bind(i64::from(partition.0)).bind(*head as i64).bind(1_i64).bind(*count);
            query = query.bind(vec![1; 32]).bind(vec![2; 32]).bind(0_i64);
        }
        query.execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }
}

fn text(
    texts: &mut BTreeMap<(&'static str, usize), Arc<str>>,
    table: &'static str,
    rows: usize,
    columns: usize,
) -> Arc<str> {
    let build = || {
        let row = format!("({})", vec!["?"; columns].join(","));
        Arc::from(format!("insert into {table} values {}", vec![row; rows].join(",")))
    };
    Arc::clone(texts.entry((table, rows)).or_insert_with(build))
}
