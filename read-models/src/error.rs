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
        "the read models' database could not be migrated; delete the file, it is derived from the log again"
    )]
    Migration(#[source] sqlx::migrate::MigrateError),
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
            Self::Conflict { .. } | Self::Database { .. } => true,
            Self::Filter(_) | Self::Migration(_) | Self::Corrupt { .. } | Self::Encode { .. } => false,
        }
    }
}
