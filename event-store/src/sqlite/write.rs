//! Appending: one `begin immediate` transaction per batch, and the other writes of the owner.
//!
//! The connection, and what is known of each partition's end, are the [`Writer`]'s; every outcome is noted there,
//! so that no write goes through a connection that another has left in doubt.

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use uuid::Uuid;

use domain::blob::Blob;
use domain::decision::ClaimOp;
use domain::event::RecordedEvent;
use domain::ids::{Partition, Position, TenantId};
use domain::time::Timestamp;

use super::insert::{self, Statements};
use super::judge::{self, Probe};
use super::writer::{Tail, Writer};
use super::{SqliteLog, count, failed, wakeups};
use crate::chain::{self, CommitContent, Hash};
use crate::log::{
    Append, AppendAnswer, AppendError, Batch, Committed, Log, MAX_ANSWER_BYTES, MAX_APPEND_BYTES,
    MAX_APPEND_EVENTS, PartitionHead, StoreError, StoredWakeup, WakeupCursor,
};

/// A batch with its positions, ready to be written.
struct Plan<'b> {
    events: Vec<RecordedEvent>,
    commands: Vec<(&'b Append, AppendAnswer)>,
    positions: Vec<Position>,
    /// By partition: the tail before, the tail after, and room for the hashes of the events in between.
    changes: BTreeMap<Partition, Change>,
}

struct Change {
    before: Tail,
    after: Tail,
    leaves: Vec<Hash>,
}

#[async_trait]
impl Log for SqliteLog {
    // Only one process has the file: who it is makes no difference.
    async fn take_over(&self, partition: Partition, _node: Uuid) -> Result<PartitionHead, StoreError> {
        if partition.0 >= self.partitions {
            let reason = format!("partition {partition} is not one of its {}", self.partitions);
            return Err(StoreError::Unfit { path: self.path.display().to_string(), reason });
        }
        let mut writer = self.writer.lock().await;
        let taken = take_over(&mut writer, partition).await;
        self.writer.note(&mut writer, taken.as_ref());
        taken
    }

    async fn append(&self, batch: Arc<Batch>) -> Result<Committed, AppendError> {
        check_shape(&batch, self.partitions)?;
        let mut writer = self.writer.lock().await;
        let outcome = append_after_tails(&mut writer, &batch).await;
        match &outcome {
            Ok(_) => self.writer.note(&mut writer, Ok(())),
            Err(AppendError::Store(error)) => self.writer.note(&mut writer, Err::<(), _>(error)),
            // Nothing was to be written, which says nothing about whether it could be.
            Err(_) => {}
        }
        outcome
    }

    async fn write_blob(&self, tenant: &TenantId, blob: &Blob) -> Result<(), StoreError> {
        let mut writer = self.writer.lock().await;
        let Writer { connection, statements, .. } = &mut *writer;
        let written =
            insert::insert(connection, statements, insert::BLOBS, &[(tenant, blob)], insert::bind_blob)
                .await
                .map_err(failed("store a large value"));
        self.writer.note(&mut writer, written.as_ref());
        written
    }

    async fn wakeups(
        &self,
        partition: Partition,
        after: &WakeupCursor,
        until: Timestamp,
        final_types: &[&str],
        limit: usize,
    ) -> Result<Vec<StoredWakeup>, StoreError> {
        wakeups::due(&self.own, partition, after, until, final_types, limit).await
    }

    async fn forget_past(
        &self,
        partition: Partition,
        until: Timestamp,
        now: Timestamp,
        limit: usize,
    ) -> Result<bool, StoreError> {
        let mut writer = self.writer.lock().await;
        let forgotten = wakeups::forget_past(&mut writer.connection, partition, until, now, limit).await;
        // Forgetting gives room back: that it works does not mean that a write would.
        if let Err(error) = &forgotten {
            self.writer.note(&mut writer, Err::<(), _>(error));
        }
        forgotten
    }
}

/// Refuses what no log may take, before anything is locked.
fn check_shape(batch: &Batch, partitions: u16) -> Result<(), AppendError> {
    for (index, append) in batch.appends.iter().enumerate() {
        let malformed = |reason| Err(AppendError::Malformed { index, reason });
        let events = append.streams.iter().map(|stream| stream.events.len()).sum();
        let bytes =
            append.streams.iter().flat_map(|stream| &stream.events).map(|event| event.data.len()).sum();
        if events > MAX_APPEND_EVENTS || bytes > MAX_APPEND_BYTES {
            return Err(AppendError::TooLarge { index, events, bytes });
        }
        if append.answer.len() > MAX_ANSWER_BYTES {
            return malformed("its answer is longer than 1 KiB");
        }
        if !batch.heads.iter().any(|head| head.partition == append.partition) {
            return malformed("the batch has no head of its partition");
        }
        if append.streams.is_empty() && !(append.claims.is_empty() && append.wakeups.is_empty()) {
            return malformed("it has claims or wakeups and no stream that they are of");
        }
        for stream in &append.streams {
            if Partition::of(stream.stream, partitions) != append.partition {
                return malformed("one of its streams lives in another partition");
            }
            let counts = stream.events.iter().zip(stream.expected_version + 1..);
            if counts.into_iter().any(|(event, version)| event.version != version) {
                return malformed("the versions of its events do not count on from the expected one");
            }
            if stream.events.iter().any(|event| event.stream != stream.stream) {
                return malformed("one of its events is of another stream than it stands under");
            }
        }
    }
    Ok(())
}

