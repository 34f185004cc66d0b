//! Opening a log: schema, migrations, and the number of partitions, which is fixed at creation.
//!
//! Invariants: whatever is created or migrated is so in one transaction under an advisory lock, so that any number of
//! processes may start at once; a schema of a newer release is left alone.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Postgres, Row, Transaction};

use domain::ids::{DEFAULT_PARTITIONS, SLOTS};

use super::session::{Mode, SCHEMA, Server};
use super::{PostgresLog, PostgresOptions};
use crate::log::StoreError;
use crate::rows::failed;

/// Forward only; a file that was ever released is never edited. The first has number 1, and so on.
pub(super) const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/postgres/0001_log.sql"),
    include_str!("../../migrations/postgres/0002_sessions.sql"),
    include_str!("../../migrations/postgres/0003_rate_counters.sql"),
];

const OPERATION: &str = "set up its tables";

impl PostgresLog {
    /// Opens the log, creating and migrating its schema as needed.
    ///
    /// # Errors
    /// The server cannot be reached, or the log is of a newer release or has another number of partitions.
    pub async fn open(options: PostgresOptions) -> Result<Self, StoreError> {
        let server = checked(&options)?;
        let mut connection = server.connect().await?;
        let partitions = set_up(&mut connection, &server, options.partitions).await?;
        // Said politely; if the server does not hear it, it finds out.
        let _ = connection.close().await;
        let log = Self::new(&server, &options, partitions);
        log.buckets.create_ahead(&log.readers).await?;
        Ok(log)
    }

    /// Opens a log that is there and of this release's version, for those who look at it: nothing is created or
    /// migrated, so that whoever mistakes the database changes nothing.
    ///
    /// # Errors
    /// The server cannot be reached, there is no log, or it is of another release or has another number of partitions.
    pub async fn open_existing(options: PostgresOptions) -> Result<Self, StoreError> {
        let server = checked(&options)?;
        let mut connection = server.connect().await?;
        let partitions = look(&mut connection, &server, options.partitions).await?;
        // Said politely; if the server does not hear it, it finds out.
        let _ = connection.close().await;
        Ok(Self::new(&server, &options, partitions))
    }
}

/// The server, if what is asked of it is possible.
fn checked(options: &PostgresOptions) -> Result<Server, StoreError> {
    let server = Server::of(options)?;
    match options.partitions.filter(|asked| !(1..=SLOTS).contains(asked)) {
        None => Ok(server),
        Some(asked) => Err(server.unfit(format!("{asked} partitions are not possible; choose 1 to {SLOTS}"))),
    }
}

/// Begins a transaction, with its settings where it goes through a pooler.
async fn begin<'c>(
    connection: &'c mut PgConnection,
    server: &Server,
) -> Result<Transaction<'c, Postgres>, StoreError> {
    let begin = match &server.mode {
        Mode::Direct => "begin isolation level read committed".to_owned(),
        Mode::Pooled(begin) => begin.to_string(),
    };
    connection.begin_with(AssertSqlSafe(begin)).await.map_err(failed(OPERATION))
}

/// Refuses what is not there or not of this version; returns the number of partitions.
async fn look(connection: &mut PgConnection, server: &Server, asked: Option<u16>) -> Result<u16, StoreError> {
    let kept = matches!(server.mode, Mode::Direct);
    let mut transaction = begin(connection, server).await?;
    match version(&mut transaction, kept).await? {
        None | Some(0) => {
            return Err(server.unfit(format!(
                "there is no log at {}; start a server, or run `everline migrate --create`",
                server.name
            )));
        }
        Some(found) if found > MIGRATIONS.len() => return Err(newer(server, found)),
        Some(found) if found < MIGRATIONS.len() => {
            return Err(server.unfit(format!(
                "its tables are of version {found}, this release needs {}; start a server, or run `everline migrate`",
                MIGRATIONS.len()
            )));
        }
        Some(_) => {}
    }
    let stored = stored_partitions(&mut transaction, kept).await?.ok_or_else(unrecorded)?;
    transaction.rollback().await.map_err(failed(OPERATION))?;
    as_asked(server, stored, asked)
}

/// Brings the schema up to date; returns the number of partitions.
async fn set_up(
    connection: &mut PgConnection,
    server: &Server,
    asked: Option<u16>,
) -> Result<u16, StoreError> {
    let kept = matches!(server.mode, Mode::Direct);
    let mut transaction = begin(connection, server).await?;
    // Without this look, opening would need the right to create.
    if version(&mut transaction, kept).await? != Some(MIGRATIONS.len()) {
        migrate(&mut transaction, server, kept).await?;
    }
    let partitions = partitions(&mut transaction, server, asked, kept).await?;
    transaction.commit().await.map_err(failed(OPERATION))?;
    Ok(partitions)
}

