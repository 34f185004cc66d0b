//! What a caller may do in one request, and whether a thing is within it.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::condition::holds;
use super::permission::Permission;
use super::role::{Grant, Reach};
use crate::workflow::event::{ShareAccess, Visibility, WorkflowShared};

/// A caller's right to one permission: what the gate found, and what travels in the command. There is none without
/// at least one grant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// The user that the caller is, or whose key it is.
    pub user: Uuid,
    /// Their e-mail, for conditions.
    pub email: String,
    /// Their role, for conditions.
    pub role: String,
    /// What is asked for.
    pub permission: Permission,
    /// The caller's grants for it; one that admits is enough.
    pub grants: Vec<Grant>,
}

/// How a thing is shared with the caller in question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SharedWith {
    /// Not at all.
    #[default]
    Nobody,
    /// With this access.
    Them(ShareAccess),
}

impl SharedWith {
    /// How a workflow is shared with a user.
    pub fn of(shared: &WorkflowShared, user: Uuid) -> Self {
        if shared.visibility == Visibility::Public || shared.users.contains(&user) {
            Self::Them(shared.access)
        } else {
            Self::Nobody
        }
    }
}

/// A thing as the judgement sees it. Its tenant is the caller's.
#[derive(Debug, Clone, Default)]
pub struct Resource<'a> {
    /// `workflow`, `execution`, `api_key`, …
    pub kind: &'static str,
    /// Its id.
    pub id: Option<Uuid>,
    /// The user to whom it belongs.
    pub owner: Option<Uuid>,
    /// Whether it is shared with the caller.
    pub shared: SharedWith,
    /// Its name; of an execution, its workflow's.
    pub name: &'a str,
    /// The workflow of an execution.
    pub workflow: Option<Uuid>,
    /// An execution's status.
    pub status: Option<&'static str>,
    /// An execution's attributes.
    pub attributes: Option<&'a Map<String, Value>>,
}

/// No grant admits the thing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{permission} is not allowed to you on this {kind}; ask its owner or an administrator")]
pub struct Denied {
    /// What was asked for.
    pub permission: Permission,
    /// The kind of the thing.
    pub kind: &'static str,
}

impl Authority {
    /// The widest reach among grants without a condition; `None` if all have one. What lists filter by in SQL.
    pub fn plain_reach(&self) -> Option<Reach> {
        let plain = self
            .grants
            .iter()
            .filter(|grant| grant.permission == self.permission && grant.condition.is_none());
        plain.map(|grant| grant.reach).max()
    }

    /// Whether anything of the tenant is within it, without a look at the thing.
    pub fn is_unbounded(&self) -> bool {
        self.plain_reach() == Some(Reach::Any)
    }
}

/// Whether a thing is within an authority.
///
/// # Errors
/// No grant admits it, or the conditions of those that would cannot be evaluated.
pub fn judge(authority: &Authority, resource: &Resource<'_>) -> Result<(), Denied> {
    let admitted = authority.grants.iter().any(|grant| admits(authority, grant, resource));
    if admitted { Ok(()) } else { Err(Denied { permission: authority.permission, kind: resource.kind }) }
}

fn admits(authority: &Authority, grant: &Grant, resource: &Resource<'_>) -> bool {
    let own = resource.owner == Some(authority.user);
    let is_for_it = grant.permission == authority.permission;
    let within = match grant.reach {
        Reach::Any => true,
        Reach::Own => own,
        Reach::Shared => own || shared(authority.permission, resource.shared),
    };
    is_for_it
        && within
        && grant.condition.as_deref().is_none_or(|condition| holds(condition, authority, resource))
}

/// Whether being shared is enough for a permission: to read, always; to execute, if it was shared for that.
fn shared(permission: Permission, shared: SharedWith) -> bool {
    match shared {
        SharedWith::Nobody => false,
        SharedWith::Them(ShareAccess::Execute) => true,
        SharedWith::Them(ShareAccess::Read) => {
            matches!(permission, Permission::WorkflowRead | Permission::ExecutionRead)
        }
    }
}
