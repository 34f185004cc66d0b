//! What follows from a command.

use uuid::Uuid;

use crate::decision::Decision;
use crate::facts::Facts;
use crate::rejection::{Rejection, RejectionKind};

use super::command::ApiKeyCommand;

/// Decides a command on folded state.
pub fn decide(
    state: &super::ApiKeyState,
    command: &ApiKeyCommand,
    facts: &Facts,
) -> Result<Decision, Rejection> {
    let _ = (state, command, facts);
    Err(Rejection::new(RejectionKind::NotFound, "api_key_not_found", "there is no such API key"))
}

/// The refusal when there is no such thing in the tenant.
pub fn not_found(id: Uuid) -> Rejection {
    Rejection::new(RejectionKind::NotFound, "api_key_not_found", format!("there is no such API key: {id}"))
}
