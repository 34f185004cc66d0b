//! Tenants: rows, SQL and queries. The list is for operators: it is of all tenants.

use uuid::Uuid;

use domain::identity::tenant::event::TenantSettings;
use domain::ids::TenantId;
use domain::time::Timestamp;

use crate::ReadModelError;
use crate::rows::Page;
use crate::sql::{Columns, Row, Statement, signed};
use crate::store::ReadModels;
use crate::workflows::MAX_LIMIT;
use crate::write::WriteTx;

const COLUMNS: &str = "tenant, stream, name, settings, suspended, version, created_at, updated_at";

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TenantRow {
    /// Its slug.
    pub tenant: TenantId,
    /// The stream of its events.
    pub stream: Uuid,
    /// For people.
    pub name: String,
    /// What an operator has set.
    pub settings: TenantSettings,
    /// Whether nobody of it is recognised.
    pub suspended: bool,
    /// The version of the stream, for `ETag`.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its last event was recorded.
    pub updated_at: Timestamp,
}

impl ReadModels {
    /// A tenant. `default` has no row before its first event.
    pub async fn tenant(&self, tenant: &TenantId) -> Result<Option<TenantRow>, ReadModelError> {
        let statement = Statement::of(tenant, format!("select {COLUMNS} from tenants where tenant = $1"));
        let row = self.inner.db.fetch_optional(statement.bind(tenant.as_str())).await;
        row.map_err(ReadModelError::database("read a tenant"))?.as_ref().map(tenant_row).transpose()
    }

    /// All tenants by their slugs, after `cursor`. For operators.
    pub async fn tenants(
        &self,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page<TenantRow, String>, ReadModelError> {
        let limit = limit.clamp(1, MAX_LIMIT);
        let sql = format!("select {COLUMNS} from tenants where tenant > $1 order by tenant limit $2");
        let statement =
            Statement::of_all(sql).bind(cursor.unwrap_or_default()).bind(signed(limit as u64 + 1));
        let rows = self.inner.db.fetch_all(statement).await;
        let rows = rows.map_err(ReadModelError::database("list tenants"))?;
        let rows = rows.iter().map(tenant_row).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(rows, limit, |row| row.tenant.as_str().to_owned()))
    }
}

impl WriteTx {
    /// A tenant.
    pub async fn tenant(&mut self, tenant: &TenantId) -> Result<Option<TenantRow>, ReadModelError> {
        let table = self.side.table("tenants");
        let statement = Statement::new(format!("select {COLUMNS} from {table} where tenant = $1"));
        let row = self.tx.fetch_optional(statement.bind(tenant.as_str())).await;
        row.map_err(ReadModelError::database("read a tenant"))?.as_ref().map(tenant_row).transpose()
    }

    /// Inserts or replaces a tenant.
    pub async fn put_tenant(&mut self, row: &TenantRow) -> Result<(), ReadModelError> {
        let failed = ReadModelError::database("write a tenant");
        let table = self.side.table("tenants");
        let settings = serde_json::to_string(&row.settings);
        let settings = settings.map_err(|source| ReadModelError::Encode { id: row.stream, source })?;
        let statement = Statement::new(format!(
            "insert into {table} ({COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8) \
             on conflict (tenant) do update set name = excluded.name, settings = excluded.settings, \
             suspended = excluded.suspended, version = excluded.version, updated_at = excluded.updated_at"
        ))
        .bind(row.tenant.as_str())
        .bind(row.stream)
        .bind(row.name.clone())
        .bind(settings)
        .bind(row.suspended)
        .bind(signed(row.version))
        .bind(row.created_at.unix_ms())
        .bind(row.updated_at.unix_ms());
        self.tx.execute(statement).await.map_err(failed)
    }
}

fn tenant_row(row: &Row) -> Result<TenantRow, ReadModelError> {
    let mut columns = Columns::of(row, "tenants");
    Ok(TenantRow {
        tenant: columns.tenant()?,
        stream: columns.take()?,
        name: columns.take()?,
        settings: columns.json()?,
        suspended: columns.take()?,
        version: columns.count()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
    })
}
