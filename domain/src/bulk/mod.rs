//! A bulk job: one act on every execution that a filter finds, with progress, a rate and a reason.
//!
//! The job is an aggregate; a runner (in a gateway) leases it by a command, acts in pages and reports. Each act's command
//! id is derived from job and execution, so that a page done twice has one effect. Invariants: progress only grows; a
//! report of a runner that lost its lease is refused. Deliberately absent: finding executions (read models).

pub mod command;
mod decide;
pub mod event;
mod evolve;
pub mod state;

pub use decide::{decide, not_found};
pub use evolve::evolve;
pub use state::{BulkState, BulkStatus};
