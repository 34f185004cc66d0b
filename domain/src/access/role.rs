//! Roles: named lists of grants. Three are built in, the rest is a tenant's own.

use serde::{Deserialize, Serialize};

use super::condition;
use super::permission::Permission;
use crate::rejection::Problem;

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

/// The most grants of one role.
pub const MAX_GRANTS: usize = 64;

/// What is wrong with a role's grants, all at once, under `/grants`.
pub fn grant_problems(grants: &[Grant]) -> Vec<Problem> {
    let mut problems = Vec::new();
    if grants.len() > MAX_GRANTS {
        problems.push(Problem::new("/grants", "too_many", format!("a role has at most {MAX_GRANTS} grants")));
    }
    for (number, grant) in grants.iter().enumerate().take(MAX_GRANTS) {
        let pointer = format!("/grants/{number}");
        if grant.permission == Permission::TenantManage {
            // Whoever may define roles of a tenant must not become an operator of the installation by it.
            let detail = "tenant:manage comes with being an operator of the installation; no role gives it";
            problems.push(Problem::new(format!("{pointer}/permission"), "invalid_value", detail));
        }
        if let Some(condition) = &grant.condition {
            problems.extend(condition::problem(format!("{pointer}/condition"), condition));
        }
        if grants[..number].contains(grant) {
            let detail = "this grant is there already; leave it out";
            problems.push(Problem::new(pointer, "duplicate_entry", detail));
        }
    }
    problems
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
