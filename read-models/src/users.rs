//! Users: rows, SQL and queries.
//!
//! A tenant has few users beside what it has of executions: a filter looks at its rows, at most [`SCAN_ROWS`] a page.

use uuid::Uuid;

use domain::identity::user::UserStatus;
use domain::ids::TenantId;
use domain::time::Timestamp;

use crate::ReadModelError;
use crate::backend::Dialect;
use crate::executions::{MAX_SEARCH_BYTES, SCAN_ROWS, like_pattern};
use crate::rows::Page;
use crate::sql::{Columns, Row, Statement, signed};
use crate::store::ReadModels;
use crate::viewer::Viewer;
use crate::workflows::MAX_LIMIT;
use crate::write::WriteTx;

const COLUMNS: &str = "tenant, id, email, name, role, status, operator, email_verified, totp, providers, version, \
    created_at, updated_at, created_by";

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserRow {
    /// Whose they are.
    pub tenant: TenantId,
    /// Their id.
    pub id: Uuid,
    /// Their e-mail in its normal form; of a deleted user the last.
    pub email: String,
    /// For people.
    pub name: Option<String>,
    /// The name of the role.
    pub role: String,
    /// Whether they are recognised. Lists leave out those who are deleted.
    pub status: UserStatus,
    /// Whether they run the installation.
    pub operator: bool,
    /// Whether the e-mail is known to reach them.
    pub email_verified: bool,
    /// Whether a second factor is needed.
    pub totp: bool,
    /// The names of the providers through which they come in, ascending.
    pub providers: Vec<String>,
    /// The version of the stream, for `ETag`.
    pub version: u64,
    /// When they were made.
    pub created_at: Timestamp,
    /// When their last event was recorded.
    pub updated_at: Timestamp,
    /// Who made them.
    pub created_by: String,
}

/// Which users a list shows. Everything given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserFilter {
    /// With this role.
    pub role: Option<String>,
    /// In this status; without it all but the deleted.
    pub status: Option<UserStatus>,
    /// Whose e-mail or name contains this, in any ASCII case.
    pub q: Option<String>,
}

impl UserFilter {
    fn check(&self) -> Result<(), ReadModelError> {
        match self.q.as_ref().map(String::len) {
            Some(length) if length > MAX_SEARCH_BYTES => Err(ReadModelError::Filter(format!(
                "the text searched for has {length} bytes; use at most {MAX_SEARCH_BYTES}"
            ))),
            _ => Ok(()),
        }
    }

    fn push_conditions(&self, query: &mut Statement, dialect: Dialect) {
        match self.status {
            Some(status) => query.push(" and status = ").push_bind(status.as_str()),
            None => query.push(" and status <> 'deleted'"),
        };
        if let Some(role) = &self.role {
            query.push(" and role = ").push_bind(role.as_str());
        }
        if let Some(text) = &self.q {
            let pattern = like_pattern(text);
            let (email, name) = (dialect.lower("email"), dialect.lower("name"));
            query.push(&format!(" and ({email} like ")).push_bind(pattern.clone());
            query.push(&format!(r" escape '\' or {name} like ")).push_bind(pattern).push(r" escape '\')");
        }
    }
}

impl ReadModels {
    /// A user of a tenant; a deleted one says so.
    pub async fn user(&self, tenant: &TenantId, id: Uuid) -> Result<Option<UserRow>, ReadModelError> {
        let sql = format!("select {COLUMNS} from users where tenant = $1 and id = $2");
        let statement = Statement::of(tenant, sql).bind(tenant.as_str()).bind(id);
        let row = self.inner.db.fetch_optional(statement).await;
        row.map_err(ReadModelError::database("read a user"))?.as_ref().map(user_row).transpose()
    }

    /// A tenant's users that pass a filter, the newest first, from before `cursor`. A viewer who does not see them all
    /// sees themself.
    pub async fn users(
        &self,
        viewer: &Viewer,
        filter: &UserFilter,
        cursor: Option<Uuid>,
        limit: usize,
    ) -> Result<Page<UserRow>, ReadModelError> {
        filter.check()?;
        let limit = limit.clamp(1, MAX_LIMIT);
        let below = cursor.unwrap_or(Uuid::max());
        let walk = |query: &mut Statement| {
            query.push(" from users where tenant = ").push_bind(viewer.tenant.as_str());
            query.push(" and id < ").push_bind(below);
            viewer.push_owned(query, "id");
        };
        let scans = *filter != UserFilter::default();
        let floor = if scans { self.floor(&viewer.tenant, "users", &walk, SCAN_ROWS).await? } else { None };
        let mut query = Statement::of(&viewer.tenant, format!("select {COLUMNS}"));
        walk(&mut query);
        if let Some(floor) = floor {
            query.push(" and id >= ").push_bind(floor);
        }
        filter.push_conditions(&mut query, self.inner.db.dialect());
        query.push(" order by id desc limit ").push_bind(signed(limit as u64 + 1));
        let rows = self.inner.db.fetch_all(query).await;
        let rows = rows.map_err(ReadModelError::database("list users"))?;
        let rows = rows.iter().map(user_row).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(rows, limit, |row| row.id).or_from(floor))
    }
}

impl WriteTx {
    /// A user, also if they are deleted.
    pub async fn user(&mut self, tenant: &TenantId, id: Uuid) -> Result<Option<UserRow>, ReadModelError> {
        let table = self.side.table("users");
        let sql = format!("select {COLUMNS} from {table} where tenant = $1 and id = $2");
        let row = self.tx.fetch_optional(Statement::new(sql).bind(tenant.as_str()).bind(id)).await;
        row.map_err(ReadModelError::database("read a user"))?.as_ref().map(user_row).transpose()
    }

    /// Inserts or replaces a user.
    pub async fn put_user(&mut self, row: &UserRow) -> Result<(), ReadModelError> {
        let table = self.side.table("users");
        let statement = Statement::new(format!(
            "insert into {table} ({COLUMNS}) \
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14) \
             on conflict (tenant, id) do update set email = excluded.email, name = excluded.name, \
             role = excluded.role, status = excluded.status, operator = excluded.operator, \
             email_verified = excluded.email_verified, totp = excluded.totp, providers = excluded.providers, \
             version = excluded.version, updated_at = excluded.updated_at"
        ))
        .bind(row.tenant.as_str())
        .bind(row.id)
        .bind(row.email.clone())
        .bind(row.name.clone())
        .bind(row.role.clone())
        .bind(row.status.as_str())
        .bind(row.operator)
        .bind(row.email_verified)
        .bind(row.totp)
        .bind(serde_json::json!(row.providers).to_string())
        .bind(signed(row.version))
        .bind(row.created_at.unix_ms())
        .bind(row.updated_at.unix_ms())
        .bind(row.created_by.clone());
        self.tx.execute(statement).await.map_err(ReadModelError::database("write a user"))
    }
}

fn user_row(row: &Row) -> Result<UserRow, ReadModelError> {
    let mut columns = Columns::of(row, "users");
    Ok(UserRow {
        tenant: columns.tenant()?,
        id: columns.take()?,
        email: columns.take()?,
        name: columns.take()?,
        role: columns.take()?,
        status: columns.named()?,
        operator: columns.take()?,
        email_verified: columns.take()?,
        totp: columns.take()?,
        providers: columns.json()?,
        version: columns.count()?,
        created_at: columns.time()?,
        updated_at: columns.time()?,
        created_by: columns.take()?,
    })
}
