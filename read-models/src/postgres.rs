//! Read models in a schema of Postgres, which several processes read and write.
//!
//! Readers never wait: they see what is committed. A write transaction first takes an advisory lock of its side
//! (live tables or shadows), so that two projections queue instead of meeting in rows; whoever comes second finds
//! the checkpoints moved. `synchronous_commit = off`: a crash of the server may lose the last commits, whole, rows
//! and checkpoint together, and the projection repeats them.
//!
//! The second wall: row-level security lets a statement see the rows of the tenant in `everline.tenant` and no others,
//! whatever its conditions say; `*` is the projection and what operators ask. It binds owners of tables too, but not
//! superusers: a start as one says so.
//!
//! *Direct* connections get their settings at the start. Through a *pooler* in transaction mode nothing of a session
//! is relied on: every operation is one transaction, begun with its settings in one message of the simple protocol,
//! and its statements have no names. sqlx sends Parse and Bind apart, which without the transaction could meet two
//! servers.

mod audit;
mod batch;
mod readers;
mod rebuild;
mod schema;

pub use schema::{PostgresFacts, inspect_postgres};

use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPool, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection, Postgres, Transaction};
use std::borrow::Cow;
use std::str::FromStr;
use std::time::Duration;
use tokio::sync::OwnedSemaphorePermit;

use self::readers::Readers;
use crate::ReadModelError;
use crate::dump::key_order;
use crate::rebuild::Side;
use crate::sql::{Row, Scope, Statement, Value};
use crate::store::PostgresOptions;

/// Connections that write: a live projection, a rebuild, and one whose server has stopped answering.
const WRITERS: u32 = 3;
/// How long a caller waits for a connection; while the server is away, sqlx tries to connect for so long.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the server may be silent. Longer than its own timeouts: this one is for a server that is gone.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(45);

/// How long the server may take to answer on a connection that comes back. Shorter than callers wait for one: what a
/// cancelled call has left on a path that swallows everything must not cost them theirs.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(3);

/// What a direct connection is started with. Keep in step with `begin_read` and `begin_write` below.
const SETTINGS: [(&str, &str); 4] = [
    ("search_path", "everline_read"),
    ("statement_timeout", "30s"),
    ("lock_timeout", "10s"),
    ("idle_in_transaction_session_timeout", "10s"),
];
/// The same for one transaction through a pooler.
macro_rules! local_settings {
    () => {
        "set local search_path = everline_read; set local statement_timeout = '30s'; \
         set local lock_timeout = '10s'; set local idle_in_transaction_session_timeout = '10s'"
    };
}

/// The first of the two numbers of our advisory locks, so that they do not meet those of the log in the same
/// database: "ERM1" in ASCII.
const LOCKS: i32 = 0x4552_4d31;

/// What an advisory lock keeps to one transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    Schema = 1,
    Live = 2,
    Shadow = 3,
}

/// What the projection's connections have besides: they work for all tenants.
const WRITER_SETTINGS: [(&str, &str); 1] = [("everline.tenant", "*")];

/// The connections.
pub(crate) struct PgPools {
    writers: PgPool,
    readers: Readers,
    pooled: bool,
}

/// A transaction that has the lock of its side.
pub(crate) struct PgTx {
    tx: Transaction<'static, Postgres>,
    pooled: bool,
    /// Room in the readers' pool, of a direct connection that reads.
    _permit: Option<OwnedSemaphorePermit>,
}

impl PgPools {
    /// Connects and brings the schema up to date.
    pub(crate) async fn open(options: &PostgresOptions) -> Result<Self, ReadModelError> {
        let pools = Self::connect(options).await?;
        pools.migrate().await?;
        if pools.passes_walls().await? {
            tracing::warn!(
                "the read models are opened by a superuser, or a role with bypassrls, which Postgres lets see the rows of \
                 every tenant; use a plain role that owns the schema everline_read, so that the server keeps tenants \
                 apart too"
            );
        }
        Ok(pools)
    }

    /// Connects to a schema that must be there.
    pub(crate) async fn open_existing(options: &PostgresOptions) -> Result<Self, ReadModelError> {
        let pools = Self::connect(options).await?;
        pools.refuse_other_version().await?;
        Ok(pools)
    }

