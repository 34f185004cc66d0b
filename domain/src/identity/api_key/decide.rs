//! What follows from a command.

use serde_json::json;
use std::collections::HashSet;
use uuid::Uuid;

use crate::access::is_scope;
use crate::decision::{Decision, Outcome};
use crate::event::{ApiKeyEvent, Event};
use crate::facts::Facts;
use crate::identity::checks;
use crate::rejection::{Problem, Rejection, RejectionKind};
use crate::time::Timestamp;

use super::ApiKeyState;
use super::command::ApiKeyCommand;
use super::event::{ApiKeyCreated, ApiKeyRevoked};

/// The most scopes of one key.
const MAX_SCOPES: usize = 64;

/// Decides a command on folded state.
pub fn decide(state: &ApiKeyState, command: &ApiKeyCommand, facts: &Facts) -> Result<Decision, Rejection> {
    match command {
        ApiKeyCommand::Create { name, owner, fingerprint, scopes, expires_at } => {
            if state.version > 0 {
                let detail = format!("API key {} exists already", facts.stream);
                return Err(Rejection::new(RejectionKind::Conflict, "api_key_exists", detail));
            }
            let created = ApiKeyCreated {
                name: name.clone(),
                owner: *owner,
                fingerprint: fingerprint.clone(),
                scopes: scopes.clone(),
                expires_at: *expires_at,
            };
            check(&created, facts.now)?;
            Ok(outcome(state, Some(ApiKeyEvent::Created(created)), facts))
        }
        ApiKeyCommand::Revoke => {
            if state.version == 0 {
                return Err(not_found(facts.stream));
            }
            let event = ApiKeyEvent::Revoked(ApiKeyRevoked {});
            Ok(outcome(state, (!state.revoked).then_some(event), facts))
        }
    }
}

fn check(key: &ApiKeyCreated, now: Timestamp) -> Result<(), Rejection> {
    let mut problems: Vec<Problem> = checks::name("/name", &key.name).into_iter().collect();
    if key.fingerprint.len() != 16 || !key.fingerprint.bytes().all(|b| b.is_ascii_hexdigit()) {
        let detail = "a fingerprint has 16 hexadecimal digits";
        problems.push(Problem::new("/fingerprint", "invalid_value", detail));
    }
    if key.scopes.is_empty() {
        let detail = "a key needs a scope at least; `*` is all that its owner may do";
        problems.push(Problem::new("/scopes", "missing_field", detail));
    }
    if key.scopes.len() > MAX_SCOPES {
        problems.push(Problem::new("/scopes", "too_many", format!("a key has at most {MAX_SCOPES} scopes")));
    }
    let mut seen = HashSet::new();
    for (number, scope) in key.scopes.iter().enumerate().take(MAX_SCOPES) {
        let pointer = format!("/scopes/{number}");
        if !is_scope(scope) {
            let detail =
                "a scope is a permission such as `workflow:read`, all of a kind such as `workflow:*`, or `*`";
            problems.push(Problem::new(pointer, "invalid_value", detail));
        } else if !seen.insert(scope) {
            problems.push(Problem::new(
                pointer,
                "duplicate_entry",
                "this scope is there already; leave it out",
            ));
        }
    }
    if key.expires_at.is_some_and(|at| at <= now) {
        let detail = "a key expires in the future; leave it out if it does not expire";
        problems.push(Problem::new("/expires_at", "out_of_range", detail));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Rejection::invalid("invalid_api_key", "the API key is not valid", problems))
}

/// The event, if there is one, and an answer that shows the key as it is after it.
fn outcome(state: &ApiKeyState, event: Option<ApiKeyEvent>, facts: &Facts) -> Decision {
    let after = event.iter().fold(state.clone(), super::evolve);
    let answer = json!({
        "id": facts.stream,
        "version": after.version,
        "etag": after.version,
        "name": after.name,
        "owner": after.owner,
        "fingerprint": after.fingerprint,
        "expires_at": after.expires_at,
        "revoked": after.revoked,
        "at": facts.now,
    });
    Decision::Events(Outcome {
        events: event.into_iter().map(Event::ApiKey).collect(),
        answer,
        ..Outcome::default()
    })
}

/// The refusal when there is no such thing in the tenant.
pub fn not_found(id: Uuid) -> Rejection {
    Rejection::new(RejectionKind::NotFound, "api_key_not_found", format!("there is no such API key: {id}"))
}
