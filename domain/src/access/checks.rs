//! What an authority is held against before a command is decided: the thing as the log has it now.
//!
//! The gateway has judged the same before it sent the command, on what it had read. That may be old, or a mistake; here
//! it is judged on folded state, so that no route can forget it. Invariants: a command with an authority is decided only
//! if the authority is for that kind of command and admits the thing; a command without one comes from Everline itself.
//! What is not there is judged by nobody: its decider says that it is not found.

use serde_json::Value;
use uuid::Uuid;

use crate::aggregate::AggregateState;
use crate::bulk::command::BulkCommand;
use crate::command::{Command, CommandEnvelope};
use crate::decision::Need;
use crate::execution::command::{ExecutionCommand, ForkExecution, StartExecution};
use crate::execution::{ExecutionState, public_status};
use crate::facts::{Fact, Facts};
use crate::identity::api_key::command::ApiKeyCommand;
use crate::identity::role::command::RoleCommand;
use crate::identity::tenant::command::TenantCommand;
use crate::identity::user::command::UserCommand;
use crate::rejection::{Rejection, RejectionKind};
use crate::variables::command::VariablesCommand;
use crate::workflow::command::WorkflowCommand;

use super::authority::{Authority, Resource, SharedWith, judge};
use super::permission::Permission;

/// Whether a command may be decided.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Checked {
    /// It may.
    Allowed,
    /// It is not known before these are.
    Needs(Vec<Need>),
}

/// Judges a command on the thing it is for.
///
/// # Errors
/// Its authority is for another kind of command, or does not admit the thing.
pub(crate) fn check(
    state: &AggregateState,
    envelope: &CommandEnvelope,
    facts: &Facts,
) -> Result<Checked, Rejection> {
    let Some(authority) = envelope.authority.as_deref() else { return Ok(Checked::Allowed) };
    if !permissions_of(&envelope.command).contains(&authority.permission) {
        let name = envelope.command.name();
        let detail = format!("{name} cannot be sent with {}; report this as a bug", authority.permission);
        return Err(Rejection::new(RejectionKind::Forbidden, "authority_mismatch", detail));
    }
    match &envelope.command {
        Command::Workflow(command) => workflow(command, state, authority, facts),
        Command::Execution(ExecutionCommand::Start(start)) => start_execution(start, authority, facts),
        Command::Execution(ExecutionCommand::Fork(fork)) => fork_execution(fork, authority, facts),
        Command::Execution(_) => match state {
            AggregateState::Execution(state) => allow(authority, &execution(envelope.stream, state)),
            _ => Ok(Checked::Allowed),
        },
        Command::ApiKey(command) => api_key(command, state, authority, facts),
        Command::Bulk(command) => bulk(command, state, authority, facts),
        // Of these nobody owns one: they are for those who reach everything.
        Command::Variables(VariablesCommand::Set { name, .. } | VariablesCommand::Delete { name }) => {
            allow(authority, &named("variable", facts, name))
        }
        Command::Tenant(_) => allow(authority, &named("tenant", facts, facts.tenant.as_str())),
        Command::Role(
            RoleCommand::Define { role: crate::access::Role { name, .. }, .. } | RoleCommand::Delete { name },
        ) => allow(authority, &named("role", facts, name)),
        Command::User(command) => {
            let email = match (command, state) {
                (UserCommand::Create { email, .. }, _) => email,
                (_, AggregateState::User(state)) => &state.email,
                _ => return Ok(Checked::Allowed),
            };
            allow(authority, &named("user", facts, email))
        }
        // No permission fits them.
        Command::Lane(_) | Command::Audit(_) => Ok(Checked::Allowed),
    }
}

