//! What follows from a command.

use serde_json::json;

use crate::access::{Role, builtin, grant_problems};
use crate::decision::{Decision, Outcome};
use crate::event::{Event, RoleEvent};
use crate::facts::Facts;
use crate::identity::checks;
use crate::rejection::{Rejection, RejectionKind};

use super::RolesState;
use super::command::RoleCommand;
use super::event::{RoleDefined, RoleDeleted};

/// The most roles that a tenant may define.
pub const MAX_ROLES: usize = 100;

/// Decides a command on folded state.
pub fn decide(state: &RolesState, command: &RoleCommand, facts: &Facts) -> Result<Decision, Rejection> {
    match command {
        RoleCommand::Define { role, new } => {
            refuse_builtin(&role.name)?;
            check(role)?;
            let known = state.roles.get(&role.name);
            if *new && known.is_some() {
                let detail =
                    format!("role `{}` exists already; change that one, or choose another name", role.name);
                return Err(Rejection::new(RejectionKind::Conflict, "role_exists", detail));
            }
            if known.is_none() && state.roles.len() >= MAX_ROLES {
                let detail = format!("a tenant has at most {MAX_ROLES} roles of its own; delete one first");
                return Err(Rejection::new(RejectionKind::TooLarge, "too_many_roles", detail));
            }
            let event = || RoleEvent::Defined(RoleDefined { role: role.clone() });
            Ok(outcome(state, &role.name, (known != Some(role)).then(event), facts))
        }
        RoleCommand::Delete { name } => {
            refuse_builtin(name)?;
            if !state.roles.contains_key(name) {
                return Err(not_found(name));
            }
            let event = RoleEvent::Deleted(RoleDeleted { name: name.clone() });
            Ok(outcome(state, name, Some(event), facts))
        }
    }
}

fn refuse_builtin(name: &str) -> Result<(), Rejection> {
    match builtin(name) {
        None => Ok(()),
        Some(role) => {
            let detail =
                format!("{} is built in and stays as it is; define a role of another name", role.name);
            Err(Rejection::new(RejectionKind::Conflict, "role_builtin", detail))
        }
    }
}

fn check(role: &Role) -> Result<(), Rejection> {
    let mut problems = Vec::new();
    problems.extend(checks::role_name("/name", &role.name));
    problems.extend(role.description.as_deref().and_then(|text| checks::text("/description", text)));
    problems.extend(grant_problems(&role.grants));
    if problems.is_empty() {
        return Ok(());
    }
    Err(Rejection::invalid("invalid_role", "the role is not valid", problems))
}

/// The event, if there is one, and an answer that says what there is after it.
fn outcome(state: &RolesState, name: &str, event: Option<RoleEvent>, facts: &Facts) -> Decision {
    let after = event.iter().fold(state.clone(), super::evolve);
    let answer = json!({
        "id": name,
        "stream": facts.stream,
        "version": after.version,
        "etag": after.version,
        "deleted": !after.roles.contains_key(name),
        "at": facts.now,
    });
    Decision::Events(Outcome {
        events: event.into_iter().map(Event::Role).collect(),
        answer,
        ..Outcome::default()
    })
}

/// The refusal when the tenant has no such role.
pub fn not_found(name: &str) -> Rejection {
    let name: String = name.chars().take(40).collect();
    Rejection::new(RejectionKind::NotFound, "role_not_found", format!("there is no role `{name}`"))
}
