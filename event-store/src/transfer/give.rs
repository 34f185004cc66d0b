//! Reading everything, in the same words for every database.
//!
//! Rows are streamed, so that memory does not depend on how many there are nor on how large events are; only commits,
//! which are small, come in pages, because their events are read beside them on the same connection.

use bytes::Bytes;
use domain::blob::{Blob, BlobRef};
use domain::event::RecordedEvent;
use domain::ids::{Partition, Position};
use domain::time::Timestamp;
use futures::TryStreamExt;
use futures::stream::BoxStream;

use super::record::{BlobRow, ClaimRow, CommandRow, CommitRow, PartitionRow, Record, WakeupRow};
use super::{CheckedSink, TransferError, VerifiersToo};
use crate::chain::Hash;
use crate::log::StoreError;
use crate::rows::{self, StoredRow, count, failed, integer};

const COMMITS_PER_PAGE: usize = 500;

/// A transaction that sees one moment of the log.
pub(crate) trait Snapshot: Send {
    type Row: StoredRow + Send + Sync + Unpin;

    /// Command answers (`command_id, digest, answer, partition, offset, day`), in the order of days at least.
    const COMMANDS: &'static str;

    /// The rows of a statement, whose values are `$1`, `$2` and so on, as they are asked for.
    fn rows(&mut self, text: &'static str, values: &[i64]) -> BoxStream<'_, Result<Self::Row, sqlx::Error>>;
}

/// What a store to import into may not have, named; no row if it is empty.
pub(crate) const NOT_EMPTY: &str = "
    select 'events' where exists (select 1 from events)
    union all select 'commits' where exists (select 1 from commits)
    union all select 'answers to commands' where exists (select 1 from commands)
    union all select 'claims' where exists (select 1 from claims)
    union all select 'wakeups' where exists (select 1 from wakeups)
    union all select 'large values' where exists (select 1 from blobs)
    union all select 'passwords or API keys' where exists (select 1 from verifiers)
    union all select 'partitions that a server has owned' where exists (select 1 from partitions where epoch > 0)";

/// Stores a claim: tenant, kind, key, stream.
pub(crate) const TAKE_CLAIM: &str = "insert into claims (tenant, kind, key, stream) values ($1, $2, $3, $4)";

/// Sets the epoch of a partition: partition, epoch.
pub(crate) const SET_EPOCH: &str = "update partitions set epoch = $2 where partition = $1";

const PARTITIONS: &str = "select partition, epoch from partitions order by partition";
const COMMITS: &str = "select head, epoch, event_count, merkle_root, hash, committed_at from commits
    where partition = $1 and head > $2 order by head limit $3";
const EVENTS: &str =
    "select partition, \"offset\", stream, version, tenant, type, schema_version, id, recorded_at,
    correlation_id, causation_id, actor, traceparent, codec, key_id, data from events
    where partition = $1 and \"offset\" > $2 and \"offset\" <= $3 order by \"offset\"";
const NEXT_EVENT: &str =
    "select \"offset\" from events where partition = $1 and \"offset\" > $2 order by \"offset\" limit 1";
const CLAIMS: &str = "select tenant, kind, key, stream from claims order by tenant, kind, key";
const WAKEUPS: &str =
    "select partition, due_at, stream, kind, tenant from wakeups order by partition, due_at, stream, kind";
const BLOBS: &str = "select tenant, sha256, media_type, bytes, content from blobs order by tenant, sha256";
const VERIFIERS: &str =
    "select kind, lookup, tenant, principal, name, hash, family, created_at, expires_at, used_at
    from verifiers order by kind, lookup";

/// Gives everything that a transaction sees.
pub(crate) async fn give<S: Snapshot>(
    snapshot: &mut S,
    verifiers: VerifiersToo,
    sink: &mut CheckedSink<'_>,
) -> Result<(), TransferError> {
    let partitions: Vec<S::Row> =
        snapshot.rows(PARTITIONS, &[]).try_collect().await.map_err(failed("read its partitions"))?;
    for row in partitions {
        let row = partition_row(&row)?;
        sink.put(Record::Partition(row)).await?;
        give_partition(snapshot, row.partition, sink).await?;
    }
    each(snapshot, S::COMMANDS, command_row, sink, "read answers to commands").await?;
    each(snapshot, CLAIMS, claim_row, sink, "read claims").await?;
    each(snapshot, WAKEUPS, wakeup_row, sink, "read wakeups").await?;
    each(snapshot, BLOBS, blob_row, sink, "read large values").await?;
    sink.put_objects().await?;
    if verifiers == VerifiersToo::Yes {
        let verifier = |row: &S::Row| rows::verifier(row).map(Record::Verifier);
        each(snapshot, VERIFIERS, verifier, sink, "read verifiers").await?;
    }
    Ok(())
}

/// Gives every row of a statement.
async fn each<S: Snapshot>(
    snapshot: &mut S,
    text: &'static str,
    read: impl Fn(&S::Row) -> Result<Record, StoreError> + Send,
    sink: &mut CheckedSink<'_>,
    operation: &'static str,
) -> Result<(), TransferError> {
    let mut stream = snapshot.rows(text, &[]);
    while let Some(row) = stream.try_next().await.map_err(failed(operation))? {
        sink.put(read(&row)?).await?;
    }
    Ok(())
}

/// Gives the events of a partition, with the commits behind the last event of each.
async fn give_partition<S: Snapshot>(
    snapshot: &mut S,
    partition: Partition,
    sink: &mut CheckedSink<'_>,
) -> Result<(), TransferError> {
    let number = i64::from(partition.0);
    let mut head = 0;
    loop {
        let values = [number, integer(head), COMMITS_PER_PAGE as i64];
        let page: Vec<S::Row> =
            snapshot.rows(COMMITS, &values).try_collect().await.map_err(failed("read commits"))?;
        let full = page.len() == COMMITS_PER_PAGE;
        let commits: Vec<CommitRow> =
            page.iter().map(|row| commit_row(row, partition)).collect::<Result<_, _>>()?;
        let Some(last) = commits.last().map(|commit| commit.head) else { break };
        give_commits(snapshot, partition, head, &commits, sink).await?;
        head = last;
        if !full {
            break;
        }
    }
    let values = [number, integer(head)];
    let stray = snapshot.rows(NEXT_EVENT, &values).try_next().await.map_err(failed("look behind its end"))?;
    if let Some(row) = stray {
        let offset = count(row.number(0).map_err(failed("look behind its end"))?, "an offset")?;
        let position = Position { partition, offset };
        return Err(StoreError::Corrupt(format!("event {position} stands in no commit")).into());
    }
    Ok(())
}

/// Gives some commits, ascending, and their events, which are those after `head`.
async fn give_commits<S: Snapshot>(
    snapshot: &mut S,
    partition: Partition,
    head: u64,
    commits: &[CommitRow],
    sink: &mut CheckedSink<'_>,
) -> Result<(), TransferError> {
    let last = commits.last().map_or(head, |commit| commit.head);
    let mut commits = commits.iter().peekable();
    let mut events = snapshot.rows(EVENTS, &[i64::from(partition.0), integer(head), integer(last)]);
    let mut before: Option<RecordedEvent> = None;
    while let Some(row) = events.try_next().await.map_err(failed("read a partition"))? {
        let event = rows::event(&row, before.as_ref())?;
        let offset = event.position.offset;
        before = Some(event.clone());
        sink.put(Record::Event(event)).await?;
        if let Some(commit) = commits.next_if(|commit| commit.head <= offset) {
            sink.put(Record::Commit(*commit)).await?;
        }
    }
    // Without their events they are refused there, by name.
    for commit in commits {
        sink.put(Record::Commit(*commit)).await?;
    }
    Ok(())
}

fn partition_row(row: &impl StoredRow) -> Result<PartitionRow, StoreError> {
    let values = || Ok((row.number(0)?, row.number(1)?));
    let (number, epoch) = values().map_err(failed("read its partitions"))?;
    Ok(PartitionRow { partition: rows::partition(number)?, epoch: count(epoch, "an epoch")? })
}

fn commit_row(row: &impl StoredRow, partition: Partition) -> Result<CommitRow, StoreError> {
    let numbers = || Ok([row.number(0)?, row.number(1)?, row.number(2)?, row.number(5)?]);
    let hashes = || Ok((row.bytes(3)?, row.bytes(4)?));
    let [head, epoch, events, committed_at] = numbers().map_err(failed("read a commit"))?;
    let (root, hash) = hashes().map_err(failed("read a commit"))?;
    Ok(CommitRow {
        partition,
        head: count(head, "a head")?,
        epoch: count(epoch, "an epoch")?,
        events: count(events, "the number of a commit's events")?,
        root: hash_of(root)?,
        hash: hash_of(hash)?,
        committed_at: Timestamp::from_unix_ms(committed_at),
    })
}

fn command_row(row: &impl StoredRow) -> Result<Record, StoreError> {
    let values = || -> Result<_, sqlx::Error> {
        let position = (row.number(3)?, row.number(4)?);
        Ok((row.id(0)?, row.optional_bytes(1)?, row.bytes(2)?, position, row.number(5)?))
    };
    let (command_id, digest, answer, (partition, offset), day) =
        values().map_err(failed("read an answer to a command"))?;
    let position = Position {
        partition: rows::partition(partition)?,
        offset: count(offset, "the offset of a command")?,
    };
    let digest = digest.map(hash_of).transpose()?;
    Ok(Record::Command(CommandRow { command_id, digest, answer: Bytes::from(answer), position, day }))
}

fn claim_row(row: &impl StoredRow) -> Result<Record, StoreError> {
    let text = |column| row.text(column).map(ToOwned::to_owned);
    let values = || Ok(ClaimRow { tenant: text(0)?, kind: text(1)?, key: text(2)?, stream: row.id(3)? });
    values().map(Record::Claim).map_err(failed("read a claim"))
}

fn wakeup_row(row: &impl StoredRow) -> Result<Record, StoreError> {
    let operation = "read a wakeup";
    let partition = rows::partition(row.number(0).map_err(failed(operation))?)?;
    let text = |column| row.text(column).map(ToOwned::to_owned);
    let values = || {
        Ok(WakeupRow {
            partition,
            due_at: row.number(1)?,
            stream: row.id(2)?,
            kind: text(3)?,
            tenant: text(4)?,
        })
    };
    values().map(Record::Wakeup).map_err(failed(operation))
}

fn blob_row(row: &impl StoredRow) -> Result<Record, StoreError> {
    let values = || -> Result<_, sqlx::Error> {
        let texts = (row.text(0)?.to_owned(), row.text(1)?.to_owned(), row.text(2)?.to_owned());
        Ok((texts, row.number(3)?, Bytes::from(row.bytes(4)?)))
    };
    let ((tenant, sha256, media_type), bytes, content) = values().map_err(failed("read a large value"))?;
    let reference = BlobRef { sha256, bytes: count(bytes, "the length of a large value")?, media_type };
    Ok(Record::Blob(BlobRow { tenant, blob: Blob { reference, content } }))
}

fn hash_of(stored: Vec<u8>) -> Result<Hash, StoreError> {
    Hash::try_from(stored).map_err(|_| StoreError::Corrupt("a stored hash is not 32 bytes".to_owned()))
}
