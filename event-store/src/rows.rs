//! Reading stored rows: what a column holds, and what becomes of a row. The same for every database.
//!
//! Owns: the order of columns in the statements that it names. Invariant: a value that cannot be is reported as
//! damage with the position it stands at, never handed out.

use bytes::Bytes;
use sqlx::Row;
use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use domain::decision::{Wakeup, WakeupKind};
use domain::event::{Codec, RecordedEvent};
use domain::ids::{Actor, Partition, Position, TenantId};
use domain::time::Timestamp;

use crate::chain::{GENESIS, Hash};
use crate::log::{AppendAnswer, PartitionHead, StoreError, StoredWakeup};
use crate::plan::Tail;
use crate::verifiers::Verifier;

/// A row whose columns are read by their place.
pub(crate) trait StoredRow {
    /// A whole number of any width.
    fn number(&self, column: usize) -> Result<i64, sqlx::Error>;
    /// A whole number, or nothing.
    fn optional_number(&self, column: usize) -> Result<Option<i64>, sqlx::Error>;
    /// A text.
    fn text(&self, column: usize) -> Result<&str, sqlx::Error>;
    /// A text, or nothing.
    fn optional_text(&self, column: usize) -> Result<Option<&str>, sqlx::Error>;
    /// An id.
    fn id(&self, column: usize) -> Result<Uuid, sqlx::Error>;
    /// An id, or nothing.
    fn optional_id(&self, column: usize) -> Result<Option<Uuid>, sqlx::Error>;
    /// Bytes.
    fn bytes(&self, column: usize) -> Result<Vec<u8>, sqlx::Error>;
    /// Bytes, or nothing.
    fn optional_bytes(&self, column: usize) -> Result<Option<Vec<u8>>, sqlx::Error>;
}

macro_rules! stored_row {
    ($row:ty, $number:ident) => {
        impl StoredRow for $row {
            fn number(&self, column: usize) -> Result<i64, sqlx::Error> {
                self.$number(column)
            }

            fn optional_number(&self, column: usize) -> Result<Option<i64>, sqlx::Error> {
                self.$number(column)
            }

            fn text(&self, column: usize) -> Result<&str, sqlx::Error> {
                self.try_get(column)
            }

            fn optional_text(&self, column: usize) -> Result<Option<&str>, sqlx::Error> {
                self.try_get(column)
            }

            fn id(&self, column: usize) -> Result<Uuid, sqlx::Error> {
                self.try_get(column)
            }

            fn optional_id(&self, column: usize) -> Result<Option<Uuid>, sqlx::Error> {
                self.try_get(column)
            }

            fn bytes(&self, column: usize) -> Result<Vec<u8>, sqlx::Error> {
                self.try_get(column)
            }

            fn optional_bytes(&self, column: usize) -> Result<Option<Vec<u8>>, sqlx::Error> {
                self.try_get(column)
            }
        }
    };
}

stored_row!(SqliteRow, try_get);
// Postgres has narrower whole numbers as well; unchecked, any width is read.
stored_row!(PgRow, try_get_unchecked);

/// An error of the database, with what was being done.
pub(crate) fn failed(operation: &'static str) -> impl FnOnce(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { operation, source }
}

