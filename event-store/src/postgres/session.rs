//! Connections, and how a statement is run on one: directly, or through a pooler in transaction mode.
//!
//! *Direct*: settings are given when a connection is opened, statements are prepared once per connection, a single
//! statement is its own transaction. *Pooled*: consecutive statements may meet different servers, and sqlx sends a
//! statement's text and its values separately; so everything is one explicit transaction, begun with its settings by
//! the simple protocol, its statements unnamed, and nothing of a session is relied on.
//!
//! Invariants: no call waits for ever (for a connection, a lock, a statement or a server that is gone); what is known
//! to be lost is not written through again. Deliberately absent: repeating what writes.

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgConnection, PgPoolOptions, PgRow};
use sqlx::{Arguments, AssertSqlSafe, ConnectOptions, Connection, PgPool, Postgres};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::PostgresOptions;
use crate::log::StoreError;
use crate::queries::{Queries, Value};
use crate::rows::failed;

/// The schema of the log.
pub(super) const SCHEMA: &str = "everline_log";

/// How long a call waits for one of its connections.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long to wait for a lock: longer than the server lets an owner that was stopped in the middle hold one.
const LOCK_TIMEOUT: Duration = Duration::from_secs(12);
/// After how long the server ends a transaction that nobody goes on with.
const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);
/// How much longer than a statement may take an answer is waited for.
const GRACE: Duration = Duration::from_secs(5);
/// A connection that was not used for so long is tried before it is used.
const TRUSTED: Duration = Duration::from_secs(1);
/// How long such a trial may take.
const TRIAL: Duration = Duration::from_secs(2);

/// A running call on a connection.
pub(super) type Running<'c, T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send + 'c>>;

/// How connections are used.
#[derive(Debug, Clone)]
pub(super) enum Mode {
    /// The connections are the server's own.
    Direct,
    /// A pooler hands a server out for each transaction, which begins with this.
    Pooled(Arc<str>),
}

/// A pool of connections that are used in one way.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    pub(super) pool: PgPool,
    pub(super) mode: Mode,
    patience: Duration,
    lost: Arc<LastLoss>,
}

/// When a connection was last found to be lost: the others probably are, too.
#[derive(Debug)]
struct LastLoss {
    start: Instant,
    /// Milliseconds after `start`, plus one; 0 for never.
    at: AtomicU64,
}

impl LastLoss {
    fn new() -> Self {
        Self { start: Instant::now(), at: AtomicU64::new(0) }
    }

    fn note(&self) {
        let now = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1);
        self.at.store(now + 1, Ordering::Relaxed);
    }

    /// Whether a connection that was last used so long ago may be gone.
    fn doubts(&self, idle_for: Duration) -> bool {
        let at = self.at.load(Ordering::Relaxed);
        idle_for >= TRUSTED
            || (at > 0 && self.start.elapsed().saturating_sub(idle_for).as_millis() <= u128::from(at))
    }
}

/// How the server is reached, and how it is called in messages: without user and password.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) options: PgConnectOptions,
    pub(super) mode: Mode,
    pub(super) name: String,
}

impl Server {
    /// Reads the URL.
    pub(super) fn of(options: &PostgresOptions) -> Result<Self, StoreError> {
        // What the parser says may repeat parts of the URL, which holds a password.
        let unfit = |_| StoreError::Unfit {
            path: "the URL of the log's Postgres".to_owned(),
            reason: "it is not of the form postgres://user:password@host:port/database?sslmode=…".to_owned(),
        };
        let mut connect: PgConnectOptions = options.url.parse().map_err(unfit)?;
        connect = connect.disable_statement_logging();
        let database = connect.get_database().unwrap_or(connect.get_username());
        let name = match connect.get_socket() {
            Some(socket) => format!("{}:{}/{database}", socket.display(), connect.get_port()),
            None => format!("{}:{}/{database}", connect.get_host(), connect.get_port()),
        };
        let settings = settings(options);
        let connect = connect.application_name(&options.application_name);
        if options.pooled {
            let mut begin = "begin isolation level read committed".to_owned();
            for (key, value) in settings {
                begin.push_str(&format!("; set local {key} = {value}"));
            }
            // PgBouncer refuses settings at the start of a connection that it does not know.
            let connect = connect.extra_float_digits(None).statement_cache_capacity(0);
            return Ok(Self { options: connect, mode: Mode::Pooled(begin.into()), name });
        }
        let connect =
            connect.options([("default_transaction_isolation", "read committed")]).options(settings);
        Ok(Self { options: connect, mode: Mode::Direct, name })
    }

