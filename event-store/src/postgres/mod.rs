//! The log on Postgres: many processes, one append function.

use crate::log::StoreError;
use std::time::Duration;

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

pub(crate) async fn open(_options: PostgresOptions) -> Result<crate::Store, StoreError> {
    Err(StoreError::Corrupt("SKELETON".to_owned()))
}
