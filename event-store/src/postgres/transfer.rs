//! Giving and taking the whole log.
//!
//! Given is what one read-only transaction of the level repeatable read sees, as pg_dump does it; appends go on beside
//! it. Everything is taken in one transaction, which keeps every other process from owning a partition until it ends,
//! whichever way it ends.

use async_trait::async_trait;
use futures::stream::BoxStream;
use sqlx::error::BoxDynError;
use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgArguments, PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Connection, Postgres};
use std::collections::BTreeSet;

use domain::ids::birth_bucket;
use domain::time::Timestamp;

use super::PostgresLog;
use super::arguments::{column, events};
use super::session::{Mode, Session};
use crate::log::StoreError;
use crate::rows::{failed, integer};
use crate::transfer::give::{self, NOT_EMPTY, SET_EPOCH, Snapshot};
use crate::transfer::record::{BlobRow, ClaimRow, CommandRow, CommitRow, PartitionRow, Rows, WakeupRow};
use crate::transfer::{CheckedSink, CheckedSource, Transfer, TransferError, VerifiersToo};
use crate::verifiers::Verifier;

/// No single statement has a limit, since it waits for the other end; a server whose client is gone for good ends
/// the transaction after a while. Whole tables are read, for which the appends' settings are not made.
const SETTINGS: &str = "set local statement_timeout = 0; set local idle_in_transaction_session_timeout = 600000; \
                        set local enable_seqscan = on";

/// How many months of events, and days of commands, one import may need a table for: each takes locks, of which the
/// server has some thousands.
const MAX_TABLES: usize = 400;
/// How many tables are made in one call; the function has a limit of its own.
const TABLES_PER_CALL: usize = 16;

const INSERT_EVENTS: &str = "
    insert into events (partition, \"offset\", bucket, stream, version, tenant, type, schema_version, id, recorded_at,
                        correlation_id, causation_id, actor, traceparent, codec, key_id, data)
    select * from unnest($1::int4[], $2::int8[], $3::int4[], $4::uuid[], $5::int8[], $6::text[], $7::text[],
                         $8::int4[], $9::uuid[], $10::int8[], $11::uuid[], $12::uuid[], $13::text[], $14::text[],
                         $15::int4[], $16::text[], $17::bytea[])";
const INSERT_COMMITS: &str = "
    insert into commits (partition, head, epoch, event_count, merkle_root, hash, committed_at)
    select * from unnest($1::int4[], $2::int8[], $3::int8[], $4::int8[], $5::bytea[], $6::bytea[], $7::int8[])";
const INSERT_COMMANDS: &str = "
    insert into commands (command_id, digest, answer, partition, \"offset\", day)
    select * from unnest($1::uuid[], $2::bytea[], $3::bytea[], $4::int4[], $5::int8[], $6::int4[])";
const INSERT_CLAIMS: &str = "
    insert into claims (tenant, kind, key, stream)
    select * from unnest($1::text[], $2::text[], $3::text[], $4::uuid[])";
const INSERT_WAKEUPS: &str = "
    insert into wakeups (partition, due_at, stream, kind, bucket, tenant)
    select * from unnest($1::int4[], $2::int8[], $3::uuid[], $4::text[], $5::int4[], $6::text[])";
const INSERT_BLOBS: &str = "
    insert into blobs (tenant, sha256, media_type, bytes, content)
    select * from unnest($1::text[], $2::text[], $3::text[], $4::int8[], $5::bytea[])";
const INSERT_VERIFIERS: &str = "
    insert into verifiers (kind, lookup, tenant, principal, name, hash, family, created_at, expires_at, used_at)
    select * from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[], $7::uuid[],
                         $8::int8[], $9::int8[], $10::int8[])";

#[async_trait]
impl Transfer for PostgresLog {
    fn partition_count(&self) -> u16 {
        self.partitions
    }

