//! Reading: streams, partitions, and the tables beside them. Each call is one statement, so one snapshot.
//!
//! Invariant: a page of a partition has no gap; one that had is reported as damage, never handed out.

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::sqlite::{SqliteArguments, SqliteRow};
use sqlx::{Executor, Row, Sqlite, SqlitePool};
use std::sync::Arc;
use uuid::Uuid;

use domain::blob::{Blob, BlobRef};
use domain::event::{Codec, RecordedEvent};
use domain::ids::{Actor, Partition, Position, TenantId, birth_bucket};
use domain::time::Timestamp;

use super::{SqliteLog, count, failed, integer, limit, verify};
use crate::blobs::Blobs;
use crate::log::{AppendAnswer, ChainReport, Log, LogReader, PartitionHead, StoreError};

type Query<'q> = sqlx::query::Query<'q, Sqlite, SqliteArguments>;

macro_rules! select_events {
    ($rest:literal) => {
        concat!(
            "select partition, offset, stream, version, tenant, type, schema_version, id, recorded_at, ",
            "correlation_id, causation_id, actor, traceparent, codec, key_id, data from events ",
            $rest
        )
    };
}

/// What reads the log, with connections that it shares with nobody of another kind. All of them read alike.
pub trait Reads: Send + Sync {
    /// What is read.
    fn log(&self) -> &SqliteLog;

    /// The connections.
    fn pool(&self) -> &SqlitePool;
}

impl Reads for SqliteLog {
    fn log(&self) -> &SqliteLog {
        self
    }

    fn pool(&self) -> &SqlitePool {
        &self.own
    }
}

/// The log for those who do not own it. However much they read, the owner's connections stay free.
#[derive(Debug, Clone)]
pub struct SqliteReader(Arc<SqliteLog>);

impl SqliteLog {
    /// A reader with connections apart from the owner's; all readers share them. It keeps the log open.
    pub fn reader(self: &Arc<Self>) -> SqliteReader {
        SqliteReader(Arc::clone(self))
    }
}

impl Reads for SqliteReader {
    fn log(&self) -> &SqliteLog {
        &self.0
    }

    fn pool(&self) -> &SqlitePool {
        &self.0.readers
    }
}

/// Large values are read with the reader's connections and stored, as everything is, by the log's only writer.
#[async_trait]
impl Blobs for SqliteReader {
    async fn put(&self, tenant: &TenantId, blob: &Blob) -> Result<(), StoreError> {
        self.0.write_blob(tenant, blob).await
    }

    async fn get(&self, tenant: &TenantId, reference: &BlobRef) -> Result<Option<Bytes>, StoreError> {
        self.read_blob(tenant, reference).await
    }
}

#[async_trait]
impl<T: Reads> LogReader for T {
    fn partitions(&self) -> u16 {
        self.log().partitions
    }

    async fn read_stream(
        &self,
        stream: Uuid,
        after_version: u64,
        most: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let query = sqlx::query(select_events!(
            "where bucket = ? and stream = ? and version > ? order by version limit ?"
        ));
        let query = query.bind(i64::from(birth_bucket(stream))).bind(stream).bind(integer(after_version));
        events(self.pool(), query.bind(limit(most)), "read a stream").await
    }

    async fn read_partition(
        &self,
        partition: Partition,
        after_offset: u64,
        most: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let events = events_after(self.pool(), partition, after_offset, most).await?;
        for (event, offset) in events.iter().zip(after_offset.saturating_add(1)..) {
            if event.position.offset != offset {
                return Err(missing(partition, offset));
            }
        }
        Ok(events)
    }

    async fn heads(&self) -> Result<Vec<PartitionHead>, StoreError> {
        let operation = "read its heads";
        let rows = sqlx::query(
            "select p.partition, p.epoch,
             coalesce((select c.head from commits c where c.partition = p.partition order by c.head desc limit 1), 0)
             from partitions p order by p.partition",
        )
        .fetch_all(self.pool())
        .await
        .map_err(failed(operation))?;
        let values = |row: &SqliteRow| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?));
        let head = |row: &SqliteRow| {
            let (number, epoch, offset) = values(row).map_err(failed(operation))?;
            Ok(PartitionHead {
                partition: partition(number)?,
                epoch: count(epoch, "an epoch")?,
                offset: count(offset, "a head")?,
            })
        };
        rows.iter().map(head).collect()
    }

    async fn claim_holder(
        &self,
        tenant: &TenantId,
        kind: &str,
        key: &str,
    ) -> Result<Option<Uuid>, StoreError> {
        claim_holder(self.pool(), tenant, kind, key).await
    }

    async fn command_answer(
        &self,
        partition: Partition,
        command_id: Uuid,
    ) -> Result<Option<AppendAnswer>, StoreError> {
        let row = sqlx::query(
            "select digest, answer, partition, offset from commands where command_id = ? and partition = ?",
        )
        .bind(command_id)
        .bind(i64::from(partition.0))
        .fetch_optional(self.pool())
        .await
        .map_err(failed("look for a command's answer"))?;
        row.as_ref().map(answer).transpose()
    }

    async fn read_blob(&self, tenant: &TenantId, reference: &BlobRef) -> Result<Option<Bytes>, StoreError> {
        let content: Option<Vec<u8>> =
            sqlx::query_scalar("select content from blobs where tenant = ? and sha256 = ?")
                .bind(tenant.as_str())
                .bind(reference.sha256.as_str())
                .fetch_optional(self.pool())
                .await
                .map_err(failed("read a large value"))?;
        Ok(content.map(Bytes::from))
    }

    async fn verify_chain(&self, partition: Partition) -> Result<ChainReport, StoreError> {
        verify::chain(self.pool(), partition).await
    }
}

