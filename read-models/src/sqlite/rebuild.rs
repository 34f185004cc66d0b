//! Shadow tables in a file: copies of the live tables' own definitions.

use sqlx::{AssertSqlSafe, Row as _};

use super::SqliteTx;
use crate::ReadModelError;
use crate::rebuild::{SHADOW, TABLES};

/// Index names are global in SQLite and stay when a table is renamed: they take turns with this ending.
const INDEX_TURN: &str = "_turn";

impl SqliteTx {
    pub(crate) async fn make_shadows(&mut self) -> Result<(), ReadModelError> {
        for table in TABLES {
            self.define(format!("drop table if exists {table}{SHADOW}")).await?;
            for sql in self.definitions(table).await? {
                self.define(sql).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn swap_tables(&mut self) -> Result<(), ReadModelError> {
        for table in TABLES {
            self.define(format!("drop table {table}")).await?;
            self.define(format!("alter table {table}{SHADOW} rename to {table}")).await?;
        }
        Ok(())
    }

    /// Statements made of this crate's own names only.
    async fn define(&mut self, sql: String) -> Result<(), ReadModelError> {
        let query = sqlx::query(AssertSqlSafe(sql)).persistent(false);
        query.execute(&mut *self.tx).await.map_err(ReadModelError::database("rebuild tables"))?;
        Ok(())
    }

    /// What creates the shadow of a table and of its indexes.
    async fn definitions(&mut self, table: &'static str) -> Result<Vec<String>, ReadModelError> {
        let rows = sqlx::query(
            "select type, name, sql from sqlite_master where tbl_name = $1 and sql is not null \
             order by type desc",
        )
        .bind(table)
        .fetch_all(&mut *self.tx)
        .await
        .map_err(ReadModelError::database("read its own schema"))?;
        rows.iter()
            .map(|row| {
                let corrupt = || ReadModelError::corrupt::<sqlx::Error>("sqlite_master", table);
                let kind: &str = row.try_get(0).map_err(corrupt())?;
                let name: &str = row.try_get(1).map_err(corrupt())?;
                let sql: &str = row.try_get(2).map_err(corrupt())?;
                Ok(shadow_definition(kind, name, sql, table))
            })
            .collect()
    }
}

fn shadow_definition(kind: &str, name: &str, sql: &str, table: &str) -> String {
    let body = sql.find('(').map_or("", |at| &sql[at..]);
    if kind == "table" {
        return format!("create table {table}{SHADOW} {body}");
    }
    let turned = match name.strip_suffix(INDEX_TURN) {
        Some(plain) => plain.to_owned(),
        None => format!("{name}{INDEX_TURN}"),
    };
    format!("create index {turned} on {table}{SHADOW} {body}")
}
