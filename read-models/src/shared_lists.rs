//! Lists of executions for those who see what is shared with them.
//!
//! Their own and those of a few workflows are few among a tenant's many: one walk from the newest id down would pass over
//! thousands to find one. So each of these has a walk of its own on the index that serves it, and the newest of all
//! walks are the page. Who sees many workflows, or searches, walks the tenant's list like others, at most
//! [`SCAN_ROWS`](crate::executions::SCAN_ROWS) a page.

use uuid::Uuid;

use domain::access::Reach;
use domain::execution::view::ExecutionView;

use crate::ReadModelError;
use crate::executions::{ExecutionFilter, decode_view};
use crate::sql::{Columns, Statement, signed};
use crate::store::ReadModels;
use crate::viewer::Viewer;

/// Workflows of others up to which each has a walk of its own.
const MAX_WALKS: usize = 32;

impl ReadModels {
    /// The workflows that a viewer sees without owning them; `None` if they are too many to walk one by one.
    pub(crate) async fn walked_workflows(
        &self,
        viewer: &Viewer,
    ) -> Result<Option<Vec<Uuid>>, ReadModelError> {
        let mut query = Statement::of(&viewer.tenant, "select id from (");
        viewer.push_visible_workflows(&mut query);
        query.push(") as visible limit ").push_bind(signed(MAX_WALKS as u64 + 1));
        let rows = self.inner.db.fetch_all(query).await;
        let rows = rows.map_err(ReadModelError::database("list what is shared"))?;
        if rows.len() > MAX_WALKS {
            return Ok(None);
        }
        let ids: Result<Vec<Uuid>, _> = rows.iter().map(|row| Columns::of(row, "workflows").take()).collect();
        let mut ids = ids?;
        ids.sort_unstable();
        ids.dedup();
        Ok(Some(ids))
    }

    /// The newest executions of a viewer's own and of these workflows, at most `count`.
    pub(crate) async fn executions_by_walks(
        &self,
        viewer: &Viewer,
        filter: &ExecutionFilter,
        workflows: &[Uuid],
        below: Uuid,
        count: usize,
    ) -> Result<Vec<ExecutionView>, ReadModelError> {
        let mut query = Statement::of(&viewer.tenant, "select id from (select id from (select id");
        filter.push_walk(&mut query, &Viewer { reach: Reach::Own, ..viewer.clone() }, below);
        query.push(" order by id desc limit ").push_bind(signed(count as u64)).push(") as own");
        for workflow in workflows {
            query.push(" union all select id from (select id");
            filter.push_walk(&mut query, &Viewer { reach: Reach::Any, ..viewer.clone() }, below);
            query.push(" and workflow_id = ").push_bind(*workflow);
            // Their own have come already.
            query.push(" and (owner is null or owner <> ").push_bind(viewer.user);
            query.push(") order by id desc limit ").push_bind(signed(count as u64)).push(") as walked");
        }
        query.push(") as walks order by id desc limit ").push_bind(signed(count as u64));
        let rows = self.inner.db.fetch_all(query).await;
        let rows = rows.map_err(ReadModelError::database("list executions that are shared"))?;
        let ids: Vec<Uuid> =
            rows.iter().map(|row| Columns::of(row, "executions").take()).collect::<Result<_, _>>()?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut query = Statement::of(&viewer.tenant, "select id, view from executions where tenant = ");
        query.push_bind(viewer.tenant.as_str());
        for (index, id) in ids.iter().enumerate() {
            query.push(if index == 0 { " and id in (" } else { ", " }).push_bind(*id);
        }
        query.push(") order by id desc");
        let rows = self.inner.db.fetch_all(query).await;
        let rows = rows.map_err(ReadModelError::database("read executions that are shared"))?;
        let views = rows.iter().map(|row| {
            let mut columns = Columns::of(row, "executions");
            let id = columns.take()?;
            decode_view(id, columns.take()?)
        });
        views.collect()
    }
}
