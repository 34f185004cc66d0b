//! `/roles`: named lists of grants. Three are built in, the rest is the tenant's own.

use axum::extract::State;
use axum::response::Response;
use domain::access::{ADMIN, Grant, Resource, Role, USER, VIEWER, builtin};
use domain::command::Command;
use domain::identity::role::command::RoleCommand;
use domain::identity::role::{RolesState, stream_of};
use domain::rejection::{Rejection, RejectionKind};
use http::{HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

use crate::access::may_grant;
use crate::answer::{List, json};
use crate::app::App;
use crate::directory::{Trust, has_role};
use crate::failure::Failure;
use crate::request::{Caller, Fields, IfMatch, JsonBody, PathParams, Query, Write, WriteHeaders, etag};
use crate::sending::{send, set_position};
use crate::{precondition, schemas};

/// The most grants of one body that are read.
const MAX_GRANTS: usize = 256;

/// A role as clients see it.
#[derive(Serialize)]
struct RoleAnswer {
    #[serde(flatten)]
    role: Role,
    builtin: bool,
}

impl RoleAnswer {
    fn of(role: Role) -> Self {
        Self { builtin: builtin(&role.name).is_some(), role }
    }
}

fn resource(name: &str) -> Resource<'_> {
    Resource { kind: "role", name, ..Resource::default() }
}

async fn roles(app: &App, caller: &Caller) -> Result<RolesState, Failure> {
    Ok(app.directory.roles_as(&caller.principal.tenant, Trust::Nothing).await?)
}

/// The roles that users of the tenant can have: those built in, then the tenant's own by name.
#[utoipa::path(get, path = "/roles", tag = "roles",
    responses((status = 200, description = "All of them.", body = schemas::RoleList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query,
) -> Result<Response, Failure> {
    query.only(&["limit", "cursor"])?;
    let own = roles(&app, &caller).await?;
    let all = [ADMIN, USER, VIEWER].into_iter().filter_map(builtin).chain(own.roles.into_values());
    let visible = all.filter(|role| caller.may(&resource(&role.name)).is_ok());
    List { items: visible.map(RoleAnswer::of).collect(), next_cursor: None }.answer(&query.uri)
}

/// A role.
#[utoipa::path(get, path = "/roles/{name}", tag = "roles", params(("name" = String, Path)),
    responses((status = 200, description = "The role.", body = schemas::Role)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: PathParams,
    query: Query,
) -> Result<Response, Failure> {
    query.only(&[])?;
    let name = params.text("name");
    caller.may(&resource(name))?;
    let known = roles(&app, &caller).await?;
    let version = known.version;
    let role = known.find(name).ok_or_else(|| not_found(name))?;
    let mut response = json(StatusCode::OK, &RoleAnswer::of(role))?;
    response.headers_mut().insert(header::ETAG, etag(version));
    Ok(response)
}

/// Defines a role.
#[utoipa::path(post, path = "/roles", tag = "roles", request_body = schemas::NewRole,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, description = "The role.", body = schemas::Role)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let body = body.required()?;
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let name = fields.required_text("name");
    let role = read(&mut fields, name);
    fields.finish()?;
    define(&app, write, role, true, &IfMatch::Absent).await
}

/// Defines a role, in place of the tenant's own one with this name. Its users have the new grants at once.
#[utoipa::path(put, path = "/roles/{name}", tag = "roles", request_body = schemas::RoleChange,
    params(("name" = String, Path),
        ("If-Match" = Option<String>, Header, description = "The `ETag` of the read."),
        ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, description = "The role.", body = schemas::Role)))]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    params: PathParams,
    if_match: IfMatch,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let body = body.required()?;
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let role = read(&mut fields, params.text("name").to_owned());
    fields.finish()?;
    define(&app, write, role, false, &if_match).await
}

fn read(fields: &mut Fields, name: String) -> Role {
    let description = fields.text("description");
    let given = match fields.required("grants") {
        Value::Array(given) => given,
        Value::Null => Vec::new(),
        _ => {
            fields.report("/grants", "wrong_type", "expected an array of grants");
            Vec::new()
        }
    };
    let mut grants = Vec::new();
    for (index, value) in given.into_iter().enumerate().take(MAX_GRANTS) {
        match Grant::deserialize(value) {
            Ok(grant) => grants.push(grant),
            Err(error) => {
                let detail: String = error.to_string().chars().take(200).collect();
                fields.report(&format!("/grants/{index}"), "invalid_value", detail);
            }
        }
    }
    Role { name, description, grants }
}

async fn define(
    app: &App,
    write: Write,
    role: Role,
    new: bool,
    if_match: &IfMatch,
) -> Result<Response, Failure> {
    write.caller.may(&resource(&role.name))?;
    may_grant(&write.caller.principal, &role.grants)?;
    // Whoever takes rights away from a role had them to give.
    if let Some(old) = roles(app, &write.caller).await?.roles.get(&role.name) {
        may_grant(&write.caller.principal, &old.grants)?;
    }
    let stream = stream_of(&write.caller.principal.tenant);
    let writing = write.to(stream, app.clock.now());
    precondition::check(app, &writing, if_match).await?;
    let reply = send(app, &writing, Command::Role(RoleCommand::Define { role: role.clone(), new })).await?;
    let status = if new { StatusCode::CREATED } else { StatusCode::OK };
    let mut response = json(status, &RoleAnswer::of(role.clone()))?;
    let headers = response.headers_mut();
    set_position(headers, reply.position);
    if let Some(version) = reply.answer.get("etag").and_then(Value::as_u64) {
        headers.insert(header::ETAG, etag(version));
    }
    if new && let Ok(location) = HeaderValue::try_from(format!("/api/v1/roles/{}", role.name)) {
        headers.insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Removes a role that nobody has.
#[utoipa::path(delete, path = "/roles/{name}", tag = "roles",
    params(("name" = String, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    params: PathParams,
    if_match: IfMatch,
    headers: WriteHeaders,
) -> Result<Response, Failure> {
    let name = params.text("name").to_owned();
    let write = headers.with_body(&Value::Null);
    write.caller.may(&resource(&name))?;
    let tenant = write.caller.principal.tenant.clone();
    if let Some(old) = roles(&app, &write.caller).await?.roles.get(&name) {
        may_grant(&write.caller.principal, &old.grants)?;
        if has_role(&app, &tenant, &name).await? {
            let detail = format!("users have the role `{name}`; give them another one first");
            return Err(Rejection::new(RejectionKind::Conflict, "role_in_use", detail).into());
        }
    }
    let writing = write.to(stream_of(&tenant), app.clock.now());
    precondition::check(&app, &writing, &if_match).await?;
    let reply = send(&app, &writing, Command::Role(RoleCommand::Delete { name })).await?;
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    set_position(response.headers_mut(), reply.position);
    Ok(response)
}

fn not_found(name: &str) -> Failure {
    let shown: String = name.chars().take(64).collect();
    let detail = format!("there is no role `{shown}`; `GET /api/v1/roles` lists them");
    Rejection::new(RejectionKind::NotFound, "role_not_found", detail).into()
}
