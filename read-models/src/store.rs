//! Opening the database, its connections and its schema.
//!
//! One writer connection, so that writers of this process queue in memory instead of on SQLite's lock; a few
//! readers that never wait for it (WAL). `synchronous=normal`: a power cut may lose the last commits, whole,
//! rows and checkpoint together, and the projection repeats them.

use sqlx::Connection;
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteSynchronous,
};
use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use uuid::Uuid;

use crate::ReadModelError;
use crate::positions::Reached;

/// Connections that queries share.
const READERS: u32 = 4;
/// How long a statement waits for a writer in another process, and a caller for a connection.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// WAL pages after which SQLite checkpoints: 16 MiB, so that a busy projection syncs seldom.
const WAL_PAGES: &str = "4000";

/// Schema versions, forward only.
const MIGRATIONS: &[(i64, &str, &str)] =
    &[(1, "read models", include_str!("../migrations/sqlite/0001_read_models.sql"))];

/// The read models. Cheap to clone; clones share connections and wake each other's waiters.
#[derive(Clone)]
pub struct ReadModels {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) writer: SqlitePool,
    pub(crate) readers: SqlitePool,
    /// The checkpoints of the main projection, as far as this process knows.
    pub(crate) reached: watch::Sender<Reached>,
    /// When the checkpoints were last read for the sake of waiters.
    pub(crate) polled: Mutex<Option<Instant>>,
    /// The folder of a temporary database, removed with the last clone.
    temporary: Option<PathBuf>,
}

/// How read models on Postgres are opened.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database?sslmode=…`. Never shown: it holds a password.
    pub url: String,
    /// Connections that queries share.
    pub connections: u32,
    /// The URL leads through a pooler in transaction mode, such as PgBouncer: nothing of a session is relied on.
    pub pooled: bool,
    /// What the server shows as the name of the connections, for people.
    pub application_name: String,
}

impl PostgresOptions {
    /// Defaults for a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self { url: url.into(), connections: 6, pooled: false, application_name: "everline".to_owned() }
    }
}

/// Without the URL: it holds a password.
impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions").field("pooled", &self.pooled).finish_non_exhaustive()
    }
}

impl ReadModels {
    /// Opens or creates the database at `path` and brings its schema up to date.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, ReadModelError> {
        Self::open_at(path.as_ref(), None).await
    }

    /// A database in the system's folder for temporary files, removed when the last clone is dropped.
    pub async fn open_temporary() -> Result<Self, ReadModelError> {
        let folder = std::env::temp_dir().join(format!("everline-read-models-{}", Uuid::new_v4()));
        std::fs::create_dir_all(&folder)
            .map_err(|source| ReadModelError::database("create a temporary folder")(source.into()))?;
        Self::open_at(&folder.join("read-models.db"), Some(folder.clone())).await
    }

    async fn open_at(path: &Path, temporary: Option<PathBuf>) -> Result<Self, ReadModelError> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY_TIMEOUT)
            .pragma("temp_store", "memory")
            .pragma("wal_autocheckpoint", WAL_PAGES);
        let writer = pool(1).before_acquire(|connection, _| Box::pin(is_sound(connection)));
        let writer = writer.connect_with(options.clone()).await;
        let writer = writer.map_err(ReadModelError::database("open its file for writing"))?;
        migrator().run(&writer).await.map_err(ReadModelError::Migration)?;
        let readers = pool(READERS).connect_with(options.pragma("query_only", "on")).await;
        let readers = readers.map_err(ReadModelError::database("open its file for reading"))?;
        let models = Self {
            inner: Arc::new(Inner {
                writer,
                readers,
                reached: watch::Sender::new(Reached::default()),
                polled: Mutex::new(None),
                temporary,
            }),
        };
        models.poll_checkpoints().await?;
        Ok(models)
    }

    /// Opens the read models on Postgres, in a schema of their own, creating and migrating it as needed.
    pub async fn open_postgres(_options: PostgresOptions) -> Result<Self, ReadModelError> {
        Err(ReadModelError::database("SKELETON")(sqlx::Error::PoolClosed))
    }

    /// Closes the connections after the statements under way. Later calls fail.
    pub async fn close(&self) {
        self.inner.readers.close().await;
        self.inner.writer.close().await;
    }
}

impl std::fmt::Debug for ReadModels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReadModels").finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(folder) = &self.temporary
            && let Err(error) = std::fs::remove_dir_all(folder)
        {
            tracing::debug!(%error, folder = %folder.display(), "a temporary database was left behind");
        }
    }
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
}

/// Whether the writer's connection is in no transaction; one that is not sound is replaced by the pool.
///
/// On a full disk SQLite ends a transaction by itself, the rollback that follows fails, and sqlx goes on counting
/// the transaction: no other could ever begin.
async fn is_sound(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // It answers after the rollback of a dropped transaction, which nobody has waited for.
    connection.ping().await?;
    Ok(!connection.is_in_transaction())
}

fn migrator() -> Migrator {
    let migrations = MIGRATIONS.iter().map(|&(version, description, sql)| {
        let sql = sqlx::SqlStr::from_static(sql);
        Migration::new(version, Cow::Borrowed(description), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MAIN_PROJECTION;
    use domain::ids::Partition;

    #[tokio::test]
    async fn a_projection_goes_on_after_its_disk_was_full() {
        let models = ReadModels::open_temporary().await.unwrap();
        let mut tx = models.begin().await.unwrap();
        tx.advance_checkpoint(MAIN_PROJECTION, Partition(1), 0, 5).await.unwrap();
        tx.commit().await.unwrap();
        for _ in 0..2 {
            // The database takes the commit back by itself. Only of this connection: the next one is sound.
            let mut writer = models.inner.writer.acquire().await.unwrap();
            writer.lock_handle().await.unwrap().set_commit_hook(|| false);
            drop(writer);
            let mut tx = models.begin().await.unwrap();
            tx.advance_checkpoint(MAIN_PROJECTION, Partition(1), 5, 6).await.unwrap();
            tx.commit().await.unwrap_err();
            assert_eq!(models.checkpoints(MAIN_PROJECTION).await.unwrap(), [(Partition(1), 5)]);
        }
        let mut tx = models.begin().await.unwrap();
        tx.advance_checkpoint(MAIN_PROJECTION, Partition(1), 5, 7).await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(models.checkpoints(MAIN_PROJECTION).await.unwrap(), [(Partition(1), 7)]);
    }
}
