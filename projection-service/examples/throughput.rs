//! How fast the projection is, and what 20,000 events/s cost it.
//!
//! `cargo run --release -p projection-service --example throughput [-- --postgres URL]`
//!
//! Executions of three nodes: started, three times node.completed, completed; a user's, each by one command, so that each
//! has a row in the audit. First through the feed at a fixed
//! rate, once with all five events in one commit and once in three commits; then from the log, as fast as it
//! goes. CPU is the whole process's, the publisher's included, but not that of a Postgres. There every part gets a
//! database of its own beside the URL's, dropped at the end.

use bytes::Bytes;
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use bus::in_process::InProcessFeed;
use bus::{CommitFeed, CommittedBatch};
use domain::event::{Codec, Event, ExecutionEvent, RecordedEvent};
use domain::execution::event::{EndNotice, ExecutionCompleted, ExecutionStarted, NodeCompleted, Trigger};
use domain::ids::{Actor, Partition, Position, Slot, TenantId, event_id, new_id};
use domain::node_type::NodeType;
use domain::time::Timestamp;
use event_store::sqlite::{SqliteLog, SqliteOptions};
use event_store::{Append, Batch, Log, StreamAppend};
use projection_service::{ProjectionConfig, ProjectionService, rebuild};
use read_models::{PostgresOptions, ReadModels};
use sqlx::postgres::PgConnectOptions;
use sqlx::{AssertSqlSafe, ConnectOptions};

const PARTITIONS: u16 = 16;
const RATE: usize = 20_000;
const SECONDS: usize = 8;
const COMMITS_PER_SECOND: usize = 200;
const FROM_LOG: usize = 40_000;

type Failure = Box<dyn std::error::Error>;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let server = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => None,
        ["--postgres", url] => Some(url),
        _ => return Err("usage: throughput [--postgres URL]".into()),
    };
    for part in 0..3 {
        let place = Place::new(server, part).await?;
        let models = place.open().await?;
        match part {
            0 => live("five events in one commit", &[(0, 5)], models.clone()).await?,
            1 => live("five events in three commits", &[(0, 1), (1, 3), (3, 5)], models.clone()).await?,
            _ => from_log(models.clone()).await?,
        }
        models.close().await;
        place.remove().await?;
    }
    Ok(())
}

/// Where the read models of one part are.
enum Place {
    File,
    Server { url: Box<PgConnectOptions>, own: String, database: String },
}

impl Place {
    async fn new(server: Option<&str>, part: usize) -> Result<Self, Failure> {
        let Some(server) = server else { return Ok(Self::File) };
        let database = format!("throughput_{}_{part}", std::process::id());
        let url: PgConnectOptions = server.parse()?;
        let (base, _) = server.rsplit_once('/').ok_or("the URL names no database")?;
        let create = AssertSqlSafe(format!("create database {database}"));
        sqlx::query(create).execute(&mut url.connect().await?).await?;
        Ok(Self::Server { url: Box::new(url), own: format!("{base}/{database}"), database })
    }

    async fn open(&self) -> Result<ReadModels, Failure> {
        Ok(match self {
            Self::File => ReadModels::open_temporary().await?,
            Self::Server { own, .. } => ReadModels::open_postgres(PostgresOptions::new(own)).await?,
        })
    }

    async fn remove(self) -> Result<(), Failure> {
        if let Self::Server { url, database, .. } = self {
            let drop = AssertSqlSafe(format!("drop database {database}"));
            sqlx::query(drop).execute(&mut url.connect().await?).await?;
        }
        Ok(())
    }
}

