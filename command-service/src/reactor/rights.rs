//! With whose right a sub-workflow starts: with that of whoever the calling workflow belongs to.
//!
//! A definition may name any workflow of its tenant. Started with Everline's own right, it would let whoever may write
//! workflows run those of others, and read what they give. Its caller's executions may belong to somebody else, with whom
//! it was shared; they need no right to what it calls. Invariants: a workflow calls what belongs to the same user, and
//! beyond that what its owner may execute now; the decider judges it. Deliberately absent: workflows without an owner,
//! from before there were any, which call what they always did.

use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

use domain::access::{ADMIN, Authority, Permission, builtin};
use domain::aggregate::AggregateState;
use domain::command::{Command, CommandEnvelope};
use domain::event::{Event, ExecutionEvent, WorkflowEvent};
use domain::execution::command::{ExecutionCommand, StartExecution};
use domain::identity::bootstrap_admin_id;
use domain::identity::role::{self, RolesState};
use domain::identity::user::UserState;
use domain::ids::TenantId;
use event_store::Log;

use crate::folding::{LoadError, load};

/// How many owners and workflows of executions are remembered; neither changes.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(4_096).expect("not zero");

/// Finds out with which right children start.
pub(super) struct ChildRights {
    log: Arc<dyn Log>,
    /// The workflow of an execution.
    workflows: Mutex<LruCache<Uuid, Uuid>>,
    /// The owner of a workflow.
    owners: Mutex<LruCache<Uuid, Option<Uuid>>>,
}

impl ChildRights {
    pub(super) fn new(log: Arc<dyn Log>) -> Self {
        let (workflows, owners) = (LruCache::new(REMEMBERED), LruCache::new(REMEMBERED));
        Self { log, workflows: Mutex::new(workflows), owners: Mutex::new(owners) }
    }

    /// The right that a command needs; none if it starts no child, or one of the same owner.
    pub(super) async fn of(&self, envelope: &CommandEnvelope) -> Result<Option<Box<Authority>>, LoadError> {
        let Command::Execution(ExecutionCommand::Start(StartExecution { workflow_id, parent, .. })) =
            &envelope.command
        else {
            return Ok(None);
        };
        let Some(parent) = parent else { return Ok(None) };
        let Some(calling) = self.workflow_of(parent.execution_id).await? else { return Ok(None) };
        let Some(author) = self.owner_of(calling).await? else { return Ok(None) };
        if calling == *workflow_id || self.owner_of(*workflow_id).await? == Some(author) {
            return Ok(None);
        }
        Ok(Some(Box::new(self.authority(&envelope.tenant, author).await?)))
    }

    async fn workflow_of(&self, execution: Uuid) -> Result<Option<Uuid>, LoadError> {
        if let Some(known) = self.workflows.lock().unwrap_or_else(PoisonError::into_inner).get(&execution) {
            return Ok(Some(*known));
        }
        let first = self.log.read_stream(execution, 0, 1).await?;
        let Some(first) = first.first() else { return Ok(None) };
        let workflow = match first.decode()? {
            Event::Execution(ExecutionEvent::Started(started)) => started.workflow_id,
            Event::Execution(ExecutionEvent::Forked(forked)) => forked.workflow_id,
            _ => return Ok(None),
        };
        self.workflows.lock().unwrap_or_else(PoisonError::into_inner).put(execution, workflow);
        Ok(Some(workflow))
    }

    async fn owner_of(&self, workflow: Uuid) -> Result<Option<Uuid>, LoadError> {
        if let Some(known) = self.owners.lock().unwrap_or_else(PoisonError::into_inner).get(&workflow) {
            return Ok(*known);
        }
        let first = self.log.read_stream(workflow, 0, 1).await?;
        // One that is not there yet may come.
        let Some(first) = first.first() else { return Ok(None) };
        let Event::Workflow(WorkflowEvent::Created(created)) = first.decode()? else { return Ok(None) };
        self.owners.lock().unwrap_or_else(PoisonError::into_inner).put(workflow, created.owner);
        Ok(created.owner)
    }

    /// What a user may execute by their role as it is now. Whether they may still log in does not matter: what they have
    /// left behind goes on.
    async fn authority(&self, tenant: &TenantId, user: Uuid) -> Result<Authority, LoadError> {
        let folded = load(&*self.log, user, None).await?;
        let known = match folded.state {
            AggregateState::User(state) if folded.tenant.as_ref() == Some(tenant) => *state,
            // Before the log says so.
            _ if user == bootstrap_admin_id() => UserState { role: ADMIN.to_owned(), ..UserState::default() },
            _ => UserState::default(),
        };
        let role = match builtin(&known.role) {
            Some(role) => Some(role),
            None => match load(&*self.log, role::stream_of(tenant), None).await?.state {
                AggregateState::Role(roles) => roles.find(&known.role),
                _ => RolesState::default().find(&known.role),
            },
        };
        let mut grants = role.map(|role| role.grants).unwrap_or_default();
        grants.retain(|grant| grant.permission == Permission::WorkflowExecute);
        let (email, role) = (known.email, known.role);
        Ok(Authority { user, email, role, permission: Permission::WorkflowExecute, grants })
    }
}
