//! The only writer's connection, and what is known with it.
//!
//! Invariants: what is known of each partition's end ([`Tails`]) is read once and kept, because the lock keeps
//! everybody else out; it is taken away while something is written and put back only when the outcome is known,
//! so that a failed or cancelled write makes the next one read it again. A connection that a write has left in
//! doubt is not written through again: on a full disk SQLite ends a transaction by itself, sqlx goes on counting
//! it, and everything that follows on that connection is refused.

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};
use std::sync::PoisonError;
use tokio::sync::{Mutex, MutexGuard};

use super::SqliteLog;
use super::insert::Statements;
use crate::log::StoreError;
use crate::plan::Tails;
use crate::rows::{self, failed};

/// The writer, one caller at a time, and how the last write went.
#[derive(Debug)]
pub(super) struct WriterLock {
    writer: Mutex<Writer>,
    /// Why the last write failed. Beside the writer, so that asking waits for nobody.
    failure: std::sync::Mutex<Option<String>>,
}

/// The connection that writes, and what it knows.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) connection: SqliteConnection,
    pub(super) statements: Statements,
    /// Of every partition; `None` when they must be read.
    tails: Option<Tails>,
    /// The database failed on this connection: it is to be replaced.
    in_doubt: bool,
    /// How it is opened again.
    options: SqliteConnectOptions,
}

impl WriterLock {
    /// `options` must open the database as `connection` was opened.
    pub(super) fn new(connection: SqliteConnection, options: SqliteConnectOptions) -> Self {
        let statements = Statements::default();
        let writer = Writer { connection, statements, tails: None, in_doubt: false, options };
        Self { writer: Mutex::new(writer), failure: std::sync::Mutex::default() }
    }

    /// Waits for its turn. The connection is a sound one, if one can be had.
    pub(super) async fn lock(&self) -> MutexGuard<'_, Writer> {
        let mut writer = self.writer.lock().await;
        writer.mend().await;
        writer
    }

    /// Waits until nobody writes, whatever state that leaves.
    pub(super) async fn quiet(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().await
    }

    /// Notes how a write went.
    pub(super) fn note<T>(&self, writer: &mut Writer, outcome: Result<T, &StoreError>) {
        let failure = match outcome {
            Ok(_) => None,
            Err(error @ StoreError::Database { source, .. }) => {
                writer.in_doubt = true;
                writer.tails = None;
                Some(format!("{error}: {source}"))
            }
            // Damage and misuse concern what was asked, not whether the database takes writes.
            Err(_) => return,
        };
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Writer {
    /// Takes the tails away, reading them if need be.
    pub(super) async fn take_tails(&mut self) -> Result<Tails, StoreError> {
        match self.tails.take() {
            Some(tails) => Ok(tails),
            None => read_tails(&mut self.connection).await,
        }
    }

    /// Puts them back, as the database now has them.
    pub(super) fn put_tails(&mut self, tails: Tails) {
        self.tails = Some(tails);
    }

    /// Replaces the connection where it cannot be trusted.
    async fn mend(&mut self) {
        if self.tails.is_some() && !self.connection.is_in_transaction() {
            return;
        }
        // It answers after everything that a cancelled write has left in its queue, a rollback or a commit.
        let answers = self.connection.ping().await.is_ok();
        if answers && !self.in_doubt && !self.connection.is_in_transaction() {
            return;
        }
        self.tails = None;
        match self.options.connect().await {
            Ok(fresh) => {
                let old = std::mem::replace(&mut self.connection, fresh);
                self.statements = Statements::default();
                self.in_doubt = false;
                // What it had not committed goes with it, before anything is read through the new one.
                if let Err(error) = old.close().await {
                    tracing::debug!("the connection that failed did not close well: {error}");
                }
                tracing::info!("the log's connection for writing was opened again");
            }
            Err(error) => {
                self.in_doubt = true;
                tracing::error!("the log's connection for writing cannot be opened again: {error}");
                // A single statement must not end up in a transaction that nobody commits. There mostly is none,
                // and then this fails.
                let _ = sqlx::query("rollback").execute(&mut self.connection).await;
            }
        }
    }
}

impl SqliteLog {
    /// Why the last write failed, if it did: the log may be refusing all of them, as on a full disk.
    pub fn last_write_failed(&self) -> Option<String> {
        self.writer.failure()
    }

    /// Writes something and removes it again, for want of another write that would tell whether the log takes
    /// any. Its outcome counts as the last write's.
    pub async fn try_write(&self) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let outcome = try_write(&mut writer.connection).await;
        self.writer.note(&mut writer, outcome.as_ref());
        outcome
    }
}

