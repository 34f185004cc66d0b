//! What follows from a command to a workflow.

use serde_json::{Value, json};
use std::collections::HashSet;
use uuid::Uuid;

use crate::blob::{MAX_DEPTH, is_too_deep};
use crate::decision::{ClaimChange, ClaimOp, ClaimScope, Decision, Outcome};
use crate::event::{Event, WorkflowEvent};
use crate::facts::Facts;
use crate::rejection::{Problem, Rejection, RejectionKind};

use super::NAME_CLAIM;
use super::command::WorkflowCommand;
use super::definition::{Definition, MAX_DEFINITION_BYTES};
use super::event::{
    WorkflowCreated, WorkflowDeleted, WorkflowDisabled, WorkflowEnabled, WorkflowPublished, WorkflowRestored,
    WorkflowShared, WorkflowUpdated,
};
use super::state::WorkflowState;

/// The most users with whom one workflow may be shared by name.
const MAX_SHARED_USERS: usize = 200;

/// The most versions that one workflow may have.
const MAX_VERSIONS: u64 = 10_000;

/// Decides a command on folded state.
pub fn decide(
    state: &WorkflowState,
    command: &WorkflowCommand,
    facts: &Facts,
) -> Result<Decision, Rejection> {
    match command {
        WorkflowCommand::Create { definition, publish } => create(state, definition, *publish, facts),
        WorkflowCommand::Update { definition, publish, expected_version } => {
            let state = live(state, facts)?;
            check_version(state, *expected_version, facts)?;
            update(state, definition, *publish, facts)
        }
        WorkflowCommand::Publish { version, expected_version } => {
            let state = live(state, facts)?;
            check_version(state, *expected_version, facts)?;
            publish(state, *version, facts)
        }
        WorkflowCommand::Enable { expected_version } => {
            let state = live(state, facts)?;
            check_version(state, *expected_version, facts)?;
            let event = WorkflowEvent::Enabled(WorkflowEnabled {});
            Ok(outcome(state, state.disabled.then_some(event), Vec::new(), facts))
        }
        WorkflowCommand::Disable { expected_version } => {
            let state = live(state, facts)?;
            check_version(state, *expected_version, facts)?;
            let event = WorkflowEvent::Disabled(WorkflowDisabled {});
            Ok(outcome(state, (!state.disabled).then_some(event), Vec::new(), facts))
        }
        WorkflowCommand::Delete { expected_version } => {
            let state = live(state, facts)?;
            check_version(state, *expected_version, facts)?;
            let event = WorkflowEvent::Deleted(WorkflowDeleted { name: state.name.clone() });
            Ok(outcome(state, [event], vec![claim(&state.name, ClaimOp::Release)], facts))
        }
        WorkflowCommand::Restore { expected_version } => restore(state, *expected_version, facts),
        WorkflowCommand::Share(shared) => {
            let state = live(state, facts)?;
            check_shared(shared)?;
            let event = WorkflowEvent::Shared(shared.clone());
            Ok(outcome(state, (state.shared != *shared).then_some(event), Vec::new(), facts))
        }
    }
}

fn create(
    state: &WorkflowState,
    document: &Value,
    publish: bool,
    facts: &Facts,
) -> Result<Decision, Rejection> {
    if state.latest_version() > 0 {
        let detail = format!("workflow {} exists already", facts.stream);
        return Err(Rejection::new(RejectionKind::Conflict, "workflow_exists", detail));
    }
    let content = match facts.resolve(document) {
        Ok(content) => content,
        Err(need) => return Ok(Decision::Needs(vec![need])),
    };
    let definition = parse(&content)?;
    let claims = vec![claim(&definition.name, ClaimOp::Take)];
    let mut events = vec![WorkflowEvent::Created(WorkflowCreated {
        name: definition.name,
        definition: document.clone(),
        definition_hash: definition.hash,
        owner: facts.authority.as_ref().map(|authority| authority.user),
    })];
    if publish {
        events.push(WorkflowEvent::Published(WorkflowPublished { definition_version: 1 }));
    }
    Ok(outcome(state, events, claims, facts))
}

fn update(
    state: &WorkflowState,
    document: &Value,
    publish: bool,
    facts: &Facts,
) -> Result<Decision, Rejection> {
    let content = match facts.resolve(document) {
        Ok(content) => content,
        Err(need) => return Ok(Decision::Needs(vec![need])),
    };
    let definition = parse(&content)?;
    let next = state.latest_version() + 1;
    if next > MAX_VERSIONS {
        let detail = format!("workflow {} has {MAX_VERSIONS} versions; create a new one", facts.stream);
        return Err(Rejection::new(RejectionKind::TooLarge, "too_many_versions", detail));
    }
    let mut claims = Vec::new();
    if definition.name != state.name {
        claims.push(claim(&definition.name, ClaimOp::Take));
        claims.push(claim(&state.name, ClaimOp::Release));
    }
    let mut events = vec![WorkflowEvent::Updated(WorkflowUpdated {
        definition_version: next,
        name: definition.name,
        definition: document.clone(),
        definition_hash: definition.hash,
    })];
    if publish {
        events.push(WorkflowEvent::Published(WorkflowPublished { definition_version: next }));
    }
    Ok(outcome(state, events, claims, facts))
}

