//! Appending: one call of one function per batch, and the other writes of the owner.
//!
//! Where each partition ends is remembered from the last append or takeover, so that offsets and hashes are computed
//! before the call; the function compares under its locks and writes nothing if it is not so. What was remembered is
//! taken away while something is written and put back only when the outcome is known. In one process, appends to the
//! same partition follow each other; others run side by side.

use async_trait::async_trait;
use sqlx::postgres::PgArguments;
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{Mutex, MutexGuard};
use uuid::Uuid;

use domain::blob::Blob;
use domain::ids::{Partition, TenantId};
use domain::time::Timestamp;

use super::arguments::{add, ends_arguments, plan_arguments};
use super::judge::{self, NameChange};
use super::{PostgresLog, buckets, wakeups};
use crate::judge::{Known, Probe};
use crate::log::{
    Append, AppendError, Batch, Committed, Log, PartitionHead, StoreError, StoredWakeup, WakeupCursor,
};
use crate::plan::{self, Plan, Tail, Tails, check_heads, check_shape};
use crate::rows::{self, StoredRow, failed};

/// How often an append is planned before it is given up: others must be changing the same rows all the time.
const ATTEMPTS: usize = 5;

const APPEND: &str = "select everline_append(
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25,
    $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43, $44, $45, $46, $47, $48,
    $49)";

const TAILS: &str = "
    select p.partition, p.epoch, c.head, c.hash, c.committed_at from partitions p
    left join lateral (select l.head, l.hash, l.committed_at from commits l where l.partition = p.partition
                       order by l.head desc limit 1) c on true
    where p.partition = any ($1)";

/// What the function says.
enum Verdict {
    Written,
    /// Nothing was written; look again at whatever was taken for granted.
    Changed,
    /// Nothing was written; somebody loses, or a row is in the way.
    Conflict,
}

/// Where partitions end, as far as that is remembered.
#[derive(Debug)]
pub(super) struct RememberedTails(Box<[Mutex<Option<Tail>>]>);

/// What is remembered of some partitions; nobody else in this process appends to them meanwhile.
struct Held<'t>(Vec<(Partition, MutexGuard<'t, Option<Tail>>)>);

impl RememberedTails {
    pub(super) fn new(partitions: u16) -> Self {
        Self((0..partitions).map(|_| Mutex::new(None)).collect())
    }

    /// Waits for the turn of a batch. All its partitions must exist.
    async fn hold(&self, batch: &Batch) -> Held<'_> {
        let partitions: BTreeSet<Partition> = batch.heads.iter().map(|head| head.partition).collect();
        let mut held = Vec::with_capacity(partitions.len());
        // Ascending, so that no two batches wait for each other.
        for partition in partitions {
            held.push((partition, self.0[usize::from(partition.0)].lock().await));
        }
        Held(held)
    }
}

impl Held<'_> {
    /// Takes what is remembered away; `None` unless it is all there.
    fn take(&mut self) -> Option<Tails> {
        self.0.iter_mut().map(|(partition, tail)| Some((*partition, tail.take()?))).collect()
    }

    /// Remembers what the database now has.
    fn put(&mut self, tails: &Tails) {
        for (partition, tail) in &mut self.0 {
            **tail = tails.get(partition).copied();
        }
    }

    fn partitions(&self) -> Vec<i32> {
        self.0.iter().map(|(partition, _)| i32::from(partition.0)).collect()
    }
}

#[async_trait]
impl Log for PostgresLog {
    async fn take_over(&self, partition: Partition, node: Uuid) -> Result<PartitionHead, StoreError> {
        let Some(remembered) = self.tails.0.get(usize::from(partition.0)) else {
            return Err(self.unfit(format!("partition {partition} is not one of its {}", self.partitions)));
        };
        // Appends under the old epoch that are under way end first: they would be fenced anyway.
        let mut remembered = remembered.lock().await;
        remembered.take();
        let taken = self.raise_epoch(partition, node).await;
        self.last_write.note(taken.as_ref());
        let tail = taken?;
        *remembered = Some(tail);
        Ok(PartitionHead { partition, epoch: tail.epoch, offset: tail.offset })
    }

