//! The audit's rows on Postgres: one array per column.

use sqlx::AssertSqlSafe;
use uuid::Uuid;

use super::{PgTx, without_nul};
use crate::audit::{AUDIT_COLUMNS, AUDIT_UPDATE, AuditRow, result_name};

/// Rows of one statement.
const MAX_ROWS: usize = 1_000;

/// Rows by column.
#[derive(Default)]
struct AuditColumns {
    tenant: Vec<String>,
    id: Vec<Uuid>,
    at: Vec<i64>,
    logged: Vec<bool>,
    noted: Vec<bool>,
    actor: Vec<String>,
    user: Vec<Option<Uuid>>,
    action: Vec<String>,
    permission: Vec<Option<String>>,
    route: Vec<Option<String>>,
    resource: Vec<Option<String>>,
    result: Vec<&'static str>,
    code: Vec<Option<String>>,
    position: Vec<Option<String>>,
    ip: Vec<Option<String>>,
    user_agent: Vec<Option<String>>,
    count: Vec<i64>,
}

impl AuditColumns {
    fn push(&mut self, row: AuditRow) {
        self.tenant.push(row.tenant.into());
        self.id.push(row.id);
        self.at.push(row.at.unix_ms());
        self.logged.push(row.logged);
        self.noted.push(row.noted);
        self.actor.push(without_nul(row.actor));
        self.user.push(row.user);
        self.action.push(without_nul(row.action));
        self.permission.push(row.permission.map(without_nul));
        self.route.push(row.route.map(without_nul));
        self.resource.push(row.resource.map(without_nul));
        self.result.push(result_name(row.result));
        self.code.push(row.code.map(without_nul));
        self.position.push(row.position.map(|position| position.to_string()));
        self.ip.push(row.ip.map(without_nul));
        self.user_agent.push(row.user_agent.map(without_nul));
        self.count.push(i64::from(row.count));
    }
}

impl PgTx {
    pub(crate) async fn put_audit(&mut self, table: &str, rows: Vec<AuditRow>) -> Result<(), sqlx::Error> {
        let mut columns = AuditColumns::default();
        for row in rows {
            columns.push(row);
            if columns.id.len() >= MAX_ROWS {
                self.put_audit_columns(table, std::mem::take(&mut columns)).await?;
            }
        }
        if columns.id.is_empty() { Ok(()) } else { self.put_audit_columns(table, columns).await }
    }

    async fn put_audit_columns(&mut self, table: &str, columns: AuditColumns) -> Result<(), sqlx::Error> {
        let sql = format!(
            "insert into {table} as t ({AUDIT_COLUMNS}) select * from unnest($1::text[], $2::uuid[], $3::bigint[], $4::boolean[], $5::boolean[], $6::text[], \
             $7::uuid[], $8::text[], $9::text[], $10::text[], $11::text[], $12::text[], $13::text[], \
             $14::text[], $15::text[], $16::text[], $17::bigint[]) {AUDIT_UPDATE}"
        );
        let query = sqlx::query(AssertSqlSafe(sql))
            .bind(columns.tenant)
            .bind(columns.id)
            .bind(columns.at)
            .bind(columns.logged)
            .bind(columns.noted)
            .bind(columns.actor)
            .bind(columns.user)
            .bind(columns.action)
            .bind(columns.permission)
            .bind(columns.route)
            .bind(columns.resource)
            .bind(columns.result)
            .bind(columns.code)
            .bind(columns.position)
            .bind(columns.ip)
            .bind(columns.user_agent)
            .bind(columns.count);
        self.run(query).await
    }
}
