//! Nodes that ran out of attempts.
//!
//! A list shows either those that wait for somebody or those that were tried again, and walks one index from the newest
//! id down. Like the list of executions it looks at no more than [`SCAN_ROWS`] rows per page.

use uuid::Uuid;

use domain::ids::TenantId;
use domain::time::Timestamp;

use crate::ReadModelError;
use crate::executions::SCAN_ROWS;
use crate::rows::{DeadLetter, Page};
use crate::sql::{Columns, Row, Statement, signed};
use crate::store::ReadModels;
use crate::viewer::{Seen, Viewer};
use crate::workflows::MAX_LIMIT;
use crate::write::WriteTx;

/// Which dead letters a list shows. Everything given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeadLetterFilter {
    /// Those that were tried again, instead of those that wait.
    pub redriven: bool,
    /// Of this workflow.
    pub workflow_id: Option<Uuid>,
    /// Of this execution.
    pub execution_id: Option<Uuid>,
    /// Of the node at this path.
    pub node_id: Option<String>,
    /// With an error of this kind.
    pub error_kind: Option<String>,
    /// Dead later than this.
    pub after: Option<Timestamp>,
    /// Dead earlier than this.
    pub before: Option<Timestamp>,
}

impl DeadLetterFilter {
    /// Whether it may pass over many rows to find one.
    fn scans(&self) -> bool {
        self.workflow_id.is_some()
            || self.node_id.is_some()
            || self.error_kind.is_some()
            || self.after.is_some()
            || self.before.is_some()
    }

    /// The conditions that an index serves.
    fn push_walk(&self, query: &mut Statement, viewer: &Viewer, below: Uuid) {
        query.push(" from dead_letters where tenant = ").push_bind(viewer.tenant.as_str());
        query.push(" and redriven = ").push_bind(self.redriven);
        query.push(" and id < ").push_bind(below);
        if let Some(execution) = self.execution_id {
            query.push(" and execution_id = ").push_bind(execution);
        }
    }

    /// The conditions that look at rows.
    fn push_conditions(&self, query: &mut Statement, viewer: &Viewer) {
        viewer.push_execution_of(query, "dead_letters.execution_id");
        if let Some(workflow) = self.workflow_id {
            query.push(" and workflow_id = ").push_bind(workflow);
        }
        if let Some(node) = &self.node_id {
            query.push(" and node_id = ").push_bind(node.as_str());
        }
        if let Some(kind) = &self.error_kind {
            query.push(" and error_kind = ").push_bind(kind.as_str());
        }
        if let Some(after) = self.after {
            query.push(" and dead_lettered_at > ").push_bind(after.unix_ms());
        }
        if let Some(before) = self.before {
            query.push(" and dead_lettered_at < ").push_bind(before.unix_ms());
        }
    }
}

impl ReadModels {
    /// A dead letter of a tenant.
    pub async fn dead_letter(
        &self,
        tenant: &TenantId,
        id: Uuid,
    ) -> Result<Option<DeadLetter>, ReadModelError> {
        let sql = "select id, redriven_at, view from dead_letters where tenant = $1 and id = $2";
        let statement = Statement::of(tenant, sql).bind(tenant.as_str()).bind(id);
        let row = self.inner.db.fetch_optional(statement).await;
        row.map_err(ReadModelError::database("read a dead letter"))?.as_ref().map(dead_letter).transpose()
    }

    /// A dead letter, with what a judgement needs: it is as much theirs as its execution.
    pub async fn dead_letter_seen(
        &self,
        viewer: &Viewer,
        id: Uuid,
    ) -> Result<Option<Seen<DeadLetter>>, ReadModelError> {
        let Some(letter) = self.dead_letter(&viewer.tenant, id).await? else { return Ok(None) };
        let sql = "select owner from executions where tenant = $1 and id = $2";
        let statement = Statement::of(&viewer.tenant, sql);
        let statement = statement.bind(viewer.tenant.as_str()).bind(letter.execution_id);
        let row = self.inner.db.fetch_optional(statement).await;
        let row = row.map_err(ReadModelError::database("read whose a dead letter is"))?;
        let owner = row.map_or(Ok(None), |row| Columns::of(&row, "executions").take::<Option<Uuid>>())?;
        let shared = self.shared_with(viewer, owner, letter.workflow_id).await?;
        Ok(Some(Seen { item: letter, owner, shared }))
    }

