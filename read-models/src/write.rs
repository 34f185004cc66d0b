//! The write transaction of a projection.
//!
//! Takes the database's write lock at its beginning, so that what it reads cannot change under it. Rows,
//! parked streams and checkpoints become visible together at [`WriteTx::commit`]; a dropped transaction has
//! done nothing. It writes either to the tables that readers see or, during a rebuild, to their shadows.

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite, Transaction};
use std::borrow::Cow;
use std::collections::HashSet;
use uuid::Uuid;

use domain::execution::view::ExecutionView;
use domain::ids::{Partition, Position, TenantId};

use crate::positions::{Advance, MAIN_PROJECTION};
use crate::rebuild::Side;
use crate::rows::{ExecutionRow, WorkflowRow, WorkflowVersionRow};
use crate::sql::{Columns, signed};
use crate::store::ReadModels;
use crate::{ReadModelError, workflows};

/// Rows of one statement. A batch is cut into these sizes, largest first, so that a handful of prepared
/// statements serves batches of every size; 256 rows of 13 columns are far below SQLite's 32,766 parameters.
const CHUNKS: [usize; 5] = [256, 64, 16, 4, 1];

const EXECUTION_COLUMNS: &str = "tenant, id, partition, workflow_id, workflow_name, status, started_at, \
    finished_at, priority, version, error, attributes, view";

/// Only what can change after the first event.
const EXECUTION_UPDATE: &str = "on conflict (tenant, id) do update set status = excluded.status, \
    finished_at = excluded.finished_at, version = excluded.version, error = excluded.error, \
    view = excluded.view";

/// A transaction of the only writer.
pub struct WriteTx {
    pub(crate) tx: Transaction<'static, Sqlite>,
    pub(crate) side: Side,
    models: ReadModels,
    reached: Vec<(Partition, u64)>,
}

impl ReadModels {
    /// Begins a transaction on the tables that readers see. Waits for other writers.
    pub async fn begin(&self) -> Result<WriteTx, ReadModelError> {
        self.begin_on(Side::Live).await
    }

    pub(crate) async fn begin_on(&self, side: Side) -> Result<WriteTx, ReadModelError> {
        let tx = self.inner.writer.begin_with("begin immediate").await;
        let tx = tx.map_err(ReadModelError::database("begin a transaction"))?;
        Ok(WriteTx { tx, side, models: self.clone(), reached: Vec::new() })
    }
}

impl WriteTx {
    /// Makes everything visible and wakes who waits for the positions.
    pub async fn commit(self) -> Result<(), ReadModelError> {
        self.tx.commit().await.map_err(ReadModelError::database("commit"))?;
        self.models.note_reached(&self.reached);
        Ok(())
    }

    pub(crate) fn note_advances(&mut self, projection: &str, advances: &[Advance]) {
        if self.side == Side::Live && projection == MAIN_PROJECTION {
            self.reached.extend(advances.iter().map(|advance| (advance.partition, advance.to)));
        }
    }

    /// An execution's view as last written.
    pub async fn execution(
        &mut self,
        tenant: &TenantId,
        id: Uuid,
    ) -> Result<Option<ExecutionView>, ReadModelError> {
        self.executions(tenant, &[id]).await?.pop().map(|(_, view)| view).transpose()
    }

