//! Nodes inside loops and branches: a row each, so that an execution of ten thousand iterations is not written anew with
//! every event.

use uuid::Uuid;

use domain::execution::view::{NodePlace, NodeView};
use domain::ids::TenantId;

use crate::ReadModelError;
use crate::backend::Tx;
use crate::rows::{NodeRow, Page};
use crate::sql::{Columns, Row, Statement, signed};
use crate::store::ReadModels;
use crate::viewer::Viewer;
use crate::workflows::MAX_LIMIT;
use crate::write::WriteTx;

/// In the order in which the backends bind them.
pub(crate) const NODE_COLUMNS: &str = "tenant, execution_id, parent, iteration, node_id, view";

/// Only what can change after a node's first event.
pub(crate) const NODE_UPDATE: &str =
    "on conflict (tenant, execution_id, parent, iteration, node_id) do update set view = excluded.view";

/// A node of a body that a projection looks for.
pub type WantedNode = (Uuid, NodePlace);

impl ReadModels {
    /// The nodes directly inside a container of an execution that a viewer sees, in the order of their iterations or branches and in one by their ids,
    /// after the iteration and id in `cursor`.
    pub async fn nodes_of(
        &self,
        viewer: &Viewer,
        execution: Uuid,
        parent: &str,
        cursor: Option<(u32, String)>,
        limit: usize,
    ) -> Result<Page<NodeView, (u32, String)>, ReadModelError> {
        let limit = limit.clamp(1, MAX_LIMIT);
        let sql = "select execution_id, view from execution_nodes where tenant = ";
        let mut query = Statement::of(&viewer.tenant, sql);
        query.push_bind(viewer.tenant.as_str()).push(" and execution_id = ").push_bind(execution);
        query.push(" and parent = ").push_bind(parent);
        if let Some((iteration, id)) = cursor {
            query.push(" and (iteration, node_id) > (").push_bind(i64::from(iteration));
            query.push(", ").push_bind(id).push(")");
        }
        viewer.push_execution_of(&mut query, "execution_nodes.execution_id");
        query.push(" order by iteration, node_id limit ").push_bind(signed(limit as u64 + 1));
        let rows = self.inner.db.fetch_all(query).await;
        let rows = rows.map_err(ReadModelError::database("list nodes"))?;
        let nodes = rows.iter().map(|row| node_of(row).and_then(|(_, node)| node));
        let mut page = Page::cut(nodes.collect::<Result<Vec<_>, _>>()?, limit, |node| node.id.clone());
        let next = page.next.take().and_then(|path| NodePlace::of(&path));
        Ok(Page { items: page.items, next: next.map(|place| (place.iteration, place.id)) })
    }
}

impl WriteTx {
    /// Those of the wanted nodes that are there, in no order, each with its execution. One that does not decode is its
    /// own error, so that it does not stand in the way of the others.
    pub async fn nodes(
        &mut self,
        tenant: &TenantId,
        wanted: &[WantedNode],
    ) -> Result<Vec<(Uuid, Result<NodeView, ReadModelError>)>, ReadModelError> {
        let table = self.side.table("execution_nodes");
        let rows = match &mut self.tx {
            Tx::Sqlite(tx) => tx.fetch_nodes(&table, tenant, wanted).await,
            Tx::Postgres(tx) => tx.fetch_nodes(&table, tenant, wanted).await,
        };
        let rows = rows.map_err(ReadModelError::database("read nodes"))?;
        rows.iter().map(node_of).collect()
    }

    /// All nodes inside a container, at any depth, in no order.
    pub async fn nodes_inside(
        &mut self,
        tenant: &TenantId,
        execution: Uuid,
        container: &str,
    ) -> Result<Vec<(Uuid, Result<NodeView, ReadModelError>)>, ReadModelError> {
        let table = self.side.table("execution_nodes");
        let select =
            format!("select execution_id, view from {table} where tenant = $1 and execution_id = $2");
        // Texts sort by their bytes, and `0` is the one after `/`.
        let direct = format!("{select} and parent = $3");
        let deeper = format!("{select} and parent >= $3 and parent < $4");
        let of_execution = |sql: String| Statement::new(sql).bind(tenant.as_str()).bind(execution);
        let statements = [
            of_execution(direct).bind(container),
            of_execution(deeper).bind(format!("{container}/")).bind(format!("{container}0")),
        ];
        let mut found = Vec::new();
        for statement in statements {
            let rows = self.tx.fetch_all(statement).await;
            for row in rows.map_err(ReadModelError::database("read the nodes of a container"))? {
                found.push(node_of(&row)?);
            }
        }
        Ok(found)
    }

    /// Inserts or replaces nodes, many rows to a statement. A node may be among them once only.
    pub async fn put_nodes(&mut self, rows: Vec<NodeRow>) -> Result<(), ReadModelError> {
        let table = self.side.table("execution_nodes");
        let written = match &mut self.tx {
            Tx::Sqlite(tx) => tx.put_nodes(&table, rows).await,
            Tx::Postgres(tx) => tx.put_nodes(&table, rows).await,
        };
        written.map_err(ReadModelError::database("write nodes"))
    }
}

fn node_of(row: &Row) -> Result<(Uuid, Result<NodeView, ReadModelError>), ReadModelError> {
    let mut columns = Columns::of(row, "execution_nodes");
    let execution: Uuid = columns.take()?;
    let json: &str = columns.take()?;
    Ok((execution, serde_json::from_str(json).map_err(ReadModelError::corrupt("execution_nodes", execution))))
}
