//! Wakeups: what is due, and forgetting what is past.

use sqlx::postgres::PgArguments;
use uuid::Uuid;

use domain::ids::Partition;
use domain::time::Timestamp;

use super::arguments::add;
use super::session::Session;
use crate::log::{StoreError, StoredWakeup, WakeupCursor};
use crate::rows::{self, StoredRow, count, failed, integer, limit};

/// Begins behind what was forgotten: the rows of a day that no vacuum could remove yet are not stepped over.
const DUE: &str = "
    select w.due_at, w.stream, w.kind, w.tenant from wakeups w
    where w.partition = $1
    and (w.due_at, w.stream, w.kind) > (
        greatest($2, (select p.past_until from partitions p where p.partition = $1)),
        case when (select p.past_until from partitions p where p.partition = $1) >= $2
             then 'ffffffff-ffff-ffff-ffff-ffffffffffff' else $3 end,
        $4)
    and w.due_at <= $5
    and coalesce((select e.type from events e where e.bucket = w.bucket and e.stream = w.stream
                  order by e.version desc limit 1), '') <> all ($6)
    order by w.due_at, w.stream, w.kind limit $7";

/// A row's key as it is stored, whether or not it reads.
struct Place {
    due_at: i64,
    stream: Uuid,
    kind: String,
}

/// Wakeups behind `after` and due up to `until` of streams that have not ended.
///
/// A row that does not read is passed over: it is of one stream, and must not hold up the partition's others.
pub(super) async fn due(
    session: &Session,
    partition: Partition,
    after: &WakeupCursor,
    until: Timestamp,
    final_types: &[&str],
    most: usize,
) -> Result<Vec<StoredWakeup>, StoreError> {
    let operation = "read wakeups";
    let mut place = Place { due_at: after.due_at.unix_ms(), stream: after.stream, kind: after.kind.clone() };
    let mut found = Vec::new();
    // The caller takes a page that is not full for the last: what was passed over is made up for.
    loop {
        let wanted = most - found.len();
        let mut arguments = PgArguments::default();
        add(&mut arguments, operation, i32::from(partition.0))?;
        add(&mut arguments, operation, place.due_at)?;
        add(&mut arguments, operation, place.stream)?;
        add(&mut arguments, operation, place.kind.as_str())?;
        add(&mut arguments, operation, until.unix_ms())?;
        add(&mut arguments, operation, final_types)?;
        add(&mut arguments, operation, limit(wanted))?;
        let page = session.run(DUE, arguments).await.map_err(failed(operation))?;
        for row in &page {
            match rows::wakeup(row) {
                Ok(wakeup) => found.push(wakeup),
                Err(error) => tracing::error!(%partition, "a wakeup is passed over: {error}"),
            }
        }
        match page.last().filter(|_| page.len() == wanted && found.len() < most) {
            Some(last) => place = place_of(last).map_err(failed("read a wakeup's key"))?,
            None => return Ok(found),
        }
    }
}

fn place_of(row: &impl StoredRow) -> Result<Place, sqlx::Error> {
    Ok(Place { due_at: row.number(0)?, stream: row.id(1)?, kind: row.text(2)?.to_owned() })
}

/// Forgets past wakeups of the partition; returns how many.
pub(super) async fn forget(
    session: &Session,
    partition: Partition,
    until: Timestamp,
    most: usize,
) -> Result<u64, StoreError> {
    let operation = "forget past wakeups";
    let mut arguments = PgArguments::default();
    add(&mut arguments, operation, i32::from(partition.0))?;
    add(&mut arguments, operation, until.unix_ms())?;
    add(&mut arguments, operation, integer(most as u64))?;
    let found = session.run("select everline_forget_wakeups($1, $2, $3)", arguments).await;
    let found = found.map_err(failed(operation))?;
    let gone = found.first().map_or(Ok(0), |row| row.number(0)).map_err(failed(operation))?;
    count(gone, "the number of forgotten wakeups")
}
