//! What follows from a command.

use serde_json::json;

use crate::access::{Authority, Permission};
use crate::decision::{Decision, Outcome};
use crate::event::{Event, TenantEvent};
use crate::facts::Facts;
use crate::ids::TenantId;
use crate::rejection::{Problem, Rejection, RejectionKind};

use super::command::TenantCommand;
use super::event::{TenantCreated, TenantResumed, TenantSettings, TenantSuspended, TenantUpdated};
use super::state::TenantState;
use crate::identity::checks;

/// Slugs that are nobody's: Everline itself acts under them.
const RESERVED: [&str; 1] = ["system"];
/// The most requests per minute that a tenant may be given.
const MAX_REQUESTS_PER_MINUTE: u32 = 10_000_000;

/// Decides a command on folded state.
pub fn decide(state: &TenantState, command: &TenantCommand, facts: &Facts) -> Result<Decision, Rejection> {
    if let TenantCommand::Create { name, settings } = command {
        return create(state, name, settings, facts);
    }
    // The tenant of an installation's first start is there before its first event.
    if state.version == 0 {
        return Err(not_found(&facts.tenant));
    }
    let event = match command {
        TenantCommand::Create { .. } => None,
        TenantCommand::Update { name, settings } => {
            update(state, name.as_deref(), settings.as_ref(), facts.authority.as_deref())?
        }
        TenantCommand::Suspend { reason } => {
            check(
                reason.as_deref().and_then(|reason| checks::text("/reason", reason)).into_iter().collect(),
            )?;
            if facts.tenant == TenantId::default_tenant() {
                let detail = "the tenant `default` has the operators, who alone could resume it; disable its users instead";
                return Err(Rejection::new(RejectionKind::Conflict, "tenant_of_operators", detail));
            }
            let event = || TenantEvent::Suspended(TenantSuspended { reason: reason.clone() });
            (!state.suspended).then(event)
        }
        TenantCommand::Resume => state.suspended.then_some(TenantEvent::Resumed(TenantResumed {})),
    };
    Ok(outcome(state, event, facts))
}

fn create(
    state: &TenantState,
    name: &str,
    settings: &TenantSettings,
    facts: &Facts,
) -> Result<Decision, Rejection> {
    if state.version > 0 {
        let detail = format!("tenant `{}` exists already", facts.tenant);
        return Err(Rejection::new(RejectionKind::Conflict, "tenant_exists", detail));
    }
    let mut problems = Vec::new();
    if RESERVED.contains(&facts.tenant.as_str()) {
        let detail = format!("`{}` is reserved; choose another", facts.tenant);
        problems.push(Problem::new("/name", "invalid_name", detail));
    }
    problems.extend(checks::name("/display_name", name));
    problems.extend(check_settings(settings));
    check(problems)?;
    let event = TenantEvent::Created(TenantCreated { name: name.to_owned(), settings: settings.clone() });
    Ok(outcome(state, Some(event), facts))
}

fn update(
    state: &TenantState,
    name: Option<&str>,
    settings: Option<&TenantSettings>,
    authority: Option<&Authority>,
) -> Result<Option<TenantEvent>, Rejection> {
    let mut problems: Vec<Problem> =
        name.and_then(|name| checks::name("/display_name", name)).into_iter().collect();
    problems.extend(settings.and_then(check_settings));
    check(problems)?;
    let settings = settings.unwrap_or(&state.settings);
    let of_tenant = authority.is_some_and(|authority| authority.permission == Permission::TenantUpdate);
    if of_tenant && *settings != state.settings {
        let detail = "a tenant's limits are set by an operator of the installation; ask one";
        return Err(Rejection::new(RejectionKind::Forbidden, "forbidden", detail));
    }
    let name = name.unwrap_or(&state.name);
    let changes = name != state.name || *settings != state.settings;
    let event = || {
        let updated = TenantUpdated { name: name.to_owned(), settings: settings.clone() };
        TenantEvent::Updated(updated)
    };
    Ok(changes.then(event))
}

fn check_settings(settings: &TenantSettings) -> Option<Problem> {
    let fits =
        settings.requests_per_minute.is_none_or(|count| (1..=MAX_REQUESTS_PER_MINUTE).contains(&count));
    let detail =
        format!("1 to {MAX_REQUESTS_PER_MINUTE} requests per minute; leave it out for the usual limit");
    (!fits).then(|| Problem::new("/settings/requests_per_minute", "out_of_range", detail))
}

fn check(problems: Vec<Problem>) -> Result<(), Rejection> {
    if problems.is_empty() {
        return Ok(());
    }
    Err(Rejection::invalid("invalid_tenant", "the tenant is not valid", problems))
}

/// The event, if there is one, and an answer that shows the tenant as it is after it.
fn outcome(state: &TenantState, event: Option<TenantEvent>, facts: &Facts) -> Decision {
    let after = event.iter().fold(state.clone(), super::evolve);
    let answer = json!({
        "id": facts.tenant,
        "stream": facts.stream,
        "version": after.version,
        "etag": after.version,
        "name": after.name,
        "settings": after.settings,
        "suspended": after.suspended,
        "at": facts.now,
    });
    Decision::Events(Outcome {
        events: event.into_iter().map(Event::Tenant).collect(),
        answer,
        ..Outcome::default()
    })
}

/// The refusal when there is no such tenant.
fn not_found(tenant: &TenantId) -> Rejection {
    Rejection::new(RejectionKind::NotFound, "tenant_not_found", format!("there is no tenant `{tenant}`"))
}