/// Publishes [`RATE`] events a second; `parts` says how an execution's events fall into commits.
async fn live(name: &str, parts: &[(usize, usize)], models: ReadModels) -> Result<(), Failure> {
    let ticks = SECONDS * COMMITS_PER_SECOND;
    let per_tick = RATE / COMMITS_PER_SECOND / 5;
    // Tick t commits part k of the executions that began k ticks x 20 earlier, so that parts meet in few batches.
    let gap = 20;
    let mut offsets = vec![0u64; usize::from(PARTITIONS)];
    let mut batches: Vec<Vec<CommittedBatch>> = Vec::new();
    let executions: Vec<Vec<RecordedEvent>> =
        (0..ticks * per_tick).map(|number| execution(number as u64)).collect();
    for tick in 0..ticks + gap * (parts.len() - 1) {
        let mut events: BTreeMap<u16, Vec<Arc<RecordedEvent>>> = BTreeMap::new();
        for (index, (from, until)) in parts.iter().enumerate() {
            let Some(begun) = tick.checked_sub(index * gap).filter(|begun| *begun < ticks) else { continue };
            for execution in &executions[begun * per_tick..(begun + 1) * per_tick] {
                for event in &execution[*from..*until] {
                    let partition = Partition::of(event.stream, PARTITIONS);
                    let offset = &mut offsets[usize::from(partition.0)];
                    *offset += 1;
                    let position = Position { partition, offset: *offset };
                    let event = Arc::new(RecordedEvent { position, ..event.clone() });
                    events.entry(partition.0).or_default().push(event);
                }
            }
        }
        batches.push(events.into_iter().map(committed).collect());
    }

    let log = Arc::new(SqliteLog::open_temporary(SqliteOptions::default()).await?);
    let feed = Arc::new(InProcessFeed::new());
    let service = ProjectionService::new(ProjectionConfig::default(), log, feed.clone(), models.clone());
    let handle = service.handle();
    let shutdown = CancellationToken::new();
    let task = tokio::spawn(service.run(shutdown.clone()));
    tokio::time::sleep(Duration::from_millis(300)).await;

    let (begun, cpu) = (Instant::now(), cpu_seconds()?);
    let mut pace = tokio::time::interval(Duration::from_secs(1) / COMMITS_PER_SECOND as u32);
    for tick in batches {
        pace.tick().await;
        tick.into_iter().for_each(|batch| feed.publish(batch));
    }
    let published = begun.elapsed();
    let positions: Vec<_> = (0..).map(Partition).zip(offsets).collect();
    let reached = models.wait_for(&positions, Duration::from_secs(60)).await;
    let (taken, cpu) = (begun.elapsed(), cpu_seconds()? - cpu);
    println!(
        "live, {name}: {} events in {:.2} s, {:.0}/s; behind at the end {} ms (all there: {reached}); \
         {} transactions; cpu {cpu:.2} s = {:.2} cores, {:.1} us/event",
        handle.events(),
        taken.as_secs_f64(),
        handle.events() as f64 / taken.as_secs_f64(),
        (taken - published).as_millis(),
        handle.batches(),
        cpu / taken.as_secs_f64(),
        cpu * 1e6 / handle.events() as f64,
    );
    shutdown.cancel();
    task.await??;
    Ok(())
}

fn committed((partition, events): (u16, Vec<Arc<RecordedEvent>>)) -> CommittedBatch {
    let first_offset = events.first().map_or(0, |event| event.position.offset);
    CommittedBatch { partition: Partition(partition), first_offset, events }
}

/// Projects [`FROM_LOG`] executions from the log, then rebuilds.
async fn from_log(models: ReadModels) -> Result<(), Failure> {
    let log = SqliteLog::open_temporary(SqliteOptions::default()).await?;
    let mut heads = BTreeMap::new();
    for partition in (0..PARTITIONS).map(Partition) {
        heads.insert(partition, log.take_over(partition, uuid::Uuid::nil()).await?);
    }
    let numbers: Vec<u64> = (0..FROM_LOG as u64).collect();
    for chunk in numbers.chunks(100) {
        let appends = chunk.iter().map(|number| append(execution(*number))).collect();
        let batch = Batch { heads: heads.values().copied().collect(), appends };
        let committed = log.append(Arc::new(batch)).await?;
        heads.extend(committed.heads.iter().map(|head| (head.partition, *head)));
    }
    let config = ProjectionConfig::default();
    let log = Arc::new(log);
    let feed = Arc::new(InProcessFeed::new());
    let service = ProjectionService::new(config.clone(), log.clone(), feed, models.clone());
    let shutdown = CancellationToken::new();
    let (begun, cpu) = (Instant::now(), cpu_seconds()?);
    let task = tokio::spawn(service.run(shutdown.clone()));
    let positions: Vec<_> = heads.values().map(|head| (head.partition, head.offset)).collect();
    models.wait_for(&positions, Duration::from_secs(60)).await;
    report("catching up from the log", begun, cpu_seconds()? - cpu);
    shutdown.cancel();
    task.await??;
    let (begun, cpu) = (Instant::now(), cpu_seconds()?);
    rebuild(&*log, &models, &config).await?;
    report("rebuild", begun, cpu_seconds()? - cpu);
    Ok(())
}