    /// The dead letters that a viewer sees and that pass a filter, the newest first, from before `cursor`.
    pub async fn dead_letters(
        &self,
        viewer: &Viewer,
        filter: &DeadLetterFilter,
        cursor: Option<Uuid>,
        limit: usize,
    ) -> Result<Page<DeadLetter>, ReadModelError> {
        let limit = limit.clamp(1, MAX_LIMIT);
        let below = cursor.unwrap_or(Uuid::max());
        let walk = |query: &mut Statement| filter.push_walk(query, viewer, below);
        let floor = if filter.scans() || viewer.is_bounded() {
            self.floor(&viewer.tenant, "dead_letters", &walk, SCAN_ROWS).await?
        } else {
            None
        };
        let mut query = Statement::of(&viewer.tenant, "select id, redriven_at, view");
        walk(&mut query);
        if let Some(floor) = floor {
            query.push(" and id >= ").push_bind(floor);
        }
        filter.push_conditions(&mut query, viewer);
        query.push(" order by id desc limit ").push_bind(signed(limit as u64 + 1));
        let rows = self.inner.db.fetch_all(query).await;
        let rows = rows.map_err(ReadModelError::database("list dead letters"))?;
        let letters = rows.iter().map(dead_letter).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(letters, limit, |letter| letter.id).or_from(floor))
    }
}

impl WriteTx {
    /// Adds a dead letter, which nobody has tried again yet.
    pub async fn put_dead_letter(
        &mut self,
        tenant: &TenantId,
        letter: &DeadLetter,
    ) -> Result<(), ReadModelError> {
        let encode = |source| ReadModelError::Encode { id: letter.execution_id, source };
        let view = serde_json::to_string(letter).map_err(encode)?;
        // The kind's own name, without its quotes.
        let kind = serde_json::to_value(letter.error.kind).map_err(encode)?;
        let table = self.side.table("dead_letters");
        let statement = Statement::new(format!(
            "insert into {table} (tenant, id, redriven, execution_id, workflow_id, node_id, error_kind, \
             dead_lettered_at, redriven_at, view) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
             on conflict (tenant, id) do nothing"
        ))
        .bind(tenant.as_str())
        .bind(letter.id)
        .bind(false)
        .bind(letter.execution_id)
        .bind(letter.workflow_id)
        .bind(letter.node_id.clone())
        .bind(kind.as_str().unwrap_or_default())
        .bind(letter.dead_lettered_at.unix_ms())
        .bind(None::<i64>)
        .bind(view);
        self.tx.execute(statement).await.map_err(ReadModelError::database("write a dead letter"))
    }

    /// Marks those dead letters of an execution's nodes that nobody had tried again.
    pub async fn redrive_dead_letters(
        &mut self,
        tenant: &TenantId,
        execution: Uuid,
        nodes: &[String],
        at: Timestamp,
    ) -> Result<(), ReadModelError> {
        let table = self.side.table("dead_letters");
        let open = Statement::new(format!(
            "select id, node_id from {table} where tenant = $1 and execution_id = $2 and redriven = $3"
        ));
        let open = open.bind(tenant.as_str()).bind(execution).bind(false);
        let rows = self.tx.fetch_all(open).await;
        for row in rows.map_err(ReadModelError::database("read the dead letters of an execution"))? {
            let mut columns = Columns::of(&row, "dead_letters");
            let (id, node): (Uuid, String) = (columns.take()?, columns.take()?);
            if !nodes.contains(&node) {
                continue;
            }
            let statement = Statement::new(format!(
                "update {table} set redriven = $1, redriven_at = $2 where tenant = $3 and id = $4"
            ));
            let statement = statement.bind(true).bind(at.unix_ms()).bind(tenant.as_str()).bind(id);
            self.tx.execute(statement).await.map_err(ReadModelError::database("mark a dead letter"))?;
        }
        Ok(())
    }
}

fn dead_letter(row: &Row) -> Result<DeadLetter, ReadModelError> {
    let mut columns = Columns::of(row, "dead_letters");
    let id: Uuid = columns.take()?;
    let redriven_at: Option<i64> = columns.take()?;
    let json: &str = columns.take()?;
    let letter: DeadLetter =
        serde_json::from_str(json).map_err(ReadModelError::corrupt("dead_letters", id))?;
    Ok(DeadLetter { redriven_at: redriven_at.map(Timestamp::from_unix_ms), ..letter })
}
