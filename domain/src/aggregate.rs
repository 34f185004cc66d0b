//! Any aggregate: folding its stream, and deciding a command on what was folded.

use crate::access::{self, Checked};
use crate::audit::{self, AuditState};
use crate::bulk::{self, BulkState};
use crate::command::{Command, CommandEnvelope};
use crate::decision::{ClaimChange, Decision};
use crate::event::{Event, EventError, RecordedEvent};
use crate::execution::{self, ExecutionState};
use crate::facts::Facts;
use crate::identity::api_key::{self, ApiKeyState};
use crate::identity::role::{self, RolesState};
use crate::identity::tenant::{self, TenantState};
use crate::identity::user::{self, UserState};
use crate::ids::TenantId;
use crate::lane::{self, LaneState};
use crate::rejection::{Rejection, RejectionKind};
use crate::time::Timestamp;
use crate::variables::{self, VariablesState};
use crate::workflow::{self, WorkflowState};
use uuid::Uuid;

/// A folded stream.
#[derive(Debug, Clone, Default)]
pub struct Aggregate {
    /// Whose it is; `None` before its first event.
    pub tenant: Option<TenantId>,
    /// The version of its last event; 0 before the first.
    pub version: u64,
    /// What its events add up to.
    pub state: AggregateState,
}

/// The state of one kind of aggregate.
#[derive(Debug, Clone, Default)]
pub enum AggregateState {
    /// No event yet.
    #[default]
    Empty,
    /// A workflow.
    Workflow(Box<WorkflowState>),
    /// An execution.
    Execution(Box<ExecutionState>),
    /// A tenant's variables.
    Variables(Box<VariablesState>),
    /// A lane.
    Lane(Box<LaneState>),
    /// A tenant.
    Tenant(Box<TenantState>),
    /// A user.
    User(Box<UserState>),
    /// A tenant's roles.
    Role(Box<RolesState>),
    /// An API key.
    ApiKey(Box<ApiKeyState>),
    /// A day of a tenant's audit.
    Audit(Box<AuditState>),
    /// A bulk job.
    Bulk(Box<BulkState>),
}

impl Aggregate {
    /// Folds a stored event.
    pub fn apply_recorded(&mut self, event: &RecordedEvent) -> Result<(), EventError> {
        let typed = event.decode()?;
        self.apply(&event.tenant, &typed, event.recorded_at);
        Ok(())
    }

    /// Folds an event that was just decided.
    pub fn apply(&mut self, tenant: &TenantId, event: &Event, at: Timestamp) {
        if self.tenant.is_none() {
            self.tenant = Some(tenant.clone());
        }
        self.version += 1;
        let state = std::mem::take(&mut self.state);
        self.state = match (event, state) {
            (Event::Workflow(event), AggregateState::Workflow(state)) => {
                AggregateState::Workflow(Box::new(workflow::evolve(*state, event, at)))
            }
            (Event::Workflow(event), _) => {
                AggregateState::Workflow(Box::new(workflow::evolve(WorkflowState::default(), event, at)))
            }
            (Event::Execution(event), AggregateState::Execution(state)) => {
                AggregateState::Execution(Box::new(execution::evolve(*state, event, at)))
            }
            (Event::Execution(event), _) => {
                AggregateState::Execution(Box::new(execution::evolve(ExecutionState::default(), event, at)))
            }
            (Event::Variables(event), AggregateState::Variables(state)) => {
                AggregateState::Variables(Box::new(variables::evolve(*state, event)))
            }
            (Event::Variables(event), _) => {
                AggregateState::Variables(Box::new(variables::evolve(VariablesState::default(), event)))
            }
            (Event::Lane(event), AggregateState::Lane(state)) => {
                AggregateState::Lane(Box::new(lane::evolve(*state, event)))
            }
            (Event::Lane(event), _) => {
                AggregateState::Lane(Box::new(lane::evolve(LaneState::default(), event)))
            }
            (Event::Tenant(event), AggregateState::Tenant(state)) => {
                AggregateState::Tenant(Box::new(tenant::evolve(*state, event)))
            }
            (Event::Tenant(event), _) => {
                AggregateState::Tenant(Box::new(tenant::evolve(TenantState::default(), event)))
            }
            (Event::User(event), AggregateState::User(state)) => {
                AggregateState::User(Box::new(user::evolve(*state, event)))
            }
            (Event::User(event), _) => {
                AggregateState::User(Box::new(user::evolve(UserState::default(), event)))
            }
            (Event::Role(event), AggregateState::Role(state)) => {
                AggregateState::Role(Box::new(role::evolve(*state, event)))
            }
            (Event::Role(event), _) => {
                AggregateState::Role(Box::new(role::evolve(RolesState::default(), event)))
            }
            (Event::ApiKey(event), AggregateState::ApiKey(state)) => {
                AggregateState::ApiKey(Box::new(api_key::evolve(*state, event)))
            }
            (Event::ApiKey(event), _) => {
                AggregateState::ApiKey(Box::new(api_key::evolve(ApiKeyState::default(), event)))
            }
            (Event::Audit(event), AggregateState::Audit(state)) => {
                AggregateState::Audit(Box::new(audit::evolve(*state, event)))
            }
            (Event::Audit(event), _) => {
                AggregateState::Audit(Box::new(audit::evolve(AuditState::default(), event)))
            }
            (Event::Bulk(event), AggregateState::Bulk(state)) => {
                AggregateState::Bulk(Box::new(bulk::evolve(*state, event)))
            }
            (Event::Bulk(event), _) => {
                AggregateState::Bulk(Box::new(bulk::evolve(BulkState::default(), event)))
            }
        };
    }

