//! Giving and taking the whole log.
//!
//! Everything is taken in one transaction. SQLite keeps what is not committed in the write-ahead log, which is then as
//! large as the import, and moves it into the file afterwards: for a while it takes twice the room.

use async_trait::async_trait;
use futures::stream::BoxStream;
use sqlx::error::BoxDynError;
use sqlx::sqlite::{SqliteArguments, SqliteConnection, SqliteRow};
use sqlx::{Arguments, Connection};

use domain::ids::birth_bucket;
use domain::time::Timestamp;

use super::SqliteLog;
use super::insert::{self, Statements};
use super::writer::Writer;
use crate::queries::STORE_VERIFIER;
use crate::rows::{failed, integer};
use crate::transfer::give::{self, NOT_EMPTY, SET_EPOCH, Snapshot, TAKE_CLAIM};
use crate::transfer::record::{BlobRow, CommandRow, CommitRow, Rows, WakeupRow};
use crate::transfer::{CheckedSink, CheckedSource, Transfer, TransferError, VerifiersToo};

#[async_trait]
impl Transfer for SqliteLog {
    fn partition_count(&self) -> u16 {
        self.partitions
    }

    async fn give(&self, verifiers: VerifiersToo, sink: &mut CheckedSink<'_>) -> Result<(), TransferError> {
        let operation = "begin to read everything";
        let mut connection = self.readers.acquire().await.map_err(failed(operation))?;
        // In the write-ahead mode a transaction sees one moment from its first read on.
        let mut transaction = connection.begin().await.map_err(failed(operation))?;
        give::give(&mut Reading(&mut transaction), verifiers, sink).await
    }

    async fn take(&self, source: &mut CheckedSource<'_>) -> Result<(), TransferError> {
        source.check_partitions(self.partitions)?;
        let mut writer = self.writer.lock().await;
        let taken = take(&mut writer, source).await;
        match &taken {
            Ok(()) => self.writer.note(&mut writer, Ok(())),
            Err(TransferError::Store(error)) => self.writer.note(&mut writer, Err::<(), _>(error)),
            // The input was at fault: it says nothing about the database.
            Err(_) => {}
        }
        taken
    }
}

/// A transaction that reads.
struct Reading<'t>(&'t mut SqliteConnection);

impl Snapshot for Reading<'_> {
    type Row = SqliteRow;

    // They stand in the order of time; sorting would need memory for all of them.
    const COMMANDS: &'static str =
        "select command_id, digest, answer, partition, \"offset\", day from commands order by rowid";

    fn rows(&mut self, text: &'static str, values: &[i64]) -> BoxStream<'_, Result<SqliteRow, sqlx::Error>> {
        let mut query = sqlx::query(text);
        for value in values {
            query = query.bind(*value);
        }
        query.fetch(&mut *self.0)
    }
}

async fn take(writer: &mut Writer, source: &mut CheckedSource<'_>) -> Result<(), TransferError> {
    // What is known of the partitions' ends is not put back: whoever writes next reads them.
    writer.take_tails().await?;
    let Writer { connection, statements, .. } = writer;
    let mut transaction = SqliteLog::begin(connection).await?;
    let found: Option<String> = sqlx::query_scalar(NOT_EMPTY)
        .fetch_optional(&mut *transaction)
        .await
        .map_err(failed("see whether it is empty"))?;
    if let Some(found) = found {
        return Err(TransferError::NotEmpty { found });
    }
    while let Some(rows) = source.next_rows().await? {
        write(&mut transaction, statements, &rows).await.map_err(failed("write an import"))?;
    }
    Ok(transaction.commit().await.map_err(failed("commit an import"))?)
}

async fn write(
    connection: &mut SqliteConnection,
    statements: &mut Statements,
    rows: &Rows,
) -> Result<(), sqlx::Error> {
    for row in &rows.partitions {
        let query = sqlx::query(SET_EPOCH).bind(i64::from(row.partition.0)).bind(integer(row.epoch));
        query.execute(&mut *connection).await?;
    }
    insert::insert(connection, statements, insert::EVENTS, &rows.events, insert::bind_event).await?;
    insert::insert(connection, statements, insert::COMMITS, &rows.commits, bind_commit).await?;
    insert::insert(connection, statements, insert::COMMANDS, &rows.commands, bind_command).await?;
    insert::insert(connection, statements, insert::WAKEUPS, &rows.wakeups, bind_wakeup).await?;
    insert::insert(connection, statements, insert::BLOBS, &rows.blobs, bind_blob).await?;
    for claim in &rows.claims {
        let query = sqlx::query(TAKE_CLAIM).bind(&claim.tenant).bind(&claim.kind).bind(&claim.key);
        query.bind(claim.stream).execute(&mut *connection).await?;
    }
    for verifier in &rows.verifiers {
        sqlx::query(STORE_VERIFIER)
            .bind(verifier.kind.as_str())
            .bind(&verifier.lookup)
            .bind(verifier.tenant.as_str())
            .bind(&verifier.principal)
            .bind(&verifier.name)
            .bind(&verifier.hash)
            .bind(verifier.family)
            .bind(verifier.created_at.unix_ms())
            .bind(verifier.expires_at.map(Timestamp::unix_ms))
            .bind(verifier.used_at.map(Timestamp::unix_ms))
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

fn bind_commit(commit: &CommitRow, row: &mut SqliteArguments) -> Result<(), BoxDynError> {
    row.add(i64::from(commit.partition.0))?;
    row.add(integer(commit.head))?;
    row.add(integer(commit.epoch))?;
    row.add(integer(commit.events))?;
    row.add(&commit.root[..])?;
    row.add(&commit.hash[..])?;
    row.add(commit.committed_at.unix_ms())
}

fn bind_command(command: &CommandRow, row: &mut SqliteArguments) -> Result<(), BoxDynError> {
    row.add(command.command_id)?;
    row.add(command.digest.map(|digest| digest.to_vec()))?;
    row.add(&command.answer[..])?;
    row.add(i64::from(command.position.partition.0))?;
    row.add(integer(command.position.offset))?;
    row.add(command.day)
}

fn bind_wakeup(wakeup: &WakeupRow, row: &mut SqliteArguments) -> Result<(), BoxDynError> {
    row.add(i64::from(wakeup.partition.0))?;
    row.add(wakeup.due_at)?;
    row.add(wakeup.stream)?;
    row.add(wakeup.kind.as_str())?;
    row.add(i64::from(birth_bucket(wakeup.stream)))?;
    row.add(wakeup.tenant.as_str())
}

fn bind_blob(BlobRow { tenant, blob }: &BlobRow, row: &mut SqliteArguments) -> Result<(), BoxDynError> {
    row.add(tenant.as_str())?;
    row.add(blob.reference.sha256.as_str())?;
    row.add(blob.reference.media_type.as_str())?;
    row.add(integer(blob.reference.bytes))?;
    row.add(&blob.content[..])
}