    async fn give(&self, verifiers: VerifiersToo, sink: &mut CheckedSink<'_>) -> Result<(), TransferError> {
        let operation = "begin to read everything";
        let (mut connection, kept) = acquire(&self.readers).await?;
        let begin = begin(&self.readers, "; set transaction isolation level repeatable read, read only");
        let transaction = connection.begin_with(AssertSqlSafe(begin)).await;
        let mut transaction = transaction.map_err(failed(operation))?;
        give::give(&mut Reading { connection: &mut transaction, kept }, verifiers, sink).await?;
        // Nothing was written; a pooler is told that its server is free.
        Ok(transaction.rollback().await.map_err(failed("end reading everything"))?)
    }

    async fn take(&self, source: &mut CheckedSource<'_>) -> Result<(), TransferError> {
        source.check_partitions(self.partitions)?;
        let taken = take(&self.own, source).await;
        match &taken {
            Ok(()) => self.last_write.note(Ok(())),
            Err(TransferError::Store(error)) => self.last_write.note(Err::<(), _>(error)),
            // The input was at fault: it says nothing about the database.
            Err(_) => {}
        }
        // A month or day that was taken back with the import is made again when it is needed.
        self.buckets.forget();
        taken
    }
}

/// A connection that is not used again: whatever is still under way on it ends with it. And whether its statements are
/// kept.
async fn acquire(session: &Session) -> Result<(PoolConnection<Postgres>, bool), StoreError> {
    let mut connection = session.pool.acquire().await.map_err(failed("connect"))?;
    connection.close_on_drop();
    Ok((connection, matches!(session.mode, Mode::Direct)))
}

fn begin(session: &Session, how: &str) -> String {
    let begin = match &session.mode {
        Mode::Direct => "begin isolation level read committed",
        Mode::Pooled(begin) => &**begin,
    };
    format!("{begin}{how}; {SETTINGS}")
}

/// A transaction that reads.
struct Reading<'t> {
    connection: &'t mut PgConnection,
    kept: bool,
}

impl Snapshot for Reading<'_> {
    type Row = PgRow;

    // An id that was used again, which it may be after a day, stands twice until the first day is dropped.
    const COMMANDS: &'static str = "
        select c.command_id, c.digest, c.answer, c.partition, c.\"offset\", c.day from commands c
        where not exists (select 1 from commands l where l.command_id = c.command_id and l.day > c.day)
        order by c.day, c.partition, c.\"offset\", c.command_id";

    fn rows(&mut self, text: &'static str, values: &[i64]) -> BoxStream<'_, Result<PgRow, sqlx::Error>> {
        let mut query = sqlx::query(text).persistent(self.kept);
        for value in values {
            query = query.bind(*value);
        }
        query.fetch(&mut *self.connection)
    }
}

/// A transaction that writes.
struct Writing<'t> {
    connection: &'t mut PgConnection,
    kept: bool,
    months: BTreeSet<i32>,
    days: BTreeSet<i32>,
}

type Fill<R> = fn(&mut PgArguments, &[R]) -> Result<(), BoxDynError>;

async fn take(session: &Session, source: &mut CheckedSource<'_>) -> Result<(), TransferError> {
    let operation = "begin an import";
    let (mut connection, kept) = acquire(session).await?;
    let transaction = connection.begin_with(AssertSqlSafe(begin(session, ""))).await;
    let mut transaction = transaction.map_err(failed(operation))?;
    // Whoever wants to own a partition, to log in or to import waits here, or has been before, which is seen below.
    let lock = "select everline_durable(); lock table partitions, verifiers in exclusive mode";
    sqlx::raw_sql(lock).execute(&mut *transaction).await.map_err(failed(operation))?;
    let found: Option<String> = sqlx::query_scalar(NOT_EMPTY)
        .persistent(kept)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed("see whether it is empty"))?;
    if let Some(found) = found {
        return Err(TransferError::NotEmpty { found });
    }
    let mut writing =
        Writing { connection: &mut transaction, kept, months: BTreeSet::new(), days: BTreeSet::new() };
    while let Some(rows) = source.next_rows().await? {
        check_texts(&rows)?;
        writing.make_tables(&rows).await?;
        writing.write(&rows).await.map_err(failed("write an import"))?;
    }
    Ok(transaction.commit().await.map_err(failed("commit an import"))?)
}

