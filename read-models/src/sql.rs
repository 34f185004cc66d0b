//! One SQL text for both databases: statements with values, and rows with checked columns.
//!
//! SQL integers are signed; what we count is not. A negative number in a row is damage, not a value. Postgres
//! refuses another integer type than the column's: everything is bound and read as `i64`.

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{Postgres, Row as _, Sqlite};
use std::borrow::Cow;
use uuid::Uuid;

use domain::ids::{Partition, Position, TenantId};
use domain::time::Timestamp;

use crate::ReadModelError;

/// A count or offset as SQL has it. Offsets stay far below 2^63.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What can be bound to a statement.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    Text(Option<String>),
    Number(Option<i64>),
    Flag(bool),
    Id(Option<Uuid>),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<Uuid> for Value {
    fn from(id: Uuid) -> Self {
        Self::Id(Some(id))
    }
}

impl From<Option<Uuid>> for Value {
    fn from(id: Option<Uuid>) -> Self {
        Self::Id(id)
    }
}

/// Whose rows a statement may meet, whatever its conditions say. On Postgres the server holds to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Scope {
    /// It reads no table that has tenants.
    Untenanted,
    /// One tenant's.
    Tenant(TenantId),
    /// Those of all tenants: the projection's, and what operators ask for.
    All,
}

impl Scope {
    /// The value of the setting `everline.tenant`. No tenant is called `*`.
    pub(crate) fn setting(&self) -> Option<&str> {
        match self {
            Self::Untenanted => None,
            Self::Tenant(tenant) => Some(tenant.as_str()),
            Self::All => Some("*"),
        }
    }
}

/// A statement with its values, for either database.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    pub(crate) sql: Cow<'static, str>,
    pub(crate) values: Vec<Value>,
    pub(crate) scope: Scope,
}

impl Statement {
    /// A text of this crate's own, perhaps with `$1`, `$2`, … in it.
    pub(crate) fn new(sql: impl Into<Cow<'static, str>>) -> Self {
        Self { sql: sql.into(), values: Vec::new(), scope: Scope::Untenanted }
    }

    /// The same, over rows of a tenant.
    pub(crate) fn of(tenant: &TenantId, sql: impl Into<Cow<'static, str>>) -> Self {
        Self { scope: Scope::Tenant(tenant.clone()), ..Self::new(sql) }
    }

    /// The same, over rows of all tenants.
    pub(crate) fn of_all(sql: impl Into<Cow<'static, str>>) -> Self {
        Self { scope: Scope::All, ..Self::new(sql) }
    }

    /// The next of the values that the text names.
    pub(crate) fn bind(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Goes on with the text.
    pub(crate) fn push(&mut self, sql: &str) -> &mut Self {
        self.sql.to_mut().push_str(sql);
        self
    }

    /// Goes on with a value.
    pub(crate) fn push_bind(&mut self, value: impl Into<Value>) -> &mut Self {
        self.values.push(value.into());
        let mark = format!("${}", self.values.len());
        self.push(&mark)
    }
}

/// A row of either database.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// What both databases can give.
pub(crate) trait Readable<'r>:
    sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite> + sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>
{
}

impl<'r, T> Readable<'r> for T where
    T: sqlx::Decode<'r, Sqlite> + sqlx::Type<Sqlite> + sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>
{
}

/// Reads columns by index, in the order of the select list.
pub(crate) struct Columns<'r> {
    row: &'r Row,
    table: &'static str,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(crate) fn of(row: &'r Row, table: &'static str) -> Self {
        Self { row, table, next: 0 }
    }

    pub(crate) fn take<T: Readable<'r>>(&mut self) -> Result<T, ReadModelError> {
        let index = self.next;
        self.next += 1;
        let value = match self.row {
            Row::Sqlite(row) => row.try_get(index),
            Row::Postgres(row) => row.try_get(index),
        };
        value.map_err(ReadModelError::corrupt(self.table, format_args!("column {index}")))
    }

    pub(crate) fn count(&mut self) -> Result<u64, ReadModelError> {
        let number: i64 = self.take()?;
        u64::try_from(number).map_err(ReadModelError::corrupt(self.table, number))
    }

    pub(crate) fn partition(&mut self) -> Result<Partition, ReadModelError> {
        let number: i64 = self.take()?;
        u16::try_from(number).map(Partition).map_err(ReadModelError::corrupt(self.table, number))
    }

    /// A position as it is written.
    pub(crate) fn position(&mut self) -> Result<Option<Position>, ReadModelError> {
        let text: Option<String> = self.take()?;
        let position = text.map(|text| text.parse()).transpose();
        position.map_err(ReadModelError::corrupt(self.table, "with a bad position"))
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, ReadModelError> {
        self.take().map(Timestamp::from_unix_ms)
    }

    pub(crate) fn maybe_time(&mut self) -> Result<Option<Timestamp>, ReadModelError> {
        Ok(self.take::<Option<i64>>()?.map(Timestamp::from_unix_ms))
    }

    /// What is kept by its name.
    pub(crate) fn named<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, ReadModelError> {
        let text: String = self.take()?;
        let value = serde_json::Value::String(text);
        serde_json::from_value(value).map_err(ReadModelError::corrupt(self.table, "with a bad name"))
    }

    /// What is kept as the text of its JSON.
    pub(crate) fn json<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, ReadModelError> {
        let text: &str = self.take()?;
        serde_json::from_str(text).map_err(ReadModelError::corrupt(self.table, "with bad JSON"))
    }

    pub(crate) fn tenant(&mut self) -> Result<TenantId, ReadModelError> {
        let text: String = self.take()?;
        TenantId::try_from(text).map_err(ReadModelError::corrupt(self.table, "with a bad tenant"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_numbered_in_the_order_in_which_they_come() {
        let mut statement = Statement::new("select $1 where a = $1").bind("x");
        statement.push(" and b = ").push_bind(7i64).push(" and c = ").push_bind(true);
        assert_eq!(statement.sql, "select $1 where a = $1 and b = $2 and c = $3");
        assert_eq!(statement.values.len(), 3);
    }
}
