//! Looking at a server without changing anything: for people who ask whether it is fit for a log.

use sqlx::Connection;
use sqlx::postgres::PgConnection;
use std::time::{SystemTime, UNIX_EPOCH};

use super::PostgresOptions;
use super::open::{MIGRATIONS, version};
use super::session::{Mode, Server};
use crate::log::StoreError;
use crate::rows::{StoredRow, failed};

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresReport {
    /// Host, port and database.
    pub server: String,
    /// Its version, such as `15.18`.
    pub version: String,
    /// Its version as a number, such as 150018.
    pub version_number: u32,
    /// What a commit waits for where nothing else is said. `off` weakens promises; appends then ask for `on`.
    pub synchronous_commit: String,
    /// Whether what is written reaches the disk. Off: a crash of the machine may damage everything.
    pub fsync: bool,
    /// Whether torn pages are repaired after a crash.
    pub full_page_writes: bool,
    /// How many connections it allows, of all programs.
    pub max_connections: u32,
    /// It is a standby: it takes no writes.
    pub is_in_recovery: bool,
    /// The version of the log's tables; `None`: there are none yet.
    pub schema_version: Option<u32>,
    /// The newest version of them that this build knows, which is the one it works with.
    pub newest_schema: u32,
    /// By how many milliseconds its clock is ahead of ours, give or take half a round trip.
    pub clock_ahead_ms: i64,
}

const FACTS: &str = "
    select current_setting('server_version'), current_setting('server_version_num')::int8,
           current_setting('synchronous_commit'), current_setting('fsync')::bool::int4,
           current_setting('full_page_writes')::bool::int4, current_setting('max_connections')::int8,
           pg_is_in_recovery()::int4, (extract(epoch from clock_timestamp()) * 1000)::int8";

/// Looks at the server of a log, which need not be there yet. Nothing is created.
///
/// # Errors
/// It cannot be reached, or does not answer.
pub async fn inspect(options: &PostgresOptions) -> Result<PostgresReport, StoreError> {
    let server = Server::of(options)?;
    let mut connection = server.connect().await?;
    let kept = matches!(server.mode, Mode::Direct);
    // Through a pooler, text and values of a statement may meet different servers outside of a transaction.
    let mut transaction = connection.begin().await.map_err(failed(OPERATION))?;
    let mut report = facts(&mut transaction, &server, kept).await?;
    let found = version(&mut transaction, kept).await?;
    report.schema_version = found.and_then(|version| u32::try_from(version).ok());
    transaction.rollback().await.map_err(failed(OPERATION))?;
    // Said politely; if the server does not hear it, it finds out.
    let _ = connection.close().await;
    Ok(report)
}

const OPERATION: &str = "look at its server";

async fn facts(
    connection: &mut PgConnection,
    server: &Server,
    kept: bool,
) -> Result<PostgresReport, StoreError> {
    // Once in vain, so that the answer which is timed is not held up by reading the statement.
    sqlx::query(FACTS).persistent(kept).fetch_one(&mut *connection).await.map_err(failed(OPERATION))?;
    let before = unix_ms();
    let row = sqlx::query(FACTS).persistent(kept).fetch_one(connection).await.map_err(failed(OPERATION))?;
    let middle = before + (unix_ms() - before) / 2;
    let read = || -> Result<PostgresReport, sqlx::Error> {
        let number = |column| Ok::<_, sqlx::Error>(u32::try_from(row.number(column)?).unwrap_or(0));
        Ok(PostgresReport {
            server: server.name.clone(),
            version: row.text(0)?.to_owned(),
            version_number: number(1)?,
            synchronous_commit: row.text(2)?.to_owned(),
            fsync: row.number(3)? != 0,
            full_page_writes: row.number(4)? != 0,
            max_connections: number(5)?,
            is_in_recovery: row.number(6)? != 0,
            schema_version: None,
            newest_schema: u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX),
            clock_ahead_ms: row.number(7)? - middle,
        })
    };
    read().map_err(failed(OPERATION))
}

fn unix_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