impl Writing<'_> {
    /// Makes the tables of months and days that are not there.
    async fn make_tables(&mut self, rows: &Rows) -> Result<(), TransferError> {
        let months: BTreeSet<i32> = rows.events.iter().map(|event| birth_bucket(event.stream)).collect();
        let days: BTreeSet<i32> = rows.commands.iter().map(day).collect();
        let new = |wanted: BTreeSet<i32>, known: &mut BTreeSet<i32>| -> Vec<i32> {
            wanted.into_iter().filter(|bucket| known.insert(*bucket)).collect()
        };
        let months = new(months, &mut self.months);
        let days = new(days, &mut self.days);
        let tables = self.months.len() + self.days.len();
        if tables > MAX_TABLES {
            let reason = format!(
                "its streams and commands are of more than {MAX_TABLES} months and days, each of which needs a table"
            );
            return Err(StoreError::Unfit { path: "the log to be imported".to_owned(), reason }.into());
        }
        let none: Vec<i32> = Vec::new();
        let calls = months.chunks(TABLES_PER_CALL).map(|months| (months, &none[..]));
        let calls = calls.chain(days.chunks(TABLES_PER_CALL).map(|days| (&none[..], days)));
        for (months, days) in calls {
            sqlx::query("select everline_create_buckets($1, $2)")
                .persistent(self.kept)
                .bind(months)
                .bind(days)
                .execute(&mut *self.connection)
                .await
                .map_err(failed("make tables for months and days"))?;
        }
        Ok(())
    }

    async fn write(&mut self, rows: &Rows) -> Result<(), sqlx::Error> {
        for PartitionRow { partition, epoch } in &rows.partitions {
            let query = sqlx::query(SET_EPOCH).persistent(self.kept);
            let query = query.bind(i32::from(partition.0)).bind(integer(*epoch));
            query.execute(&mut *self.connection).await?;
        }
        self.insert(INSERT_EVENTS, &rows.events, events).await?;
        self.insert(INSERT_COMMITS, &rows.commits, commits).await?;
        self.insert(INSERT_COMMANDS, &rows.commands, commands).await?;
        self.insert(INSERT_CLAIMS, &rows.claims, claims).await?;
        self.insert(INSERT_WAKEUPS, &rows.wakeups, wakeups).await?;
        self.insert(INSERT_BLOBS, &rows.blobs, blobs).await?;
        self.insert(INSERT_VERIFIERS, &rows.verifiers, verifiers).await
    }

    async fn insert<R: Sync>(
        &mut self,
        text: &'static str,
        rows: &[R],
        fill: Fill<R>,
    ) -> Result<(), sqlx::Error> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut arguments = PgArguments::default();
        fill(&mut arguments, rows).map_err(sqlx::Error::Encode)?;
        sqlx::query_with(text, arguments).persistent(self.kept).execute(&mut *self.connection).await?;
        Ok(())
    }
}

fn commits(to: &mut PgArguments, commits: &[CommitRow]) -> Result<(), BoxDynError> {
    column(to, commits, |commit| i32::from(commit.partition.0))?;
    column(to, commits, |commit| integer(commit.head))?;
    column(to, commits, |commit| integer(commit.epoch))?;
    column(to, commits, |commit| integer(commit.events))?;
    column(to, commits, |commit| &commit.root[..])?;
    column(to, commits, |commit| &commit.hash[..])?;
    column(to, commits, |commit| commit.committed_at.unix_ms())
}

