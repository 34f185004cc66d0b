//! The embedded log: one SQLite file, one writer connection, a few readers, one process.
//!
//! ```text
//!   append ─► write   check, one `begin immediate`, insert, commit   ◄─ judge (only when something may be refused)
//!   read   ─► read, wakeups                                             insert (multi-row statements)
//!   writer: the connection that writes, replaced after it failed
//! ```
//!
//! Owns: the tables of `migrations/sqlite`. Invariants: an OS lock on `<path>.lock` keeps every other process
//! out, so what this process knows of heads and epochs is all there is to know; all writes go through one
//! connection, under one mutex, in WAL mode with `synchronous=full`, so a commit that returned is on disk;
//! offsets are given out inside that transaction, so a reader that sees `n + 1` has seen `n`.
//! Deliberately absent: snapshots, other processes.

mod checkpoints;
mod insert;
mod judge;
mod open;
mod read;
mod transfer;
mod verifiers;
mod wakeups;
mod write;
mod writer;

pub use open::SqliteOptions;
pub use read::SqliteReader;

use sqlx::{SqliteConnection, SqlitePool};
use std::fs::File;
use std::path::{Path, PathBuf};

use crate::log::StoreError;

/// The log in an SQLite file. Share it in an `Arc`; dropping the last one gives the file free.
#[derive(Debug)]
pub struct SqliteLog {
    path: PathBuf,
    partitions: u16,
    /// Of whoever decides: what others read cannot keep it from reading.
    own: SqlitePool,
    /// Of everybody else: streams, queries, projections, verifiers.
    readers: SqlitePool,
    writer: writer::WriterLock,
    // Dropped after the connections, in this order: the lock, then the directory of a temporary log.
    _lock: File,
    _temporary: Option<open::TemporaryDirectory>,
}

impl SqliteLog {
    /// Where the log is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Waits for what is being written, closes the readers, whose next call fails, and moves what is in the
    /// write-ahead log into the file, so that the file alone is the whole log. Dropping closes without that.
    pub async fn close(&self) {
        let mut quiet = self.writer.quiet().await;
        self.own.close().await;
        self.readers.close().await;
        if let Err(error) =
            sqlx::query("pragma wal_checkpoint(truncate)").execute(&mut quiet.connection).await
        {
            // Nothing is lost: the next start reads the write-ahead log.
            tracing::warn!(error = %error, "the write-ahead log could not be moved into {}", self.path.display());
        }
    }

    /// Begins a transaction that has the write lock from the start.
    async fn begin(connection: &mut SqliteConnection) -> Result<Transaction<'_>, StoreError> {
        use sqlx::Connection;
        connection.begin_with("begin immediate").await.map_err(crate::rows::failed("begin a transaction"))
    }
}

type Transaction<'c> = sqlx::Transaction<'c, sqlx::Sqlite>;
