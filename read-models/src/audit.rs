//! The audit: one row per command or other act.
//!
//! What the log knows of a command (its first event) and what a gateway has noted (its entry) meet in one row, in
//! whatever order they come: the entry's fields win, but for the time, which is the log's, so that a row does not move
//! in the list when its entry comes. So a gateway that dies loses at most from where a command came. Filters look at no
//! more than [`SCAN_ROWS`] rows per page.

use uuid::Uuid;

use domain::audit::event::{AuditEntry, AuditResult};
use domain::event::RecordedEvent;
use domain::ids::{Position, TenantId};
use domain::time::Timestamp;

use crate::ReadModelError;
use crate::backend::Tx;
use crate::executions::SCAN_ROWS;
use crate::rows::Page;
use crate::sql::{Columns, Row, Statement, signed};
use crate::store::ReadModels;
use crate::workflows::MAX_LIMIT;
use crate::write::WriteTx;

/// In the order in which the backends bind them.
pub(crate) const AUDIT_COLUMNS: &str = "tenant, id, at, logged, noted, actor, user_id, action, permission, route, \
    resource, result, code, log_position, ip, user_agent, count";

/// How a row meets the one that is there, called `t`. Keep in step with [`AuditRow::meet`].
pub(crate) const AUDIT_UPDATE: &str = "on conflict (tenant, id) do update set \
    at = case when excluded.logged then excluded.at else t.at end, \
    logged = t.logged or excluded.logged, noted = t.noted or excluded.noted, \
    actor = case when excluded.noted then excluded.actor else t.actor end, \
    user_id = case when excluded.noted then coalesce(excluded.user_id, t.user_id) \
      else coalesce(t.user_id, excluded.user_id) end, \
    action = case when excluded.noted then excluded.action else t.action end, \
    permission = coalesce(excluded.permission, t.permission), \
    route = coalesce(excluded.route, t.route), \
    resource = case when excluded.noted then coalesce(excluded.resource, t.resource) \
      else coalesce(t.resource, excluded.resource) end, \
    result = case when excluded.noted then excluded.result else t.result end, \
    code = case when excluded.noted then excluded.code else t.code end, \
    log_position = case when excluded.noted then coalesce(excluded.log_position, t.log_position) \
      else coalesce(t.log_position, excluded.log_position) end, \
    ip = coalesce(excluded.ip, t.ip), user_agent = coalesce(excluded.user_agent, t.user_agent), \
    count = case when excluded.noted then excluded.count else t.count end \
    where excluded.noted or not t.logged";

/// One thing that somebody asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// In whose tenant.
    pub tenant: TenantId,
    /// Of a command: the command's id.
    pub id: Uuid,
    /// When.
    pub at: Timestamp,
    /// Whether the log has an event of it.
    pub logged: bool,
    /// Whether a gateway has noted it. Without that, where it came from is not known.
    pub noted: bool,
    /// Who.
    pub actor: String,
    /// The user behind it.
    pub user: Option<Uuid>,
    /// What: a command's name or another act's; until it is noted, the type of the first event.
    pub action: String,
    /// The permission that it needed.
    pub permission: Option<String>,
    /// Method and route.
    pub route: Option<String>,
    /// What it was done to.
    pub resource: Option<String>,
    /// What became of it.
    pub result: AuditResult,
    /// The code of a refusal.
    pub code: Option<String>,
    /// Where the log ended with it.
    pub position: Option<Position>,
    /// The client's address.
    pub ip: Option<String>,
    /// The client's program.
    pub user_agent: Option<String>,
    /// How many are told by this row.
    pub count: u32,
}

impl AuditRow {
    /// What a gateway has noted.
    pub fn of_entry(tenant: &TenantId, entry: AuditEntry) -> Self {
        Self {
            tenant: tenant.clone(),
            id: entry.id,
            at: entry.at,
            logged: false,
            noted: true,
            user: entry.user.or_else(|| user_of(entry.actor.as_str())),
            actor: entry.actor.as_str().to_owned(),
            action: entry.action,
            permission: entry.permission,
            route: Some(entry.route),
            resource: entry.resource,
            result: entry.result,
            code: entry.code,
            position: entry.position,
            ip: entry.ip,
            user_agent: entry.user_agent,
            count: entry.count,
        }
    }

