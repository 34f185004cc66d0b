//! The audit's rows in a file.

use sqlx::{AssertSqlSafe, Sqlite};

use super::SqliteTx;
use super::batch::{chunks, marks};
use crate::audit::{AUDIT_COLUMNS, AUDIT_UPDATE, AuditRow, result_name};
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;

impl SqliteTx {
    pub(crate) async fn put_audit(&mut self, table: &str, rows: Vec<AuditRow>) -> Result<(), sqlx::Error> {
        let sizes: Vec<usize> = chunks(&rows).map(<[_]>::len).collect();
        let mut rows = rows.into_iter();
        for size in sizes {
            let values = vec![format!("({})", marks(17)); size].join(", ");
            let sql = format!("insert into {table} as t ({AUDIT_COLUMNS}) values {values} {AUDIT_UPDATE}");
            let query = rows.by_ref().take(size).fold(sqlx::query(AssertSqlSafe(sql)), bind);
            query.execute(&mut *self.tx).await?;
        }
        Ok(())
    }
}

fn bind(query: Query<'_, Sqlite, SqliteArguments>, row: AuditRow) -> Query<'_, Sqlite, SqliteArguments> {
    query
        .bind(String::from(row.tenant))
        .bind(row.id)
        .bind(row.at.unix_ms())
        .bind(row.logged)
        .bind(row.noted)
        .bind(row.actor)
        .bind(row.user)
        .bind(row.action)
        .bind(row.permission)
        .bind(row.route)
        .bind(row.resource)
        .bind(result_name(row.result))
        .bind(row.code)
        .bind(row.position.map(|position| position.to_string()))
        .bind(row.ip)
        .bind(row.user_agent)
        .bind(i64::from(row.count))
}