async fn try_write(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let operation = "try a write";
    let mut transaction = SqliteLog::begin(connection).await?;
    // Several pages, so that a database without room for any refuses it.
    for statement in [
        "insert or replace into meta (key, value) values ('try_write', hex(zeroblob(16384)))",
        "delete from meta where key = 'try_write'",
    ] {
        sqlx::query(statement).execute(&mut *transaction).await.map_err(failed(operation))?;
    }
    transaction.commit().await.map_err(failed(operation))
}

/// Where every partition ends, according to the database.
async fn read_tails(connection: &mut SqliteConnection) -> Result<Tails, StoreError> {
    let operation = "read where its partitions end";
    let found = sqlx::query(
        "select p.partition, p.epoch, c.head, c.hash, c.committed_at from partitions p
         left join commits c on c.partition = p.partition
         and c.head = (select l.head from commits l where l.partition = p.partition order by l.head desc limit 1)
         order by p.partition",
    )
    .fetch_all(connection)
    .await
    .map_err(failed(operation))?;
    found.iter().map(rows::tail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::{Append, AppendError, Batch, Committed, Log, LogReader};
    use crate::sqlite::SqliteOptions;
    use domain::ids::{Partition, TenantId};
    use domain::time::Timestamp;
    use std::sync::Arc;
    use uuid::Uuid;

    /// Has the database take every commit back by itself, as it does when a disk turns out to be full.
    async fn fill_disk(log: &SqliteLog) {
        let mut writer = log.writer.quiet().await;
        writer.connection.lock_handle().await.unwrap().set_commit_hook(|| false);
    }

    async fn append(log: &SqliteLog, epoch: u64, command: u128) -> Result<Committed, AppendError> {
        let head = crate::PartitionHead { partition: Partition(0), epoch, offset: 0 };
        let append = Append {
            partition: Partition(0),
            command_id: Uuid::from_u128(command),
            digest: None,
            answer: "{}".into(),
            decided_at: Timestamp::from_unix_ms(0),
            tenant: TenantId::default_tenant(),
            streams: Vec::new(),
            claims: Vec::new(),
            wakeups: Vec::new(),
            blobs: Vec::new(),
        };
        log.append(Arc::new(Batch { heads: vec![head], appends: vec![append] })).await
    }

    async fn known(log: &SqliteLog, command: u128) -> bool {
        log.command_answer(Partition(0), Uuid::from_u128(command)).await.unwrap().is_some()
    }

    #[tokio::test]
    async fn a_commit_that_the_database_takes_back_does_not_stop_the_next() {
        let log = SqliteLog::open_temporary(SqliteOptions::default()).await.unwrap();
        let epoch = log.take_over(Partition(0), uuid::Uuid::nil()).await.unwrap().epoch;
        append(&log, epoch, 1).await.unwrap();
        for command in [2, 4] {
            fill_disk(&log).await;
            append(&log, epoch, command).await.unwrap_err();
            assert!(log.last_write_failed().is_some_and(|reason| reason.contains("commit an append")));
            append(&log, epoch, command + 1).await.unwrap();
            assert_eq!(log.last_write_failed(), None);
        }
        for (command, expected) in [(1, true), (2, false), (3, true), (4, false), (5, true)] {
            assert_eq!(known(&log, command).await, expected, "command {command}");
        }
        fill_disk(&log).await;
        log.try_write().await.unwrap_err();
        assert!(log.last_write_failed().is_some());
        assert_eq!(log.take_over(Partition(0), uuid::Uuid::nil()).await.unwrap().epoch, epoch + 1);
    }

    #[tokio::test]
    async fn others_reading_does_not_keep_the_owner_from_it() {
        let options = SqliteOptions { readers: 1, ..SqliteOptions::default() };
        let log = Arc::new(SqliteLog::open_temporary(options).await.unwrap());
        let _busy = log.readers.acquire().await.unwrap();
        assert_eq!(log.heads().await.unwrap().len(), 16);
        log.reader().heads().await.unwrap_err();
    }
}
