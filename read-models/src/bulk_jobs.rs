//! Jobs over many executions: rows, SQL and queries.

use serde_json::Value;
use uuid::Uuid;

use domain::access::Authority;
use domain::bulk::event::{BulkAction, BulkFailure};
use domain::bulk::state::BulkStatus;
use domain::ids::TenantId;
use domain::time::Timestamp;

use crate::ReadModelError;
use crate::executions::SCAN_ROWS;
use crate::rows::Page;
use crate::sql::{Columns, Row, Statement, signed};
use crate::store::ReadModels;
use crate::viewer::Viewer;
use crate::workflows::MAX_LIMIT;
use crate::write::WriteTx;

const COLUMNS: &str = "tenant, id, status, owner, action, filter, reason, per_second, found, upper, acting, \
    lease_runner, lease_until, cursor, done, failed, failures, version, created_at, updated_at, finished_at, created_by";

/// A job.
#[derive(Debug, Clone, PartialEq)]
pub struct BulkJobRow {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its id.
    pub id: Uuid,
    /// How far it is.
    pub status: BulkStatus,
    /// What is done to each.
    pub action: BulkAction,
    /// The query parameters of `GET /executions`.
    pub filter: Value,
    /// Why.
    pub reason: String,
    /// Acts per second at most.
    pub per_second: u32,
    /// How many the filter found when it was asked.
    pub found: u64,
    /// Newest execution that counts.
    pub upper: Uuid,
    /// With which right it acts. Its user is the job's owner.
    pub acting: Authority,
    /// Who has it, until when.
    pub lease: Option<(Uuid, Timestamp)>,
    /// The last execution that is done.
    pub cursor: Option<Uuid>,
    /// How many have taken it.
    pub done: u64,
    /// How many have refused it.
    pub failed: u64,
    /// The last of those, at most 200.
    pub failures: Vec<BulkFailure>,
    /// The version of the stream.
    pub version: u64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its last event was recorded.
    pub updated_at: Timestamp,
    /// When it was completed or cancelled.
    pub finished_at: Option<Timestamp>,
    /// Who asked for it.
    pub created_by: String,
}

/// Which jobs a list shows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BulkJobFilter {
    /// In this status.
    pub status: Option<BulkStatus>,
}

impl ReadModels {
    /// A job of a tenant.
    pub async fn bulk_job(&self, tenant: &TenantId, id: Uuid) -> Result<Option<BulkJobRow>, ReadModelError> {
        let sql = format!("select {COLUMNS} from bulk_jobs where tenant = $1 and id = $2");
        let statement = Statement::of(tenant, sql).bind(tenant.as_str()).bind(id);
        let row = self.inner.db.fetch_optional(statement).await;
        row.map_err(ReadModelError::database("read a bulk job"))?.as_ref().map(job_row).transpose()
    }

    /// The jobs that a viewer sees, the newest first, from before `cursor`.
    pub async fn bulk_jobs(
        &self,
        viewer: &Viewer,
        filter: &BulkJobFilter,
        cursor: Option<Uuid>,
        limit: usize,
    ) -> Result<Page<BulkJobRow>, ReadModelError> {
        let limit = limit.clamp(1, MAX_LIMIT);
        let below = cursor.unwrap_or(Uuid::max());
        let walk = |query: &mut Statement| {
            query.push(" from bulk_jobs where tenant = ").push_bind(viewer.tenant.as_str());
            query.push(" and id < ").push_bind(below);
        };
        let scans = filter.status.is_some() || viewer.is_bounded();
        let floor =
            if scans { self.floor(&viewer.tenant, "bulk_jobs", &walk, SCAN_ROWS).await? } else { None };
        let mut query = Statement::of(&viewer.tenant, format!("select {COLUMNS}"));
        walk(&mut query);
        viewer.push_owned(&mut query, "owner");
        if let Some(floor) = floor {
            query.push(" and id >= ").push_bind(floor);
        }
        if let Some(status) = filter.status {
            query.push(" and status = ").push_bind(status_name(status));
        }
        query.push(" order by id desc limit ").push_bind(signed(limit as u64 + 1));
        let rows = self.inner.db.fetch_all(query).await;
        let rows = rows.map_err(ReadModelError::database("list bulk jobs"))?;
        let rows = rows.iter().map(job_row).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(rows, limit, |row| row.id).or_from(floor))
    }

    /// Jobs of all tenants that are under way, the oldest first. For runners.
    pub async fn unfinished_bulk_jobs(&self, limit: usize) -> Result<Vec<BulkJobRow>, ReadModelError> {
        let sql = format!("select {COLUMNS} from bulk_jobs where status = 'running' order by id limit $1");
        let statement = Statement::of_all(sql).bind(signed(limit.clamp(1, MAX_LIMIT) as u64));
        let rows = self.inner.db.fetch_all(statement).await;
        rows.map_err(ReadModelError::database("list unfinished bulk jobs"))?.iter().map(job_row).collect()
    }
}