fn report(name: &str, begun: Instant, cpu: f64) {
    let taken = begun.elapsed().as_secs_f64();
    let events = (FROM_LOG * 5) as f64;
    println!(
        "{name}: {events} events in {taken:.2} s, {:.0}/s; cpu {cpu:.2} s, {:.1} us/event",
        events / taken,
        cpu * 1e6 / events
    );
}

fn append(events: Vec<RecordedEvent>) -> Append {
    let stream = events[0].stream;
    Append {
        partition: Partition::of(stream, PARTITIONS),
        command_id: stream,
        digest: None,
        answer: Bytes::from_static(b"{}"),
        decided_at: events[0].recorded_at,
        tenant: TenantId::default_tenant(),
        streams: vec![StreamAppend { stream, expected_version: 0, events }],
        claims: Vec::new(),
        wakeups: Vec::new(),
        blobs: Vec::new(),
    }
}

fn execution(number: u64) -> Vec<RecordedEvent> {
    let at = Timestamp::from_unix_ms(1_795_000_000_000 + number as i64 / 4);
    let slot = Slot::from_bits(number.wrapping_mul(2_654_435_761) >> 8);
    let stream = new_id(at, slot, number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    let started = ExecutionStarted {
        workflow_id: new_id(at, Slot::from_bits(0), 7),
        workflow_name: "orders".to_owned(),
        workflow_version: 1,
        definition_hash: "00".repeat(32),
        input: json!({"order": number, "customer": "c-1", "lines": [{"sku": "a", "count": 2}]}),
        trigger: Trigger { kind: "api".to_owned() },
        vars_version: 0,
        priority: 5,
        attributes: Map::new(),
        deadline: None,
        parent: None,
        owner: Some(new_id(at, Slot::from_bits(0), number % 100)),
    };
    let mut events = vec![recorded(stream, 1, at, ExecutionEvent::from(started))];
    for node in 0..3 {
        let completed = NodeCompleted {
            node_id: format!("node_{node}"),
            run: 1,
            attempt: 1,
            node_type: NodeType::Transform,
            output: json!({"total": node, "currency": "EUR"}),
            handle: None,
            duration_ms: 0,
        };
        events.push(recorded(stream, node + 2, at, ExecutionEvent::from(completed)));
    }
    let output = json!({"total": 42});
    let notice = EndNotice::default();
    let completed = ExecutionCompleted { output, ends: vec!["end".to_owned()], duration_ms: 3, notice };
    events.push(recorded(stream, 5, at, ExecutionEvent::from(completed)));
    events
}

fn recorded(stream: Uuid, version: u64, at: Timestamp, event: impl Into<Event>) -> RecordedEvent {
    let event = event.into();
    RecordedEvent {
        position: Position { partition: Partition(0), offset: 0 },
        stream,
        version,
        tenant: TenantId::default_tenant(),
        event_type: event.event_type().into(),
        schema_version: event.schema_version(),
        id: event_id(at, stream, stream, version),
        recorded_at: at,
        correlation_id: stream,
        causation_id: stream,
        actor: Actor::new("user", "1"),
        traceparent: None,
        codec: Codec::Json,
        key_id: None,
        data: event.encode(),
    }
}

/// User and system time of this process. Linux counts in hundredths of a second.
fn cpu_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(") ").next().ok_or("no process name in /proc/self/stat")?;
    let fields: Vec<&str> = after_name.split(' ').collect();
    let ticks: f64 = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}