/// Raises the epoch of a partition that exists.
async fn take_over(writer: &mut Writer, partition: Partition) -> Result<PartitionHead, StoreError> {
    let mut tails = writer.take_tails().await?;
    let epoch: i64 =
        sqlx::query_scalar("update partitions set epoch = epoch + 1 where partition = ? returning epoch")
            .bind(i64::from(partition.0))
            .fetch_one(&mut writer.connection)
            .await
            .map_err(failed("take a partition over"))?;
    let tail = &mut tails[usize::from(partition.0)];
    tail.epoch = count(epoch, "the epoch of a partition")?;
    let head = PartitionHead { partition, epoch: tail.epoch, offset: tail.offset };
    writer.put_tails(tails);
    Ok(head)
}

/// Appends with the tails taken away; they are put back when it is known what the database has.
async fn append_after_tails(writer: &mut Writer, batch: &Batch) -> Result<Committed, AppendError> {
    let mut tails = writer.take_tails().await?;
    match append(writer, batch, &tails).await {
        Ok((committed, changed)) => {
            for (partition, tail) in changed {
                tails[usize::from(partition.0)] = tail;
            }
            writer.put_tails(tails);
            Ok(committed)
        }
        Err(error @ AppendError::Store(_)) => Err(error),
        Err(refused) => {
            writer.put_tails(tails);
            Err(refused)
        }
    }
}

/// Writes the batch in a transaction, or says who cannot be taken.
async fn append(
    writer: &mut Writer,
    batch: &Batch,
    tails: &[Tail],
) -> Result<(Committed, Vec<(Partition, Tail)>), AppendError> {
    let stale = check_heads(batch, tails)?;
    let Writer { connection, statements, .. } = writer;
    let mut transaction = SqliteLog::begin(connection).await?;
    if !stale.is_empty() || batch.appends.iter().any(|append| !append.claims.is_empty()) {
        let mut losers = judge::losers(&mut transaction, batch, &Probe::Partitions(stale)).await?;
        if !losers.is_empty() {
            // Once it is refused, all that would be refused the next time is named as well.
            losers = judge::losers(&mut transaction, batch, &Probe::All).await?;
            transaction.rollback().await.map_err(failed("take an append back"))?;
            return Err(AppendError::Refused(losers));
        }
    }
    let mut plan = Plan::of(batch, tails);
    match plan.write(&mut transaction, statements, batch).await {
        Ok(()) => transaction.commit().await.map_err(failed("commit an append"))?,
        Err(error) if is_conflict(&error) => {
            transaction.rollback().await.map_err(failed("take an append back"))?;
            let losers = judge::losers(connection, batch, &Probe::All).await?;
            if losers.is_empty() {
                return Err(unexplained(batch));
            }
            return Err(AppendError::Refused(losers));
        }
        Err(source) => return Err(failed("write an append")(source).into()),
    }
    Ok(plan.into_committed(batch, tails))
}

/// Fences off old epochs. Returns the partitions whose end the caller does not know.
fn check_heads(batch: &Batch, tails: &[Tail]) -> Result<BTreeSet<Partition>, AppendError> {
    let mut stale = BTreeSet::new();
    for head in &batch.heads {
        let Some(tail) = tails.get(usize::from(head.partition.0)) else {
            return Err(AppendError::Malformed {
                index: 0,
                reason: "a head is of a partition that does not exist",
            });
        };
        // A newer epoch than the store's was given out by a store that is not this one, such as before a
        // restore: its owner must not write either.
        if head.epoch != tail.epoch {
            return Err(AppendError::Fenced {
                partition: head.partition,
                offered: head.epoch,
                current: tail.epoch,
            });
        }
        if head.offset != tail.offset {
            stale.insert(head.partition);
        }
    }
    Ok(stale)
}

impl<'b> Plan<'b> {
    /// Gives every event its position.
    fn of(batch: &'b Batch, tails: &[Tail]) -> Self {
        let count = batch.appends.iter().flat_map(|append| &append.streams).map(|s| s.events.len()).sum();
        let mut plan = Self {
            events: Vec::with_capacity(count),
            commands: Vec::with_capacity(batch.appends.len()),
            positions: Vec::with_capacity(batch.appends.len()),
            changes: BTreeMap::new(),
        };
        for append in &batch.appends {
            let partition = append.partition;
            let change = plan.changes.entry(partition).or_insert_with(|| {
                let tail = tails[usize::from(partition.0)];
                Change { before: tail, after: tail, leaves: Vec::new() }
            });
            let tail = &mut change.after;
            for event in append.streams.iter().flat_map(|stream| &stream.events) {
                debug_assert!(
                    event.recorded_at >= tail.recorded_at,
                    "an event of partition {partition} is recorded at {}, before the last, {}",
                    event.recorded_at,
                    tail.recorded_at
                );
                tail.offset += 1;
                tail.recorded_at = event.recorded_at;
                let position = Position { partition, offset: tail.offset };
                plan.events.push(RecordedEvent { position, ..event.clone() });
            }
            let position = Position { partition, offset: tail.offset };
            let answer = AppendAnswer { answer: append.answer.clone(), digest: append.digest, position };
            plan.commands.push((append, answer));
            plan.positions.push(position);
        }
        plan
    }

