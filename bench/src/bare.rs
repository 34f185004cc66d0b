//! The bare insert: rows of the log's tables, read from one store and written to another with nothing between.
//!
//! What it leaves out is what the log adds: encoding, checks, hashes, answers, knowing where partitions end.
//! What it keeps is what any writer needs: the same tables, indexes and pragmas, one transaction per batch,
//! one prepared statement per table.

use anyhow::{Context, Result, bail};
use sqlx::sqlite::{SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqliteRow, SqliteSynchronous};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Connection, Row, SqliteConnection, TypeInfo, ValueRef};
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use domain::ids::Partition;
use event_store::PartitionHead;
use event_store::sqlite::{SqliteLog, SqliteOptions};

/// The tables that a batch of commands without timers and names writes.
const TABLES: [&str; 3] = ["events", "commands", "commits"];

/// A value as SQLite has it.
enum Cell {
    Null,
    Integer(i64),
    Text(String),
    Blob(Vec<u8>),
}

/// The rows that one batch has written to a table.
pub(crate) struct TableRows {
    table: &'static str,
    rows: Vec<Vec<Cell>>,
}

/// Reads what the log has written.
pub(crate) struct RowReader {
    connection: SqliteConnection,
    /// The last row seen of `events` and `commands`.
    last: [i64; 2],
}

impl RowReader {
    pub(crate) async fn open(path: &Path) -> Result<Self> {
        let connection =
            connect_options(path).read_only(true).connect().await.context("the log does not open again")?;
        Ok(Self { connection, last: [0; 2] })
    }

    /// The rows of the batch that led to these heads.
    pub(crate) async fn read_new(
        &mut self,
        heads: &[PartitionHead],
        touched: &BTreeSet<Partition>,
    ) -> Result<Vec<TableRows>> {
        let mut tables = Vec::with_capacity(TABLES.len());
        for (table, last) in TABLES.into_iter().zip(&mut self.last) {
            let text = format!("select rowid, * from {table} where rowid > ? order by rowid");
            let found = sqlx::query(AssertSqlSafe(text)).bind(*last).fetch_all(&mut self.connection).await?;
            if let Some(row) = found.last() {
                *last = row.try_get(0)?;
            }
            let rows = found.iter().map(|row| cells(row, 1)).collect::<Result<_>>()?;
            tables.push(TableRows { table, rows });
        }
        let mut commits = Vec::with_capacity(touched.len());
        for head in heads.iter().filter(|head| touched.contains(&head.partition)) {
            let row = sqlx::query("select * from commits where partition = ? and head = ?")
                .bind(i64::from(head.partition.0))
                .bind(i64::try_from(head.offset)?)
                .fetch_one(&mut self.connection)
                .await
                .context("a commit of the log is missing")?;
            commits.push(cells(&row, 0)?);
        }
        tables.push(TableRows { table: "commits", rows: commits });
        Ok(tables)
    }
}

fn cells(row: &SqliteRow, skip: usize) -> Result<Vec<Cell>> {
    (skip..row.len())
        .map(|at| {
            let value = row.try_get_raw(at)?;
            if value.is_null() {
                return Ok(Cell::Null);
            }
            let kind = value.type_info();
            Ok(match kind.name() {
                "INTEGER" => Cell::Integer(row.try_get(at)?),
                "TEXT" => Cell::Text(row.try_get(at)?),
                "BLOB" => Cell::Blob(row.try_get(at)?),
                other => bail!("a column of the log has type {other}, which the benchmark does not copy"),
            })
        })
        .collect()
}

/// A store with the log's tables, written by plain inserts.
pub(crate) struct Bare {
    connection: SqliteConnection,
    statements: HashMap<(&'static str, usize), Arc<str>>,
}

impl Bare {
    pub(crate) async fn open(path: &Path) -> Result<Self> {
        // Opening a log makes its tables; closing it leaves them to us.
        let log = SqliteLog::open(path, SqliteOptions::default())
            .await
            .context("the second store does not open")?;
        log.close().await;
        drop(log);
        let connection =
            connect_options(path).connect().await.context("the second store does not open again")?;
        Ok(Self { connection, statements: HashMap::new() })
    }

    /// Writes the rows in one transaction, with one statement per table.
    pub(crate) async fn insert(&mut self, tables: &[TableRows]) -> Result<()> {
        let mut transaction = self.connection.begin_with("begin immediate").await?;
        for TableRows { table, rows } in tables {
            let Some(first) = rows.first() else { continue };
            let columns = first.len();
            let text = self.statements.entry((table, rows.len())).or_insert_with(|| {
                let row = format!("({})", vec!["?"; columns].join(","));
                Arc::from(format!("insert into {table} values {}", vec![row; rows.len()].join(",")))
            });
            let mut arguments = SqliteArguments::default();
            arguments.reserve(rows.len() * columns, 0);
            for cell in rows.iter().flatten() {
                let added = match cell {
                    Cell::Null => arguments.add(None::<i64>),
                    Cell::Integer(number) => arguments.add(*number),
                    Cell::Text(text) => arguments.add(text.as_str()),
                    Cell::Blob(bytes) => arguments.add(bytes.as_slice()),
                };
                added.map_err(sqlx::Error::Encode)?;
            }
            sqlx::query_with(AssertSqlSafe(Arc::clone(text)), arguments).execute(&mut *transaction).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

/// The pragmas of the log.
fn connect_options(path: &Path) -> SqliteConnectOptions {
    let options = SqliteOptions::default();
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(options.busy_timeout)
        .foreign_keys(false)
        .pragma("cache_size", format!("-{}", options.cache_kib))
        .pragma("mmap_size", "0")
        .pragma("wal_autocheckpoint", options.checkpoint_pages.to_string())
        .pragma("temp_store", "memory")
        .statement_cache_capacity(256)
        .disable_statement_logging()
}
