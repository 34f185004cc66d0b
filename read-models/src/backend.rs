//! The two databases behind one face. Whatever is the same SQL goes through here; what is not is asked of
//! `sqlite` or `postgres` by name.

use std::borrow::Cow;

use crate::postgres::{PgPools, PgTx};
use crate::rebuild::Side;
use crate::sql::{Row, Statement};
use crate::sqlite::{SqlitePools, SqliteTx};

/// Connections.
pub(crate) enum Db {
    Sqlite(SqlitePools),
    Postgres(PgPools),
}

/// A write transaction.
pub(crate) enum Tx {
    Sqlite(SqliteTx),
    Postgres(PgTx),
}

/// How a database says what is not said the same in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// A text column with its ASCII letters small, and no others: `lower` of a locale would fold more on Postgres.
    pub(crate) fn lower(self, column: &str) -> Cow<'static, str> {
        Cow::Owned(match self {
            Self::Sqlite => format!("lower({column})"),
            Self::Postgres => format!(r#"lower({column} collate "C")"#),
        })
    }

    /// The members of a column that holds the text of a JSON object, as a table with `key`.
    pub(crate) fn members(self, column: &str) -> String {
        match self {
            Self::Sqlite => format!("json_each({column})"),
            Self::Postgres => format!("json_each({column}::json)"),
        }
    }

    /// A member's value as text: a string's own, else its JSON.
    pub(crate) fn member_text(self, table: &str) -> String {
        match self {
            // SQLite gives booleans as 1 and 0, but names them in `type`.
            Self::Sqlite => format!(
                "case {table}.type when 'true' then 'true' when 'false' then 'false' \
                 else cast({table}.value as text) end"
            ),
            Self::Postgres => format!(r#"({table}.value #>> '{{}}') collate "C""#),
        }
    }

    /// A member's value if it is a number, else null.
    pub(crate) fn member_number(self, table: &str) -> String {
        match self {
            Self::Sqlite => format!("case when {table}.type in ('integer', 'real') then {table}.value end"),
            Self::Postgres => format!(
                "case when json_typeof({table}.value) = 'number' \
                 then ({table}.value #>> '{{}}')::double precision end"
            ),
        }
    }

    /// What makes a bound text a number, after it and within a `cast`.
    pub(crate) fn text_as_number(self) -> &'static str {
        match self {
            Self::Sqlite => " as real",
            Self::Postgres => "::text as double precision",
        }
    }
}

impl Db {
    pub(crate) fn dialect(&self) -> Dialect {
        match self {
            Self::Sqlite(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Reads what is committed.
    pub(crate) async fn fetch_all(&self, statement: Statement) -> Result<Vec<Row>, sqlx::Error> {
        #[cfg(test)]
        let statement = crate::walls::as_asked(statement, self.dialect());
        match self {
            Self::Sqlite(pools) => pools.fetch_all(statement).await,
            Self::Postgres(pools) => pools.fetch_all(statement).await,
        }
    }

    /// Reads the one row that there may be.
    pub(crate) async fn fetch_optional(&self, statement: Statement) -> Result<Option<Row>, sqlx::Error> {
        Ok(self.fetch_all(statement).await?.pop())
    }

    pub(crate) async fn begin(&self, side: Side) -> Result<Tx, sqlx::Error> {
        match self {
            Self::Sqlite(pools) => pools.begin().await.map(Tx::Sqlite),
            Self::Postgres(pools) => pools.begin_write(side).await.map(Tx::Postgres),
        }
    }

    pub(crate) async fn close(&self) {
        match self {
            Self::Sqlite(pools) => pools.close().await,
            Self::Postgres(pools) => pools.close().await,
        }
    }
}

impl Tx {
    pub(crate) async fn fetch_all(&mut self, statement: Statement) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Self::Sqlite(tx) => tx.fetch_all(statement).await,
            Self::Postgres(tx) => tx.fetch_all(statement).await,
        }
    }

    pub(crate) async fn fetch_optional(&mut self, statement: Statement) -> Result<Option<Row>, sqlx::Error> {
        Ok(self.fetch_all(statement).await?.pop())
    }

    pub(crate) async fn execute(&mut self, statement: Statement) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(tx) => tx.execute(statement).await,
            Self::Postgres(tx) => tx.execute(statement).await,
        }
    }

    pub(crate) async fn commit(self) -> Result<(), sqlx::Error> {
        match self {
            Self::Sqlite(tx) => tx.commit().await,
            Self::Postgres(tx) => tx.commit().await,
        }
    }
}
