//! How far the projections are, and waiting until they are far enough.
//!
//! A waiter is woken by commits of any clone of the same [`ReadModels`]; for a writer in another process one
//! of the waiters reads the checkpoints every [`POLL_INTERVAL`] on behalf of all. Invariant: what is known
//! never goes back, because checkpoints do not (a rebuild is swapped in only when it has caught up). The one
//! exception is a crash of Postgres, which may lose the last commits (`synchronous_commit = off`): until the
//! projection has written them again, a waiter may be let through to rows that are older than its position.

use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

use domain::ids::Partition;

use crate::backend::Tx;
use crate::sql::{Columns, Row, Statement};
use crate::store::ReadModels;
use crate::write::WriteTx;
use crate::{ReadModelError, rows::ParkedStream};

/// The projection that keeps workflows and executions.
pub const MAIN_PROJECTION: &str = "main";
/// How often the checkpoints are read for waiters, in case another process writes them.
const POLL_INTERVAL: Duration = Duration::from_millis(5);
/// Parked streams that are shown at most.
const MAX_PARKED: i64 = 1_000;

/// Offsets by partition.
pub(crate) type Reached = BTreeMap<Partition, u64>;

/// One partition's step of a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advance {
    /// The partition.
    pub partition: Partition,
    /// The last offset projected before.
    pub from: u64,
    /// The last offset projected now.
    pub to: u64,
}

impl ReadModels {
    /// The last projected offset of every partition that has one, ascending.
    pub async fn checkpoints(&self, projection: &str) -> Result<Vec<(Partition, u64)>, ReadModelError> {
        let rows = self.inner.db.fetch_all(checkpoints_statement(projection)).await;
        checkpoints(&rows.map_err(ReadModelError::database("read checkpoints"))?)
    }

    /// Whether the main projection has reached all `positions` within `timeout`.
    pub async fn wait_for(&self, positions: &[(Partition, u64)], timeout: Duration) -> bool {
        tokio::time::timeout(timeout, self.reach(positions)).await.is_ok()
    }

    async fn reach(&self, positions: &[(Partition, u64)]) {
        let mut reached = self.inner.reached.subscribe();
        loop {
            if covers(&reached.borrow_and_update(), positions) {
                return;
            }
            self.poll_if_due().await;
            if covers(&reached.borrow_and_update(), positions) {
                return;
            }
            // Either a commit of this process or time to look again; the sender lives as long as `self`.
            let _ = tokio::time::timeout(POLL_INTERVAL, reached.changed()).await;
        }
    }

    async fn poll_if_due(&self) {
        // Whoever finds the lock taken is served by the one who holds it.
        let Ok(mut polled) = self.inner.polled.try_lock() else { return };
        if polled.is_some_and(|at| at.elapsed() < POLL_INTERVAL) {
            return;
        }
        *polled = Some(Instant::now());
        if let Err(error) = self.poll_checkpoints().await {
            tracing::debug!(%error, "the checkpoints could not be read for a waiter; it goes on waiting");
        }
    }

    pub(crate) async fn poll_checkpoints(&self) -> Result<(), ReadModelError> {
        let found = self.checkpoints(MAIN_PROJECTION).await?;
        self.note_reached(&found);
        Ok(())
    }

    pub(crate) fn note_reached(&self, found: &[(Partition, u64)]) {
        self.inner.reached.send_if_modified(|reached| {
            let mut changed = false;
            for &(partition, offset) in found {
                let known = reached.entry(partition).or_default();
                changed |= offset > *known;
                *known = offset.max(*known);
            }
            changed
        });
    }

    /// How often a projection was rebuilt. A writer whose number is old must drop what it has cached.
    pub async fn generation(&self, projection: &str) -> Result<u64, ReadModelError> {
        let row = self.inner.db.fetch_optional(generation_statement(projection)).await;
        generation(row.map_err(ReadModelError::database("read a projection's generation"))?)
    }

    /// Streams that a projection passes over, at most 1,000.
    pub async fn parked(&self, projection: &str) -> Result<Vec<ParkedStream>, ReadModelError> {
        let statement = Statement::new(
            "select stream, partition, event_offset, reason, skipped from parked_streams \
             where projection = $1 order by stream limit $2",
        )
        .bind(projection)
        .bind(MAX_PARKED);
        let rows = self.inner.db.fetch_all(statement).await;
        rows.map_err(ReadModelError::database("list parked streams"))?.iter().map(parked_stream).collect()
    }
}

