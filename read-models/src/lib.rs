//! What users ask for, as tables derived from the log.
//!
//! ```text
//!   projection-service ──WriteTx──► rows + checkpoints ──► gateway (ReadModels)
//!                       (one transaction)      └─────────► wait_for(positions)
//! ```
//!
//! Owns: the tables, their SQL and migrations, in a file or a schema of Postgres of their own, with relaxed
//! durability. Invariants:
//! rows and the checkpoint they belong to change in one transaction, so a row never shows an event twice or
//! skips one; a tenant's rows are found only under that tenant. Deliberately absent: folding (projections) and
//! any truth: everything here can be derived again.
//!
//! Read in this order: [`rows`] (what is kept), [`store`] (opening), [`write`] (the transaction), [`rebuild`]
//! (shadow tables), [`viewer`] (who sees what), [`executions`] with [`search`], [`nodes`], [`dead_letters`],
//! [`workflows`] with [`sharing`], [`users`], [`api_keys`], [`tenants`], [`audit`] and [`bulk_jobs`] (queries),
//! [`positions`] (waiting), [`dump`]; inside:
//! `backend` and `sql` (one text for both databases), `sqlite`, `postgres`.

pub mod api_keys;
pub mod audit;
mod backend;
pub mod bulk_jobs;
pub mod dead_letters;
pub mod dump;
mod error;
pub mod executions;
pub mod nodes;
pub mod positions;
mod postgres;
pub mod rebuild;
pub mod rows;
pub mod search;
mod shared_lists;
pub mod sharing;
mod sql;
mod sqlite;
pub mod store;
pub mod tenants;
pub mod users;
pub mod viewer;
#[cfg(test)]
mod walls;
pub mod workflows;
pub mod write;

pub use api_keys::{ApiKeyFilter, ApiKeyRow};
pub use audit::{AuditCursor, AuditFilter, AuditRow};
pub use bulk_jobs::{BulkJobFilter, BulkJobRow};
pub use dead_letters::DeadLetterFilter;
pub use dump::Table;
pub use error::{ReadModelError, is_outage};
pub use executions::ExecutionFilter;
pub use nodes::WantedNode;
pub use positions::{Advance, MAIN_PROJECTION};
pub use postgres::{PostgresFacts, inspect_postgres};
pub use rows::{DeadLetter, ExecutionRow, NodeRow, Page, ParkedStream, WorkflowRow, WorkflowVersionRow};
pub use search::{AttributeFilter, Compare};
pub use store::{PostgresOptions, ReadModels};
pub use tenants::TenantRow;
pub use users::{UserFilter, UserRow};
pub use viewer::{Seen, Viewer};
pub use write::WriteTx;