    async fn connect(options: &PostgresOptions) -> Result<Self, ReadModelError> {
        let failed = || ReadModelError::database("connect to Postgres");
        let connect = connect_options(options).map_err(failed())?;
        let pool = |connections: u32| {
            PgPoolOptions::new()
                .max_connections(connections.max(1))
                .acquire_timeout(ACQUIRE_TIMEOUT)
                .after_release(|connection, _| Box::pin(still_answers(connection)))
        };
        let readers = pool(options.connections).connect_with(connect.clone()).await.map_err(failed())?;
        let writing = if options.pooled { connect } else { connect.options(WRITER_SETTINGS) };
        let writers = pool(WRITERS).connect_lazy_with(writing);
        Ok(Self { writers, readers: Readers::new(readers), pooled: options.pooled })
    }

    pub(crate) async fn fetch_all(&self, statement: Statement) -> Result<Vec<Row>, sqlx::Error> {
        debug_assert!(
            statement.scope != Scope::Untenanted || !statement.sql.contains("tenant"),
            "a statement over tenants says for which: {}",
            statement.sql
        );
        if !self.pooled {
            return self.readers.fetch_all(statement).await;
        }
        let mut tx = self.begin_read(&statement.scope).await?;
        let rows = tx.fetch_all(statement).await?;
        tx.commit().await?;
        Ok(rows)
    }

    async fn begin_read(&self, scope: &Scope) -> Result<PgTx, sqlx::Error> {
        let mut begin = String::from("begin read only");
        if self.pooled {
            begin.push_str(concat!("; ", local_settings!()));
        }
        if let Some(tenant) = scope.setting() {
            // A slug, or `*`: nothing that could end the text.
            begin.push_str(&format!("; set local everline.tenant = '{tenant}'"));
        }
        let permit = if self.pooled { None } else { Some(self.readers.permit_for_transaction().await?) };
        let tx = begin_with(&self.readers.pool, begin).await?;
        Ok(PgTx { tx, pooled: self.pooled, _permit: permit })
    }

    /// Waits for another writer of the same side, in whatever process.
    pub(crate) async fn begin_write(&self, side: Side) -> Result<PgTx, sqlx::Error> {
        self.begin_locked(match side {
            Side::Live => Lock::Live,
            Side::Shadow => Lock::Shadow,
        })
        .await
    }

    async fn begin_locked(&self, lock: Lock) -> Result<PgTx, sqlx::Error> {
        let begin = if self.pooled {
            concat!(
                "begin isolation level read committed; set local synchronous_commit = off; \
                 set local everline.tenant = '*'; ",
                local_settings!()
            )
        } else {
            "begin isolation level read committed; set local synchronous_commit = off"
        };
        let mut tx = PgTx {
            tx: begin_with(&self.writers, begin.to_owned()).await?,
            pooled: self.pooled,
            _permit: None,
        };
        // A statement of its own: what comes after it sees what the last holder has committed (read committed takes
        // a snapshot per statement). And not in the `begin`: sqlx would not roll back a transaction whose beginning
        // has failed.
        tx.lock(lock).await?;
        Ok(tx)
    }

    /// How many columns a table has, and its rows with each column quoted as SQLite does.
    pub(crate) async fn dump(&self, table: &str) -> Result<(usize, Vec<Row>), sqlx::Error> {
        let mut tx = self.begin_read(&Scope::All).await?;
        let quoted: Vec<String> = tx.columns_of(table).await?.into_iter().map(quoted).collect();
        let sql = format!("select {} from {table} order by {}", quoted.join(", "), key_order(quoted.len()));
        let rows = tx.fetch_all(Statement::new(sql)).await?;
        tx.commit().await?;
        Ok((quoted.len(), rows))
    }

    pub(crate) async fn close(&self) {
        self.readers.close().await;
        self.writers.close().await;
    }
}