/// Events of a partition after an offset, gaps and all.
pub(super) async fn events_after(
    executor: impl Executor<'_, Database = Sqlite>,
    partition: Partition,
    after_offset: u64,
    most: usize,
) -> Result<Vec<RecordedEvent>, StoreError> {
    let query = sqlx::query(select_events!("where partition = ? and offset > ? order by offset limit ?"));
    let query = query.bind(i64::from(partition.0)).bind(integer(after_offset)).bind(limit(most));
    events(executor, query, "read a partition").await
}

/// What is said of an event that should be there.
pub(super) fn missing(partition: Partition, offset: u64) -> StoreError {
    StoreError::Corrupt(format!("event {} is missing", Position { partition, offset }))
}

/// The stream that holds a name.
pub(super) async fn claim_holder(
    executor: impl Executor<'_, Database = Sqlite>,
    tenant: &TenantId,
    kind: &str,
    key: &str,
) -> Result<Option<Uuid>, StoreError> {
    sqlx::query_scalar("select stream from claims where tenant = ? and kind = ? and key = ?")
        .bind(tenant.as_str())
        .bind(kind)
        .bind(key)
        .fetch_optional(executor)
        .await
        .map_err(failed("look for the holder of a name"))
}

/// The answer in a row that begins with digest, answer, partition, offset.
pub(super) fn answer(row: &SqliteRow) -> Result<AppendAnswer, StoreError> {
    let operation = "read a command's answer";
    let bytes = || Ok((row.try_get::<Option<Vec<u8>>, _>(0)?, row.try_get::<Vec<u8>, _>(1)?));
    let numbers = || Ok((row.try_get(2)?, row.try_get(3)?));
    let (digest, answer) = bytes().map_err(failed(operation))?;
    let (number, offset) = numbers().map_err(failed(operation))?;
    let damaged = |_| StoreError::Corrupt("the digest of a command is not 32 bytes".to_owned());
    let position =
        Position { partition: partition(number)?, offset: count(offset, "the offset of a command")? };
    Ok(AppendAnswer {
        answer: Bytes::from(answer),
        digest: digest.map(<[u8; 32]>::try_from).transpose().map_err(damaged)?,
        position,
    })
}

/// A tenant as stored.
pub(super) fn tenant(stored: &str) -> Result<TenantId, StoreError> {
    TenantId::try_from(stored.to_owned()).map_err(|error| StoreError::Corrupt(error.to_string()))
}

async fn events(
    executor: impl Executor<'_, Database = Sqlite>,
    query: Query<'_>,
    operation: &'static str,
) -> Result<Vec<RecordedEvent>, StoreError> {
    let rows = query.fetch_all(executor).await.map_err(failed(operation))?;
    let mut events: Vec<RecordedEvent> = Vec::with_capacity(rows.len());
    for row in &rows {
        let event = event(row, events.last())?;
        events.push(event);
    }
    Ok(events)
}

/// An event from its row. What it shares with the one `before` it is not allocated again.
fn event(row: &SqliteRow, before: Option<&RecordedEvent>) -> Result<RecordedEvent, StoreError> {
    let key = || -> Result<(i64, i64), sqlx::Error> { Ok((row.try_get(0)?, row.try_get(1)?)) };
    let (number, offset) = key().map_err(failed("read an event's position"))?;
    let position = Position { partition: partition(number)?, offset: count(offset, "an offset")? };
    let damaged = |what: String| StoreError::Corrupt(format!("event {position} does not read: {what}"));
    let columns = || -> Result<RecordedEvent, Box<dyn std::error::Error + Send + Sync>> {
        let stored_tenant: &str = row.try_get(4)?;
        let stored_actor: &str = row.try_get(11)?;
        let tenant = match before.filter(|event| event.tenant.as_str() == stored_tenant) {
            Some(event) => event.tenant.clone(),
            None => tenant(stored_tenant)?,
        };
        let actor = match before.filter(|event| event.actor.as_str() == stored_actor) {
            Some(event) => event.actor.clone(),
            None => Actor::recorded(stored_actor),
        };
        let codec = row.try_get(13)?;
        Ok(RecordedEvent {
            position,
            stream: row.try_get(2)?,
            version: u64::try_from(row.try_get::<i64, _>(3)?)?,
            tenant,
            event_type: RecordedEvent::interned_type(row.try_get(5)?),
            schema_version: u16::try_from(row.try_get::<i64, _>(6)?)?,
            id: row.try_get(7)?,
            recorded_at: Timestamp::from_unix_ms(row.try_get(8)?),
            correlation_id: row.try_get(9)?,
            causation_id: row.try_get(10)?,
            actor,
            traceparent: row.try_get::<Option<&str>, _>(12)?.map(Into::into),
            codec: Codec::from_number(codec).ok_or_else(|| format!("codec {codec} is not known"))?,
            key_id: row.try_get::<Option<&str>, _>(14)?.map(Into::into),
            data: Bytes::from(row.try_get::<Vec<u8>, _>(15)?),
        })
    };
    columns().map_err(|error| damaged(error.to_string()))
}

fn partition(number: i64) -> Result<Partition, StoreError> {
    let number = u16::try_from(number);
    number.map(Partition).map_err(|_| StoreError::Corrupt("a partition's number is out of range".to_owned()))
}
