//! Queries of executions.
//!
//! A list walks one index from the newest id down. Filters other than the workflow, the parent, the origin and the owner
//! look at no more than [`SCAN_ROWS`] rows per page: a page of a rare status may be short and still have a successor, so
//! that no request can read a tenant's whole history.

use uuid::Uuid;

use domain::access::Reach;
use domain::execution::ExecutionStatus;
use domain::execution::view::ExecutionView;
use domain::ids::TenantId;
use domain::time::Timestamp;

use crate::ReadModelError;
use crate::backend::Dialect;
use crate::rows::Page;
use crate::search::AttributeFilter;
use crate::sql::{Columns, Statement, signed};
use crate::store::ReadModels;
use crate::viewer::{Seen, Viewer};
use crate::workflows::MAX_LIMIT;

/// Rows that a filter looks at for one page.
pub const SCAN_ROWS: u64 = 50_000;
/// Attribute filters of one query.
pub const MAX_ATTRIBUTES: usize = 16;
/// Bytes of the text searched for.
pub const MAX_SEARCH_BYTES: usize = 200;

/// Which executions a list shows. Everything given must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExecutionFilter {
    /// Of this workflow.
    pub workflow_id: Option<Uuid>,
    /// Children of this execution.
    pub parent: Option<Uuid>,
    /// Forks of this execution.
    pub origin: Option<Uuid>,
    /// Of this user.
    pub owner: Option<Uuid>,
    /// In one of these statuses; none: in any.
    pub statuses: Vec<ExecutionStatus>,
    /// Started later than this.
    pub started_after: Option<Timestamp>,
    /// Started earlier than this.
    pub started_before: Option<Timestamp>,
    /// Whose workflow's name or error's message contains this, in any ASCII case.
    pub q: Option<String>,
    /// Whose attributes compare like this.
    pub attributes: Vec<AttributeFilter>,
}

