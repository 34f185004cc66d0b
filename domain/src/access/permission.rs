//! What can be allowed: a kind of thing and a verb, such as `workflow:read`.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

macro_rules! permissions {
    ($($(#[$doc:meta])* $variant:ident = $name:literal;)+) => {
        /// One thing that can be allowed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub enum Permission { $($(#[$doc])* $variant),+ }

        impl Permission {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// The stable name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }

            /// The kind of thing: what stands before the colon.
            pub fn kind(self) -> &'static str {
                self.as_str().split(':').next().unwrap_or_default()
            }
        }
    };
}

permissions! {
    /// Stores new workflows.
    WorkflowCreate = "workflow:create";
    /// Reads workflows and their versions.
    WorkflowRead = "workflow:read";
    /// Stores versions, publishes, enables, disables, restores.
    WorkflowUpdate = "workflow:update";
    /// Deletes.
    WorkflowDelete = "workflow:delete";
    /// Shows a workflow to others.
    WorkflowShare = "workflow:share";
    /// Starts executions of a workflow.
    WorkflowExecute = "workflow:execute";
    /// Reads executions, their events, nodes, logs and dead letters.
    ExecutionRead = "execution:read";
    /// Cancels.
    ExecutionCancel = "execution:cancel";
    /// Terminates.
    ExecutionTerminate = "execution:terminate";
    /// Pauses and resumes.
    ExecutionPause = "execution:pause";
    /// Retries, redrives dead letters.
    ExecutionRetry = "execution:retry";
    /// Sends signals.
    ExecutionSignal = "execution:signal";
    /// Forks.
    ExecutionFork = "execution:fork";
    /// Acts on many executions at once; the act needs its own permission too.
    ExecutionBulk = "execution:bulk";
    /// Reads the tenant's whole log.
    EventRead = "event:read";
    /// Reads variables.
    VariableRead = "variable:read";
    /// Sets and deletes variables.
    VariableWrite = "variable:write";
    /// Evaluates expressions, checks definitions, reads the catalogue of nodes.
    ExpressionEvaluate = "expression:evaluate";
    /// Reads users.
    UserRead = "user:read";
    /// Creates, invites, changes and deletes users.
    UserWrite = "user:write";
    /// Reads roles.
    RoleRead = "role:read";
    /// Defines and deletes roles.
    RoleWrite = "role:write";
    /// Reads API keys (never the secrets).
    ApiKeyRead = "api_key:read";
    /// Creates and revokes API keys.
    ApiKeyWrite = "api_key:write";
    /// Reads the tenant's own settings.
    TenantRead = "tenant:read";
    /// Changes the tenant's own settings.
    TenantUpdate = "tenant:update";
    /// Creates, lists, suspends tenants: for operators of the installation.
    TenantManage = "tenant:manage";
    /// Reads the audit.
    AuditRead = "audit:read";
}

/// The text names no permission.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a permission; `GET /api/v1/permissions` lists them all")]
pub struct PermissionError(String);

impl FromStr for Permission {
    type Err = PermissionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = Self::ALL.iter().find(|permission| permission.as_str() == text);
        found.copied().ok_or_else(|| PermissionError(text.chars().take(64).collect()))
    }
}

/// Whether a text can be a scope of an API key: a permission, all of a kind such as `workflow:*`, or `*`.
pub fn is_scope(text: &str) -> bool {
    let of_kind = |kind: &str| Permission::ALL.iter().any(|permission| permission.kind() == kind);
    text == "*" || text.strip_suffix(":*").map_or_else(|| text.parse::<Permission>().is_ok(), of_kind)
}

impl TryFrom<String> for Permission {
    type Error = PermissionError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Permission> for String {
    fn from(permission: Permission) -> Self {
        permission.as_str().to_owned()
    }
}

impl fmt::Display for Permission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
