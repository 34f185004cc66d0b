//! Workflows and their versions: SQL and queries.

use uuid::Uuid;

use domain::ids::TenantId;

use crate::ReadModelError;
use crate::rows::{Page, WorkflowRow, WorkflowVersionRow};
use crate::sharing::{access_name, visibility_name};
use crate::sql::{Columns, Row, Statement, signed};
use crate::store::ReadModels;
use crate::viewer::Viewer;

const COLUMNS: &str = "tenant, id, name, description, latest_version, published_version, enabled, deleted, \
    etag, created_at, updated_at, created_by, definition, owner, visibility, shared_access";
const VERSION_COLUMNS: &str = "tenant, workflow_id, version, hash, created_at, created_by, definition";

/// Items of one page, whatever is asked for.
pub(crate) const MAX_LIMIT: usize = 1_000;

impl ReadModels {
    /// A workflow of a tenant; a deleted one says so in its row.
    pub async fn workflow(&self, tenant: &TenantId, id: Uuid) -> Result<Option<WorkflowRow>, ReadModelError> {
        let row = self.inner.db.fetch_optional(find("workflows", tenant, id)).await;
        let row = row.map_err(ReadModelError::database("read a workflow"))?;
        row.as_ref().map(workflow_row).transpose()
    }

    /// The workflows that a viewer sees and that are not deleted, the newest first, from before `cursor`.
    pub async fn workflows(
        &self,
        viewer: &Viewer,
        cursor: Option<Uuid>,
        limit: usize,
    ) -> Result<Page<WorkflowRow>, ReadModelError> {
        let limit = limit.clamp(1, MAX_LIMIT);
        let sql = format!("select {COLUMNS} from workflows where tenant = ");
        let mut query = Statement::of(&viewer.tenant, sql);
        query.push_bind(viewer.tenant.as_str());
        query.push(" and id < ").push_bind(cursor.unwrap_or(Uuid::max())).push(" and not deleted");
        viewer.push_workflows(&mut query, "workflows");
        query.push(" order by id desc limit ").push_bind(signed(limit as u64 + 1));
        let rows = self.inner.db.fetch_all(query).await;
        let rows = rows.map_err(ReadModelError::database("list workflows"))?;
        let rows = rows.iter().map(workflow_row).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(rows, limit, |row| row.id))
    }

    /// One version of a workflow's definition.
    pub async fn workflow_version(
        &self,
        tenant: &TenantId,
        id: Uuid,
        version: u64,
    ) -> Result<Option<WorkflowVersionRow>, ReadModelError> {
        let sql = format!(
            "select {VERSION_COLUMNS} from workflow_versions \
             where tenant = $1 and workflow_id = $2 and version = $3"
        );
        let statement = Statement::of(tenant, sql).bind(tenant.as_str()).bind(id).bind(signed(version));
        let row = self.inner.db.fetch_optional(statement).await;
        let row = row.map_err(ReadModelError::database("read a workflow version"))?;
        row.as_ref().map(version_row).transpose()
    }

    /// The versions of a workflow that a viewer sees, the newest first, from before `cursor`.
    pub async fn workflow_versions(
        &self,
        viewer: &Viewer,
        id: Uuid,
        cursor: Option<u64>,
        limit: usize,
    ) -> Result<Page<WorkflowVersionRow, u64>, ReadModelError> {
        let limit = limit.clamp(1, MAX_LIMIT);
        let sql = format!("select {VERSION_COLUMNS} from workflow_versions v where v.tenant = ");
        let mut query = Statement::of(&viewer.tenant, sql);
        query.push_bind(viewer.tenant.as_str()).push(" and v.workflow_id = ").push_bind(id);
        query.push(" and v.version < ").push_bind(signed(cursor.unwrap_or(u64::MAX)));
        if viewer.is_bounded() {
            query.push(" and exists (select 1 from workflows f where f.tenant = ");
            query.push_bind(viewer.tenant.as_str()).push(" and f.id = v.workflow_id");
            viewer.push_workflows(&mut query, "f");
            query.push(")");
        }
        query.push(" order by v.version desc limit ").push_bind(signed(limit as u64 + 1));
        let rows = self.inner.db.fetch_all(query).await;
        let rows = rows.map_err(ReadModelError::database("list workflow versions"))?;
        let rows = rows.iter().map(version_row).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(rows, limit, |row| row.version))
    }
}

pub(crate) fn find(table: &str, tenant: &TenantId, id: Uuid) -> Statement {
    Statement::of(tenant, format!("select {COLUMNS} from {table} where tenant = $1 and id = $2"))
        .bind(tenant.as_str())
        .bind(id)
}

pub(crate) fn upsert(table: &str, row: &WorkflowRow) -> Statement {
    Statement::new(format!(
        "insert into {table} ({COLUMNS}) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16) \
         on conflict (tenant, id) do update set name = excluded.name, description = excluded.description, \
         latest_version = excluded.latest_version, published_version = excluded.published_version, \
         enabled = excluded.enabled, deleted = excluded.deleted, etag = excluded.etag, \
         updated_at = excluded.updated_at, definition = excluded.definition, owner = excluded.owner, \
         visibility = excluded.visibility, shared_access = excluded.shared_access"
    ))
    .bind(row.tenant.as_str())
    .bind(row.id)
    .bind(row.name.clone())
    .bind(row.description.clone())
    .bind(signed(row.latest_version))
    .bind(row.published_version.map(signed))
    .bind(row.enabled)
    .bind(row.deleted)
    .bind(signed(row.etag))
    .bind(row.created_at.unix_ms())
    .bind(row.updated_at.unix_ms())
    .bind(row.created_by.clone())
    .bind(row.definition.clone())
    .bind(row.owner)
    .bind(visibility_name(row.visibility))
    .bind(access_name(row.shared_access))
}

pub(crate) fn workflow_row(row: &Row) -> Result<WorkflowRow, ReadModelError> {
    let mut columns = Columns::of(row, "workflows");
    Ok(WorkflowRow {
        tenant: columns.tenant()?,
        id: columns.take()?,
        name: columns.take()?,
        description: columns.take()?,
        latest_version: columns.count()?,
        published_version: columns.take::<Option<i64>>()?.map(|number| number.max(0) as u64),
        enabled: columns.take()?,
        deleted: columns.take()?,
        etag: columns.count()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
        created_by: columns.take()?,
        definition: columns.take()?,
        owner: columns.take()?,
        visibility: columns.named()?,
        shared_access: columns.named()?,
    })
}

pub(crate) fn upsert_version(table: &str, row: &WorkflowVersionRow) -> Statement {
    Statement::new(format!(
        "insert into {table} ({VERSION_COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7) \
         on conflict (tenant, workflow_id, version) do update set hash = excluded.hash, \
         created_at = excluded.created_at, created_by = excluded.created_by, definition = excluded.definition"
    ))
    .bind(row.tenant.as_str())
    .bind(row.workflow_id)
    .bind(signed(row.version))
    .bind(row.hash.clone())
    .bind(row.created_at.unix_ms())
    .bind(row.created_by.clone())
    .bind(row.definition.clone())
}

fn version_row(row: &Row) -> Result<WorkflowVersionRow, ReadModelError> {
    let mut columns = Columns::of(row, "workflow_versions");
    Ok(WorkflowVersionRow {
        tenant: columns.tenant()?,
        workflow_id: columns.take()?,
        version: columns.count()?,
        hash: columns.take()?,
        created_at: columns.time()?,
        created_by: columns.take()?,
        definition: columns.take()?,
    })
}
