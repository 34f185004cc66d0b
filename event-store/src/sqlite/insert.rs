//! Multi-row inserts: how many rows go into one statement, and what each table's row looks like.
//!
//! Preparing a statement of 500 rows costs a tenth of running it, so only a few sizes are used, each prepared
//! once per connection. While the database's thread runs one piece, this one encodes the next and does what
//! the caller hands in (hashing): on two cores both cost nothing.

use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteConnection};
use sqlx::{Arguments, AssertSqlSafe};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

use domain::blob::Blob;
use domain::decision::Wakeup;
use domain::event::RecordedEvent;
use domain::ids::{TenantId, birth_bucket};

use crate::chain::{CommitContent, Hash};
use crate::log::{Append, AppendAnswer};
use crate::rows::integer;

/// Most rows of one statement: with 17 columns far below SQLite's 32,766 variables.
const LARGEST: usize = 512;
/// Up to here every number of rows has its own statement; above only powers of two have.
const EXACT: usize = 16;

/// Writes one row's values.
pub(super) type Bind<T> = fn(&T, &mut SqliteArguments) -> Result<(), BoxDynError>;

/// A table that is written in batches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Table {
    /// Everything before the first row.
    insert: &'static str,
    /// One row's placeholders.
    row: &'static str,
    columns: usize,
}

pub(super) const EVENTS: Table = Table {
    insert: "insert into events (partition, offset, bucket, stream, version, tenant, type, schema_version, id, \
             recorded_at, correlation_id, causation_id, actor, traceparent, codec, key_id, data) values ",
    row: "(?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
    columns: 17,
};

pub(super) const COMMITS: Table = Table {
    insert: "insert into commits (partition, head, epoch, event_count, merkle_root, hash, committed_at) values ",
    row: "(?,?,?,?,?,?,?)",
    columns: 7,
};

pub(super) const COMMANDS: Table = Table {
    insert: "insert into commands (command_id, digest, answer, partition, offset, day) values ",
    row: "(?,?,?,?,?,?)",
    columns: 6,
};

pub(super) const WAKEUPS: Table = Table {
    insert: "insert or ignore into wakeups (partition, due_at, stream, kind, bucket, tenant) values ",
    row: "(?,?,?,?,?,?)",
    columns: 6,
};

pub(super) const BLOBS: Table = Table {
    insert: "insert or ignore into blobs (tenant, sha256, media_type, bytes, content) values ",
    row: "(?,?,?,?,?)",
    columns: 5,
};

