//! Every row of a table as text, for comparing a live table with a rebuilt one and for `doctor`.

use sqlx::{AssertSqlSafe, Row};

use crate::ReadModelError;
use crate::store::ReadModels;

/// A table that can be dumped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    /// Workflows with their latest definition.
    Workflows,
    /// All versions of definitions.
    WorkflowVersions,
    /// Executions.
    Executions,
    /// How far projections are.
    Checkpoints,
    /// Streams that are passed over.
    ParkedStreams,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 5] =
        [Self::Workflows, Self::WorkflowVersions, Self::Executions, Self::Checkpoints, Self::ParkedStreams];

    fn name(self) -> &'static str {
        match self {
            Self::Workflows => "workflows",
            Self::WorkflowVersions => "workflow_versions",
            Self::Executions => "executions",
            Self::Checkpoints => "checkpoints",
            Self::ParkedStreams => "parked_streams",
        }
    }
}

impl ReadModels {
    /// All rows of a table in the order of its key, each as its columns' SQL literals. Not bounded: for tests
    /// and tools, never for a request.
    pub async fn dump_rows(&self, table: Table) -> Result<Vec<Vec<String>>, ReadModelError> {
        let failed = || ReadModelError::database("dump a table");
        let columns = sqlx::query("select name from pragma_table_info($1) order by cid")
            .bind(table.name())
            .fetch_all(&self.inner.readers)
            .await
            .map_err(failed())?;
        let columns: Result<Vec<String>, _> = columns.iter().map(|row| row.try_get(0)).collect();
        let columns = columns.map_err(failed())?;
        let quoted: Vec<String> = columns.iter().map(|name| format!("quote({name})")).collect();
        let sql = format!("select {} from {} order by 1, 2, 3", quoted.join(", "), table.name());
        let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&self.inner.readers).await.map_err(failed())?;
        rows.iter()
            .map(|row| (0..columns.len()).map(|index| row.try_get(index).map_err(failed())).collect())
            .collect()
    }
}