impl ExecutionFilter {
    fn check(&self) -> Result<(), ReadModelError> {
        if self.attributes.len() > MAX_ATTRIBUTES {
            let count = self.attributes.len();
            return Err(ReadModelError::Filter(format!(
                "it has {count} attributes; use at most {MAX_ATTRIBUTES}"
            )));
        }
        match self.q.as_ref().map(String::len) {
            Some(length) if length > MAX_SEARCH_BYTES => Err(ReadModelError::Filter(format!(
                "the text searched for has {length} bytes; use at most {MAX_SEARCH_BYTES}"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether it may pass over many rows to find one.
    fn scans(&self) -> bool {
        !self.statuses.is_empty()
            || self.started_after.is_some()
            || self.started_before.is_some()
            || self.q.is_some()
            || !self.attributes.is_empty()
    }

    /// The conditions that an index serves.
    pub(crate) fn push_walk(&self, query: &mut Statement, viewer: &Viewer, below: Uuid) {
        query.push(" from executions where tenant = ").push_bind(viewer.tenant.as_str());
        query.push(" and id < ").push_bind(below);
        if viewer.reach == Reach::Own {
            viewer.push_executions(query, "executions");
        }
        if let Some(owner) = self.owner {
            query.push(" and owner = ").push_bind(owner);
        }
        if let Some(workflow) = self.workflow_id {
            query.push(" and workflow_id = ").push_bind(workflow);
        }
        if let Some(parent) = self.parent {
            query.push(" and parent_id = ").push_bind(parent);
        }
        if let Some(origin) = self.origin {
            query.push(" and origin_id = ").push_bind(origin);
        }
    }

    /// The conditions that look at rows.
    fn push_conditions(&self, query: &mut Statement, viewer: &Viewer, dialect: Dialect) {
        if viewer.reach == Reach::Shared {
            viewer.push_executions(query, "executions");
        }
        for (index, status) in self.statuses.iter().enumerate() {
            query.push(if index == 0 { " and status in (" } else { ", " }).push_bind(status.as_str());
        }
        if !self.statuses.is_empty() {
            query.push(")");
        }
        if let Some(after) = self.started_after {
            query.push(" and started_at > ").push_bind(after.unix_ms());
        }
        if let Some(before) = self.started_before {
            query.push(" and started_at < ").push_bind(before.unix_ms());
        }
        if let Some(text) = &self.q {
            let pattern = like_pattern(text);
            let (name, error) = (dialect.lower("workflow_name"), dialect.lower("error"));
            query.push(&format!(" and ({name} like ")).push_bind(pattern.clone());
            query.push(&format!(r" escape '\' or {error} like ")).push_bind(pattern).push(r" escape '\')");
        }
        for attribute in &self.attributes {
            attribute.push(query, dialect);
        }
    }
}

impl ReadModels {
    /// An execution of a tenant.
    pub async fn execution(
        &self,
        tenant: &TenantId,
        id: Uuid,
    ) -> Result<Option<ExecutionView>, ReadModelError> {
        let sql = "select view from executions where tenant = $1 and id = $2";
        let statement = Statement::of(tenant, sql).bind(tenant.as_str()).bind(id);
        let row = self.inner.db.fetch_optional(statement).await;
        let row = row.map_err(ReadModelError::database("read an execution"))?;
        row.map(|row| decode_view(id, Columns::of(&row, "executions").take()?)).transpose()
    }

    /// An execution, with what a judgement needs.
    pub async fn execution_seen(
        &self,
        viewer: &Viewer,
        id: Uuid,
    ) -> Result<Option<Seen<ExecutionView>>, ReadModelError> {
        let sql = "select owner, view from executions where tenant = $1 and id = $2";
        let statement = Statement::of(&viewer.tenant, sql).bind(viewer.tenant.as_str()).bind(id);
        let row = self.inner.db.fetch_optional(statement).await;
        let Some(row) = row.map_err(ReadModelError::database("read an execution"))? else { return Ok(None) };
        let mut columns = Columns::of(&row, "executions");
        let owner: Option<Uuid> = columns.take()?;
        let view = decode_view(id, columns.take()?)?;
        let shared = self.shared_with(viewer, owner, view.workflow_id).await?;
        Ok(Some(Seen { item: view, owner, shared }))
    }

    /// The executions that a viewer sees and that pass a filter, the newest first, from before `cursor`.
    pub async fn executions(
        &self,
        viewer: &Viewer,
        filter: &ExecutionFilter,
        cursor: Option<Uuid>,
        limit: usize,
    ) -> Result<Page<ExecutionView>, ReadModelError> {
        self.executions_within(SCAN_ROWS, viewer, filter, cursor, limit).await
    }

    async fn executions_within(
        &self,
        scan: u64,
        viewer: &Viewer,
        filter: &ExecutionFilter,
        cursor: Option<Uuid>,
        limit: usize,
    ) -> Result<Page<ExecutionView>, ReadModelError> {
        filter.check()?;
        let limit = limit.clamp(1, MAX_LIMIT);
        let below = cursor.unwrap_or(Uuid::max());
        let shared = viewer.reach == Reach::Shared;
        if shared
            && !filter.scans()
            && let Some(workflows) = self.walked_workflows(viewer).await?
        {
            let views = self.executions_by_walks(viewer, filter, &workflows, below, limit + 1).await?;
            return Ok(Page::cut(views, limit, |view| view.id));
        }
        let walk = |query: &mut Statement| filter.push_walk(query, viewer, below);
        let scans = filter.scans() || shared;
        let floor = if scans { self.floor(&viewer.tenant, "executions", &walk, scan).await? } else { None };

        let mut query = Statement::of(&viewer.tenant, "select id, view");
        walk(&mut query);
        if let Some(floor) = floor {
            query.push(" and id >= ").push_bind(floor);
        }
        filter.push_conditions(&mut query, viewer, self.inner.db.dialect());
        query.push(" order by id desc limit ").push_bind(signed(limit as u64 + 1));
        let rows = self.inner.db.fetch_all(query).await;
        let rows = rows.map_err(ReadModelError::database("list executions"))?;
        let views = rows.iter().map(|row| {
            let mut columns = Columns::of(row, "executions");
            let id = columns.take()?;
            decode_view(id, columns.take()?)
        });
        Ok(Page::cut(views.collect::<Result<Vec<_>, _>>()?, limit, |view| view.id).or_from(floor))
    }

    /// The oldest id that one page's scan of a table may look at; `None` if it may look at all that are left. `walk`
    /// pushes what comes after the select list, without the order.
    pub(crate) async fn floor(
        &self,
        tenant: &TenantId,
        table: &'static str,
        walk: &impl Fn(&mut Statement),
        scan: u64,
    ) -> Result<Option<Uuid>, ReadModelError> {
        let mut query = Statement::of(tenant, "select id");
        walk(&mut query);
        query.push(" order by id desc limit 1 offset ").push_bind(signed(scan.saturating_sub(1)));
        let row = self.inner.db.fetch_optional(query).await;
        let row = row.map_err(ReadModelError::database("bound a list"))?;
        row.map(|row| Columns::of(&row, table).take()).transpose()
    }
}

pub(crate) fn decode_view(id: Uuid, json: &str) -> Result<ExecutionView, ReadModelError> {
    serde_json::from_str(json).map_err(ReadModelError::corrupt("executions", id))
}

/// A pattern for `like … escape '\'` that finds `text` itself anywhere.
pub(crate) fn like_pattern(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len() + 2);
    pattern.push('%');
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter.to_ascii_lowercase());
    }
    pattern.push('%');
    pattern
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_text_has_no_wildcards_of_its_own() {
        assert_eq!(like_pattern(r"50%_A\b"), r"%50\%\_a\\b%");
    }

    #[tokio::test]
    async fn a_filter_looks_at_a_bounded_number_of_rows_and_goes_on_with_the_cursor() {
        let models = ReadModels::open_temporary().await.expect("a database");
        let tenant = TenantId::default_tenant();
        let rows = (0..10).map(|number| {
            let status = if number == 0 { "failed" } else { "completed" };
            let view = serde_json::json!({
                "id": uuid(number), "workflow_id": uuid(99), "workflow_name": "w", "workflow_version": 1,
                "status": status, "input": null, "output": null, "error": null, "cancel_reason": null,
                "started_at": "2026-11-21T00:00:00Z", "finished_at": null, "duration_ms": null, "priority": 5,
                "attributes": {}, "version": 1, "started_by": "user:1", "ends": [], "nodes": [],
            });
            let view: ExecutionView = serde_json::from_value(view).expect("a view");
            crate::ExecutionRow::new(&tenant, domain::ids::Partition(0), &view).expect("a row")
        });
        let mut tx = models.begin().await.expect("a transaction");
        tx.put_executions(rows.collect()).await.expect("rows");
        tx.commit().await.expect("a commit");

        let filter =
            ExecutionFilter { statuses: vec![ExecutionStatus::Failed], ..ExecutionFilter::default() };
        let viewer = Viewer::any(&tenant);
        let mut cursor = None;
        let mut pages = Vec::new();
        loop {
            let page = models.executions_within(4, &viewer, &filter, cursor, 50).await.expect("a page");
            pages.push(page.items.len());
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(pages, [0, 0, 1], "ids 9 to 6, 5 to 2, and the rest");
    }

    fn uuid(number: u64) -> Uuid {
        domain::ids::new_id(Timestamp::from_unix_ms(1_000), domain::ids::Slot::from_bits(1), number)
    }
}
