//! What is SQLite's own: the file, its lock, its triggers; and the contract run against it.

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tempfile::TempDir;

use domain::ids::Partition;
use event_store::sqlite::{SqliteLog, SqliteOptions};
use event_store::{Log, LogReader, StoreError};

use crate::contract::contract;
use crate::support::{Owner, PARTITIONS, Store, append, partition, stream};

/// A directory with a log in it.
pub(crate) struct SqliteStore {
    directory: TempDir,
}

impl SqliteStore {
    pub(crate) async fn try_open(&self, partitions: Option<u16>) -> Result<SqliteLog, StoreError> {
        let options = SqliteOptions { partitions, ..SqliteOptions::default() };
        SqliteLog::open(&self.directory.path().join("log.db"), options).await
    }

    /// A connection past the log, as somebody with access to the file has it.
    pub(crate) async fn raw(&self) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(self.directory.path().join("log.db"));
        SqliteConnection::connect_with(&options).await.unwrap()
    }
}

#[async_trait]
impl Store for SqliteStore {
    type Log = SqliteLog;

    fn create() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    async fn open(&self) -> SqliteLog {
        self.try_open(Some(PARTITIONS)).await.unwrap()
    }
}

contract!(SqliteStore);

#[tokio::test]
async fn a_log_that_is_open_is_not_opened_again() {
    let store = SqliteStore::create();
    let log = store.open().await;
    let error = store.try_open(None).await.unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("log.db.lock"));
    drop(log);
    store.try_open(None).await.unwrap();
}

#[tokio::test]
async fn a_log_keeps_the_partitions_it_was_created_with() {
    let store = SqliteStore::create();
    assert_eq!(store.try_open(Some(7)).await.unwrap().partitions(), 7);
    assert_eq!(store.try_open(None).await.unwrap().partitions(), 7);
    let error = store.try_open(Some(8)).await.unwrap_err();
    assert!(error.to_string().contains("created with 7 partitions"), "{error}");
    assert!(matches!(store.try_open(Some(0)).await.unwrap_err(), StoreError::Unfit { .. }));
    assert_eq!(SqliteStore::create().try_open(None).await.unwrap().partitions(), 16);
}

#[tokio::test]
async fn events_and_commits_are_never_changed() {
    let store = SqliteStore::create();
    let mut owner = Owner::of(&store).await;
    owner.append(vec![append(stream(1), 0, 3)]).await.unwrap();
    let mut raw = store.raw().await;
    for statement in [
        "update events set data = x'00'",
        "delete from events where offset = 3",
        "update commits set epoch = 9",
        "delete from commits",
    ] {
        let error = raw.execute(AssertSqlSafe(statement)).await.unwrap_err();
        assert!(error.to_string().contains("are never changed"), "{error}");
    }
    assert_eq!(partition(&*owner.log, 1).await.len(), 3);
}

#[tokio::test]
async fn a_log_of_a_newer_release_is_not_opened() {
    let store = SqliteStore::create();
    drop(store.open().await);
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                 values (99, 'later', true, x'00', 0)";
    store.raw().await.execute(newer).await.unwrap();
    assert!(matches!(store.try_open(None).await.unwrap_err(), StoreError::Migration(_)));
}

#[tokio::test]
async fn a_temporary_log_goes_with_its_owner() {
    let log = SqliteLog::open_temporary(SqliteOptions::default()).await.unwrap();
    let path = log.path().to_owned();
    log.take_over(Partition(0)).await.unwrap();
    assert!(path.exists());
    log.close().await;
    drop(log);
    assert!(!path.exists());
}