/// The permissions with which a command may be sent from outside; none for what only Everline itself sends.
fn permissions_of(command: &Command) -> &'static [Permission] {
    use Permission as P;
    match command {
        Command::Workflow(command) => match command {
            WorkflowCommand::Create { .. } => &[P::WorkflowCreate],
            WorkflowCommand::Update { .. }
            | WorkflowCommand::Publish { .. }
            | WorkflowCommand::Enable { .. }
            | WorkflowCommand::Disable { .. } => &[P::WorkflowUpdate],
            WorkflowCommand::Delete { .. } | WorkflowCommand::Restore { .. } => &[P::WorkflowDelete],
            WorkflowCommand::Share(_) => &[P::WorkflowShare],
        },
        Command::Execution(command) => of_execution(command),
        Command::Variables(VariablesCommand::Set { .. } | VariablesCommand::Delete { .. }) => {
            &[P::VariableWrite]
        }
        Command::Tenant(command) => match command {
            TenantCommand::Create { .. } | TenantCommand::Suspend { .. } | TenantCommand::Resume => {
                &[P::TenantManage]
            }
            TenantCommand::Update { .. } => &[P::TenantUpdate, P::TenantManage],
        },
        Command::User(command) => match command {
            // The first administrator of a tenant comes with it.
            UserCommand::Create { .. } => &[P::UserWrite, P::TenantManage],
            UserCommand::Rename { .. }
            | UserCommand::ChangeRole { .. }
            | UserCommand::Activate
            | UserCommand::VerifyEmail
            | UserCommand::Disable
            | UserCommand::Enable
            | UserCommand::Delete
            | UserCommand::ChangePassword { .. }
            | UserCommand::EnableTotp
            | UserCommand::DisableTotp
            | UserCommand::LinkIdentity { .. } => &[P::UserWrite],
        },
        Command::Role(RoleCommand::Define { .. } | RoleCommand::Delete { .. }) => &[P::RoleWrite],
        Command::ApiKey(ApiKeyCommand::Create { .. } | ApiKeyCommand::Revoke) => &[P::ApiKeyWrite],
        Command::Bulk(BulkCommand::Start { .. } | BulkCommand::Cancel { .. }) => &[P::ExecutionBulk],
        Command::Bulk(BulkCommand::Lease { .. } | BulkCommand::Report { .. })
        | Command::Lane(_)
        | Command::Audit(_) => &[],
    }
}

fn of_execution(command: &ExecutionCommand) -> &'static [Permission] {
    use Permission as P;
    match command {
        ExecutionCommand::Start(_) => &[P::WorkflowExecute],
        ExecutionCommand::Signal { .. } => &[P::ExecutionSignal],
        ExecutionCommand::Cancel { .. } => &[P::ExecutionCancel],
        ExecutionCommand::Terminate { .. } => &[P::ExecutionTerminate],
        ExecutionCommand::Pause { .. } | ExecutionCommand::Resume { .. } => &[P::ExecutionPause],
        ExecutionCommand::Retry { .. } => &[P::ExecutionRetry],
        ExecutionCommand::Fork(_) => &[P::ExecutionFork],
        ExecutionCommand::StartNode { .. }
        | ExecutionCommand::CompleteNode { .. }
        | ExecutionCommand::LoseWorker { .. }
        | ExecutionCommand::Wake(_)
        | ExecutionCommand::Admit { .. }
        | ExecutionCommand::Drop { .. }
        | ExecutionCommand::OfferEvent(_)
        | ExecutionCommand::FinishChild { .. }
        | ExecutionCommand::Compensate { .. }
        | ExecutionCommand::ChildCompensated { .. } => &[],
    }
}

fn workflow(
    command: &WorkflowCommand,
    state: &AggregateState,
    authority: &Authority,
    facts: &Facts,
) -> Result<Checked, Rejection> {
    if let WorkflowCommand::Create { definition, .. } = command {
        // Whose it will be, and what it will be called, of which a condition may speak.
        let content = match facts.resolve(definition) {
            Ok(content) => content,
            Err(need) => return Ok(Checked::Needs(vec![need])),
        };
        let name = content.get("name").and_then(Value::as_str).unwrap_or_default();
        let owner = Some(authority.user);
        return allow(authority, &Resource { owner, ..named("workflow", facts, name) });
    }
    let AggregateState::Workflow(state) = state else { return Ok(Checked::Allowed) };
    let shared = SharedWith::of(&state.shared, authority.user);
    let existing = Resource { owner: state.owner, shared, ..named("workflow", facts, &state.name) };
    allow(authority, &existing)
}

