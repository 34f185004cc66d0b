//! What follows from a command to a bulk job.

use uuid::Uuid;

use crate::decision::Decision;
use crate::facts::Facts;
use crate::rejection::{Rejection, RejectionKind};

use super::command::BulkCommand;
use super::state::BulkState;

/// Decides a command on folded state.
pub fn decide(state: &BulkState, command: &BulkCommand, facts: &Facts) -> Result<Decision, Rejection> {
    let _ = (state, command);
    Err(not_found(facts.stream))
}

/// The refusal when there is no such job in the tenant.
pub fn not_found(id: Uuid) -> Rejection {
    Rejection::new(RejectionKind::NotFound, "bulk_not_found", format!("there is no bulk job {id}"))
}
