//! Read models in a file.
//!
//! One writer connection, so that writers of this process queue in memory instead of on SQLite's lock; a few
//! readers that never wait for it (WAL). `synchronous=normal`: a power cut may lose the last commits, whole,
//! rows and checkpoint together, and the projection repeats them.

mod audit;
mod batch;
mod rebuild;

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePool,
    SqlitePoolOptions, SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Connection, Row as _, Sqlite, Transaction};
use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use crate::ReadModelError;
use crate::dump::key_order;
use crate::sql::{Row, Statement, Value};

/// Connections that queries share.
const READERS: u32 = 4;
/// How long a statement waits for a writer in another process, and a caller for a connection.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// WAL pages after which SQLite checkpoints: 16 MiB, so that a busy projection syncs seldom.
const WAL_PAGES: &str = "4000";

/// Schema versions, forward only.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "read models", include_str!("../migrations/sqlite/0001_read_models.sql")),
    (2, "nodes and dead letters", include_str!("../migrations/sqlite/0002_nodes_and_dead_letters.sql")),
    (3, "identity", include_str!("../migrations/sqlite/0003_identity.sql")),
];

/// The connections.
pub(crate) struct SqlitePools {
    writer: SqlitePool,
    readers: SqlitePool,
}

/// A transaction that has the file's write lock.
pub(crate) struct SqliteTx {
    tx: Transaction<'static, Sqlite>,
}

impl SqlitePools {
    /// Opens or creates the file and brings its schema up to date.
    pub(crate) async fn open(path: &Path) -> Result<Self, ReadModelError> {
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
        Ok(Self { writer, readers })
    }

    pub(crate) async fn fetch_all(&self, statement: Statement) -> Result<Vec<Row>, sqlx::Error> {
        Ok(rows(query(statement).fetch_all(&self.readers).await?))
    }

    /// Waits for other writers.
    pub(crate) async fn begin(&self) -> Result<SqliteTx, sqlx::Error> {
        Ok(SqliteTx { tx: self.writer.begin_with("begin immediate").await? })
    }

    /// How many columns a table has, and its rows with each column quoted.
    pub(crate) async fn dump(&self, table: &str) -> Result<(usize, Vec<Row>), sqlx::Error> {
        let columns = sqlx::query("select name from pragma_table_info($1) order by cid").bind(table);
        let columns = columns.fetch_all(&self.readers).await?;
        let quoted = columns.iter().map(|row| row.try_get(0).map(|name: &str| format!("quote({name})")));
        let quoted: Vec<String> = quoted.collect::<Result<_, _>>()?;
        let sql = format!("select {} from {table} order by {}", quoted.join(", "), key_order(quoted.len()));
        Ok((quoted.len(), self.fetch_all(Statement::new(sql)).await?))
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

impl SqliteTx {
    pub(crate) async fn fetch_all(&mut self, statement: Statement) -> Result<Vec<Row>, sqlx::Error> {
        Ok(rows(query(statement).fetch_all(&mut *self.tx).await?))
    }

    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<(), sqlx::Error> {
        query(statement).execute(&mut *self.tx).await.map(|_| ())
    }

    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        self.tx.commit().await
    }
}

fn rows(rows: Vec<SqliteRow>) -> Vec<Row> {
    rows.into_iter().map(Row::Sqlite).collect()
}

fn query(statement: Statement) -> Query<'static, Sqlite, SqliteArguments> {
    let query = match statement.sql {
        Cow::Borrowed(sql) => sqlx::query(sql),
        Cow::Owned(sql) => sqlx::query(AssertSqlSafe(sql)),
    };
    statement.values.into_iter().fold(query, |query, value| match value {
        Value::Text(text) => query.bind(text),
        Value::Number(number) => query.bind(number),
        Value::Flag(flag) => query.bind(flag),
        Value::Id(id) => query.bind(id),
    })
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
    use crate::backend::Db;
    use crate::{MAIN_PROJECTION, ReadModels};
    use domain::ids::Partition;

    #[tokio::test]
    async fn a_projection_goes_on_after_its_disk_was_full() {
        let models = ReadModels::open_temporary().await.unwrap();
        let Db::Sqlite(pools) = &models.inner.db else { unreachable!("a file") };
        let mut tx = models.begin().await.unwrap();
        tx.advance_checkpoint(MAIN_PROJECTION, Partition(1), 0, 5).await.unwrap();
        tx.commit().await.unwrap();
        for _ in 0..2 {
            // The database takes the commit back by itself. Only of this connection: the next one is sound.
            let mut writer = pools.writer.acquire().await.unwrap();
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