    /// The views of those `ids` that are there, in no order. One that does not decode is its own error, so that
    /// it does not stand in the way of the others.
    pub async fn executions(
        &mut self,
        tenant: &TenantId,
        ids: &[Uuid],
    ) -> Result<Vec<(Uuid, Result<ExecutionView, ReadModelError>)>, ReadModelError> {
        let table = self.side.table("executions");
        let mut found = Vec::with_capacity(ids.len());
        for chunk in chunks(ids) {
            let marks = marks(chunk.len());
            let sql = format!("select id, view from {table} where tenant = ? and id in ({marks})");
            let query = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str());
            let query = chunk.iter().fold(query, |query, id| query.bind(*id));
            let rows = query.fetch_all(&mut *self.tx).await;
            for row in rows.map_err(ReadModelError::database("read executions"))? {
                let mut columns = Columns::of(&row, "executions");
                let id: Uuid = columns.take()?;
                let view: &str = columns.take()?;
                found.push((id, crate::executions::decode_view(id, view)));
            }
        }
        Ok(found)
    }

    /// Inserts or replaces executions, many rows to a statement.
    pub async fn put_executions(&mut self, rows: Vec<ExecutionRow>) -> Result<(), ReadModelError> {
        let table = self.side.table("executions");
        let sizes: Vec<usize> = chunks(&rows).map(<[_]>::len).collect();
        let mut rows = rows.into_iter();
        for size in sizes {
            // Plain `?`: SQLite looks numbered parameters up by name, in a list, for each of thousands.
            let values = vec![format!("({})", marks(13)); size].join(", ");
            let sql = format!("insert into {table} ({EXECUTION_COLUMNS}) values {values} {EXECUTION_UPDATE}");
            let query = rows.by_ref().take(size).fold(sqlx::query(AssertSqlSafe(sql)), bind_execution);
            query.execute(&mut *self.tx).await.map_err(ReadModelError::database("write executions"))?;
        }
        Ok(())
    }

    /// A workflow, also if it is deleted.
    pub async fn workflow(
        &mut self,
        tenant: &TenantId,
        id: Uuid,
    ) -> Result<Option<WorkflowRow>, ReadModelError> {
        workflows::find(&mut *self.tx, &self.side.table("workflows"), tenant, id).await
    }

    /// Inserts or replaces a workflow.
    pub async fn put_workflow(&mut self, row: &WorkflowRow) -> Result<(), ReadModelError> {
        let sql = workflows::upsert_sql(&self.side.table("workflows"));
        workflows::bind_workflow(sqlx::query(AssertSqlSafe(sql)), row)
            .execute(&mut *self.tx)
            .await
            .map_err(ReadModelError::database("write a workflow"))?;
        Ok(())
    }

    /// Inserts or replaces a version of a workflow.
    pub async fn put_workflow_version(&mut self, row: &WorkflowVersionRow) -> Result<(), ReadModelError> {
        let sql = workflows::upsert_version_sql(&self.side.table("workflow_versions"));
        workflows::bind_version(sqlx::query(AssertSqlSafe(sql)), row)
            .execute(&mut *self.tx)
            .await
            .map_err(ReadModelError::database("write a workflow version"))?;
        Ok(())
    }

    /// Has the projection pass over a stream from `position` on. The first reason stays.
    pub async fn park_stream(
        &mut self,
        projection: &str,
        stream: Uuid,
        position: Position,
        reason: &str,
    ) -> Result<(), ReadModelError> {
        sqlx::query(
            "insert into parked_streams (projection, stream, partition, event_offset, reason, skipped) \
             values ($1, $2, $3, $4, $5, 0) on conflict (projection, stream) do nothing",
        )
        .bind(self.side.projection(projection).as_ref())
        .bind(stream)
        .bind(i64::from(position.partition.0))
        .bind(signed(position.offset))
        .bind(reason)
        .execute(&mut *self.tx)
        .await
        .map_err(ReadModelError::database("park a stream"))?;
        Ok(())
    }

    /// Which of `streams` are parked.
    pub async fn parked(
        &mut self,
        projection: &str,
        streams: &[Uuid],
    ) -> Result<HashSet<Uuid>, ReadModelError> {
        let mut parked = HashSet::new();
        for chunk in chunks(streams) {
            let marks = marks(chunk.len());
            let sql =
                format!("select stream from parked_streams where projection = ? and stream in ({marks})");
            let name = self.side.projection(projection);
            let query = sqlx::query(AssertSqlSafe(sql)).bind(name.as_ref());
            let query = chunk.iter().fold(query, |query, id| query.bind(*id));
            let rows = query.fetch_all(&mut *self.tx).await;
            for row in rows.map_err(ReadModelError::database("look for parked streams"))? {
                parked.insert(Columns::of(&row, "parked_streams").take()?);
            }
        }
        Ok(parked)
    }

    /// Counts events of a parked stream that were passed over.
    pub async fn count_skipped(
        &mut self,
        projection: &str,
        stream: Uuid,
        events: u64,
    ) -> Result<(), ReadModelError> {
        sqlx::query("update parked_streams set skipped = skipped + $3 where projection = $1 and stream = $2")
            .bind(self.side.projection(projection).as_ref())
            .bind(stream)
            .bind(signed(events))
            .execute(&mut *self.tx)
            .await
            .map_err(ReadModelError::database("count skipped events"))?;
        Ok(())
    }

    /// Forgets the checkpoints and parked streams of a projection.
    pub async fn clear(&mut self, projection: &str) -> Result<(), ReadModelError> {
        let name = match self.side.projection(projection) {
            Cow::Borrowed(name) => name.to_owned(),
            Cow::Owned(name) => name,
        };
        for sql in [
            "delete from checkpoints where projection = $1",
            "delete from parked_streams where projection = $1",
        ] {
            sqlx::query(sql)
                .bind(&name)
                .execute(&mut *self.tx)
                .await
                .map_err(ReadModelError::database("clear a projection"))?;
        }
        Ok(())
    }
}

type SqliteQuery<'q> = Query<'q, Sqlite, SqliteArguments>;

fn bind_execution(query: SqliteQuery<'_>, row: ExecutionRow) -> SqliteQuery<'_> {
    query
        .bind(String::from(row.tenant))
        .bind(row.id)
        .bind(i64::from(row.partition.0))
        .bind(row.workflow_id)
        .bind(row.workflow_name)
        .bind(row.status)
        .bind(row.started_at)
        .bind(row.finished_at)
        .bind(i64::from(row.priority))
        .bind(signed(row.version))
        .bind(row.error)
        .bind(row.attributes)
        .bind(row.view)
}

/// `?, ?, …`
fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}

/// Cuts `items` into pieces of the sizes in [`CHUNKS`].
fn chunks<T>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = CHUNKS.into_iter().find(|size| *size <= items.len())?;
        let (head, tail) = items.split_at(size);
        items = tail;
        Some(head)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_cut_into_few_sizes_without_losing_a_row() {
        let items: Vec<u32> = (0..1_001).collect();
        let cut: Vec<&[u32]> = chunks(&items).collect();
        assert!(cut.iter().all(|chunk| CHUNKS.contains(&chunk.len())));
        assert_eq!(cut.concat(), items);
        assert_eq!(chunks::<u32>(&[]).count(), 0);
    }
}
