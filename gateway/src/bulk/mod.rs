//! Bulk jobs: one act on every execution that a filter finds.
//!
//! ```text
//!   POST /executions/bulk ─► request ─► Start ─► the job's stream
//!   runner ─► unfinished jobs (read model) ─► Lease ─► pages of executions ─► acts ─► Report ─► … ─► the job ends
//! ```
//!
//! Owns: what such a request means, and the runner. Invariants: every act is a command of its own whose id is derived
//! from job and execution, so that a page done twice has one effect; it carries the asker's authority and is judged by
//! the execution's decider; a job is with one runner at a time, and with another one soon after its runner died.
//! Deliberately absent: what a job is (`domain::bulk`). The counts of a job miss what its runner did between its last
//! report and its death; the acts themselves are neither lost nor repeated.

mod acts;
mod request;
mod runner;

pub(crate) use request::BulkRequest;
pub(crate) use runner::run;

use domain::access::{Authority, Reach};
use domain::ids::TenantId;
use read_models::Viewer;

/// What a right reaches, for lists; conditions are judged one by one.
pub(crate) fn viewer(tenant: &TenantId, authority: &Authority) -> Viewer {
    let widest = authority.grants.iter().map(|grant| grant.reach).max().unwrap_or(Reach::Own);
    Viewer { tenant: tenant.clone(), user: authority.user, reach: widest }
}