/// The statements' texts by table and number of rows; few, because few sizes are used.
#[derive(Debug, Default)]
pub(super) struct Statements(HashMap<(&'static str, usize), Arc<str>>);

impl Statements {
    fn text(&mut self, table: Table, rows: usize) -> Arc<str> {
        let build = || {
            let mut text = String::with_capacity(table.insert.len() + rows * (table.row.len() + 1));
            text.push_str(table.insert);
            for row in 0..rows {
                text.push_str(if row == 0 { "" } else { "," });
                text.push_str(table.row);
            }
            Arc::from(text)
        };
        Arc::clone(self.0.entry((table.insert, rows)).or_insert_with(build))
    }
}

/// Inserts all rows.
pub(super) async fn insert<T: Sync>(
    connection: &mut SqliteConnection,
    statements: &mut Statements,
    table: Table,
    rows: &[T],
    bind: Bind<T>,
) -> Result<(), sqlx::Error> {
    insert_beside(connection, statements, table, rows, bind, |_| ()).await
}

/// Inserts all rows; `beside` sees each, in order, while they are being written.
pub(super) async fn insert_beside<T: Sync>(
    connection: &mut SqliteConnection,
    statements: &mut Statements,
    table: Table,
    mut rows: &[T],
    bind: Bind<T>,
    mut beside: impl FnMut(&[T]) + Send,
) -> Result<(), sqlx::Error> {
    let (mut piece, mut left) = rows.split_at(piece_of(rows.len()));
    let mut arguments = encode(piece, table, bind)?;
    while !rows.is_empty() {
        let text = AssertSqlSafe(statements.text(table, piece.len()));
        let run = sqlx::query_with(text, arguments).execute(&mut *connection);
        let (next, after) = left.split_at(piece_of(left.len()));
        let meanwhile = async {
            let encoded = encode(next, table, bind);
            beside(piece);
            encoded
        };
        let (done, encoded) = tokio::join!(biased; run, meanwhile);
        done?;
        arguments = encoded?;
        rows = left;
        (piece, left) = (next, after);
    }
    Ok(())
}

/// How many of `rows` rows the next statement takes.
fn piece_of(rows: usize) -> usize {
    match rows {
        0..=EXACT => rows,
        LARGEST.. => LARGEST,
        _ => 1 << rows.ilog2(),
    }
}

fn encode<T>(rows: &[T], table: Table, bind: Bind<T>) -> Result<SqliteArguments, sqlx::Error> {
    let mut arguments = SqliteArguments::default();
    arguments.reserve(rows.len() * table.columns, 0);
    for row in rows {
        bind(row, &mut arguments).map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// A row of `events`.
pub(super) fn bind_event(event: &RecordedEvent, row: &mut SqliteArguments) -> Result<(), BoxDynError> {
    row.add(i64::from(event.position.partition.0))?;
    row.add(integer(event.position.offset))?;
    row.add(i64::from(birth_bucket(event.stream)))?;
    row.add(event.stream)?;
    row.add(integer(event.version))?;
    row.add(event.tenant.as_str())?;
    row.add(&*event.event_type)?;
    row.add(i64::from(event.schema_version))?;
    row.add(event.id)?;
    row.add(event.recorded_at.unix_ms())?;
    row.add(event.correlation_id)?;
    row.add(event.causation_id)?;
    row.add(event.actor.as_str())?;
    row.add(event.traceparent.clone())?;
    row.add(event.codec.number())?;
    row.add(event.key_id.clone())?;
    row.add(&event.data[..])
}

/// A row of `commits`.
pub(super) fn bind_commit(
    (commit, hash): &(CommitContent, Hash),
    row: &mut SqliteArguments,
) -> Result<(), BoxDynError> {
    row.add(i64::from(commit.partition.0))?;
    row.add(integer(commit.last))?;
    row.add(integer(commit.epoch))?;
    row.add(integer(commit.last - commit.first + 1))?;
    row.add(&commit.root[..])?;
    row.add(&hash[..])?;
    row.add(commit.committed_at.unix_ms())
}

/// A row of `commands`.
pub(super) fn bind_command(
    (append, stored): &(&Append, AppendAnswer),
    row: &mut SqliteArguments,
) -> Result<(), BoxDynError> {
    row.add(append.command_id)?;
    row.add(stored.digest.map(|digest| digest.to_vec()))?;
    row.add(&stored.answer[..])?;
    row.add(i64::from(stored.position.partition.0))?;
    row.add(integer(stored.position.offset))?;
    row.add(append.decided_at.days_since_epoch())
}

/// A row of `wakeups`: the append that asks for it, its stream, and the wakeup.
pub(super) fn bind_wakeup(
    (append, stream, wakeup): &(&Append, Uuid, &Wakeup),
    row: &mut SqliteArguments,
) -> Result<(), BoxDynError> {
    row.add(i64::from(append.partition.0))?;
    row.add(wakeup.due_at.unix_ms())?;
    row.add(*stream)?;
    row.add(wakeup.kind.to_string())?;
    row.add(i64::from(birth_bucket(*stream)))?;
    row.add(append.tenant.as_str())
}

/// A row of `blobs`.
pub(super) fn bind_blob(
    (tenant, blob): &(&TenantId, &Blob),
    row: &mut SqliteArguments,
) -> Result<(), BoxDynError> {
    row.add(tenant.as_str())?;
    row.add(blob.reference.sha256.as_str())?;
    row.add(blob.reference.media_type.as_str())?;
    row.add(integer(blob.reference.bytes))?;
    row.add(&blob.content[..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_rows_is_made_of_few_sizes() {
        let mut sizes = std::collections::BTreeSet::new();
        for rows in 0..5_000 {
            let mut left = rows;
            while left > 0 {
                let piece = piece_of(left);
                sizes.insert(piece);
                left -= piece;
            }
        }
        assert!(sizes.len() <= EXACT + 5, "{sizes:?}");
        assert_eq!(sizes.last(), Some(&LARGEST));
    }

    #[test]
    fn the_placeholders_of_a_table_are_as_many_as_its_columns() {
        for table in [EVENTS, COMMITS, COMMANDS, WAKEUPS, BLOBS] {
            assert_eq!(table.row.matches('?').count(), table.columns);
            let names = table.insert.split('(').nth(1).unwrap();
            assert_eq!(names.matches(',').count() + 1, table.columns, "{names}");
            assert!(LARGEST * table.columns < 32_766);
        }
    }
}
