//! The log on Postgres: many processes, one append function.
//!
//! ```text
//!   append ─► plan (offsets, hashes) ─► one call of everline_append: locks, compares, inserts ◄─ judge (only when
//!   read   ─► queries                                                                something may be refused)
//!   session: connections, direct or through a pooler     buckets: tables of months and days
//! ```
//!
//! Owns: the tables and functions of `migrations/postgres`, in the schema `everline_log`. Invariants: an append compares
//! epoch, last offset and last hash of each of its partitions under that partition's advisory lock, so that whatever
//! any process believes, offsets are dense and the chain is one; what is committed becomes visible before the lock is
//! given back, so a reader that sees `n + 1` has seen `n`. Deliberately absent: trust in leases, `notify`, retries of
//! writes whose outcome is not known.

mod append;
mod arguments;
mod buckets;
mod checkpoints;
mod inspect;
mod judge;
mod open;
mod ownership;
mod rate_counters;
mod read;
mod session;
mod transfer;
mod verifiers;
mod wakeups;

pub use inspect::{PostgresReport, inspect};
pub use read::PostgresReader;

use std::time::Duration;

use crate::log::StoreError;
use append::RememberedTails;
use buckets::Buckets;
use session::{LastWrite, Server, Session};

/// How a log on Postgres is opened.
#[derive(Clone)]
pub struct PostgresOptions {
    /// `postgres://user:password@host:port/database?sslmode=…`. Never shown: it holds a password.
    pub url: String,
    /// Partitions of a log that is created, 1 to 4096. `None`: 16, or whatever an existing log has. An existing
    /// log is refused if it has another number.
    pub partitions: Option<u16>,
    /// Connections that append and read for the owner of partitions.
    pub own_connections: u32,
    /// Connections that read for everybody else, and write what lies beside the log.
    pub connections: u32,
    /// The URL leads through a pooler in transaction mode, such as PgBouncer: nothing of a session is relied on.
    pub pooled: bool,
    /// How long one statement may take.
    pub statement_timeout: Duration,
    /// What the server shows as the name of the connections, for people.
    pub application_name: String,
}

impl PostgresOptions {
    /// Defaults for a URL.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            partitions: None,
            own_connections: 6,
            connections: 6,
            pooled: false,
            statement_timeout: Duration::from_secs(30),
            application_name: "everline".to_owned(),
        }
    }
}

/// Without the URL: it holds a password.
impl std::fmt::Debug for PostgresOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresOptions")
            .field("partitions", &self.partitions)
            .field("own_connections", &self.own_connections)
            .field("connections", &self.connections)
            .field("pooled", &self.pooled)
            .field("statement_timeout", &self.statement_timeout)
            .field("application_name", &self.application_name)
            .finish_non_exhaustive()
    }
}

/// The log in a Postgres database. Share it in an `Arc`.
#[derive(Debug)]
pub struct PostgresLog {
    server: String,
    partitions: u16,
    /// Of whoever decides: what others read cannot keep it from appending and reading.
    own: Session,
    /// Of everybody else, and for what lies beside the log.
    readers: Session,
    tails: RememberedTails,
    buckets: Buckets,
    last_write: LastWrite,
}

impl PostgresLog {
    fn new(server: &Server, options: &PostgresOptions, partitions: u16) -> Self {
        Self {
            server: server.name.clone(),
            partitions,
            own: server.session(options.own_connections, options.statement_timeout),
            readers: server.session(options.connections, options.statement_timeout),
            tails: RememberedTails::new(partitions),
            buckets: Buckets::default(),
            last_write: LastWrite::default(),
        }
    }

    /// Host, port and database, for people.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Why the last write failed, if it did.
    pub fn last_write_failed(&self) -> Option<String> {
        self.last_write.failure()
    }

    /// Closes the connections once what is under way is finished; later calls fail.
    pub async fn close(&self) {
        self.own.close().await;
        self.readers.close().await;
    }

    fn unfit(&self, reason: String) -> StoreError {
        StoreError::Unfit { path: format!("the log on Postgres at {}", self.server), reason }
    }
}
