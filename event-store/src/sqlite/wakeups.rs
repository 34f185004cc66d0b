//! Wakeups, and forgetting what is past: the only rows of the log's tables that are ever deleted.

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{Row, SqlitePool};

use domain::ids::Partition;
use domain::time::Timestamp;

use crate::log::{COMMAND_RETENTION_MS, StoreError, StoredWakeup, WakeupCursor};
use crate::rows::{self, failed, limit};

/// A row's key as it is stored, whether or not it reads.
struct Place {
    due_at: i64,
    stream: Vec<u8>,
    kind: Vec<u8>,
}

/// Wakeups behind `after` and due up to `until` of streams that have not ended.
///
/// A row that does not read is passed over: it is of one stream, and must not hold up the partition's others.
pub(super) async fn due(
    pool: &SqlitePool,
    partition: Partition,
    after: &WakeupCursor,
    until: Timestamp,
    final_types: &[&str],
    most: usize,
) -> Result<Vec<StoredWakeup>, StoreError> {
    let final_types = serde_json::json!(final_types).to_string();
    let mut place = Place {
        due_at: after.due_at.unix_ms(),
        stream: after.stream.as_bytes().to_vec(),
        kind: after.kind.clone().into_bytes(),
    };
    let mut found = Vec::new();
    // The caller takes a page that is not full for the last: what was passed over is made up for.
    loop {
        let wanted = most - found.len();
        let page = page(pool, partition, &place, until, &final_types, wanted).await?;
        for row in &page {
            match rows::wakeup(row) {
                Ok(wakeup) => found.push(wakeup),
                Err(error) => tracing::error!(%partition, "a wakeup is passed over: {error}"),
            }
        }
        match page.last().filter(|_| page.len() == wanted && found.len() < most) {
            Some(last) => place = Place::of(last).map_err(failed("read a wakeup's key"))?,
            None => return Ok(found),
        }
    }
}

impl Place {
    fn of(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        Ok(Self { due_at: row.try_get(0)?, stream: row.try_get(1)?, kind: row.try_get(4)? })
    }
}

/// Rows behind a place, at most `most`.
async fn page(
    pool: &SqlitePool,
    partition: Partition,
    after: &Place,
    until: Timestamp,
    final_types: &str,
    most: usize,
) -> Result<Vec<SqliteRow>, StoreError> {
    sqlx::query(
        "select w.due_at, w.stream, w.kind, w.tenant, cast(w.kind as blob) from wakeups w
         where w.partition = ? and (w.due_at, w.stream, w.kind) > (?, ?, cast(? as text)) and w.due_at <= ?
         and coalesce((select e.type from events e where e.bucket = w.bucket and e.stream = w.stream
                       order by e.version desc limit 1), '') not in (select value from json_each(?))
         order by w.due_at, w.stream, w.kind limit ?",
    )
    .bind(i64::from(partition.0))
    .bind(after.due_at)
    .bind(&after.stream[..])
    .bind(&after.kind[..])
    .bind(until.unix_ms())
    .bind(final_types)
    .bind(limit(most))
    .fetch_all(pool)
    .await
    .map_err(failed("read wakeups"))
}

/// Forgets past wakeups of the partition, and commands older than they must be known. Returns whether more
/// may be left.
pub(super) async fn forget_past(
    connection: &mut SqliteConnection,
    partition: Partition,
    until: Timestamp,
    now: Timestamp,
    most: usize,
) -> Result<bool, StoreError> {
    let wakeups = sqlx::query(
        "delete from wakeups where partition = ?1 and (due_at, stream, kind) in (
             select due_at, stream, kind from wakeups where partition = ?1 and due_at <= ?2
             order by due_at, stream, kind limit ?3)",
    )
    .bind(i64::from(partition.0))
    .bind(until.unix_ms())
    .bind(limit(most))
    .execute(&mut *connection)
    .await
    .map_err(failed("forget past wakeups"))?
    .rows_affected();
    // Commands stand in the order of time, those of all partitions mixed: the oldest rows are looked at, whichever
    // partition they are of. A day is forgotten when all of it is past.
    let oldest_kept = Timestamp::from_unix_ms(now.unix_ms() - COMMAND_RETENTION_MS as i64).days_since_epoch();
    let commands = sqlx::query(
        "delete from commands where rowid in (
             select id from (select rowid as id, day from commands order by rowid limit ?1) where day < ?2)",
    )
    .bind(limit(most))
    .bind(oldest_kept)
    .execute(&mut *connection)
    .await
    .map_err(failed("forget old commands"))?
    .rows_affected();
    Ok(wakeups.max(commands) >= most as u64)
}
