//! What follows from a command.

use crate::decision::Decision;
use crate::facts::Facts;
use crate::rejection::{Rejection, RejectionKind};

use super::command::RoleCommand;

/// Decides a command on folded state.
pub fn decide(
    state: &super::RolesState,
    command: &RoleCommand,
    facts: &Facts,
) -> Result<Decision, Rejection> {
    let _ = (state, command, facts);
    Err(Rejection::new(RejectionKind::NotFound, "role_not_found", "there is no such role"))
}