/// A number as databases have it. Offsets, versions and epochs count from 1 and never come near the limit.
pub(crate) fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A `limit` clause's number.
pub(crate) fn limit(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A stored number that counts something.
pub(crate) fn count(number: i64, what: &str) -> Result<u64, StoreError> {
    u64::try_from(number).map_err(|_| StoreError::Corrupt(format!("{what} is {number}, below zero")))
}

/// What is said of an event that should be there.
pub(crate) fn missing(partition: Partition, offset: u64) -> StoreError {
    StoreError::Corrupt(format!("event {} is missing", Position { partition, offset }))
}

/// A tenant as stored.
pub(crate) fn tenant(stored: &str) -> Result<TenantId, StoreError> {
    TenantId::try_from(stored.to_owned()).map_err(|error| StoreError::Corrupt(error.to_string()))
}

/// A partition as stored.
pub(crate) fn partition(number: i64) -> Result<Partition, StoreError> {
    let number = u16::try_from(number);
    number.map(Partition).map_err(|_| StoreError::Corrupt("a partition's number is out of range".to_owned()))
}

/// Events, each from its row.
pub(crate) fn events(rows: &[impl StoredRow]) -> Result<Vec<RecordedEvent>, StoreError> {
    let mut events: Vec<RecordedEvent> = Vec::with_capacity(rows.len());
    for row in rows {
        let event = event(row, events.last())?;
        events.push(event);
    }
    Ok(events)
}

/// An event from its row. What it shares with the one `before` it is not allocated again.
pub(crate) fn event(
    row: &impl StoredRow,
    before: Option<&RecordedEvent>,
) -> Result<RecordedEvent, StoreError> {
    let key = || -> Result<(i64, i64), sqlx::Error> { Ok((row.number(0)?, row.number(1)?)) };
    let (number, offset) = key().map_err(failed("read an event's position"))?;
    let position = Position { partition: partition(number)?, offset: count(offset, "an offset")? };
    let damaged = |what: String| StoreError::Corrupt(format!("event {position} does not read: {what}"));
    let columns = || -> Result<RecordedEvent, Box<dyn std::error::Error + Send + Sync>> {
        let stored_tenant = row.text(4)?;
        let stored_actor = row.text(11)?;
        let tenant = match before.filter(|event| event.tenant.as_str() == stored_tenant) {
            Some(event) => event.tenant.clone(),
            None => tenant(stored_tenant)?,
        };
        let actor = match before.filter(|event| event.actor.as_str() == stored_actor) {
            Some(event) => event.actor.clone(),
            None => Actor::recorded(stored_actor),
        };
        let codec = row.number(13)?;
        Ok(RecordedEvent {
            position,
            stream: row.id(2)?,
            version: u64::try_from(row.number(3)?)?,
            tenant,
            event_type: RecordedEvent::interned_type(row.text(5)?),
            schema_version: u16::try_from(row.number(6)?)?,
            id: row.id(7)?,
            recorded_at: Timestamp::from_unix_ms(row.number(8)?),
            correlation_id: row.id(9)?,
            causation_id: row.id(10)?,
            actor,
            traceparent: row.optional_text(12)?.map(Into::into),
            codec: Codec::from_number(codec).ok_or_else(|| format!("codec {codec} is not known"))?,
            key_id: row.optional_text(14)?.map(Into::into),
            data: Bytes::from(row.bytes(15)?),
        })
    };
    columns().map_err(|error| damaged(error.to_string()))
}

/// The head in a row of partition, epoch, head.
pub(crate) fn head(row: &impl StoredRow) -> Result<PartitionHead, StoreError> {
    let values = || Ok((row.number(0)?, row.number(1)?, row.number(2)?));
    let (number, epoch, offset) = values().map_err(failed("read its heads"))?;
    Ok(PartitionHead {
        partition: partition(number)?,
        epoch: count(epoch, "an epoch")?,
        offset: count(offset, "a head")?,
    })
}

/// Where a partition ends, in a row of partition, epoch, head, hash, committed_at; the last three are null
/// where nothing was written.
pub(crate) fn tail(row: &impl StoredRow) -> Result<(Partition, Tail), StoreError> {
    let values = || -> Result<_, sqlx::Error> {
        let commit = (row.optional_number(2)?, row.optional_bytes(3)?, row.optional_number(4)?);
        Ok((row.number(0)?, row.number(1)?, commit))
    };
    let (number, epoch, (head, hash, committed_at)) =
        values().map_err(failed("read where its partitions end"))?;
    let partition = partition(number)?;
    let damaged = |_| StoreError::Corrupt(format!("the last hash of partition {partition} is not 32 bytes"));
    let tail = Tail {
        epoch: count(epoch, "an epoch")?,
        offset: count(head.unwrap_or(0), "a head")?,
        hash: hash.map_or(Ok(GENESIS), Hash::try_from).map_err(damaged)?,
        recorded_at: Timestamp::from_unix_ms(committed_at.unwrap_or(i64::MIN)),
    };
    Ok((partition, tail))
}

/// The answer in a row that begins with digest, answer, partition, offset.
pub(crate) fn answer(row: &impl StoredRow) -> Result<AppendAnswer, StoreError> {
    let operation = "read a command's answer";
    let bytes = || Ok((row.optional_bytes(0)?, row.bytes(1)?));
    let numbers = || Ok((row.number(2)?, row.number(3)?));
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

/// A wakeup from a row of due_at, stream, kind, tenant.
pub(crate) fn wakeup(row: &impl StoredRow) -> Result<StoredWakeup, StoreError> {
    let operation = "read a wakeup";
    let kind = row.text(2).map_err(failed(operation))?;
    let kind: WakeupKind = kind.parse().map_err(|error| StoreError::Corrupt(format!("{error}")))?;
    Ok(StoredWakeup {
        wakeup: Wakeup { due_at: Timestamp::from_unix_ms(row.number(0).map_err(failed(operation))?), kind },
        stream: row.id(1).map_err(failed(operation))?,
        tenant: tenant(row.text(3).map_err(failed(operation))?)?,
    })
}

/// A verifier from a row of all columns of its table, in the table's order.
pub(crate) fn verifier(row: &impl StoredRow) -> Result<Verifier, StoreError> {
    let read = || -> Result<Verifier, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Verifier {
            kind: row.text(0)?.parse()?,
            lookup: row.text(1)?.to_owned(),
            tenant: tenant(row.text(2)?)?,
            principal: row.text(3)?.to_owned(),
            name: row.text(4)?.to_owned(),
            hash: row.text(5)?.to_owned(),
            family: row.optional_id(6)?,
            created_at: Timestamp::from_unix_ms(row.number(7)?),
            expires_at: row.optional_number(8)?.map(Timestamp::from_unix_ms),
            used_at: row.optional_number(9)?.map(Timestamp::from_unix_ms),
        })
    };
    read().map_err(|error| StoreError::Corrupt(format!("a verifier does not read: {error}")))
}