    /// What the first event of a command says of it.
    pub fn of_event(event: &RecordedEvent) -> Self {
        Self {
            tenant: event.tenant.clone(),
            id: event.causation_id,
            at: event.recorded_at,
            logged: true,
            noted: false,
            user: user_of(event.actor.as_str()),
            actor: event.actor.as_str().to_owned(),
            action: event.event_type.to_string(),
            permission: None,
            route: None,
            resource: Some(event.stream.to_string()),
            result: AuditResult::Accepted,
            code: None,
            position: Some(event.position),
            ip: None,
            user_agent: None,
            count: 1,
        }
    }

    /// The row after one more of the same id has come, as the database would make it.
    pub fn meet(&mut self, later: Self) {
        if !later.noted && self.logged {
            return;
        }
        let at = if later.logged { later.at } else { self.at };
        let mut other = later;
        if other.noted {
            std::mem::swap(self, &mut other);
        }
        self.at = at;
        self.logged |= other.logged;
        self.noted |= other.noted;
        self.user = self.user.or(other.user);
        self.permission = self.permission.take().or(other.permission);
        self.route = self.route.take().or(other.route);
        self.resource = self.resource.take().or(other.resource);
        self.position = self.position.or(other.position);
        self.ip = self.ip.take().or(other.ip);
        self.user_agent = self.user_agent.take().or(other.user_agent);
    }
}

fn user_of(actor: &str) -> Option<Uuid> {
    actor.strip_prefix("user:").and_then(|id| Uuid::try_parse(id).ok())
}

/// Which rows a list shows. Everything given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// By this actor: `user:<id>`, `key:<fingerprint>`, `anonymous:-`.
    pub actor: Option<String>,
    /// By this user, also through a key.
    pub user: Option<Uuid>,
    /// Of this action.
    pub action: Option<String>,
    /// With this result.
    pub result: Option<AuditResult>,
    /// On this resource.
    pub resource: Option<String>,
    /// From this address.
    pub ip: Option<String>,
    /// Later than this.
    pub after: Option<Timestamp>,
    /// Earlier than this.
    pub before: Option<Timestamp>,
}

/// A place in the list of the audit, which is in the order of time, and of ids within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditCursor {
    /// The time of the last row of the page.
    pub at: Timestamp,
    /// Its id.
    pub id: Uuid,
}

impl AuditFilter {
    /// Whether it may pass over many rows to find one.
    fn scans(&self) -> bool {
        let Self { actor, user, action, result, resource, ip, after: _, before: _ } = self;
        let texts = [actor, action, resource, ip];
        texts.iter().any(|text| text.is_some()) || user.is_some() || result.is_some()
    }

    /// The conditions that the index serves.
    fn push_walk(&self, query: &mut Statement, tenant: &TenantId, cursor: Option<AuditCursor>) {
        query.push(" from audit where tenant = ").push_bind(tenant.as_str());
        if let Some(after) = self.after {
            query.push(" and at > ").push_bind(after.unix_ms());
        }
        if let Some(before) = self.before {
            query.push(" and at < ").push_bind(before.unix_ms());
        }
        if let Some(AuditCursor { at, id }) = cursor {
            query.push(" and (at, id) < (").push_bind(at.unix_ms()).push(", ").push_bind(id).push(")");
        }
    }

    /// The conditions that look at rows.
    fn push_conditions(&self, query: &mut Statement) {
        let result = self.result.map(result_name).map(str::to_owned);
        let texts = [
            ("actor", &self.actor),
            ("action", &self.action),
            ("result", &result),
            ("resource", &self.resource),
            ("ip", &self.ip),
        ];
        for (column, text) in texts {
            if let Some(text) = text {
                query.push(&format!(" and {column} = ")).push_bind(text.as_str());
            }
        }
        if let Some(user) = self.user {
            query.push(" and user_id = ").push_bind(user);
        }
    }
}