    /// Inserts the rows of every table, hashing the events while they are being written.
    async fn write(
        &mut self,
        connection: &mut SqliteConnection,
        statements: &mut Statements,
        batch: &Batch,
    ) -> Result<(), sqlx::Error> {
        let Self { events, commands, changes, .. } = self;
        let mut scratch = Vec::with_capacity(1024);
        let hash = |events: &[RecordedEvent]| {
            for event in events {
                if let Some(change) = changes.get_mut(&event.position.partition) {
                    change.leaves.push(chain::event_hash(event, &mut scratch));
                }
            }
        };
        insert::insert_beside(connection, statements, insert::EVENTS, events, insert::bind_event, hash)
            .await?;
        insert::insert(connection, statements, insert::COMMANDS, commands, insert::bind_command).await?;
        let commits = commits(changes);
        insert::insert(connection, statements, insert::COMMITS, &commits, insert::bind_commit).await?;
        write_beside_events(connection, statements, batch).await
    }

    fn into_committed(self, batch: &Batch, tails: &[Tail]) -> (Committed, Vec<(Partition, Tail)>) {
        let changed: Vec<_> =
            self.changes.into_iter().map(|(partition, change)| (partition, change.after)).collect();
        let mut heads: BTreeMap<Partition, Tail> =
            batch.heads.iter().map(|head| (head.partition, tails[usize::from(head.partition.0)])).collect();
        heads.extend(changed.iter().copied());
        let head = |(partition, tail): (Partition, Tail)| PartitionHead {
            partition,
            epoch: tail.epoch,
            offset: tail.offset,
        };
        let heads = heads.into_iter().map(head).collect();
        (Committed { heads, events: self.events, positions: self.positions }, changed)
    }
}

/// Closes the chain over the new events; a partition that got none gets no commit.
fn commits(changes: &mut BTreeMap<Partition, Change>) -> Vec<(CommitContent, Hash)> {
    let mut commits = Vec::with_capacity(changes.len());
    for (partition, change) in changes.iter_mut().filter(|(_, change)| !change.leaves.is_empty()) {
        let commit = CommitContent {
            previous: change.before.hash,
            partition: *partition,
            first: change.before.offset + 1,
            last: change.after.offset,
            root: chain::merkle_root(&mut change.leaves),
            epoch: change.after.epoch,
            committed_at: change.after.recorded_at,
        };
        change.after.hash = chain::commit_hash(&commit);
        commits.push((commit, change.after.hash));
    }
    commits
}

/// Wakeups, blobs and claims, which most batches have few of.
async fn write_beside_events(
    connection: &mut SqliteConnection,
    statements: &mut Statements,
    batch: &Batch,
) -> Result<(), sqlx::Error> {
    let mut wakeups = Vec::new();
    let mut blobs = Vec::new();
    for append in &batch.appends {
        blobs.extend(append.blobs.iter().map(|blob| (&append.tenant, blob)));
        if let Some(stream) = append.streams.first() {
            wakeups.extend(append.wakeups.iter().map(|wakeup| (append, stream.stream, wakeup)));
        }
    }
    insert::insert(connection, statements, insert::WAKEUPS, &wakeups, insert::bind_wakeup).await?;
    insert::insert(connection, statements, insert::BLOBS, &blobs, insert::bind_blob).await?;
    for append in &batch.appends {
        let Some(stream) = append.streams.first() else { continue };
        for claim in &append.claims {
            // Judged before, in this transaction and this order, so that a row in the way is the stream's own.
            let text = match claim.op {
                ClaimOp::Take => {
                    "insert or ignore into claims (tenant, kind, key, stream) values (?, ?, ?, ?)"
                }
                ClaimOp::Release => {
                    "delete from claims where tenant = ? and kind = ? and key = ? and stream = ?"
                }
            };
            sqlx::query(text)
                .bind(append.tenant.as_str())
                .bind(claim.kind)
                .bind(claim.key.as_str())
                .bind(stream.stream)
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(())
}

fn is_conflict(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.is_unique_violation())
}

/// A row was in the way that belongs to nobody.
fn unexplained(batch: &Batch) -> AppendError {
    let partitions: Vec<String> = batch.heads.iter().map(|head| head.partition.to_string()).collect();
    AppendError::Store(StoreError::Corrupt(format!(
        "an append meets rows after the last commit; verify the chain of partitions {}",
        partitions.join(", ")
    )))
}
