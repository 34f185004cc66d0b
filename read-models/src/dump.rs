//! Every row of a table as text, for comparing a live table with a rebuilt one and for `doctor`.

use crate::ReadModelError;
use crate::backend::Db;
use crate::sql::Columns;
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
    /// Nodes inside loops and branches.
    ExecutionNodes,
    /// Nodes that ran out of attempts.
    DeadLetters,
    /// With whom workflows are shared.
    WorkflowShares,
    /// Users.
    Users,
    /// API keys.
    ApiKeys,
    /// Tenants.
    Tenants,
    /// Who asked for what.
    Audit,
    /// Jobs over many executions.
    BulkJobs,
    /// How far projections are.
    Checkpoints,
    /// Streams that are passed over.
    ParkedStreams,
}

impl Table {
    /// All tables.
    pub const ALL: [Self; 13] = [
        Self::Workflows,
        Self::WorkflowVersions,
        Self::Executions,
        Self::ExecutionNodes,
        Self::DeadLetters,
        Self::WorkflowShares,
        Self::Users,
        Self::ApiKeys,
        Self::Tenants,
        Self::Audit,
        Self::BulkJobs,
        Self::Checkpoints,
        Self::ParkedStreams,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Workflows => "workflows",
            Self::WorkflowVersions => "workflow_versions",
            Self::Executions => "executions",
            Self::ExecutionNodes => "execution_nodes",
            Self::DeadLetters => "dead_letters",
            Self::WorkflowShares => "workflow_shares",
            Self::Users => "users",
            Self::ApiKeys => "api_keys",
            Self::Tenants => "tenants",
            Self::Audit => "audit",
            Self::BulkJobs => "bulk_jobs",
            Self::Checkpoints => "checkpoints",
            Self::ParkedStreams => "parked_streams",
        }
    }
}

/// The columns to order a dump by: no table's key has more than the first five.
pub(crate) fn key_order(columns: usize) -> &'static str {
    match columns {
        0..=3 => "1, 2, 3",
        4 => "1, 2, 3, 4",
        _ => "1, 2, 3, 4, 5",
    }
}

impl ReadModels {
    /// All rows of a table in the order of its key, each as its columns' SQL literals, in the
    /// words of SQLite whichever the database, so that dumps compare. Not bounded: for tests and tools, never for a
    /// request.
    pub async fn dump_rows(&self, table: Table) -> Result<Vec<Vec<String>>, ReadModelError> {
        let dumped = match &self.inner.db {
            Db::Sqlite(pools) => pools.dump(table.name()).await,
            Db::Postgres(pools) => pools.dump(table.name()).await,
        };
        let (columns, rows) = dumped.map_err(ReadModelError::database("dump a table"))?;
        rows.iter()
            .map(|row| {
                let mut cells = Columns::of(row, table.name());
                (0..columns).map(|_| cells.take()).collect()
            })
            .collect()
    }
}
