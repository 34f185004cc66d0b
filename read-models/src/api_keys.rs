//! API keys: rows, SQL and queries. Their secrets are verifiers beside the log and never here.

use uuid::Uuid;

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

const COLUMNS: &str = "tenant, id, name, owner, fingerprint, scopes, expires_at, revoked_at, version, created_at, \
    created_by";

/// An API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKeyRow {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its id.
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// The user whose rights it has at most.
    pub owner: Uuid,
    /// The first 16 hexadecimal digits of the secret's SHA-256.
    pub fingerprint: String,
    /// What it may do at most.
    pub scopes: Vec<String>,
    /// From when on it is not accepted.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// The version of the stream.
    pub version: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who made it.
    pub created_by: String,
}

/// Which keys a list shows. Everything given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ApiKeyFilter {
    /// Of this user.
    pub owner: Option<Uuid>,
    /// Those that are revoked too.
    pub revoked: bool,
}

impl ReadModels {
    /// A key of a tenant; a revoked one says so.
    pub async fn api_key(&self, tenant: &TenantId, id: Uuid) -> Result<Option<ApiKeyRow>, ReadModelError> {
        let sql = format!("select {COLUMNS} from api_keys where tenant = $1 and id = $2");
        let statement = Statement::of(tenant, sql).bind(tenant.as_str()).bind(id);
        let row = self.inner.db.fetch_optional(statement).await;
        row.map_err(ReadModelError::database("read an API key"))?.as_ref().map(key_row).transpose()
    }

    /// The keys that a viewer sees, the newest first, from before `cursor`.
    pub async fn api_keys(
        &self,
        viewer: &Viewer,
        filter: &ApiKeyFilter,
        cursor: Option<Uuid>,
        limit: usize,
    ) -> Result<Page<ApiKeyRow>, ReadModelError> {
        let limit = limit.clamp(1, MAX_LIMIT);
        let below = cursor.unwrap_or(Uuid::max());
        let walk = |query: &mut Statement| {
            query.push(" from api_keys where tenant = ").push_bind(viewer.tenant.as_str());
            query.push(" and id < ").push_bind(below);
            viewer.push_owned(query, "owner");
            if let Some(owner) = filter.owner {
                query.push(" and owner = ").push_bind(owner);
            }
        };
        let scans = !filter.revoked;
        let floor =
            if scans { self.floor(&viewer.tenant, "api_keys", &walk, SCAN_ROWS).await? } else { None };
        let mut query = Statement::of(&viewer.tenant, format!("select {COLUMNS}"));
        walk(&mut query);
        if let Some(floor) = floor {
            query.push(" and id >= ").push_bind(floor);
        }
        if !filter.revoked {
            query.push(" and revoked_at is null");
        }
        query.push(" order by id desc limit ").push_bind(signed(limit as u64 + 1));
        let rows = self.inner.db.fetch_all(query).await;
        let rows = rows.map_err(ReadModelError::database("list API keys"))?;
        let rows = rows.iter().map(key_row).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(rows, limit, |row| row.id).or_from(floor))
    }
}

impl WriteTx {
    /// A key, also a revoked one.
    pub async fn api_key(
        &mut self,
        tenant: &TenantId,
        id: Uuid,
    ) -> Result<Option<ApiKeyRow>, ReadModelError> {
        let table = self.side.table("api_keys");
        let sql = format!("select {COLUMNS} from {table} where tenant = $1 and id = $2");
        let row = self.tx.fetch_optional(Statement::new(sql).bind(tenant.as_str()).bind(id)).await;
        row.map_err(ReadModelError::database("read an API key"))?.as_ref().map(key_row).transpose()
    }

    /// Inserts or replaces a key.
    pub async fn put_api_key(&mut self, row: &ApiKeyRow) -> Result<(), ReadModelError> {
        let table = self.side.table("api_keys");
        let statement = Statement::new(format!(
            "insert into {table} ({COLUMNS}) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
             on conflict (tenant, id) do update set revoked_at = excluded.revoked_at, version = excluded.version"
        ))
        .bind(row.tenant.as_str())
        .bind(row.id)
        .bind(row.name.clone())
        .bind(row.owner)
        .bind(row.fingerprint.clone())
        .bind(serde_json::json!(row.scopes).to_string())
        .bind(row.expires_at.map(Timestamp::unix_ms))
        .bind(row.revoked_at.map(Timestamp::unix_ms))
        .bind(signed(row.version))
        .bind(row.created_at.unix_ms())
        .bind(row.created_by.clone());
        self.tx.execute(statement).await.map_err(ReadModelError::database("write an API key"))
    }
}

fn key_row(row: &Row) -> Result<ApiKeyRow, ReadModelError> {
    let mut columns = Columns::of(row, "api_keys");
    Ok(ApiKeyRow {
        tenant: columns.tenant()?,
        id: columns.take()?,
        name: columns.take()?,
        owner: columns.take()?,
        fingerprint: columns.take()?,
        scopes: columns.json()?,
        expires_at: columns.maybe_time()?,
        revoked_at: columns.maybe_time()?,
        version: columns.count()?,
        created_at: columns.time()?,
        created_by: columns.take()?,
    })
}
