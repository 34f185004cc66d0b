//! What is SQLite's own: the file, its lock, its triggers; and the contract run against it.

use async_trait::async_trait;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, Executor};
use tempfile::TempDir;

use domain::blob::{INLINE_LIMIT, claim_check};
use domain::ids::{Partition, TenantId};
use event_store::log::WakeupCursor;
use event_store::sqlite::{SqliteLog, SqliteOptions};
use event_store::{Blobs, Log, LogReader, StoreError};

use crate::contract::contract;
use crate::support::{Owner, PARTITIONS, Store, append, at, partition, stream, tenant, wakeup};

/// A directory with a log in it.
pub(crate) struct SqliteStore {
    directory: TempDir,
}

impl SqliteStore {
    pub(crate) async fn try_open(&self, partitions: Option<u16>) -> Result<SqliteLog, StoreError> {
        self.open_with(SqliteOptions { partitions, ..SqliteOptions::default() }).await
    }

    pub(crate) async fn open_with(&self, options: SqliteOptions) -> Result<SqliteLog, StoreError> {
        SqliteLog::open(&self.directory.path().join("log.db"), options).await
    }

    /// Where the log is.
    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("log.db")
    }

    /// Changes what is never changed.
    pub(crate) async fn damage(&self, sql: &str) {
        let mut raw = self.raw().await;
        raw.execute(AssertSqlSafe(format!("{} {sql}", crate::damage::UNLOCK))).await.unwrap();
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

    async fn create() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    async fn open(&self) -> SqliteLog {
        self.try_open(Some(PARTITIONS)).await.unwrap()
    }

    async fn damage_value(&self, tenant: &TenantId, sha256: &str) {
        let text = "update blobs set content = x'7b7d' where tenant = $1 and sha256 = $2";
        let done = sqlx::query(text).bind(tenant.as_str()).bind(sha256).execute(&mut self.raw().await).await;
        assert_eq!(done.unwrap().rows_affected(), 1);
    }
}

contract!(SqliteStore);

#[tokio::test]
async fn a_log_that_is_open_is_not_opened_again() {
    let store = SqliteStore::create().await;
    let log = store.open().await;
    let error = store.try_open(None).await.unwrap_err();
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("log.db.lock"));
    drop(log);
    store.try_open(None).await.unwrap();
}

#[tokio::test]
async fn a_log_keeps_the_partitions_it_was_created_with() {
    let store = SqliteStore::create().await;
    assert_eq!(store.try_open(Some(7)).await.unwrap().partitions(), 7);
    assert_eq!(store.try_open(None).await.unwrap().partitions(), 7);
    let error = store.try_open(Some(8)).await.unwrap_err();
    assert!(error.to_string().contains("created with 7 partitions"), "{error}");
    assert!(matches!(store.try_open(Some(0)).await.unwrap_err(), StoreError::Unfit { .. }));
    assert_eq!(SqliteStore::create().await.try_open(None).await.unwrap().partitions(), 16);
}

#[tokio::test]
async fn events_and_commits_are_never_changed() {
    let store = SqliteStore::create().await;
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
    let store = SqliteStore::create().await;
    drop(store.open().await);
    let newer = "insert into _sqlx_migrations (version, description, success, checksum, execution_time)
                 values (99, 'later', true, x'00', 0)";
    store.raw().await.execute(newer).await.unwrap();
    assert!(matches!(store.try_open(None).await.unwrap_err(), StoreError::Migration(_)));
}

#[tokio::test]
async fn a_wakeup_that_does_not_read_holds_up_no_other() {
    let store = SqliteStore::create().await;
    let mut owner = Owner::of(&store).await;
    let streams: Vec<_> = (0..4).map(|_| stream(1)).collect();
    let appends = streams.iter().zip(1..).map(|(stream, second)| wakeup(append(*stream, 0, 1), second));
    owner.append(appends.collect()).await.unwrap();
    let damage = "update wakeups set kind = 'later_than_this_release' where due_at = (select min(due_at) from wakeups);
                  update wakeups set tenant = 'NOT A TENANT' where due_at = (select max(due_at) from wakeups)";
    store.raw().await.execute(damage).await.unwrap();
    for limit in 1..6 {
        let (mut cursor, mut seen) = (WakeupCursor::after_time(at(0)), Vec::new());
        loop {
            let page = owner.log.wakeups(Partition(1), &cursor, at(100), &[], limit).await.unwrap();
            seen.extend(page.iter().map(|row| row.stream));
            match page.last().filter(|_| page.len() == limit) {
                Some(last) => cursor = WakeupCursor::after_row(last),
                None => break,
            }
        }
        assert_eq!(seen, streams[1..3], "in pages of {limit}");
    }
}

#[tokio::test]
async fn readers_see_what_the_owner_sees() {
    let store = SqliteStore::create().await;
    let mut owner: Owner<SqliteLog> = Owner::of(&store).await;
    let (_, blob) = claim_check(serde_json::json!("x".repeat(INLINE_LIMIT)));
    let blob = blob.unwrap();
    let reader = owner.log.reader();
    reader.put(&tenant("a"), &blob).await.unwrap();
    owner.append(vec![append(stream(1), 0, 3)]).await.unwrap();
    assert_eq!(reader.partitions(), PARTITIONS);
    assert_eq!(reader.heads().await.unwrap(), owner.log.heads().await.unwrap());
    assert_eq!(reader.read_partition(Partition(1), 0, 10).await.unwrap(), partition(&*owner.log, 1).await);
    assert_eq!(reader.get(&tenant("a"), &blob.reference).await.unwrap(), Some(blob.content));
}

#[tokio::test]
async fn a_temporary_log_goes_with_its_owner() {
    let log = SqliteLog::open_temporary(SqliteOptions::default()).await.unwrap();
    let path = log.path().to_owned();
    log.take_over(Partition(0), uuid::Uuid::nil()).await.unwrap();
    assert!(path.exists());
    log.close().await;
    drop(log);
    assert!(!path.exists());
}

#[tokio::test]
async fn after_a_clean_close_the_file_alone_is_the_whole_log() {
    let store = SqliteStore::create().await;
    let mut owner = Owner::of(&store).await;
    owner.append(vec![append(stream(1), 0, 5)]).await.unwrap();
    owner.log.close().await;
    let copy = tempfile::tempdir().unwrap();
    let file = copy.path().join("log.db");
    std::fs::copy(owner.log.path(), &file).unwrap();
    let copied = SqliteLog::open(&file, SqliteOptions::default()).await.unwrap();
    let heads = copied.heads().await.unwrap();
    assert_eq!(heads.iter().map(|head| head.offset).sum::<u64>(), 5);
}
