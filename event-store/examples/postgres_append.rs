//! How much of a bare insert's speed the store's append keeps: the same rows, the same tables, one connection each, in
//! turns, on a Postgres of its own with fsync on. Speeds are those of the median batch.
//!
//! `cargo run --release -p event-store --example postgres_append`

use anyhow::{Context, Result};
use bytes::Bytes;
use sqlx::postgres::{PgArguments, PgBindIterExt, PgConnection};
use sqlx::{Arguments, Connection};
use std::sync::Arc;
use std::time::{Duration, Instant};
use test_services::{Durability, PostgresServer};
use uuid::Uuid;

use domain::event::{Codec, RecordedEvent};
use domain::ids::{Actor, Partition, Position, Slot, TenantId, birth_bucket, new_id};
use domain::time::Timestamp;
use event_store::postgres::{PostgresLog, PostgresOptions};
use event_store::{Append, Batch, Log, PartitionHead, StreamAppend};

/// How long each size is measured, both ways together, batch by batch in turns.
const TIME: Duration = Duration::from_secs(16);

const BARE: &str = "
    with e as (
        insert into events (partition, \"offset\", bucket, stream, version, tenant, type, schema_version, id,
                            recorded_at, correlation_id, causation_id, actor, traceparent, codec, key_id, data)
        select * from unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
    ), d as (
        insert into commands (command_id, digest, answer, partition, \"offset\", day)
        select * from unnest($18, $19, $20, $21, $22, $23)
    )
    insert into commits (partition, head, epoch, event_count, merkle_root, hash, committed_at)
    values ($24, $25, 1, $26, $27, $28, $29)";

#[tokio::main]
async fn main() -> Result<()> {
    let server = PostgresServer::start(Durability::Fsync).await?;
    let url = server.create_database().await?;
    let options = PostgresOptions { own_connections: 1, ..PostgresOptions::new(url.clone()) };
    let log = PostgresLog::open(options).await?;
    let mut head = log.take_over(Partition(1), Uuid::nil()).await?;
    let mut bare = PgConnection::connect(&url).await?;
    let settings = "set search_path = everline_log; set enable_seqscan = off; set jit = off";
    sqlx::raw_sql(settings).execute(&mut bare).await?;
    let mut made = 0;
    let mut bare_offset = 0;
    println!("| events a batch | store, events/s | bare, events/s | kept |");
    println!("|---:|---:|---:|---:|");
    for size in [1, 100, 500] {
        let (mut store_times, mut bare_times) = (Vec::new(), Vec::new());
        let begun = Instant::now();
        while begun.elapsed() < TIME {
            let next = Arc::new(batch(head, size, 1, &mut made));
            let at = Instant::now();
            head = log.append(next).await?.heads[0];
            store_times.push(at.elapsed());

            let next = batch(head, size, 2, &mut made);
            let rows = rows(&next, &mut bare_offset);
            let at = Instant::now();
            insert(&mut bare, &next, &rows).await?;
            bare_times.push(at.elapsed());
        }
        let (store, bare) = (median(store_times), median(bare_times));
        let speed = |time: Duration| size as f64 / time.as_secs_f64();
        let kept = 100.0 * bare.as_secs_f64() / store.as_secs_f64();
        println!("| {size} | {:.0} | {:.0} | {kept:.0} % |", speed(store), speed(bare));
    }
    Ok(())
}

/// Of times that a busy machine lengthens now and then.
fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// So many events, five of a stream and command.
fn batch(head: PartitionHead, size: u64, partition: u16, made: &mut u64) -> Batch {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let now = Timestamp::from_unix_ms(now.as_millis() as i64);
    let mut fresh = || {
        *made += 1;
        new_id(now, Slot::from_bits(u64::from(partition)), *made)
    };
    let mut appends = Vec::new();
    let mut left = size;
    while left > 0 {
        let (stream, command_id, count) = (fresh(), fresh(), left.min(5));
        let events = (1..=count).map(|version| event(stream, fresh(), version, now)).collect();
        appends.push(Append {
            partition: Partition(partition),
            command_id,
            digest: Some([7; 32]),
            answer: Bytes::from_static(b"{\"execution\":\"01935b8e-7d5c-7000-8000-000000000000\"}"),
            decided_at: now,
            tenant: TenantId::default_tenant(),
            streams: vec![StreamAppend { stream, expected_version: 0, events }],
            claims: Vec::new(),
            wakeups: Vec::new(),
            blobs: Vec::new(),
        });
        left -= count;
    }
    Batch { heads: vec![head], appends }
}

fn event(stream: Uuid, id: Uuid, version: u64, now: Timestamp) -> RecordedEvent {
    RecordedEvent {
        position: Position { partition: Partition(0), offset: 0 },
        stream,
        version,
        tenant: TenantId::default_tenant(),
        event_type: "execution.node.completed".into(),
        schema_version: 1,
        id,
        recorded_at: now,
        correlation_id: stream,
        causation_id: id,
        actor: Actor::new("worker", "w1"),
        traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".into()),
        codec: Codec::Json,
        key_id: None,
        data: Bytes::from(format!("{{\"node\":\"n{version}\",\"output\":\"{}\"}}", "x".repeat(170))),
    }
}

/// The events with their positions, as a plain insert is handed them.
fn rows(batch: &Batch, offset: &mut u64) -> Vec<RecordedEvent> {
    let events = batch.appends.iter().flat_map(|append| &append.streams[0].events);
    let positioned = events.map(|event| {
        *offset += 1;
        RecordedEvent { position: Position { partition: Partition(2), offset: *offset }, ..event.clone() }
    });
    positioned.collect()
}

macro_rules! bind {
    ($to:ident, $rows:expr, $($column:expr),+ $(,)?) => {
        $( $to.add($rows.iter().map($column).bind_iter()).map_err(sqlx::Error::Encode)?; )+
    };
}

async fn insert(connection: &mut PgConnection, batch: &Batch, rows: &[RecordedEvent]) -> Result<()> {
    let mut to = PgArguments::default();
    let last = rows.last().context("no rows")?;
    bind!(
        to,
        rows,
        |e| i32::from(e.position.partition.0),
        |e| e.position.offset as i64,
        |e| birth_bucket(e.stream),
        |e| e.stream,
        |e| e.version as i64,
        |e| e.tenant.as_str(),
        |e| &*e.event_type,
        |e| i32::from(e.schema_version),
        |e| e.id,
        |e| e.recorded_at.unix_ms(),
        |e| e.correlation_id,
        |e| e.causation_id,
        |e| e.actor.as_str(),
        |e| e.traceparent.as_deref(),
        |e| e.codec.number() as i32,
        |e| e.key_id.as_deref(),
        |e| &e.data[..],
    );
    bind!(
        to,
        batch.appends,
        |a| a.command_id,
        |a| a.digest.as_ref().map(|digest| &digest[..]),
        |a| &a.answer[..],
        |_| 2_i32,
        |_| last.position.offset as i64,
        |a| a.decided_at.days_since_epoch() as i32,
    );
    let statement = sqlx::query_with(BARE, to);
    let statement = statement.bind(2_i32).bind(last.position.offset as i64).bind(rows.len() as i64);
    let statement = statement.bind(&[7_u8; 32][..]).bind(&[8_u8; 32][..]).bind(last.recorded_at.unix_ms());
    statement.execute(connection).await?;
    Ok(())
}