fn commands(to: &mut PgArguments, commands: &[CommandRow]) -> Result<(), BoxDynError> {
    column(to, commands, |command| command.command_id)?;
    column(to, commands, |command| command.digest.as_ref().map(|digest| &digest[..]))?;
    column(to, commands, |command| &command.answer[..])?;
    column(to, commands, |command| i32::from(command.position.partition.0))?;
    column(to, commands, |command| integer(command.position.offset))?;
    column(to, commands, day)
}

fn claims(to: &mut PgArguments, claims: &[ClaimRow]) -> Result<(), BoxDynError> {
    column(to, claims, |claim| claim.tenant.as_str())?;
    column(to, claims, |claim| claim.kind.as_str())?;
    column(to, claims, |claim| claim.key.as_str())?;
    column(to, claims, |claim| claim.stream)
}

fn wakeups(to: &mut PgArguments, wakeups: &[WakeupRow]) -> Result<(), BoxDynError> {
    column(to, wakeups, |wakeup| i32::from(wakeup.partition.0))?;
    column(to, wakeups, |wakeup| wakeup.due_at)?;
    column(to, wakeups, |wakeup| wakeup.stream)?;
    column(to, wakeups, |wakeup| wakeup.kind.as_str())?;
    column(to, wakeups, |wakeup| birth_bucket(wakeup.stream))?;
    column(to, wakeups, |wakeup| wakeup.tenant.as_str())
}

fn blobs(to: &mut PgArguments, blobs: &[BlobRow]) -> Result<(), BoxDynError> {
    column(to, blobs, |row| row.tenant.as_str())?;
    column(to, blobs, |row| row.blob.reference.sha256.as_str())?;
    column(to, blobs, |row| row.blob.reference.media_type.as_str())?;
    column(to, blobs, |row| integer(row.blob.reference.bytes))?;
    column(to, blobs, |row| &row.blob.content[..])
}

fn verifiers(to: &mut PgArguments, verifiers: &[Verifier]) -> Result<(), BoxDynError> {
    column(to, verifiers, |verifier| verifier.kind.as_str())?;
    column(to, verifiers, |verifier| verifier.lookup.as_str())?;
    column(to, verifiers, |verifier| verifier.tenant.as_str())?;
    column(to, verifiers, |verifier| verifier.principal.as_str())?;
    column(to, verifiers, |verifier| verifier.name.as_str())?;
    column(to, verifiers, |verifier| verifier.hash.as_str())?;
    column(to, verifiers, |verifier| verifier.family)?;
    column(to, verifiers, |verifier| verifier.created_at.unix_ms())?;
    column(to, verifiers, |verifier| verifier.expires_at.map(Timestamp::unix_ms))?;
    column(to, verifiers, |verifier| verifier.used_at.map(Timestamp::unix_ms))
}

/// The bucket of a command; days of the years 0 to 9999 fit.
fn day(command: &CommandRow) -> i32 {
    i32::try_from(command.day).unwrap_or(i32::MAX)
}

/// SQLite stores texts with a NUL, Postgres does not; to leave it out would change what the chain covers.
fn check_texts(rows: &Rows) -> Result<(), TransferError> {
    let bad = |text: &str| text.contains('\0');
    let event = rows.events.iter().find(|event| {
        let optional = [event.traceparent.as_deref(), event.key_id.as_deref()];
        bad(event.actor.as_str()) || bad(&event.event_type) || optional.into_iter().flatten().any(bad)
    });
    let claim = rows.claims.iter().find(|claim| bad(&claim.key) || bad(&claim.kind) || bad(&claim.tenant));
    let what = match (event, claim) {
        (Some(event), _) => format!("event {}", event.position),
        (None, Some(claim)) => format!("a claim of stream {}", claim.stream),
        (None, None) => return Ok(()),
    };
    let reason =
        format!("{what} has a text with a NUL in it, which Postgres does not store; keep it on SQLite");
    Err(StoreError::Unfit { path: "the log to be imported".to_owned(), reason }.into())
}
