//! What can go wrong with read models.

use domain::ids::Partition;

/// The read models did not do what they were asked.
#[derive(Debug, thiserror::Error)]
pub enum ReadModelError {
    /// Another writer has advanced the projection: read the checkpoints again and go on from there.
    #[error(
        "checkpoint of projection `{projection}`, partition {partition}, is at {actual}, not {expected}; another writer was there first"
    )]
    Conflict {
        /// The projection.
        projection: String,
        /// The partition.
        partition: Partition,
        /// Where this writer believed the checkpoint.
        expected: u64,
        /// Where it is.
        actual: u64,
    },
    /// The caller's filter cannot be used.
    #[error("the filter cannot be used: {0}")]
    Filter(String),
    /// The database said no.
    #[error("the read models' database failed while it was to {operation}")]
    Database {
        /// What was being done.
        operation: &'static str,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// The schema could not be brought up to date.
    #[error(
        "the read models' database could not be migrated; delete it (the file, or on Postgres the schema everline_read): it is derived from the log again"
    )]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// Read models that must be there are not, or are of an earlier release.
    #[error("{}, and this release works with version {newest}; start a server, or run `everline migrate`", what_is_there(.found))]
    NotThere {
        /// The version of what is there.
        found: Option<i64>,
        /// The version that this build makes.
        newest: i64,
    },
    /// Rebuilt tables could not be exchanged: somebody reads the old ones in a long transaction.
    #[error(
        "the rebuilt tables could not be put in the place of the old ones, which somebody keeps reading (a dump?)"
    )]
    Busy,
    /// What is stored does not decode.
    #[error("{table} row {id} does not decode; rebuild the projection")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The row.
        id: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A view has no JSON form.
    #[error("execution {id} does not encode as JSON")]
    Encode {
        /// The execution.
        id: uuid::Uuid,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl ReadModelError {
    /// For `map_err`: names the operation that failed.
    pub(crate) fn database(operation: &'static str) -> impl FnOnce(sqlx::Error) -> Self {
        move |source| Self::Database { operation, source }
    }

    /// For `map_err`: names the row that does not decode.
    pub(crate) fn corrupt<E>(table: &'static str, id: impl std::fmt::Display) -> impl FnOnce(E) -> Self
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let id = id.to_string();
        move |source| Self::Corrupt { table, id, source: source.into() }
    }

    /// Whether the same call may succeed later.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Conflict { .. } | Self::Database { .. } | Self::Busy => true,
            Self::Filter(_)
            | Self::Migration(_)
            | Self::NotThere { .. }
            | Self::Corrupt { .. }
            | Self::Encode { .. } => false,
        }
    }

    /// Whether the database cannot be worked with at present, through no fault of the call: it is down, starts,
    /// fails over, or has no room. Such errors are to be waited out, however long they last.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Database { source, .. } if is_outage(source))
    }
}

fn what_is_there(found: &Option<i64>) -> String {
    match found {
        None => "there are no read models in the database".to_owned(),
        Some(found) => format!("the read models are of schema version {found}"),
    }
}

/// Whether an error of a database means that it cannot be worked with at present. A file that fails is none: it
/// does not come back by itself.
pub fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => true,
        sqlx::Error::Database(error) => error.code().is_some_and(|code| is_outage_state(&code)),
        _ => false,
    }
}

/// SQLSTATEs: connection exceptions (PgBouncer says `08P01` of a server that it has lost), insufficient resources,
/// shutdowns and starts, failing disks, a standby, and a transaction that this process was too slow for.
fn is_outage_state(code: &str) -> bool {
    // SQLite's numbers are shorter.
    code.len() == 5
        && (code.starts_with("08")
            || code.starts_with("53")
            || ["57P01", "57P02", "57P03", "57P05", "58030", "25006", "25P03"].contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_is_told_from_a_statement_that_is_wrong() {
        for code in ["08006", "08P01", "53300", "57P01", "57P03", "58030", "25006"] {
            assert!(is_outage_state(code), "{code}");
        }
        for code in ["42P01", "23505", "22021", "57014", "55P03", "5", "1555", "2067"] {
            assert!(!is_outage_state(code), "{code}");
        }
        assert!(is_outage(&sqlx::Error::PoolTimedOut));
        assert!(!is_outage(&sqlx::Error::RowNotFound));
    }
}