    /// One connection.
    pub(super) async fn connect(&self) -> Result<PgConnection, StoreError> {
        let connected = tokio::time::timeout(ACQUIRE_TIMEOUT, self.options.connect()).await;
        connected.unwrap_or_else(|_| Err(timed_out())).map_err(|source| self.unreachable(source))
    }

    /// Connections that are opened as they are needed.
    pub(super) fn session(&self, connections: u32, statement_timeout: Duration) -> Session {
        let lost = Arc::new(LastLoss::new());
        let doubtful = Arc::clone(&lost);
        let pool = PgPoolOptions::new()
            .max_connections(connections.max(1))
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .before_acquire(move |connection, meta| {
                let doubted = doubtful.doubts(meta.idle_for);
                Box::pin(async move {
                    if !doubted {
                        return Ok(true);
                    }
                    Ok(matches!(tokio::time::timeout(TRIAL, connection.ping()).await, Ok(Ok(()))))
                })
            })
            // sqlx waits for a sign of life without a limit when a connection is given back, and its place with it.
            .after_release(|connection, _| {
                Box::pin(async move {
                    tokio::time::timeout(TRIAL, connection.ping())
                        .await
                        .unwrap_or_else(|_| Err(timed_out()))?;
                    Ok(true)
                })
            })
            .connect_lazy_with(self.options.clone());
        Session { pool, mode: self.mode.clone(), patience: statement_timeout + GRACE, lost }
    }

    /// It cannot be reached.
    pub(super) fn unreachable(&self, source: sqlx::Error) -> StoreError {
        StoreError::Unreachable { server: self.name.clone(), source }
    }

    /// It cannot be used as asked.
    pub(super) fn unfit(&self, reason: String) -> StoreError {
        StoreError::Unfit { path: format!("the log on Postgres at {}", self.name), reason }
    }
}

/// What every connection is set to. All statements have an index to read by, and plans are kept: one made while a
/// table was small must not read all of it when it has grown. Expensive-looking plans must not be compiled for that.
fn settings(options: &PostgresOptions) -> [(&'static str, String); 6] {
    [
        ("search_path", SCHEMA.to_owned()),
        ("statement_timeout", options.statement_timeout.as_millis().to_string()),
        ("idle_in_transaction_session_timeout", IDLE_IN_TRANSACTION.as_millis().to_string()),
        ("lock_timeout", LOCK_TIMEOUT.min(options.statement_timeout).as_millis().to_string()),
        ("jit", "off".to_owned()),
        ("enable_seqscan", "off".to_owned()),
    ]
}

impl Session {
    /// Whether statements may be prepared and kept.
    fn keeps_statements(&self) -> bool {
        matches!(self.mode, Mode::Direct)
    }

    /// Runs one statement, in a transaction of its own; its rows.
    pub(super) async fn run(
        &self,
        text: &'static str,
        arguments: PgArguments,
    ) -> Result<Vec<PgRow>, sqlx::Error> {
        let statement = self.statement(text, arguments);
        self.alone(move |connection| Box::pin(statement.fetch_all(connection))).await
    }

    /// Runs one statement, in a transaction of its own; how many rows it changed.
    pub(super) async fn execute(
        &self,
        text: &'static str,
        arguments: PgArguments,
    ) -> Result<u64, sqlx::Error> {
        let statement = self.statement(text, arguments);
        self.alone(move |connection| {
            Box::pin(async move { Ok(statement.execute(connection).await?.rows_affected()) })
        })
        .await
    }

    /// Runs a single statement.
    async fn alone<T: Send + 'static>(
        &self,
        call: impl for<'c> FnOnce(&'c mut PgConnection) -> Running<'c, T> + Send + 'static,
    ) -> Result<T, sqlx::Error> {
        match &self.mode {
            Mode::Direct => self.on_connection(call).await,
            Mode::Pooled(_) => self.transaction(call).await,
        }
    }

    /// Runs several statements as one transaction. Those with values must be [`Session::statement`]s.
    pub(super) async fn transaction<T: Send + 'static>(
        &self,
        call: impl for<'c> FnOnce(&'c mut PgConnection) -> Running<'c, T> + Send + 'static,
    ) -> Result<T, sqlx::Error> {
        let begin = match &self.mode {
            Mode::Direct => "begin isolation level read committed".into(),
            Mode::Pooled(begin) => Arc::clone(begin),
        };
        self.on_connection(move |connection| {
            Box::pin(async move {
                let mut transaction = connection.begin_with(AssertSqlSafe(begin)).await?;
                let done = call(&mut transaction).await?;
                transaction.commit().await?;
                Ok(done)
            })
        })
        .await
    }

    /// A statement for a transaction.
    pub(super) fn statement(
        &self,
        text: &'static str,
        arguments: PgArguments,
    ) -> sqlx::query::Query<'static, Postgres, PgArguments> {
        sqlx::query_with(text, arguments).persistent(self.keeps_statements())
    }

    /// Closes all connections; later calls fail.
    pub(super) async fn close(&self) {
        self.pool.close().await;
    }

    async fn on_connection<T: Send + 'static>(
        &self,
        call: impl for<'c> FnOnce(&'c mut PgConnection) -> Running<'c, T> + Send + 'static,
    ) -> Result<T, sqlx::Error> {
        let mut lease = Lease { connection: self.pool.acquire().await?, given_back: false };
        let answer = tokio::time::timeout(self.patience, call(&mut lease.connection)).await;
        let outcome = answer.unwrap_or_else(|_| Err(timed_out()));
        if outcome.as_ref().is_err_and(is_lost) {
            self.lost.note();
        } else {
            lease.given_back = true;
        }
        outcome
    }
}