    async fn append(&self, batch: Arc<Batch>) -> Result<Committed, AppendError> {
        check_shape(&batch, self.partitions)?;
        check_texts(&batch)?;
        if batch.heads.iter().any(|head| head.partition.0 >= self.partitions) {
            let reason = "a head is of a partition that does not exist";
            return Err(AppendError::Malformed { index: 0, reason });
        }
        let mut held = self.tails.hold(&batch).await;
        let outcome = self.append_in_turn(&batch, &mut held).await;
        match &outcome {
            Ok(_) => self.last_write.note(Ok(())),
            Err(AppendError::Store(error)) => self.last_write.note(Err::<(), _>(error)),
            // Nothing was to be written, which says nothing about whether it could be.
            Err(_) => {}
        }
        outcome
    }

    async fn write_blob(&self, tenant: &TenantId, blob: &Blob) -> Result<(), StoreError> {
        let written = self.readers.write_blob(tenant, blob).await;
        self.last_write.note(written.as_ref());
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
        let forgotten = wakeups::forget(&self.own, partition, until, limit).await?;
        self.buckets.maintain(&self.own, now).await?;
        Ok(forgotten >= limit as u64)
    }
}

impl PostgresLog {
    async fn raise_epoch(&self, partition: Partition, node: Uuid) -> Result<Tail, StoreError> {
        let operation = "take a partition over";
        let text = "select partition, epoch, head, hash, committed_at from everline_take_over($1, $2)";
        let mut arguments = PgArguments::default();
        add(&mut arguments, operation, i32::from(partition.0))?;
        add(&mut arguments, operation, node)?;
        let found = self.own.run(text, arguments).await.map_err(failed(operation))?;
        let row = found.first().ok_or_else(|| missing(partition))?;
        Ok(rows::tail(row)?.1)
    }

    async fn append_in_turn(&self, batch: &Batch, held: &mut Held<'_>) -> Result<Committed, AppendError> {
        let mut conflicts = 0;
        for _ in 0..ATTEMPTS {
            let (mut tails, stale) = self.ends(batch, held).await?;
            self.buckets.create_for(&self.own, batch).await?;
            let names = match self.names(batch, stale).await {
                Ok(names) => names,
                Err(refused) => {
                    held.put(&tails);
                    return Err(refused);
                }
            };
            let mut plan = Plan::of(batch, &tails);
            match self.write(&mut plan, batch, &tails, &names).await? {
                Verdict::Written => {
                    let committed = plan.into_committed(batch, &mut tails);
                    held.put(&tails);
                    return Ok(committed);
                }
                Verdict::Changed => {}
                Verdict::Conflict => {
                    let losers = judge::losers(&self.own, batch, &Probe::All).await?;
                    if !losers.is_empty() {
                        return Err(AppendError::Refused(losers));
                    }
                    conflicts += 1;
                }
            }
        }
        if conflicts > 0 { Err(plan::unexplained(batch)) } else { Err(contended(batch)) }
    }

    /// Where the partitions of the batch end, and of which the caller did not know it.
    async fn ends(
        &self,
        batch: &Batch,
        held: &mut Held<'_>,
    ) -> Result<(Tails, BTreeSet<Partition>), AppendError> {
        if let Some(tails) = held.take() {
            match check_heads(batch, &tails) {
                Ok(stale) => return Ok((tails, stale)),
                // What is remembered may be older than what the caller knows.
                Err(AppendError::Fenced { offered, current, .. }) if offered > current => {}
                Err(error) => {
                    held.put(&tails);
                    return Err(error);
                }
            }
        }
        let operation = "read where its partitions end";
        if held.0.is_empty() {
            return Ok((Tails::new(), BTreeSet::new()));
        }
        let mut arguments = PgArguments::default();
        add(&mut arguments, operation, held.partitions())?;
        let found = self.own.run(TAILS, arguments).await.map_err(failed(operation))?;
        let tails = found.iter().map(rows::tail).collect::<Result<Tails, _>>()?;
        let stale = check_heads(batch, &tails)?;
        Ok((tails, stale))
    }

