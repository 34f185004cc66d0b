//! Appending: one `begin immediate` transaction per batch, and the other writes of the owner.
//!
//! The connection, and what is known of each partition's end, are the [`Writer`]'s; every outcome is noted there,
//! so that no write goes through a connection that another has left in doubt.

use async_trait::async_trait;
use sqlx::sqlite::SqliteConnection;
use std::sync::Arc;
use uuid::Uuid;

use domain::blob::Blob;
use domain::decision::ClaimOp;
use domain::ids::{Partition, TenantId};
use domain::time::Timestamp;

use super::insert::{self, Statements};
use super::writer::Writer;
use super::{SqliteLog, judge, wakeups};
use crate::judge::Probe;
use crate::log::{AppendError, Batch, Committed, Log, PartitionHead, StoreError, StoredWakeup, WakeupCursor};
use crate::plan::{self, Plan, Tails, check_heads, check_shape};
use crate::rows::{count, failed};

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

/// Raises the epoch of a partition that exists.
async fn take_over(writer: &mut Writer, partition: Partition) -> Result<PartitionHead, StoreError> {
    let mut tails = writer.take_tails().await?;
    let epoch: i64 =
        sqlx::query_scalar("update partitions set epoch = epoch + 1 where partition = ? returning epoch")
            .bind(i64::from(partition.0))
            .fetch_one(&mut writer.connection)
            .await
            .map_err(failed("take a partition over"))?;
    let missing = || StoreError::Corrupt(format!("partition {partition} is missing"));
    let tail = tails.get_mut(&partition).ok_or_else(missing)?;
    tail.epoch = count(epoch, "the epoch of a partition")?;
    let head = PartitionHead { partition, epoch: tail.epoch, offset: tail.offset };
    writer.put_tails(tails);
    Ok(head)
}

/// Appends with the tails taken away; they are put back when it is known what the database has.
async fn append_after_tails(writer: &mut Writer, batch: &Batch) -> Result<Committed, AppendError> {
    let mut tails = writer.take_tails().await?;
    let outcome = append(writer, batch, &mut tails).await;
    if !matches!(outcome, Err(AppendError::Store(_))) {
        writer.put_tails(tails);
    }
    outcome
}

/// Writes the batch in a transaction, or says who cannot be taken.
async fn append(writer: &mut Writer, batch: &Batch, tails: &mut Tails) -> Result<Committed, AppendError> {
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
    match write(&mut plan, &mut transaction, statements, batch).await {
        Ok(()) => transaction.commit().await.map_err(failed("commit an append"))?,
        Err(error) if plan::is_conflict(&error) => {
            transaction.rollback().await.map_err(failed("take an append back"))?;
            let losers = judge::losers(connection, batch, &Probe::All).await?;
            if losers.is_empty() {
                return Err(plan::unexplained(batch));
            }
            return Err(AppendError::Refused(losers));
        }
        Err(source) => return Err(failed("write an append")(source).into()),
    }
    Ok(plan.into_committed(batch, tails))
}

/// Inserts the rows of every table, hashing the events while they are being written.
async fn write(
    plan: &mut Plan<'_>,
    connection: &mut SqliteConnection,
    statements: &mut Statements,
    batch: &Batch,
) -> Result<(), sqlx::Error> {
    let (events, hash) = plan.hashing();
    insert::insert_beside(connection, statements, insert::EVENTS, events, insert::bind_event, hash).await?;
    insert::insert(connection, statements, insert::COMMANDS, &plan.commands, insert::bind_command).await?;
    let commits = plan.commits();
    insert::insert(connection, statements, insert::COMMITS, &commits, insert::bind_commit).await?;
    write_beside_events(connection, statements, batch).await
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
                .bind(crate::judge::owner_of(append, claim))
                .bind(claim.kind)
                .bind(claim.key.as_str())
                .bind(stream.stream)
                .execute(&mut *connection)
                .await?;
        }
    }
    Ok(())
}
