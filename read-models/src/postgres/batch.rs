//! Statements of many rows: one array per column, so that one prepared statement serves batches of every size.

use sqlx::{AssertSqlSafe, Row as _};
use uuid::Uuid;

use domain::ids::TenantId;

use super::{PgTx, answer, rows, without_nul};
use crate::nodes::{NODE_COLUMNS, NODE_UPDATE, WantedNode};
use crate::positions::Advance;
use crate::rows::{ExecutionRow, NodeRow};
use crate::sql::{Row, signed};
use crate::write::{EXECUTION_COLUMNS, EXECUTION_UPDATE};

/// Rows of one statement.
const MAX_ROWS: usize = 1_000;
/// Bytes of views after which a statement is full. One message of the protocol may have 1 GiB.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Rows by column.
#[derive(Default)]
struct ExecutionColumns {
    tenant: Vec<String>,
    id: Vec<Uuid>,
    partition: Vec<i64>,
    workflow_id: Vec<Uuid>,
    workflow_name: Vec<String>,
    status: Vec<&'static str>,
    started_at: Vec<i64>,
    finished_at: Vec<Option<i64>>,
    priority: Vec<i64>,
    version: Vec<i64>,
    error: Vec<Option<String>>,
    attributes: Vec<String>,
    view: Vec<String>,
    parent_id: Vec<Option<Uuid>>,
    origin_id: Vec<Option<Uuid>>,
    owner: Vec<Option<Uuid>>,
    bytes: usize,
}

impl ExecutionColumns {
    fn push(&mut self, row: ExecutionRow) {
        self.bytes += row.view.len();
        self.tenant.push(row.tenant.into());
        self.id.push(row.id);
        self.partition.push(i64::from(row.partition.0));
        self.workflow_id.push(row.workflow_id);
        self.workflow_name.push(without_nul(row.workflow_name));
        self.status.push(row.status);
        self.started_at.push(row.started_at);
        self.finished_at.push(row.finished_at);
        self.priority.push(i64::from(row.priority));
        self.version.push(signed(row.version));
        self.error.push(row.error.map(without_nul));
        self.attributes.push(without_escaped_nul(row.attributes));
        self.view.push(row.view);
        self.parent_id.push(row.parent_id);
        self.origin_id.push(row.origin_id);
        self.owner.push(row.owner);
    }

    fn is_full(&self) -> bool {
        self.id.len() >= MAX_ROWS || self.bytes >= MAX_BYTES
    }
}

/// Nodes by column.
#[derive(Default)]
struct NodeColumns {
    tenant: Vec<String>,
    execution_id: Vec<Uuid>,
    parent: Vec<String>,
    iteration: Vec<i64>,
    id: Vec<String>,
    view: Vec<String>,
    bytes: usize,
}

impl NodeColumns {
    fn push(&mut self, row: NodeRow) {
        self.bytes += row.view.len();
        self.tenant.push(row.tenant.into());
        self.execution_id.push(row.execution_id);
        self.parent.push(row.place.parent);
        self.iteration.push(i64::from(row.place.iteration));
        self.id.push(row.place.id);
        self.view.push(row.view);
    }

    fn is_full(&self) -> bool {
        self.id.len() >= MAX_ROWS || self.bytes >= MAX_BYTES
    }
}

impl PgTx {
    /// The rows of `select` (which ends before its list) whose first value is `key` and whose last is in `ids`.
    pub(crate) async fn fetch_listed(
        &mut self,
        select: &str,
        key: &str,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let query = sqlx::query(AssertSqlSafe(format!("{select} = any($2)"))).bind(key).bind(ids);
        let query = query.persistent(!self.pooled);
        answer(async { Ok(rows(query.fetch_all(&mut *self.tx).await?)) }).await
    }

    pub(crate) async fn put_executions(
        &mut self,
        table: &str,
        rows: Vec<ExecutionRow>,
    ) -> Result<(), sqlx::Error> {
        let mut columns = ExecutionColumns::default();
        for row in rows {
            columns.push(row);
            if columns.is_full() {
                self.put_columns(table, std::mem::take(&mut columns)).await?;
            }
        }
        if columns.id.is_empty() { Ok(()) } else { self.put_columns(table, columns).await }
    }

