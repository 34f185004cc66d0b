//! Small helpers between rows and Rust: checked numbers, ids, times.
//!
//! SQL integers are signed; what we count is not. A negative number in a row is damage, not a value.

use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use domain::ids::TenantId;
use domain::time::Timestamp;

use crate::ReadModelError;

/// A count or offset as SQL has it. Offsets stay far below 2^63.
pub(crate) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Reads columns by index, in the order of the select list.
pub(crate) struct Columns<'r> {
    row: &'r SqliteRow,
    table: &'static str,
    next: usize,
}

impl<'r> Columns<'r> {
    pub(crate) fn of(row: &'r SqliteRow, table: &'static str) -> Self {
        Self { row, table, next: 0 }
    }

    pub(crate) fn take<T>(&mut self) -> Result<T, ReadModelError>
    where
        T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        let index = self.next;
        self.next += 1;
        self.row.try_get(index).map_err(ReadModelError::corrupt(self.table, format_args!("column {index}")))
    }

    pub(crate) fn count(&mut self) -> Result<u64, ReadModelError> {
        let number: i64 = self.take()?;
        u64::try_from(number).map_err(ReadModelError::corrupt(self.table, number))
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, ReadModelError> {
        self.take().map(Timestamp::from_unix_ms)
    }

    pub(crate) fn tenant(&mut self) -> Result<TenantId, ReadModelError> {
        let text: String = self.take()?;
        TenantId::try_from(text).map_err(ReadModelError::corrupt(self.table, "with a bad tenant"))
    }
}