    /// Decides a command, if its authority admits the thing. Another tenant's aggregate looks like one that does not exist.
    pub fn decide(&self, command: &CommandEnvelope, facts: &Facts) -> Result<Decision, Rejection> {
        if self.tenant.as_ref().is_some_and(|tenant| *tenant != command.tenant) {
            return Err(not_found(command));
        }
        if let Checked::Needs(needs) = access::check(&self.state, command, facts)? {
            return Ok(Decision::Needs(needs));
        }
        match (&command.command, &self.state) {
            (Command::Workflow(command), AggregateState::Workflow(state)) => {
                workflow::decide(state, command, facts)
            }
            (Command::Workflow(command), AggregateState::Empty) => {
                workflow::decide(&WorkflowState::default(), command, facts)
            }
            (Command::Execution(command), AggregateState::Execution(state)) => {
                execution::decide(state, command, facts)
            }
            (Command::Execution(command), AggregateState::Empty) => {
                execution::decide(&ExecutionState::default(), command, facts)
            }
            (Command::Variables(command), AggregateState::Variables(state)) => {
                variables::decide(state, command, facts)
            }
            (Command::Variables(command), AggregateState::Empty) => {
                variables::decide(&VariablesState::default(), command, facts)
            }
            (Command::Lane(command), AggregateState::Lane(state)) => lane::decide(state, command, facts),
            (Command::Lane(command), AggregateState::Empty) => {
                lane::decide(&LaneState::default(), command, facts)
            }
            (Command::Tenant(command), AggregateState::Tenant(state)) => {
                tenant::decide(state, command, facts)
            }
            (Command::Tenant(command), AggregateState::Empty) => {
                tenant::decide(&TenantState::default(), command, facts)
            }
            (Command::User(command), AggregateState::User(state)) => user::decide(state, command, facts),
            (Command::User(command), AggregateState::Empty) => {
                user::decide(&UserState::default(), command, facts)
            }
            (Command::Role(command), AggregateState::Role(state)) => role::decide(state, command, facts),
            (Command::Role(command), AggregateState::Empty) => {
                role::decide(&RolesState::default(), command, facts)
            }
            (Command::ApiKey(command), AggregateState::ApiKey(state)) => {
                api_key::decide(state, command, facts)
            }
            (Command::ApiKey(command), AggregateState::Empty) => {
                api_key::decide(&ApiKeyState::default(), command, facts)
            }
            (Command::Audit(command), AggregateState::Audit(_) | AggregateState::Empty) => {
                audit::decide(command)
            }
            (Command::Bulk(command), AggregateState::Bulk(state)) => bulk::decide(state, command, facts),
            (Command::Bulk(command), AggregateState::Empty) => {
                bulk::decide(&BulkState::default(), command, facts)
            }
            _ => Err(not_found(command)),
        }
    }
}

/// The refusal of a command because another stream holds a name that it would take.
pub fn claim_taken(claim: &ClaimChange, holder: Uuid) -> Rejection {
    match claim.kind {
        user::EMAIL_CLAIM => user::claim_taken(),
        _ => workflow::claim_taken(claim, holder),
    }
}

fn not_found(command: &CommandEnvelope) -> Rejection {
    match command.command {
        Command::Workflow(_) => workflow::not_found(command.stream),
        Command::Execution(_) => execution::not_found(command.stream),
        Command::Variables(_) => {
            Rejection::new(RejectionKind::NotFound, "variable_not_found", "there are no variables here")
        }
        Command::Lane(_) => {
            Rejection::new(RejectionKind::NotFound, "lane_not_found", "there is no such lane")
        }
        Command::Tenant(_) => {
            Rejection::new(RejectionKind::NotFound, "tenant_not_found", "there is no such tenant")
        }
        Command::User(_) => user::not_found(command.stream),
        Command::Role(_) => {
            Rejection::new(RejectionKind::NotFound, "role_not_found", "there are no roles here")
        }
        Command::ApiKey(_) => api_key::not_found(command.stream),
        Command::Audit(_) => {
            Rejection::new(RejectionKind::NotFound, "audit_not_found", "there is no audit here")
        }
        Command::Bulk(_) => bulk::not_found(command.stream),
    }
}
