//! Roles: named lists of grants. Three are built in, the rest is a tenant's own.

use serde::{Deserialize, Serialize};

use super::permission::Permission;

/// May do everything in its tenant.
pub const ADMIN: &str = "ADMIN";
/// Works with workflows of its own, and sees what is shared with it.
pub const USER: &str = "USER";
/// Sees what is its own or shared with it.
pub const VIEWER: &str = "VIEWER";

/// How far a grant reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// What belongs to the caller.
    Own,
    /// That, and what is shared with the caller, or public in the tenant.
    Shared,
    /// Everything in the tenant.
    #[default]
    Any,
}

/// One line of a role: what is allowed, how far, and under which condition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// What is allowed.
    pub permission: Permission,
    /// On which things.
    #[serde(default)]
    pub reach: Reach,
    /// A CEL expression over `resource`, `principal` and `action` that must be true; none: always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

/// A role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Role {
    /// Its name: `[A-Za-z][A-Za-z0-9_-]{0,39}`; built-in names are upper case.
    pub name: String,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it allows.
    pub grants: Vec<Grant>,
}

/// A grant that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The condition does not parse.
    #[error("the condition does not parse: {0}")]
    Condition(String),
}

/// A built-in role by its name, whatever its case.
pub fn builtin(name: &str) -> Option<Role> {
    use Permission as P;
    let grant = |permission, reach| Grant { permission, reach, condition: None };
    let (name, grants) = if name.eq_ignore_ascii_case(ADMIN) {
        let all = P::ALL.iter().filter(|permission| **permission != P::TenantManage);
        (ADMIN, all.map(|permission| grant(*permission, Reach::Any)).collect())
    } else if name.eq_ignore_ascii_case(USER) {
        let own = [
            P::WorkflowUpdate,
            P::WorkflowDelete,
            P::WorkflowShare,
            P::ExecutionCancel,
            P::ExecutionTerminate,
            P::ExecutionPause,
            P::ExecutionRetry,
            P::ExecutionSignal,
            P::ExecutionFork,
            P::ExecutionBulk,
            P::ApiKeyRead,
            P::ApiKeyWrite,
        ];
        let shared = [P::WorkflowRead, P::WorkflowExecute, P::ExecutionRead];
        let any = [P::WorkflowCreate, P::VariableRead, P::ExpressionEvaluate];
        let grants = own.map(|permission| grant(permission, Reach::Own)).into_iter();
        let grants = grants.chain(shared.map(|permission| grant(permission, Reach::Shared)));
        (USER, grants.chain(any.map(|permission| grant(permission, Reach::Any))).collect())
    } else if name.eq_ignore_ascii_case(VIEWER) {
        let grants = vec![
            grant(P::WorkflowRead, Reach::Shared),
            grant(P::ExecutionRead, Reach::Shared),
            grant(P::ApiKeyRead, Reach::Own),
            grant(P::ApiKeyWrite, Reach::Own),
            grant(P::ExpressionEvaluate, Reach::Any),
        ];
        (VIEWER, grants)
    } else {
        return None;
    };
    Some(Role { name: name.to_owned(), description: None, grants })
}
