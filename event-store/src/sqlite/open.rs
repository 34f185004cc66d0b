//! Opening a log: lock, pragmas, migrations, and the number of partitions, which is fixed at creation.
//!
//! Invariant: the lock is taken before the file is touched and given back last.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection, SqlSafeStr, SqlitePool};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;
use uuid::Uuid;

use domain::ids::{DEFAULT_PARTITIONS, SLOTS};

use super::SqliteLog;
use super::writer::WriterLock;
use crate::log::StoreError;
use crate::rows::failed;

/// Forward only; a file that was ever released is never edited.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "log", include_str!("../../migrations/sqlite/0001_log.sql")),
    (2, "sessions", include_str!("../../migrations/sqlite/0002_sessions.sql")),
];

/// How long a read waits for one of its connections: longer than any page takes, shorter than callers wait.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);

/// How a log is opened.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// Partitions of a log that is created, 1 to 4096. `None`: 16, or whatever an existing log has. An existing
    /// log is refused if it has another number.
    pub partitions: Option<u16>,
    /// Connections that read for the owner, through [`SqliteLog`] itself.
    pub own_readers: u32,
    /// Connections that read for everybody else, through a [`SqliteReader`](super::SqliteReader).
    pub readers: u32,
    /// How long to wait for a lock inside the database.
    pub busy_timeout: Duration,
    /// Page cache of each connection, in KiB.
    pub cache_kib: u32,
    /// After how many pages of 4 KiB the write-ahead log is moved into the file.
    pub checkpoint_pages: u32,
    /// The most pages of 4 KiB of the file, whatever the disk has room for. `None`: no limit of its own.
    pub max_pages: Option<u32>,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            partitions: None,
            own_readers: 4,
            readers: 6,
            busy_timeout: Duration::from_secs(5),
            cache_kib: 32 * 1024,
            checkpoint_pages: 4000,
            max_pages: None,
        }
    }
}

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// The disk.
    Disk,
    /// Nothing: the log is deleted with its process.
    Nothing,
}

impl SqliteLog {
    /// Opens the log at `path`, creating and migrating it as needed.
    pub async fn open(path: &Path, options: SqliteOptions) -> Result<Self, StoreError> {
        Self::open_as(path, options, Durability::Disk, None).await
    }

    /// Opens a log in a directory of its own that is deleted on drop; nothing in it is made durable.
    pub async fn open_temporary(options: SqliteOptions) -> Result<Self, StoreError> {
        let directory = TemporaryDirectory::create()?;
        let path = directory.0.join("log.db");
        Self::open_as(&path, options, Durability::Nothing, Some(directory)).await
    }

    async fn open_as(
        path: &Path,
        options: SqliteOptions,
        durability: Durability,
        temporary: Option<TemporaryDirectory>,
    ) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        let connect = connect_options(path, &options, durability);
        let mut writing = connect.clone().statement_cache_capacity(256);
        if let Some(pages) = options.max_pages {
            writing = writing.pragma("max_page_count", pages.to_string());
        }
        let created = writing.clone().create_if_missing(true).connect().await;
        let mut writer = created.map_err(failed("open its file"))?;
        migrate(&mut writer).await?;
        let partitions = partitions(&mut writer, path, options.partitions).await?;
        let reading = connect.read_only(true);
        let own = pool(options.own_readers, reading.clone()).await?;
        let readers = pool(options.readers, reading).await?;
        Ok(Self {
            path: path.to_owned(),
            partitions,
            own,
            readers,
            writer: WriterLock::new(writer, writing),
            _lock: lock,
            _temporary: temporary,
        })
    }
}

/// Connections that read, opened as they are needed.
async fn pool(connections: u32, options: SqliteConnectOptions) -> Result<SqlitePool, StoreError> {
    SqlitePoolOptions::new()
        .max_connections(connections.max(1))
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(options)
        .await
        .map_err(failed("open its file for reading"))
}

/// A directory that goes with its log.
#[derive(Debug)]
pub(super) struct TemporaryDirectory(PathBuf);

impl TemporaryDirectory {
    fn create() -> Result<Self, StoreError> {
        let path = std::env::temp_dir().join(format!("everline-{}", Uuid::new_v4()));
        std::fs::create_dir(&path).map_err(io(&path))?;
        Ok(Self(path))
    }
}

impl Drop for TemporaryDirectory {
    fn drop(&mut self) {
        // Nobody waits for it; what stays behind is in the system's temporary directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let path = PathBuf::from(name);
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { path: path.display().to_string() }),
        Err(TryLockError::Error(source)) => Err(io(&path)(source)),
    }
}

fn connect_options(path: &Path, options: &SqliteOptions, durability: Durability) -> SqliteConnectOptions {
    let synchronous = match durability {
        Durability::Disk => SqliteSynchronous::Full,
        Durability::Nothing => SqliteSynchronous::Off,
    };
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(synchronous)
        .busy_timeout(options.busy_timeout)
        .foreign_keys(false)
        .pragma("cache_size", format!("-{}", options.cache_kib))
        // A failing disk is then an error that is returned; in mapped memory it would end the process.
        .pragma("mmap_size", "0")
        .pragma("wal_autocheckpoint", options.checkpoint_pages.to_string())
        .pragma("temp_store", "memory")
        .disable_statement_logging()
}

async fn migrate(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let migrations = MIGRATIONS
        .iter()
        .map(|(version, name, sql)| {
            Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
        })
        .collect();
    Migrator::with_migrations(migrations)
        .run_direct(None, connection, false)
        .await
        .map_err(StoreError::Migration)
}

/// The number of partitions, written down by whoever opens the log first.
async fn partitions(
    connection: &mut SqliteConnection,
    path: &Path,
    asked: Option<u16>,
) -> Result<u16, StoreError> {
    let unfit = |reason| StoreError::Unfit { path: path.display().to_string(), reason };
    if let Some(asked) = asked.filter(|asked| !(1..=SLOTS).contains(asked)) {
        return Err(unfit(format!("{asked} partitions are not possible; choose 1 to {SLOTS}")));
    }
    let operation = "set up its partitions";
    let mut transaction = connection.begin_with("begin immediate").await.map_err(failed(operation))?;
    let stored: Option<String> = sqlx::query_scalar("select value from meta where key = 'partitions'")
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed(operation))?;
    if let Some(stored) = stored {
        let stored: u16 = stored.parse().map_err(|_| {
            StoreError::Corrupt(format!("the number of partitions is recorded as `{stored}`"))
        })?;
        return match asked.filter(|asked| *asked != stored) {
            None => Ok(stored),
            Some(asked) => Err(unfit(format!(
                "it was created with {stored} partitions, which cannot be changed to {asked}; leave the \
                 setting out or choose another data directory"
            ))),
        };
    }
    let partitions = asked.unwrap_or(DEFAULT_PARTITIONS);
    sqlx::query(
        "insert into meta (key, value) values ('partitions', ?), ('created_at', strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))",
    )
    .bind(partitions.to_string())
    .execute(&mut *transaction)
    .await
    .map_err(failed(operation))?;
    sqlx::query(
        "insert into partitions (partition, epoch)
         with recursive numbers (n) as (select 0 union all select n + 1 from numbers where n + 1 < ?)
         select n, 0 from numbers",
    )
    .bind(i64::from(partitions))
    .execute(&mut *transaction)
    .await
    .map_err(failed(operation))?;
    transaction.commit().await.map_err(failed(operation))?;
    Ok(partitions)
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.display().to_string();
    move |source| StoreError::Io { path, source }
}