impl WriteTx {
    /// A job.
    pub async fn bulk_job(
        &mut self,
        tenant: &TenantId,
        id: Uuid,
    ) -> Result<Option<BulkJobRow>, ReadModelError> {
        let table = self.side.table("bulk_jobs");
        let sql = format!("select {COLUMNS} from {table} where tenant = $1 and id = $2");
        let row = self.tx.fetch_optional(Statement::new(sql).bind(tenant.as_str()).bind(id)).await;
        row.map_err(ReadModelError::database("read a bulk job"))?.as_ref().map(job_row).transpose()
    }

    /// Inserts or replaces a job.
    pub async fn put_bulk_job(&mut self, row: &BulkJobRow) -> Result<(), ReadModelError> {
        let json = |value: serde_json::Result<String>| {
            value.map_err(|source| ReadModelError::Encode { id: row.id, source })
        };
        let table = self.side.table("bulk_jobs");
        let values = (1..=22).map(|number| format!("${number}")).collect::<Vec<_>>().join(", ");
        let statement = Statement::new(format!(
            "insert into {table} ({COLUMNS}) values ({values}) \
             on conflict (tenant, id) do update set status = excluded.status, \
             lease_runner = excluded.lease_runner, lease_until = excluded.lease_until, cursor = excluded.cursor, \
             done = excluded.done, failed = excluded.failed, failures = excluded.failures, \
             version = excluded.version, updated_at = excluded.updated_at, finished_at = excluded.finished_at"
        ))
        .bind(row.tenant.as_str())
        .bind(row.id)
        .bind(status_name(row.status))
        .bind(row.acting.user)
        .bind(json(serde_json::to_string(&row.action))?)
        .bind(row.filter.to_string())
        .bind(row.reason.clone())
        .bind(i64::from(row.per_second))
        .bind(signed(row.found))
        .bind(row.upper)
        .bind(json(serde_json::to_string(&row.acting))?)
        .bind(row.lease.map(|(runner, _)| runner))
        .bind(row.lease.map(|(_, until)| until.unix_ms()))
        .bind(row.cursor)
        .bind(signed(row.done))
        .bind(signed(row.failed))
        .bind(json(serde_json::to_string(&row.failures))?)
        .bind(signed(row.version))
        .bind(row.created_at.unix_ms())
        .bind(row.updated_at.unix_ms())
        .bind(row.finished_at.map(Timestamp::unix_ms))
        .bind(row.created_by.clone());
        self.tx.execute(statement).await.map_err(ReadModelError::database("write a bulk job"))
    }
}

fn status_name(status: BulkStatus) -> &'static str {
    match status {
        BulkStatus::None => "none",
        BulkStatus::Running => "running",
        BulkStatus::Completed => "completed",
        BulkStatus::Cancelled => "cancelled",
    }
}

fn job_row(row: &Row) -> Result<BulkJobRow, ReadModelError> {
    let mut columns = Columns::of(row, "bulk_jobs");
    let (tenant, id, status) = (columns.tenant()?, columns.take()?, columns.named()?);
    // The owner stands in `acting` too; the column is for the list of one's own.
    let _owner: Uuid = columns.take()?;
    Ok(BulkJobRow {
        tenant,
        id,
        status,
        action: columns.json()?,
        filter: columns.json()?,
        reason: columns.take()?,
        per_second: u32::try_from(columns.count()?).unwrap_or(u32::MAX),
        found: columns.count()?,
        upper: columns.take()?,
        acting: columns.json()?,
        lease: columns.take::<Option<Uuid>>()?.zip(columns.maybe_time()?),
        cursor: columns.take()?,
        done: columns.count()?,
        failed: columns.count()?,
        failures: columns.json()?,
        version: columns.count()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
        finished_at: columns.maybe_time()?,
        created_by: columns.take()?,
    })
}
