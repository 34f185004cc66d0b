//! Changes of rights: heard in the feed or sent from here, forgotten everywhere at once, told to long connections.
//!
//! Invariant: by the time a change is told, nothing remembered from before it is used any more. A feed that was lost
//! for a while counts as a change of everything.

use domain::command::{Command, CommandEnvelope};
use domain::event::RecordedEvent;
use domain::ids::TenantId;
use domain::workflow::command::WorkflowCommand;
use std::sync::Arc;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::auth::{Authenticator, Principal};
use crate::directory::Directory;
use crate::live::Listener;

use super::things::Things;

/// Changes that wait for a connection; one that is further behind looks at everything again.
const WAITING: usize = 64;

/// Whose rights, or the rights to what, have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RightsChange {
    /// A user's.
    User(Uuid),
    /// A key's.
    ApiKey(Uuid),
    /// Those of everybody in a tenant.
    Tenant(TenantId),
    /// Those to a workflow and its executions.
    Workflow(Uuid),
    /// Perhaps any.
    Any,
}

impl RightsChange {
    /// Whether it may concern a caller, whatever things they follow.
    pub(crate) fn concerns(&self, principal: &Principal) -> bool {
        match self {
            Self::User(user) => *user == principal.user,
            Self::ApiKey(key) => Some(*key) == principal.api_key,
            Self::Tenant(tenant) => *tenant == principal.tenant,
            // Whose workflow it is, the caller's judgement of what it follows says.
            Self::Workflow(_) | Self::Any => true,
        }
    }
}

/// Hears changes and passes them on.
pub(crate) struct Rights {
    auth: Arc<Authenticator>,
    directory: Arc<Directory>,
    things: Arc<Things>,
    changes: broadcast::Sender<RightsChange>,
}

impl Rights {
    pub(crate) fn new(auth: Arc<Authenticator>, directory: Arc<Directory>, things: Arc<Things>) -> Self {
        Self { auth, directory, things, changes: broadcast::Sender::new(WAITING) }
    }

    /// The changes from now on.
    pub(crate) fn changes(&self) -> Changes {
        Changes(self.changes.subscribe())
    }

    /// A command of this gateway was carried out: its effect holds for the next request here.
    pub(crate) fn sent(&self, command: &CommandEnvelope) {
        let category = match &command.command {
            Command::User(_) => "user",
            Command::Role(_) => "role",
            Command::Tenant(_) => "tenant",
            Command::ApiKey(_) => "api_key",
            Command::Workflow(WorkflowCommand::Share(_)) => "workflow",
            Command::Workflow(_) => return self.things.forget(command.stream),
            Command::Execution(_)
            | Command::Variables(_)
            | Command::Lane(_)
            | Command::Audit(_)
            | Command::Bulk(_) => return,
        };
        self.changed(category, command.stream, &command.tenant);
    }

    /// What was remembered goes first from the directory, then from what was made of it.
    fn changed(&self, category: &str, stream: Uuid, tenant: &TenantId) {
        let change = match category {
            "user" => {
                self.directory.forget(stream);
                self.auth.forget_user(stream);
                RightsChange::User(stream)
            }
            "api_key" => {
                self.directory.forget(stream);
                self.auth.forget_key(stream);
                RightsChange::ApiKey(stream)
            }
            "role" | "tenant" => {
                self.directory.forget(stream);
                self.auth.forget_tenant(tenant);
                RightsChange::Tenant(tenant.clone())
            }
            "workflow" => {
                self.things.forget(stream);
                RightsChange::Workflow(stream)
            }
            _ => return,
        };
        // Nobody may be listening.
        let _ = self.changes.send(change);
    }
}

impl Listener for Rights {
    fn heard(&self, event: &RecordedEvent) {
        let category = event.category();
        // Versions come and go without a change of who may see them.
        if category == "workflow" && event.event_type != "workflow.shared" {
            return self.things.forget(event.stream);
        }
        self.changed(category, event.stream, &event.tenant);
    }

    fn missed(&self) {
        self.directory.forget_all();
        self.things.forget_all();
        self.auth.forget_all();
        let _ = self.changes.send(RightsChange::Any);
    }
}

/// The changes that one connection hears of.
pub(crate) struct Changes(broadcast::Receiver<RightsChange>);

impl Changes {
    /// The next change; [`RightsChange::Any`] if some were missed. Cancel-safe.
    pub(crate) async fn next(&mut self) -> RightsChange {
        match self.0.recv().await {
            Ok(change) => change,
            Err(broadcast::error::RecvError::Lagged(_)) => RightsChange::Any,
            // The sender lives as long as the gateway.
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }
}
