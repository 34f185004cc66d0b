//! The write transaction of a projection.
//!
//! Takes the writers' lock at its beginning (the file's, or on Postgres an advisory one of its own), so that what
//! it reads cannot change under it. Rows, parked streams and checkpoints become visible together at [`WriteTx::commit`]; a dropped transaction has
//! done nothing. It writes either to the tables that readers see or, during a rebuild, to their shadows.

use std::collections::HashSet;
use uuid::Uuid;

use domain::execution::view::ExecutionView;
use domain::ids::{Partition, Position, TenantId};

use crate::backend::Tx;
use crate::positions::{Advance, MAIN_PROJECTION};
use crate::rebuild::Side;
use crate::rows::{ExecutionRow, WorkflowRow, WorkflowVersionRow};
use crate::sql::{Columns, Row, Statement, signed};
use crate::store::ReadModels;
use crate::{ReadModelError, workflows};

/// In the order in which the backends bind them.
pub(crate) const EXECUTION_COLUMNS: &str = "tenant, id, partition, workflow_id, workflow_name, status, started_at, \
    finished_at, priority, version, error, attributes, view, parent_id, origin_id, owner";

/// Only what can change after the first event.
pub(crate) const EXECUTION_UPDATE: &str = "on conflict (tenant, id) do update set status = excluded.status, \
    finished_at = excluded.finished_at, version = excluded.version, error = excluded.error, \
    view = excluded.view";

/// A transaction of the only writer.
pub struct WriteTx {
    pub(crate) tx: Tx,
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
        let tx = self.inner.db.begin(side).await;
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
        let select =
            format!("select id, view from {} where tenant = $1 and id", self.side.table("executions"));
        let rows = self.fetch_listed(select, tenant.as_str(), ids).await;
        let mut found = Vec::with_capacity(ids.len());
        for row in rows.map_err(ReadModelError::database("read executions"))? {
            let mut columns = Columns::of(&row, "executions");
            let id: Uuid = columns.take()?;
            found.push((id, crate::executions::decode_view(id, columns.take()?)));
        }
        Ok(found)
    }

    /// Inserts or replaces executions, many rows to a statement. An execution may be among them once only.
    pub async fn put_executions(&mut self, rows: Vec<ExecutionRow>) -> Result<(), ReadModelError> {
        let table = self.side.table("executions");
        let written = match &mut self.tx {
            Tx::Sqlite(tx) => tx.put_executions(&table, rows).await,
            Tx::Postgres(tx) => tx.put_executions(&table, rows).await,
        };
        written.map_err(ReadModelError::database("write executions"))
    }

    /// A workflow, also if it is deleted.
    pub async fn workflow(
        &mut self,
        tenant: &TenantId,
        id: Uuid,
    ) -> Result<Option<WorkflowRow>, ReadModelError> {
        let row = self.tx.fetch_optional(workflows::find(&self.side.table("workflows"), tenant, id)).await;
        let row = row.map_err(ReadModelError::database("read a workflow"))?;
        row.as_ref().map(workflows::workflow_row).transpose()
    }

    /// Inserts or replaces a workflow.
    pub async fn put_workflow(&mut self, row: &WorkflowRow) -> Result<(), ReadModelError> {
        let statement = workflows::upsert(&self.side.table("workflows"), row);
        self.tx.execute(statement).await.map_err(ReadModelError::database("write a workflow"))
    }

    /// Inserts or replaces a version of a workflow.
    pub async fn put_workflow_version(&mut self, row: &WorkflowVersionRow) -> Result<(), ReadModelError> {
        let statement = workflows::upsert_version(&self.side.table("workflow_versions"), row);
        self.tx.execute(statement).await.map_err(ReadModelError::database("write a workflow version"))
    }

    /// Has the projection pass over a stream from `position` on. The first reason stays.
    pub async fn park_stream(
        &mut self,
        projection: &str,
        stream: Uuid,
        position: Position,
        reason: &str,
    ) -> Result<(), ReadModelError> {
        let statement = Statement::new(
            "insert into parked_streams (projection, stream, partition, event_offset, reason, skipped) \
             values ($1, $2, $3, $4, $5, 0) on conflict (projection, stream) do nothing",
        )
        .bind(self.side.projection(projection).as_ref())
        .bind(stream)
        .bind(i64::from(position.partition.0))
        .bind(signed(position.offset))
        .bind(reason);
        self.tx.execute(statement).await.map_err(ReadModelError::database("park a stream"))
    }

    /// Which of `streams` are parked.
    pub async fn parked(
        &mut self,
        projection: &str,
        streams: &[Uuid],
    ) -> Result<HashSet<Uuid>, ReadModelError> {
        let select = "select stream from parked_streams where projection = $1 and stream".to_owned();
        let name = self.side.projection(projection);
        let rows = self.fetch_listed(select, &name, streams).await;
        let rows = rows.map_err(ReadModelError::database("look for parked streams"))?;
        rows.iter().map(|row| Columns::of(row, "parked_streams").take()).collect()
    }

    /// The rows of `select`, which ends before its list of ids.
    async fn fetch_listed(
        &mut self,
        select: String,
        key: &str,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, sqlx::Error> {
        match &mut self.tx {
            Tx::Sqlite(tx) => tx.fetch_listed(&select, key, ids).await,
            Tx::Postgres(tx) => tx.fetch_listed(&select, key, ids).await,
        }
    }

    /// Counts events of a parked stream that were passed over.
    pub async fn count_skipped(
        &mut self,
        projection: &str,
        stream: Uuid,
        events: u64,
    ) -> Result<(), ReadModelError> {
        let statement = Statement::new(
            "update parked_streams set skipped = skipped + $3 where projection = $1 and stream = $2",
        )
        .bind(self.side.projection(projection).as_ref())
        .bind(stream)
        .bind(signed(events));
        self.tx.execute(statement).await.map_err(ReadModelError::database("count skipped events"))
    }

    /// Forgets the checkpoints and parked streams of a projection.
    pub async fn clear(&mut self, projection: &str) -> Result<(), ReadModelError> {
        let name = self.side.projection(projection);
        for sql in [
            "delete from checkpoints where projection = $1",
            "delete from parked_streams where projection = $1",
        ] {
            let cleared = self.tx.execute(Statement::new(sql).bind(name.as_ref())).await;
            cleared.map_err(ReadModelError::database("clear a projection"))?;
        }
        Ok(())
    }
}