    async fn put_columns(&mut self, table: &str, columns: ExecutionColumns) -> Result<(), sqlx::Error> {
        let sql = format!(
            "insert into {table} ({EXECUTION_COLUMNS}) select * from unnest($1::text[], $2::uuid[], \
             $3::bigint[], $4::uuid[], $5::text[], $6::text[], $7::bigint[], $8::bigint[], $9::bigint[], \
             $10::bigint[], $11::text[], $12::text[], $13::text[], $14::uuid[], $15::uuid[], \
             $16::uuid[]) {EXECUTION_UPDATE}"
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(columns.tenant)
            .bind(columns.id)
            .bind(columns.partition)
            .bind(columns.workflow_id)
            .bind(columns.workflow_name)
            .bind(columns.status)
            .bind(columns.started_at)
            .bind(columns.finished_at)
            .bind(columns.priority)
            .bind(columns.version)
            .bind(columns.error)
            .bind(columns.attributes)
            .bind(columns.view)
            .bind(columns.parent_id)
            .bind(columns.origin_id)
            .bind(columns.owner);
        self.run(query).await
    }

    /// The nodes of bodies that are wanted and there: their execution and view.
    pub(crate) async fn fetch_nodes(
        &mut self,
        table: &str,
        tenant: &TenantId,
        wanted: &[WantedNode],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let executions: Vec<Uuid> = wanted.iter().map(|(execution, _)| *execution).collect();
        let parents: Vec<String> = wanted.iter().map(|(_, place)| place.parent.clone()).collect();
        let iterations: Vec<i64> = wanted.iter().map(|(_, place)| i64::from(place.iteration)).collect();
        let ids: Vec<String> = wanted.iter().map(|(_, place)| place.id.clone()).collect();
        // Not a join: a planner that misjudges the table would read it whole.
        let sql = format!(
            "select n.execution_id, n.view from unnest($2::uuid[], $3::text[], $4::bigint[], $5::text[]) \
             as w (execution_id, parent, iteration, node_id) cross join lateral \
             (select execution_id, view from {table} t where t.tenant = $1 and t.execution_id = w.execution_id \
             and t.parent = w.parent and t.iteration = w.iteration and t.node_id = w.node_id offset 0) n"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str());
        let query = query.bind(executions).bind(parents).bind(iterations).bind(ids);
        let query = query.persistent(!self.pooled);
        answer(async { Ok(rows(query.fetch_all(&mut *self.tx).await?)) }).await
    }

    pub(crate) async fn put_nodes(&mut self, table: &str, rows: Vec<NodeRow>) -> Result<(), sqlx::Error> {
        let mut columns = NodeColumns::default();
        for row in rows {
            columns.push(row);
            if columns.is_full() {
                self.put_node_columns(table, std::mem::take(&mut columns)).await?;
            }
        }
        if columns.id.is_empty() { Ok(()) } else { self.put_node_columns(table, columns).await }
    }

    async fn put_node_columns(&mut self, table: &str, columns: NodeColumns) -> Result<(), sqlx::Error> {
        let sql = format!(
            "insert into {table} ({NODE_COLUMNS}) select * from unnest($1::text[], $2::uuid[], $3::text[], \
             $4::bigint[], $5::text[], $6::text[]) {NODE_UPDATE}"
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(columns.tenant)
            .bind(columns.execution_id)
            .bind(columns.parent)
            .bind(columns.iteration)
            .bind(columns.id)
            .bind(columns.view);
        self.run(query).await
    }

    pub(crate) async fn put_checkpoints(
        &mut self,
        projection: &str,
        advances: &[Advance],
    ) -> Result<(), sqlx::Error> {
        let partitions: Vec<i64> = advances.iter().map(|advance| i64::from(advance.partition.0)).collect();
        let offsets: Vec<i64> = advances.iter().map(|advance| signed(advance.to)).collect();
        let query = sqlx::query(
            "insert into checkpoints (projection, partition, last_offset) \
             select $1, * from unnest($2::bigint[], $3::bigint[]) \
             on conflict (projection, partition) do update set last_offset = excluded.last_offset",
        );
        self.run(query.bind(projection).bind(partitions).bind(offsets)).await
    }

    /// The names of a table's columns and their types.
    pub(super) async fn columns_of(&mut self, table: &str) -> Result<Vec<(String, String)>, sqlx::Error> {
        let query = sqlx::query(
            "select attname::text, atttypid::regtype::text from pg_attribute \
             where attrelid = to_regclass($1) and attnum > 0 and not attisdropped order by attnum",
        );
        let found = query.bind(table).persistent(!self.pooled).fetch_all(&mut *self.tx);
        answer(found).await?.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }
}

/// JSON may hold an escaped NUL, but Postgres gives no member of such an object as text.
fn without_escaped_nul(json: String) -> String {
    if !json.contains(r"\u0000") {
        return json;
    }
    match serde_json::from_str::<serde_json::Value>(&json) {
        Ok(value) => replace_nul(value).to_string(),
        Err(_) => json,
    }
}

fn replace_nul(value: serde_json::Value) -> serde_json::Value {
    use serde_json::Value;
    match value {
        Value::String(text) => Value::String(without_nul(text)),
        Value::Array(items) => Value::Array(items.into_iter().map(replace_nul).collect()),
        Value::Object(members) => {
            let members = members.into_iter();
            Value::Object(members.map(|(key, value)| (without_nul(key), replace_nul(value))).collect())
        }
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_escaped_nul_is_replaced_and_not_a_backslash_before_the_same_letters() {
        let replaced = without_escaped_nul(r#"{"a\u0000":["x\u0000y"],"n":1}"#.to_owned());
        assert_eq!(replaced, "{\"a\u{fffd}\":[\"x\u{fffd}y\"],\"n\":1}");
        let kept = r#"{"a":"\\u0000"}"#;
        assert_eq!(without_escaped_nul(kept.to_owned()), kept);
    }
}
