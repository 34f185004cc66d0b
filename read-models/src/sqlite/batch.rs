//! Statements of many rows: lists of `?` in few sizes.

use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{AssertSqlSafe, Sqlite};
use uuid::Uuid;

use domain::execution::view::NodePlace;
use domain::ids::TenantId;

use super::{SqliteTx, rows};
use crate::nodes::{NODE_COLUMNS, NODE_UPDATE, WantedNode};
use crate::positions::Advance;
use crate::rows::{ExecutionRow, NodeRow};
use crate::sql::{Row, signed};
use crate::write::{EXECUTION_COLUMNS, EXECUTION_UPDATE};

/// Rows of one statement. A batch is cut into these sizes, largest first, so that a handful of prepared
/// statements serves batches of every size; 256 rows of 17 columns are far below SQLite's 32,766 parameters.
const CHUNKS: [usize; 5] = [256, 64, 16, 4, 1];

type SqliteQuery<'q> = Query<'q, Sqlite, SqliteArguments>;

impl SqliteTx {
    /// The rows of `select` (which ends before its list) whose first value is `key` and whose last is in `ids`.
    pub(crate) async fn fetch_listed(
        &mut self,
        select: &str,
        key: &str,
        ids: &[Uuid],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let mut found = Vec::with_capacity(ids.len());
        for chunk in chunks(ids) {
            let sql = format!("{} in ({})", select.replace("$1", "?"), marks(chunk.len()));
            let query = sqlx::query(AssertSqlSafe(sql)).bind(key);
            let query = chunk.iter().fold(query, |query, id| query.bind(*id));
            found.extend(rows(query.fetch_all(&mut *self.tx).await?));
        }
        Ok(found)
    }

    pub(crate) async fn put_executions(
        &mut self,
        table: &str,
        rows: Vec<ExecutionRow>,
    ) -> Result<(), sqlx::Error> {
        let sizes: Vec<usize> = chunks(&rows).map(<[_]>::len).collect();
        let mut rows = rows.into_iter();
        for size in sizes {
            // Plain `?`: SQLite looks numbered parameters up by name, in a list, for each of thousands.
            let values = vec![format!("({})", marks(16)); size].join(", ");
            let sql = format!("insert into {table} ({EXECUTION_COLUMNS}) values {values} {EXECUTION_UPDATE}");
            let query = rows.by_ref().take(size).fold(sqlx::query(AssertSqlSafe(sql)), bind_execution);
            query.execute(&mut *self.tx).await?;
        }
        Ok(())
    }

    /// The nodes of bodies that are wanted and there: their execution and view.
    pub(crate) async fn fetch_nodes(
        &mut self,
        table: &str,
        tenant: &TenantId,
        wanted: &[WantedNode],
    ) -> Result<Vec<Row>, sqlx::Error> {
        let mut found = Vec::with_capacity(wanted.len());
        for chunk in chunks(wanted) {
            let values = vec!["(?, ?, ?, ?)"; chunk.len()].join(", ");
            let sql = format!(
                "select execution_id, view from {table} where tenant = ? \
                 and (execution_id, parent, iteration, node_id) in (values {values})"
            );
            let query = sqlx::query(AssertSqlSafe(sql)).bind(tenant.as_str());
            let query = chunk.iter().fold(query, |query, (execution, place)| {
                let NodePlace { parent, iteration, id } = place;
                query.bind(*execution).bind(parent).bind(i64::from(*iteration)).bind(id)
            });
            found.extend(rows(query.fetch_all(&mut *self.tx).await?));
        }
        Ok(found)
    }

    pub(crate) async fn put_nodes(&mut self, table: &str, rows: Vec<NodeRow>) -> Result<(), sqlx::Error> {
        let sizes: Vec<usize> = chunks(&rows).map(<[_]>::len).collect();
        let mut rows = rows.into_iter();
        for size in sizes {
            let values = vec![format!("({})", marks(6)); size].join(", ");
            let sql = format!("insert into {table} ({NODE_COLUMNS}) values {values} {NODE_UPDATE}");
            let query = rows.by_ref().take(size).fold(sqlx::query(AssertSqlSafe(sql)), |query, row| {
                query
                    .bind(String::from(row.tenant))
                    .bind(row.execution_id)
                    .bind(row.place.parent)
                    .bind(i64::from(row.place.iteration))
                    .bind(row.place.id)
                    .bind(row.view)
            });
            query.execute(&mut *self.tx).await?;
        }
        Ok(())
    }

    pub(crate) async fn put_checkpoints(
        &mut self,
        projection: &str,
        advances: &[Advance],
    ) -> Result<(), sqlx::Error> {
        let mut update = sqlx::QueryBuilder::<Sqlite>::new(
            "insert into checkpoints (projection, partition, last_offset) ",
        );
        update.push_values(advances, |mut row, advance| {
            row.push_bind(projection).push_bind(i64::from(advance.partition.0)).push_bind(signed(advance.to));
        });
        update.push(" on conflict (projection, partition) do update set last_offset = excluded.last_offset");
        update.build().execute(&mut *self.tx).await.map(|_| ())
    }
}

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
        .bind(row.parent_id)
        .bind(row.origin_id)
        .bind(row.owner)
}

/// `?, ?, …`
pub(super) fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}

/// Cuts `items` into pieces of the sizes in [`CHUNKS`].
pub(super) fn chunks<T>(mut items: &[T]) -> impl Iterator<Item = &[T]> {
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
