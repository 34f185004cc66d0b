//! What follows from a command to an audit: always its event.

use serde_json::json;

use crate::decision::{Decision, Outcome};
use crate::event::{AuditEvent, Event};
use crate::rejection::{Rejection, RejectionKind};

use super::MAX_ENTRIES;
use super::command::AuditCommand;
use super::event::AuditRecorded;

/// Decides a command.
pub fn decide(command: &AuditCommand) -> Result<Decision, Rejection> {
    let AuditCommand::Record { entries } = command;
    if entries.is_empty() || entries.len() > MAX_ENTRIES {
        let detail = format!("an audit takes 1 to {MAX_ENTRIES} entries at once");
        return Err(Rejection::new(RejectionKind::TooLarge, "too_many_audit_entries", detail));
    }
    let event = AuditEvent::Recorded(AuditRecorded { entries: entries.clone() });
    Ok(Decision::Events(Outcome {
        events: vec![Event::Audit(event)],
        answer: json!({ "recorded": entries.len() }),
        ..Outcome::default()
    }))
}