/// A connection during a call. Only a call that ended gives it back: one that is dropped on the way may leave it with
/// an answer to come, or in a transaction that sqlx does not know of yet, and whatever was acknowledged on it after
/// that would be rolled back with it.
struct Lease {
    connection: PoolConnection<Postgres>,
    given_back: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.given_back {
            self.connection.close_on_drop();
        }
    }
}

impl Queries for Session {
    type Row = PgRow;

    /// What only reads is asked once more where the connection turned out to be lost, as after a restart.
    async fn rows(
        &self,
        operation: &'static str,
        text: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<PgRow>, StoreError> {
        let first = self.run(text, arguments(values).map_err(failed(operation))?).await;
        match first {
            Err(error) if is_lost(&error) => {
                let again = arguments(values).map_err(failed(operation))?;
                self.run(text, again).await.map_err(failed(operation))
            }
            other => other.map_err(failed(operation)),
        }
    }
}

/// Values as arguments.
fn arguments(values: &[Value<'_>]) -> Result<PgArguments, sqlx::Error> {
    let mut arguments = PgArguments::default();
    for value in values {
        let added = match *value {
            Value::Number(number) => arguments.add(number),
            Value::Text(text) => arguments.add(text),
            Value::Id(id) => arguments.add(id),
        };
        added.map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}

/// Whether nothing more can be asked through the connection.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed => {
            true
        }
        // Class 57P: the server shuts down, crashed, or ended the connection; 08: the pooler lost its server;
        // 25P03: idle in a transaction for too long.
        sqlx::Error::Database(error) => error
            .code()
            .is_some_and(|code| code.starts_with("57P") || code.starts_with("08") || code == "25P03"),
        _ => false,
    }
}

fn timed_out() -> sqlx::Error {
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "Postgres did not answer in time"))
}

/// How the last write went: whether the database takes any.
#[derive(Debug, Default)]
pub(super) struct LastWrite(std::sync::Mutex<Option<String>>);

impl LastWrite {
    /// Notes how a write went.
    pub(super) fn note<T>(&self, outcome: Result<T, &StoreError>) {
        let failure = match outcome {
            Ok(_) => None,
            Err(error @ (StoreError::Database { source, .. } | StoreError::Unreachable { source, .. })) => {
                Some(format!("{error}: {source}"))
            }
            // Damage and misuse concern what was asked, not whether the database takes writes.
            Err(_) => return,
        };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = failure;
    }

    /// Why the last write failed, if it did.
    pub(super) fn failure(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