fn publish(state: &WorkflowState, version: Option<u64>, facts: &Facts) -> Result<Decision, Rejection> {
    let version = version.unwrap_or_else(|| state.latest_version());
    if state.version(version).is_none() {
        let detail = format!("workflow {} has no version {version}", facts.stream);
        return Err(Rejection::new(RejectionKind::NotFound, "workflow_version_not_found", detail));
    }
    let event = WorkflowEvent::Published(WorkflowPublished { definition_version: version });
    let changes = state.published_version != Some(version);
    Ok(outcome(state, changes.then_some(event), Vec::new(), facts))
}

fn restore(
    state: &WorkflowState,
    expected_version: Option<u64>,
    facts: &Facts,
) -> Result<Decision, Rejection> {
    if state.latest_version() == 0 {
        return Err(super::not_found(facts.stream));
    }
    check_version(state, expected_version, facts)?;
    if !state.deleted {
        return Ok(outcome(state, None, Vec::new(), facts));
    }
    let event = WorkflowEvent::Restored(WorkflowRestored { name: state.name.clone() });
    Ok(outcome(state, [event], vec![claim(&state.name, ClaimOp::Take)], facts))
}

/// Whether the users with whom it is to be shared are few, and each named once. Whether they exist, the sender has seen.
fn check_shared(shared: &WorkflowShared) -> Result<(), Rejection> {
    let mut problems = Vec::new();
    if shared.users.len() > MAX_SHARED_USERS {
        let detail =
            format!("a workflow is shared with at most {MAX_SHARED_USERS} users; make it public instead");
        problems.push(Problem::new("/users", "too_many", detail));
    }
    let mut seen = HashSet::new();
    for (number, user) in shared.users.iter().enumerate().take(MAX_SHARED_USERS) {
        if !seen.insert(user) {
            let detail = format!("user {user} is named twice; name each once");
            problems.push(Problem::new(format!("/users/{number}"), "duplicate_entry", detail));
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Rejection::invalid("invalid_share", "the workflow cannot be shared like this", problems))
}

fn parse(document: &Value) -> Result<Definition, Rejection> {
    let bytes = document.to_string().len();
    if bytes > MAX_DEFINITION_BYTES {
        let detail = format!("the definition has {bytes} bytes; at most {MAX_DEFINITION_BYTES} are allowed");
        return Err(Rejection::new(RejectionKind::TooLarge, "definition_too_large", detail));
    }
    if is_too_deep(document) {
        let detail = format!("the definition is nested more than {MAX_DEPTH} levels deep; make it flatter");
        return Err(invalid_definition(vec![Problem::new("", "too_deep", detail)]));
    }
    Definition::parse(document).map_err(invalid_definition)
}

/// A definition that cannot run, with all its defects.
fn invalid_definition(problems: Vec<Problem>) -> Rejection {
    let detail = match problems.len() {
        1 => "the definition has a problem".to_owned(),
        count => format!("the definition has {count} problems"),
    };
    Rejection::invalid("invalid_definition", detail, problems)
}

/// A workflow that exists and is not deleted.
fn live<'a>(state: &'a WorkflowState, facts: &Facts) -> Result<&'a WorkflowState, Rejection> {
    if state.latest_version() == 0 || state.deleted {
        return Err(super::not_found(facts.stream));
    }
    Ok(state)
}

fn check_version(state: &WorkflowState, expected: Option<u64>, facts: &Facts) -> Result<(), Rejection> {
    match expected {
        Some(expected) if expected != state.stream_version => Err(Rejection::new(
            RejectionKind::PreconditionFailed,
            "version_mismatch",
            format!(
                "workflow {} has changed since it was read; read it again and repeat the change",
                facts.stream
            ),
        )),
        Some(_) | None => Ok(()),
    }
}

fn claim(name: &str, op: ClaimOp) -> ClaimChange {
    ClaimChange { kind: NAME_CLAIM, key: name.to_owned(), op, scope: ClaimScope::Tenant }
}

/// The events, and an answer that shows the workflow as it is after them.
fn outcome(
    state: &WorkflowState,
    events: impl IntoIterator<Item = WorkflowEvent>,
    claims: Vec<ClaimChange>,
    facts: &Facts,
) -> Decision {
    let events: Vec<_> = events.into_iter().collect();
    let after = events.iter().fold(state.clone(), |state, event| super::evolve(state, event, facts.now));
    let answer = json!({
        "id": facts.stream,
        "version": after.latest_version(),
        "published_version": after.published_version,
        "enabled": !after.disabled,
        "deleted": after.deleted,
        "etag": after.stream_version,
        "at": facts.now,
    });
    Decision::Events(Outcome {
        events: events.into_iter().map(Event::Workflow).collect(),
        claims,
        answer,
        ..Outcome::default()
    })
}

/// The refusal when another workflow holds the name.
pub fn claim_taken(claim: &ClaimChange, holder: Uuid) -> Rejection {
    Rejection::new(
        RejectionKind::Conflict,
        "workflow_name_taken",
        format!("the name `{}` is taken by workflow {holder}; choose another, or update that one", claim.key),
    )
}