impl ReadModels {
    /// A tenant's audit as far as it passes a filter, the newest first, from before `cursor`.
    pub async fn audit(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        cursor: Option<AuditCursor>,
        limit: usize,
    ) -> Result<Page<AuditRow, AuditCursor>, ReadModelError> {
        let limit = limit.clamp(1, MAX_LIMIT);
        let floor = if filter.scans() { self.audit_floor(tenant, filter, cursor).await? } else { None };
        let mut query = Statement::of(tenant, format!("select {AUDIT_COLUMNS}"));
        filter.push_walk(&mut query, tenant, cursor);
        if let Some(AuditCursor { at, id }) = floor {
            query.push(" and (at, id) >= (").push_bind(at.unix_ms()).push(", ").push_bind(id).push(")");
        }
        filter.push_conditions(&mut query);
        query.push(" order by at desc, id desc limit ").push_bind(signed(limit as u64 + 1));
        let rows = self.inner.db.fetch_all(query).await;
        let rows = rows.map_err(ReadModelError::database("list the audit"))?;
        let rows = rows.iter().map(audit_row).collect::<Result<Vec<_>, _>>()?;
        Ok(Page::cut(rows, limit, |row| AuditCursor { at: row.at, id: row.id }).or_from(floor))
    }

    /// The oldest row that this page's scan may look at; `None` if it may look at all that are left.
    async fn audit_floor(
        &self,
        tenant: &TenantId,
        filter: &AuditFilter,
        cursor: Option<AuditCursor>,
    ) -> Result<Option<AuditCursor>, ReadModelError> {
        let mut query = Statement::of(tenant, "select at, id");
        filter.push_walk(&mut query, tenant, cursor);
        query.push(" order by at desc, id desc limit 1 offset ").push_bind(signed(SCAN_ROWS - 1));
        let row = self.inner.db.fetch_optional(query).await;
        let row = row.map_err(ReadModelError::database("bound a list of the audit"))?;
        row.map(|row| {
            let mut columns = Columns::of(&row, "audit");
            Ok(AuditCursor { at: columns.time()?, id: columns.take()? })
        })
        .transpose()
    }
}

impl WriteTx {
    /// Has rows meet those that are there, many to a statement. An id may be among them once only.
    pub async fn put_audit(&mut self, rows: Vec<AuditRow>) -> Result<(), ReadModelError> {
        let table = self.side.table("audit");
        let written = match &mut self.tx {
            Tx::Sqlite(tx) => tx.put_audit(&table, rows).await,
            Tx::Postgres(tx) => tx.put_audit(&table, rows).await,
        };
        written.map_err(ReadModelError::database("write the audit"))
    }
}

pub(crate) fn result_name(result: AuditResult) -> &'static str {
    match result {
        AuditResult::Accepted => "accepted",
        AuditResult::Rejected => "rejected",
        AuditResult::Denied => "denied",
        AuditResult::Unknown => "unknown",
    }
}

fn audit_row(row: &Row) -> Result<AuditRow, ReadModelError> {
    let mut columns = Columns::of(row, "audit");
    Ok(AuditRow {
        tenant: columns.tenant()?,
        id: columns.take()?,
        at: columns.time()?,
        logged: columns.take()?,
        noted: columns.take()?,
        actor: columns.take()?,
        user: columns.take()?,
        action: columns.take()?,
        permission: columns.take()?,
        route: columns.take()?,
        resource: columns.take()?,
        result: columns.named()?,
        code: columns.take()?,
        position: columns.position()?,
        ip: columns.take()?,
        user_agent: columns.take()?,
        count: u32::try_from(columns.count()?).unwrap_or(u32::MAX),
    })
}