impl PgTx {
    pub(crate) async fn fetch_all(&mut self, statement: Statement) -> Result<Vec<Row>, sqlx::Error> {
        let query = query(statement).persistent(!self.pooled);
        answer(async { Ok(rows(query.fetch_all(&mut *self.tx).await?)) }).await
    }

    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<(), sqlx::Error> {
        self.run(query(statement)).await
    }

    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        answer(self.tx.commit()).await
    }

    /// Keeps live projections from advancing until this transaction ends.
    pub(crate) async fn lock_live(&mut self) -> Result<(), ReadModelError> {
        self.lock(Lock::Live).await.map_err(ReadModelError::database("lock the live tables"))
    }

    async fn lock(&mut self, lock: Lock) -> Result<(), sqlx::Error> {
        self.run(sqlx::query("select pg_advisory_xact_lock($1, $2)").bind(LOCKS).bind(lock as i32)).await
    }

    async fn run(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<(), sqlx::Error> {
        let query = query.persistent(!self.pooled);
        answer(async { query.execute(&mut *self.tx).await.map(|_| ()) }).await
    }

    /// Statements made of this crate's own names only, in the simple protocol.
    async fn run_raw(&mut self, sql: String) -> Result<(), sqlx::Error> {
        let sql = sqlx::raw_sql(AssertSqlSafe(sql));
        answer(async { sql.execute(&mut *self.tx).await.map(|_| ()) }).await
    }
}

/// Asks a connection that comes back, since sqlx does that without a limit and keeps its place in the pool meanwhile.
/// An error has it closed without a goodbye.
async fn still_answers(connection: &mut PgConnection) -> Result<bool, sqlx::Error> {
    tokio::time::timeout(RELEASE_TIMEOUT, connection.ping()).await.unwrap_or_else(|_| Err(silent()))?;
    Ok(true)
}

/// Begins in a task of its own. Were the caller cancelled in the middle, sqlx would return to the pool a connection
/// that is in a transaction without knowing it.
async fn begin_with(pool: &PgPool, begin: String) -> Result<Transaction<'static, Postgres>, sqlx::Error> {
    let pool = pool.clone();
    let begun = tokio::spawn(answer(async move { pool.begin_with(AssertSqlSafe(begin)).await }));
    begun.await.unwrap_or(Err(sqlx::Error::WorkerCrashed))
}

/// Bounds the wait for a server that does not answer, not even with an error.
async fn answer<T>(asked: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    tokio::time::timeout(ANSWER_TIMEOUT, asked).await.unwrap_or_else(|_| Err(silent()))
}

fn silent() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "the server does not answer"))
}

fn connect_options(options: &PostgresOptions) -> Result<PgConnectOptions, sqlx::Error> {
    let connect = PgConnectOptions::from_str(&options.url)?.application_name(&options.application_name);
    Ok(if options.pooled {
        // PgBouncer refuses parameters of the start that it does not know.
        connect.statement_cache_capacity(0).extra_float_digits(None)
    } else {
        connect.options(SETTINGS)
    })
}

fn rows(rows: Vec<PgRow>) -> Vec<Row> {
    rows.into_iter().map(Row::Postgres).collect()
}

fn query(statement: Statement) -> Query<'static, Postgres, PgArguments> {
    let query = match statement.sql {
        Cow::Borrowed(sql) => sqlx::query(sql),
        Cow::Owned(sql) => sqlx::query(AssertSqlSafe(sql)),
    };
    statement.values.into_iter().fold(query, |query, value| match value {
        Value::Text(text) => query.bind(text.map(without_nul)),
        Value::Number(number) => query.bind(number),
        Value::Flag(flag) => query.bind(flag),
        Value::Id(id) => query.bind(id),
    })
}

/// A column as SQLite's `quote` gives it, sorting by its bytes.
fn quoted((column, kind): (String, String)) -> String {
    let text = match kind.as_str() {
        "uuid" => format!("'X''' || upper(replace({column}::text, '-', '')) || ''''"),
        "boolean" => format!("{column}::int::text"),
        "text" => format!("'''' || replace({column}, '''', '''''') || ''''"),
        _ => format!("{column}::text"),
    };
    format!(r#"coalesce({text}, 'NULL') collate "C""#)
}

/// Postgres has no NUL in texts; here it becomes what stands for a letter that cannot be shown. A batch must not
/// fail for ever because somebody's error message holds one.
fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_in_no_error() {
        for url in ["postgres://u:secret@host:port/db", "postgres://u:secret@h/db?sslmode=secret2", "secret"]
        {
            let options = PostgresOptions::new(url);
            let error = connect_options(&options).err().map(|error| format!("{error} {error:?}"));
            assert!(error.is_none_or(|said| !said.contains("secret@")), "{url}");
            assert!(!format!("{options:?}").contains("secret"));
        }
    }
}
