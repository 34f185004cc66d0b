//! `/permissions`: what roles and keys are made of.

use axum::response::Response;
use domain::access::Permission;
use serde::Serialize;

use crate::answer::List;
use crate::failure::Failure;
use crate::request::{Caller, Query};
use crate::schemas;

#[derive(Serialize)]
struct PermissionAnswer {
    name: &'static str,
    /// Whether the caller has it, at least on some things.
    granted: bool,
}

/// Every permission, and whether the caller has it.
#[utoipa::path(get, path = "/permissions", tag = "roles",
    responses((status = 200, description = "All of them.", body = schemas::PermissionList)))]
pub(crate) async fn list(caller: Caller, query: Query) -> Result<Response, Failure> {
    query.only(&[])?;
    let granted = |permission| caller.principal.grants.iter().any(|grant| grant.permission == permission);
    let items = Permission::ALL
        .iter()
        .map(|permission| PermissionAnswer { name: permission.as_str(), granted: granted(*permission) });
    List { items: items.collect(), next_cursor: None }.answer(&query.uri)
}
