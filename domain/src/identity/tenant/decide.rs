//! What follows from a command.

use crate::decision::Decision;
use crate::facts::Facts;
use crate::rejection::{Rejection, RejectionKind};

use super::command::TenantCommand;

/// Decides a command on folded state.
pub fn decide(
    state: &super::state::TenantState,
    command: &TenantCommand,
    facts: &Facts,
) -> Result<Decision, Rejection> {
    let _ = (state, command, facts);
    Err(Rejection::new(RejectionKind::NotFound, "tenant_not_found", "there is no such tenant"))
}
