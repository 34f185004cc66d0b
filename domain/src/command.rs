//! The envelope in which a command travels, whatever the aggregate.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

use crate::access::Authority;
use crate::audit::command::AuditCommand;
use crate::bulk::command::BulkCommand;
use crate::execution::command::ExecutionCommand;
use crate::identity::api_key::command::ApiKeyCommand;
use crate::identity::role::command::RoleCommand;
use crate::identity::tenant::command::TenantCommand;
use crate::identity::user::command::UserCommand;
use crate::ids::{Actor, TenantId};
use crate::lane::command::LaneCommand;
use crate::variables::command::VariablesCommand;
use crate::workflow::command::WorkflowCommand;

/// A command to one aggregate. The same `id` twice has one effect and the same answer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CommandEnvelope {
    /// The command's id: fresh, derived from an idempotency key, or derived from what caused it.
    pub id: Uuid,
    /// Whose it is.
    pub tenant: TenantId,
    /// Who sent it.
    pub actor: Actor,
    /// The aggregate; its slot says which partition decides.
    pub stream: Uuid,
    /// What all of it belongs to.
    pub correlation_id: Uuid,
    /// What caused it; for a command from outside, the command itself.
    pub causation_id: Uuid,
    /// With which right a caller from outside acts; judged again on folded state. `None`: a part of Everline itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Box<Authority>>,
    /// W3C trace context.
    pub traceparent: Option<Arc<str>>,
    /// SHA-256 of the caller's request, where the caller chose the id: the same id with another digest is refused.
    pub digest: Option<[u8; 32]>,
    /// What to do.
    pub command: Command,
}

/// A command of any aggregate.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// To a workflow.
    Workflow(WorkflowCommand),
    /// To an execution.
    Execution(ExecutionCommand),
    /// To a tenant's variables.
    Variables(VariablesCommand),
    /// To a lane.
    Lane(LaneCommand),
    /// To a tenant.
    Tenant(TenantCommand),
    /// To a user.
    User(UserCommand),
    /// To a tenant's roles.
    Role(RoleCommand),
    /// To an API key.
    ApiKey(ApiKeyCommand),
    /// To a tenant's audit.
    Audit(AuditCommand),
    /// To a bulk job.
    Bulk(BulkCommand),
}

impl Command {
    /// The command's name for logs, such as `StartExecution`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Workflow(command) => command.name(),
            Self::Execution(command) => command.name(),
            Self::Variables(command) => command.name(),
            Self::Lane(command) => command.name(),
            Self::Tenant(command) => command.name(),
            Self::User(command) => command.name(),
            Self::Role(command) => command.name(),
            Self::ApiKey(command) => command.name(),
            Self::Audit(command) => command.name(),
            Self::Bulk(command) => command.name(),
        }
    }
}

/// What the caller is told, the same for a repeated command.
pub type Answer = Value;