/// The version of the schema that is there.
pub(super) async fn version(connection: &mut PgConnection, kept: bool) -> Result<Option<usize>, StoreError> {
    // Not `to_regclass`: it may answer from before others made it, while a scan of the catalogue does not.
    let text = "select exists (select 1 from pg_class c join pg_namespace n on n.oid = c.relnamespace
                               where n.nspname = 'everline_log' and c.relname = 'schema_version')";
    let there: bool = sqlx::query_scalar(text)
        .persistent(kept)
        .fetch_one(&mut *connection)
        .await
        .map_err(failed(OPERATION))?;
    if !there {
        return Ok(None);
    }
    let version: Option<i32> = sqlx::query_scalar("select max(version) from everline_log.schema_version")
        .persistent(kept)
        .fetch_one(connection)
        .await
        .map_err(failed(OPERATION))?;
    Ok(version.and_then(|version| usize::try_from(version).ok()))
}

/// Applies what is missing.
async fn migrate(connection: &mut PgConnection, server: &Server, kept: bool) -> Result<(), StoreError> {
    let run = async |connection: &mut PgConnection, text: String| {
        sqlx::raw_sql(AssertSqlSafe(text)).execute(connection).await.map_err(failed(OPERATION))
    };
    // Others may be at it, for as long as it takes.
    run(connection, "set local lock_timeout = 0; select pg_advisory_xact_lock(1163284303, 0)".to_owned())
        .await?;
    let found = version(connection, kept).await?.unwrap_or(0);
    if found > MIGRATIONS.len() {
        return Err(newer(server, found));
    }
    if found == 0 {
        let text = format!(
            "create schema if not exists {SCHEMA};
             create table {SCHEMA}.schema_version (version int4 primary key, applied_at timestamptz not null default now())"
        );
        run(connection, text).await?;
    }
    for (text, number) in MIGRATIONS.iter().zip(1..).skip(found) {
        run(connection, (*text).to_owned()).await?;
        run(connection, format!("insert into {SCHEMA}.schema_version (version) values ({number})")).await?;
    }
    Ok(())
}

/// The number of partitions, written down by whoever opens the log first.
async fn partitions(
    connection: &mut PgConnection,
    server: &Server,
    asked: Option<u16>,
    kept: bool,
) -> Result<u16, StoreError> {
    let new = asked.unwrap_or(DEFAULT_PARTITIONS);
    let stored = stored_partitions(connection, kept).await?;
    let stored = match stored {
        Some(stored) => stored,
        None => {
            // Whoever waits here for another finds what that one wrote.
            let text =
                "insert into meta (key, value) values ('partitions', $1::text), ('created_at', now()::text)
                        on conflict do nothing";
            let written = sqlx::query(text)
                .persistent(kept)
                .bind(new.to_string())
                .execute(&mut *connection)
                .await
                .map_err(failed(OPERATION))?;
            if written.rows_affected() > 0 {
                let text = "insert into partitions (partition) select generate_series(0, $1 - 1)";
                let rows = sqlx::query(text).persistent(kept).bind(i32::from(new));
                rows.execute(&mut *connection).await.map_err(failed(OPERATION))?;
            }
            stored_partitions(connection, kept).await?.ok_or_else(unrecorded)?
        }
    };
    as_asked(server, stored, asked)
}

/// The number of partitions, unless another was asked for.
fn as_asked(server: &Server, stored: u16, asked: Option<u16>) -> Result<u16, StoreError> {
    match asked.filter(|asked| *asked != stored) {
        None => Ok(stored),
        Some(asked) => Err(server.unfit(format!(
            "it was created with {stored} partitions, which cannot be changed to {asked}; leave the setting out or \
             choose another database"
        ))),
    }
}

fn newer(server: &Server, found: usize) -> StoreError {
    server.unfit(format!(
        "its tables are of version {found}, this release knows {}; start a newer release",
        MIGRATIONS.len()
    ))
}

fn unrecorded() -> StoreError {
    StoreError::Corrupt("the number of partitions is not recorded".to_owned())
}

async fn stored_partitions(connection: &mut PgConnection, kept: bool) -> Result<Option<u16>, StoreError> {
    let row = sqlx::query("select value from meta where key = 'partitions'")
        .persistent(kept)
        .fetch_optional(connection)
        .await
        .map_err(failed(OPERATION))?;
    let Some(row) = row else { return Ok(None) };
    let stored: String = row.try_get(0).map_err(failed(OPERATION))?;
    let damaged = |_| StoreError::Corrupt(format!("the number of partitions is recorded as `{stored}`"));
    stored.parse().map(Some).map_err(damaged)
}
