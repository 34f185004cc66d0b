//! What follows from a command.

use uuid::Uuid;

use crate::decision::Decision;
use crate::facts::Facts;
use crate::rejection::{Rejection, RejectionKind};

use super::command::UserCommand;

/// Decides a command on folded state.
pub fn decide(
    state: &super::state::UserState,
    command: &UserCommand,
    facts: &Facts,
) -> Result<Decision, Rejection> {
    let _ = (state, command, facts);
    Err(Rejection::new(RejectionKind::NotFound, "user_not_found", "there is no such user"))
}

/// The refusal when there is no such thing in the tenant.
pub fn not_found(id: Uuid) -> Rejection {
    Rejection::new(RejectionKind::NotFound, "user_not_found", format!("there is no such user: {id}"))
}

/// The refusal when another user has the e-mail.
pub fn claim_taken() -> Rejection {
    let detail = "the e-mail belongs to a user already; use another, or let that user log in";
    Rejection::new(RejectionKind::Conflict, "email_taken", detail)
}