    /// Judges what the function does not: versions that the caller may not know, and names. Returns what becomes of
    /// the names.
    async fn names<'b>(
        &self,
        batch: &'b Batch,
        stale: BTreeSet<Partition>,
    ) -> Result<Vec<NameChange<'b>>, AppendError> {
        if stale.is_empty() && batch.appends.iter().all(|append| append.claims.is_empty()) {
            return Ok(Vec::new());
        }
        let probe = Probe::Partitions(stale);
        let mut known: Known = judge::known(&self.own, batch, &probe).await?;
        let before = known.holders.clone();
        if known.losers(batch, &probe).is_empty() {
            return Ok(judge::name_changes(batch, &before, &known.holders));
        }
        // Once it is refused, all that would be refused the next time is named as well.
        Err(AppendError::Refused(judge::losers(&self.own, batch, &Probe::All).await?))
    }

    async fn write(
        &self,
        plan: &mut Plan<'_>,
        batch: &Batch,
        tails: &Tails,
        names: &[NameChange<'_>],
    ) -> Result<Verdict, AppendError> {
        let operation = "write an append";
        if batch.heads.is_empty() {
            return Ok(Verdict::Written);
        }
        let (events, mut hash) = plan.hashing();
        hash(events);
        drop(hash);
        let commits = plan.commits();
        let mut arguments = PgArguments::default();
        ends_arguments(&mut arguments, tails, &commits)
            .and_then(|()| plan_arguments(&mut arguments, plan, batch, names))
            .map_err(|error| failed(operation)(sqlx::Error::Encode(error)))?;
        let answer = self.own.run(APPEND, arguments).await;
        match answer {
            Ok(rows) => {
                let verdict = rows.first().map_or(Ok(0), |row| row.number(0)).map_err(failed(operation))?;
                Ok(match verdict {
                    0 => Verdict::Written,
                    2 => Verdict::Conflict,
                    _ => Verdict::Changed,
                })
            }
            Err(error) if plan::is_conflict(&error) => Ok(Verdict::Conflict),
            Err(error) if buckets::is_missing(&error) => {
                self.buckets.forget();
                Ok(Verdict::Changed)
            }
            // It waited for another that waited for it, and was chosen to give way: nothing was written.
            Err(error) if buckets::has_code(&error, "40P01") => Ok(Verdict::Changed),
            Err(error) => Err(failed(operation)(error).into()),
        }
    }

    /// Writes a little, and takes it back: whether the database takes writes.
    pub(crate) async fn try_write(&self) -> Result<(), StoreError> {
        let tried = self.own.run("select everline_try_write()", PgArguments::default()).await;
        let outcome = tried.map(|_| ()).map_err(failed("try a write"));
        self.last_write.note(outcome.as_ref());
        outcome
    }
}

/// Postgres stores no text with a NUL. Names cannot have one; what else could must not fail its whole batch over and
/// over.
fn check_texts(batch: &Batch) -> Result<(), AppendError> {
    let fits = |text: &str| !text.contains('\0');
    let all_fit = |append: &Append| {
        let events = append.streams.iter().flat_map(|stream| &stream.events);
        append.claims.iter().all(|claim| fits(&claim.key))
            && append.blobs.iter().all(|blob| fits(&blob.reference.media_type))
            && events.into_iter().all(|event| {
                fits(event.actor.as_str())
                    && fits(&event.event_type)
                    && event.traceparent.as_deref().is_none_or(fits)
                    && event.key_id.as_deref().is_none_or(fits)
            })
    };
    match batch.appends.iter().position(|append| !all_fit(append)) {
        None => Ok(()),
        Some(index) => Err(AppendError::Malformed { index, reason: "one of its texts has a NUL in it" }),
    }
}

fn missing(partition: Partition) -> StoreError {
    StoreError::Corrupt(format!("partition {partition} is missing"))
}

fn contended(batch: &Batch) -> AppendError {
    let partitions: Vec<String> = batch.heads.iter().map(|head| head.partition.to_string()).collect();
    AppendError::Store(StoreError::Contended { partitions: partitions.join(", ") })
}