fn parked_stream(row: &Row) -> Result<ParkedStream, ReadModelError> {
    let mut columns = Columns::of(row, "parked_streams");
    Ok(ParkedStream {
        stream: columns.take()?,
        position: domain::ids::Position { partition: columns.partition()?, offset: columns.count()? },
        reason: columns.take()?,
        skipped: columns.count()?,
    })
}

fn covers(reached: &Reached, positions: &[(Partition, u64)]) -> bool {
    positions.iter().all(|(partition, offset)| reached.get(partition).copied().unwrap_or(0) >= *offset)
}

fn checkpoints_statement(projection: &str) -> Statement {
    Statement::new("select partition, last_offset from checkpoints where projection = $1 order by partition")
        .bind(projection)
}

fn checkpoints(rows: &[Row]) -> Result<Vec<(Partition, u64)>, ReadModelError> {
    rows.iter()
        .map(|row| {
            let mut columns = Columns::of(row, "checkpoints");
            Ok((columns.partition()?, columns.count()?))
        })
        .collect()
}

fn generation_statement(projection: &str) -> Statement {
    Statement::new("select generation from projections where name = $1").bind(projection)
}

fn generation(row: Option<Row>) -> Result<u64, ReadModelError> {
    row.map_or(Ok(0), |row| Columns::of(&row, "projections").count())
}

impl WriteTx {
    /// The last projected offset of a partition; 0 if there is none.
    pub async fn checkpoint(
        &mut self,
        projection: &str,
        partition: Partition,
    ) -> Result<u64, ReadModelError> {
        let all = self.checkpoints(projection).await?;
        Ok(all.iter().find(|(found, _)| *found == partition).map_or(0, |(_, offset)| *offset))
    }

    /// The last projected offset of every partition that has one, ascending.
    pub async fn checkpoints(&mut self, projection: &str) -> Result<Vec<(Partition, u64)>, ReadModelError> {
        let rows = self.tx.fetch_all(checkpoints_statement(&self.side.projection(projection))).await;
        checkpoints(&rows.map_err(ReadModelError::database("read checkpoints"))?)
    }

    /// How often a projection was rebuilt, as of this transaction.
    pub async fn generation(&mut self, projection: &str) -> Result<u64, ReadModelError> {
        let row = self.tx.fetch_optional(generation_statement(projection)).await;
        generation(row.map_err(ReadModelError::database("read a projection's generation"))?)
    }

    /// Moves one checkpoint; [`ReadModelError::Conflict`] if it is not at `from`.
    pub async fn advance_checkpoint(
        &mut self,
        projection: &str,
        partition: Partition,
        from: u64,
        to: u64,
    ) -> Result<(), ReadModelError> {
        self.advance_checkpoints(projection, &[Advance { partition, from, to }]).await
    }

    /// Moves checkpoints together; [`ReadModelError::Conflict`] names the first that is not where it should be.
    ///
    /// The compare and the set are two statements: the transaction holds the writers' lock (the file's, or an
    /// advisory one on Postgres) from its beginning, so nothing can come between them.
    pub async fn advance_checkpoints(
        &mut self,
        projection: &str,
        advances: &[Advance],
    ) -> Result<(), ReadModelError> {
        if advances.is_empty() {
            return Ok(());
        }
        let stored: Reached = self.checkpoints(projection).await?.into_iter().collect();
        for advance in advances {
            let actual = stored.get(&advance.partition).copied().unwrap_or(0);
            if actual != advance.from {
                return Err(ReadModelError::Conflict {
                    projection: projection.to_owned(),
                    partition: advance.partition,
                    expected: advance.from,
                    actual,
                });
            }
        }
        let name = self.side.projection(projection);
        let written = match &mut self.tx {
            Tx::Sqlite(tx) => tx.put_checkpoints(&name, advances).await,
            Tx::Postgres(tx) => tx.put_checkpoints(&name, advances).await,
        };
        written.map_err(ReadModelError::database("advance checkpoints"))?;
        self.note_advances(projection, advances);
        Ok(())
    }
}
