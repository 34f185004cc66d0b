//! The table of routes, in the order of the URL tree.

use domain::access::Permission as P;
use http::Method;

/// What a route needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rule {
    /// Nothing.
    Public,
    /// A recognised caller; what belongs to the caller alone.
    Recognised,
    /// A caller with a grant for this.
    Needs(P),
}

/// Method, route as the router knows it, and what it needs.
pub const RULES: &[(&str, &str, Rule)] = &[
    ("GET", "/livez", Rule::Public),
    ("GET", "/readyz", Rule::Public),
    ("GET", "/metrics", Rule::Public),
    ("GET", "/version", Rule::Public),
    ("GET", "/docs", Rule::Public),
    ("GET", "/docs/errors/{code}", Rule::Public),
    ("GET", "/device", Rule::Public),
    ("GET", "/device/page.js", Rule::Public),
    ("GET", "/device/page.css", Rule::Public),
    ("GET", "/.well-known/jwks.json", Rule::Public),
    ("GET", "/api/v1/openapi.json", Rule::Public),
    ("POST", "/api/v1/auth/register", Rule::Public),
    ("POST", "/api/v1/auth/login", Rule::Public),
    ("POST", "/api/v1/auth/refresh", Rule::Public),
    ("POST", "/api/v1/auth/password/reset", Rule::Public),
    ("POST", "/api/v1/auth/invitation", Rule::Public),
    ("GET", "/api/v1/auth/oidc", Rule::Public),
    ("GET", "/api/v1/auth/oidc/{provider}", Rule::Public),
    ("GET", "/api/v1/auth/oidc/{provider}/callback", Rule::Public),
    ("POST", "/api/v1/auth/device", Rule::Public),
    ("POST", "/api/v1/auth/device/token", Rule::Public),
    ("POST", "/api/v1/auth/device/approve", Rule::Recognised),
    ("POST", "/api/v1/auth/logout", Rule::Recognised),
    ("GET", "/api/v1/auth/me", Rule::Recognised),
    ("POST", "/api/v1/auth/password", Rule::Recognised),
    ("POST", "/api/v1/auth/totp", Rule::Recognised),
    ("POST", "/api/v1/auth/totp/confirm", Rule::Recognised),
    ("DELETE", "/api/v1/auth/totp", Rule::Recognised),
    ("GET", "/api/v1/auth/sessions", Rule::Recognised),
    ("DELETE", "/api/v1/auth/sessions/{id}", Rule::Recognised),
    ("GET", "/api/v1/permissions", Rule::Recognised),
    ("GET", "/api/v1/users", Rule::Needs(P::UserRead)),
    ("POST", "/api/v1/users", Rule::Needs(P::UserWrite)),
    ("GET", "/api/v1/users/{id}", Rule::Needs(P::UserRead)),
    ("PUT", "/api/v1/users/{id}", Rule::Needs(P::UserWrite)),
    ("DELETE", "/api/v1/users/{id}", Rule::Needs(P::UserWrite)),
    ("POST", "/api/v1/users/{id}/disable", Rule::Needs(P::UserWrite)),
    ("POST", "/api/v1/users/{id}/enable", Rule::Needs(P::UserWrite)),
    ("POST", "/api/v1/users/{id}/invite", Rule::Needs(P::UserWrite)),
    ("POST", "/api/v1/users/{id}/reset-password", Rule::Needs(P::UserWrite)),
    ("GET", "/api/v1/roles", Rule::Needs(P::RoleRead)),
    ("POST", "/api/v1/roles", Rule::Needs(P::RoleWrite)),
    ("GET", "/api/v1/roles/{name}", Rule::Needs(P::RoleRead)),
    ("PUT", "/api/v1/roles/{name}", Rule::Needs(P::RoleWrite)),
    ("DELETE", "/api/v1/roles/{name}", Rule::Needs(P::RoleWrite)),
    ("GET", "/api/v1/api-keys", Rule::Needs(P::ApiKeyRead)),
    ("POST", "/api/v1/api-keys", Rule::Needs(P::ApiKeyWrite)),
    ("GET", "/api/v1/api-keys/{id}", Rule::Needs(P::ApiKeyRead)),
    ("DELETE", "/api/v1/api-keys/{id}", Rule::Needs(P::ApiKeyWrite)),
    ("GET", "/api/v1/tenant", Rule::Needs(P::TenantRead)),
    ("PUT", "/api/v1/tenant", Rule::Needs(P::TenantUpdate)),
    ("GET", "/api/v1/tenants", Rule::Needs(P::TenantManage)),
    ("POST", "/api/v1/tenants", Rule::Needs(P::TenantManage)),
    ("GET", "/api/v1/tenants/{slug}", Rule::Needs(P::TenantManage)),
    ("PUT", "/api/v1/tenants/{slug}", Rule::Needs(P::TenantManage)),
    ("POST", "/api/v1/tenants/{slug}/suspend", Rule::Needs(P::TenantManage)),
    ("POST", "/api/v1/tenants/{slug}/resume", Rule::Needs(P::TenantManage)),
    ("GET", "/api/v1/audit", Rule::Needs(P::AuditRead)),
    ("GET", "/api/v1/audit/export", Rule::Needs(P::AuditRead)),
    ("POST", "/api/v1/workflows", Rule::Needs(P::WorkflowCreate)),
    ("GET", "/api/v1/workflows", Rule::Needs(P::WorkflowRead)),
    ("POST", "/api/v1/workflows/validate", Rule::Needs(P::ExpressionEvaluate)),
    ("GET", "/api/v1/workflows/{id}", Rule::Needs(P::WorkflowRead)),
    ("PUT", "/api/v1/workflows/{id}", Rule::Needs(P::WorkflowUpdate)),
    ("DELETE", "/api/v1/workflows/{id}", Rule::Needs(P::WorkflowDelete)),
    ("POST", "/api/v1/workflows/{id}/publish", Rule::Needs(P::WorkflowUpdate)),
    ("POST", "/api/v1/workflows/{id}/enable", Rule::Needs(P::WorkflowUpdate)),
    ("POST", "/api/v1/workflows/{id}/disable", Rule::Needs(P::WorkflowUpdate)),
    ("POST", "/api/v1/workflows/{id}/restore", Rule::Needs(P::WorkflowDelete)),
    ("POST", "/api/v1/workflows/{id}/share", Rule::Needs(P::WorkflowShare)),
    ("GET", "/api/v1/workflows/{id}/versions", Rule::Needs(P::WorkflowRead)),
    ("GET", "/api/v1/workflows/{id}/versions/{v}", Rule::Needs(P::WorkflowRead)),
    ("POST", "/api/v1/workflows/{id}/execute", Rule::Needs(P::WorkflowExecute)),
    ("GET", "/api/v1/executions", Rule::Needs(P::ExecutionRead)),
    ("POST", "/api/v1/executions/bulk", Rule::Needs(P::ExecutionBulk)),
    ("GET", "/api/v1/executions/bulk", Rule::Needs(P::ExecutionBulk)),
    ("GET", "/api/v1/executions/bulk/{id}", Rule::Needs(P::ExecutionBulk)),
    ("POST", "/api/v1/executions/bulk/{id}/cancel", Rule::Needs(P::ExecutionBulk)),
    ("GET", "/api/v1/executions/{id}", Rule::Needs(P::ExecutionRead)),
    ("GET", "/api/v1/executions/{id}/events", Rule::Needs(P::ExecutionRead)),
    ("GET", "/api/v1/executions/{id}/state", Rule::Needs(P::ExecutionRead)),
    ("GET", "/api/v1/executions/{id}/diff", Rule::Needs(P::ExecutionRead)),
    ("GET", "/api/v1/executions/{id}/diff/{other}", Rule::Needs(P::ExecutionRead)),
    ("GET", "/api/v1/executions/{id}/nodes", Rule::Needs(P::ExecutionRead)),
    ("GET", "/api/v1/executions/{id}/stream", Rule::Needs(P::ExecutionRead)),
    ("POST", "/api/v1/executions/{id}/cancel", Rule::Needs(P::ExecutionCancel)),
    ("POST", "/api/v1/executions/{id}/terminate", Rule::Needs(P::ExecutionTerminate)),
    ("POST", "/api/v1/executions/{id}/pause", Rule::Needs(P::ExecutionPause)),
    ("POST", "/api/v1/executions/{id}/resume", Rule::Needs(P::ExecutionPause)),
    ("POST", "/api/v1/executions/{id}/retry", Rule::Needs(P::ExecutionRetry)),
    ("POST", "/api/v1/executions/{id}/fork", Rule::Needs(P::ExecutionFork)),
    ("POST", "/api/v1/executions/{id}/signals/{name}", Rule::Needs(P::ExecutionSignal)),
    ("GET", "/api/v1/dead-letters", Rule::Needs(P::ExecutionRead)),
    ("GET", "/api/v1/dead-letters/{id}", Rule::Needs(P::ExecutionRead)),
    ("POST", "/api/v1/dead-letters/{id}/redrive", Rule::Needs(P::ExecutionRetry)),
    ("POST", "/api/v1/dead-letters/redrive", Rule::Needs(P::ExecutionRetry)),
    ("GET", "/api/v1/events", Rule::Needs(P::EventRead)),
    ("GET", "/api/v1/events/stream", Rule::Needs(P::EventRead)),
    ("POST", "/api/v1/filters/evaluate", Rule::Needs(P::ExpressionEvaluate)),
    ("POST", "/api/v1/expressions/evaluate", Rule::Needs(P::ExpressionEvaluate)),
    ("GET", "/api/v1/variables", Rule::Needs(P::VariableRead)),
    ("POST", "/api/v1/variables", Rule::Needs(P::VariableWrite)),
    ("GET", "/api/v1/variables/{name}", Rule::Needs(P::VariableRead)),
    ("PUT", "/api/v1/variables/{name}", Rule::Needs(P::VariableWrite)),
    ("DELETE", "/api/v1/variables/{name}", Rule::Needs(P::VariableWrite)),
    ("GET", "/api/v1/node-types", Rule::Needs(P::ExpressionEvaluate)),
    ("GET", "/api/v1/ws", Rule::Recognised),
];

/// What a route needs; `HEAD` is answered by `GET`. `None` if it is not in the table.
pub(crate) fn rule_of(method: &Method, route: &str) -> Option<Rule> {
    let method = if method == Method::HEAD { "GET" } else { method.as_str() };
    RULES.iter().find(|(verb, path, _)| *verb == method && *path == route).map(|(_, _, rule)| *rule)
}

/// The methods that have a row for a route.
pub(crate) fn methods_of(route: &str) -> impl Iterator<Item = &'static str> {
    RULES.iter().filter(move |(_, path, _)| *path == route).map(|(method, _, _)| *method)
}