/// A start is judged on its workflow: nothing else is there yet.
fn start_execution(
    start: &StartExecution,
    authority: &Authority,
    facts: &Facts,
) -> Result<Checked, Rejection> {
    let head = match &facts.workflow {
        Fact::Unknown => {
            let mut needs = vec![Need::Workflow(start.workflow_id)];
            // The decider will ask for them in any case; so they come in one round.
            if let Fact::Unknown = facts.variables {
                needs.push(Need::Variables(None));
            }
            return Ok(Checked::Needs(needs));
        }
        Fact::Absent => return Err(crate::workflow::not_found(start.workflow_id)),
        Fact::Is(head) => head,
    };
    let workflow = Resource {
        kind: "workflow",
        id: Some(start.workflow_id),
        owner: head.owner,
        shared: SharedWith::of(&head.shared, authority.user),
        name: &head.name,
        ..Resource::default()
    };
    allow(authority, &workflow)
}

/// A fork is judged on what it comes from.
fn fork_execution(fork: &ForkExecution, authority: &Authority, facts: &Facts) -> Result<Checked, Rejection> {
    match &facts.origin {
        Fact::Unknown => {
            let need = Need::Origin { execution: fork.origin, at_version: fork.at_version };
            Ok(Checked::Needs(vec![need]))
        }
        Fact::Absent => Ok(Checked::Allowed),
        Fact::Is(origin) => allow(authority, &execution(fork.origin, &origin.state)),
    }
}

fn execution(id: Uuid, state: &ExecutionState) -> Resource<'_> {
    let started = state.started.as_deref();
    Resource {
        kind: "execution",
        id: Some(id),
        owner: state.owner(),
        // An execution does not know with whom its workflow is shared, and no act on it comes with that.
        shared: SharedWith::Nobody,
        name: started.map_or("", |started| started.workflow_name.as_str()),
        workflow: started.map(|started| started.workflow_id),
        status: Some(public_status(state).as_str()),
        attributes: started.map(|started| &started.attributes),
    }
}

fn api_key(
    command: &ApiKeyCommand,
    state: &AggregateState,
    authority: &Authority,
    facts: &Facts,
) -> Result<Checked, Rejection> {
    let (owner, name) = match (command, state) {
        (ApiKeyCommand::Create { owner, name, .. }, _) => (Some(*owner), name),
        (ApiKeyCommand::Revoke, AggregateState::ApiKey(state)) => (state.owner, &state.name),
        (ApiKeyCommand::Revoke, _) => return Ok(Checked::Allowed),
    };
    allow(authority, &Resource { owner, ..named("api_key", facts, name) })
}

fn bulk(
    command: &BulkCommand,
    state: &AggregateState,
    authority: &Authority,
    facts: &Facts,
) -> Result<Checked, Rejection> {
    let owner = match (command, state) {
        (BulkCommand::Start { acting, .. }, _) => Some(acting.user),
        (_, AggregateState::Bulk(state)) => state.started.as_ref().map(|started| started.acting.user),
        _ => return Ok(Checked::Allowed),
    };
    allow(authority, &Resource { owner, ..named("bulk_job", facts, "") })
}

/// A thing with a name that belongs to nobody.
fn named<'a>(kind: &'static str, facts: &Facts, name: &'a str) -> Resource<'a> {
    Resource { kind, id: Some(facts.stream), name, ..Resource::default() }
}

fn allow(authority: &Authority, resource: &Resource<'_>) -> Result<Checked, Rejection> {
    match judge(authority, resource) {
        Ok(()) => Ok(Checked::Allowed),
        Err(denied) => Err(Rejection::new(RejectionKind::Forbidden, "forbidden", denied.to_string())),
    }
}
