//! The audit's side of the gateway: notes every command and every denied attempt, and sends them to the log in batches.
//!
//! ```text
//!   sending, gate, ws, auth ─► note… ─► (folds) ─► Recorder's buffer ─► Command::Audit, one batch per tenant at a time
//! ```
//!
//! Invariants: an entry names what was asked for by its command or route; no body, query or secret comes near it; a batch
//! is sent under one command id until it is answered, so it is in the log once; the buffer is bounded, and what it could
//! not take is counted and told by an entry of its own. What a killed gateway had in its buffer is lost: of commands
//! that is only where they came from, since the log has their events; of denials, up to a quarter of a second.
//! Commands that change who may do what, and logins, wait until their entry is in the log. Deliberately absent: reading
//! (`routes::audit`).

mod entry;
mod folds;
mod recorder;

use domain::audit::event::{AuditEntry, AuditResult};
use domain::command::{Command, CommandEnvelope};
use domain::ids::{Position, TenantId};

use crate::app::App;
use crate::auth::Principal;
use crate::client::Client;
use crate::failure::Failure;
use crate::request::Caller;

pub(crate) use entry::{Act, entry};
pub(crate) use recorder::Recorder;

/// Notes a command and what became of it. Waits where it changed who may do what.
pub(crate) async fn note_command(
    app: &App,
    caller: &Caller,
    envelope: &CommandEnvelope,
    outcome: Result<Option<Position>, &Failure>,
) {
    let act = Act {
        action: envelope.command.name(),
        permission: caller.authority.as_ref().map(|authority| authority.permission),
        resource: Some(envelope.stream.to_string()),
        result: outcome.map_or_else(result_of, |_| AuditResult::Accepted),
        code: outcome.err().map(|failure| failure.code.to_string()),
    };
    let mut entry = entry(app, &caller.client, Some(&caller.principal), act);
    entry.id = envelope.id;
    entry.position = outcome.ok().flatten();
    let tenant = &caller.principal.tenant;
    match &envelope.command {
        Command::Tenant(_) | Command::User(_) | Command::Role(_) | Command::ApiKey(_) => {
            app.audit.record_and_wait(tenant, entry).await;
        }
        Command::Workflow(_)
        | Command::Execution(_)
        | Command::Variables(_)
        | Command::Lane(_)
        | Command::Audit(_)
        | Command::Bulk(_) => app.audit.record(tenant, entry),
    }
}

/// Notes an entry of another kind, without waiting.
pub(crate) fn note(app: &App, tenant: &TenantId, entry: AuditEntry) {
    app.audit.record(tenant, entry);
}

/// Notes an entry of another kind, such as a login, and waits until it is in the log, for 2 seconds at most.
pub(crate) async fn note_and_wait(app: &App, tenant: &TenantId, entry: AuditEntry) {
    app.audit.record_and_wait(tenant, entry).await;
}

/// Notes a refusal for want of a right, unless there is an entry of it. What nobody is recognised for belongs to the
/// tenant `default`.
pub(crate) fn note_denied(app: &App, client: &Client, principal: Option<&Principal>, failure: &Failure) {
    if failure.is_noted() || result_of(failure) != AuditResult::Denied {
        return;
    }
    let act = Act {
        action: "Denied",
        permission: None,
        resource: None,
        result: AuditResult::Denied,
        code: Some(failure.code.to_string()),
    };
    let tenant = principal.map_or_else(TenantId::default_tenant, |principal| principal.tenant.clone());
    app.audit.record_denied(&tenant, entry(app, client, principal, act));
}

/// How a failure counts.
pub(crate) fn result_of(failure: &Failure) -> AuditResult {
    match failure.status.as_u16() {
        401 | 403 | 429 => AuditResult::Denied,
        500.. => AuditResult::Unknown,
        _ => AuditResult::Rejected,
    }
}
