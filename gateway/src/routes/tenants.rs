//! `/tenants` for operators of the installation, and `/tenant`: the caller's own.

use axum::extract::State;
use axum::response::Response;
use bus::CommandReply;
use domain::access::{ADMIN, Resource};
use domain::command::Command;
use domain::identity::tenant::command::TenantCommand;
use domain::identity::tenant::event::TenantSettings;
use domain::identity::tenant::{TenantState, stream_of};
use domain::identity::user::EMAIL_CLAIM;
use domain::identity::users_slot;
use domain::ids::TenantId;
use domain::rejection::{Rejection, RejectionKind};
use domain::time::Timestamp;
use event_store::verifiers::VerifierKind;
use http::{HeaderValue, StatusCode, header};
use read_models::TenantRow;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

use crate::answer::{List, json};
use crate::app::App;
use crate::cursor::Cursor;
use crate::directory::{Trust, User};
use crate::failure::Failure;
use crate::reading::{read_error, wait_until_fresh};
use crate::request::{Caller, Fields, IfMatch, JsonBody, PathParams, Query, Write, WriteHeaders, etag};
use crate::sending::{send, set_position};
use crate::{precondition, schemas};

use super::users::{NewUser, UserAnswer};

/// A tenant as clients see it.
#[derive(Serialize)]
pub(super) struct TenantAnswer {
    id: String,
    name: String,
    display_name: String,
    settings: TenantSettings,
    suspended: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin: Option<UserAnswer>,
    /// In lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    #[serde(skip)]
    etag: u64,
}

impl TenantAnswer {
    fn of(id: &TenantId, state: TenantState) -> Self {
        Self {
            id: id.as_str().to_owned(),
            name: id.as_str().to_owned(),
            display_name: state.name,
            settings: state.settings,
            suspended: state.suspended,
            admin: None,
            created_at: None,
            etag: state.version,
        }
    }

    /// From the read model.
    fn of_row(row: TenantRow) -> Self {
        Self {
            id: row.tenant.as_str().to_owned(),
            name: row.tenant.as_str().to_owned(),
            display_name: row.name,
            settings: row.settings,
            suspended: row.suspended,
            admin: None,
            created_at: Some(row.created_at),
            etag: row.version,
        }
    }

    fn answer(&self, status: StatusCode, reply: Option<&CommandReply>) -> Result<Response, Failure> {
        let mut response = json(status, self)?;
        response.headers_mut().insert(header::ETAG, etag(self.etag));
        set_position(response.headers_mut(), reply.and_then(|reply| reply.position));
        Ok(response)
    }
}

/// Makes a tenant with its first administrator.
#[utoipa::path(post, path = "/tenants", tag = "tenants", request_body = schemas::NewTenant,
    params(("Idempotency-Key" = Option<String>, Header)),
    responses((status = 201, description = "The tenant.", body = schemas::Tenant)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let body = body.required()?;
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let slug = fields.required_text("name");
    let tenant = TenantId::try_from(slug.clone()).unwrap_or_else(|error| {
        if !slug.is_empty() {
            fields.report("/name", "invalid_name", error.to_string());
        }
        TenantId::default_tenant()
    });
    let name = fields.text("display_name").unwrap_or(slug);
    let settings = settings(&mut fields).unwrap_or_default();
    let admin = admin(&mut fields);
    fields.finish()?;
    write.caller.may(&resource(&tenant))?;
    make(&app, &write, &tenant, TenantCommand::Create { name, settings }, &admin.email).await?;

    let writing =
        write.part(Uuid::from_u128(2)).create_in(users_slot(), app.clock.now()).of_tenant(tenant.clone());
    let reply = send(&app, &writing, admin.command(ADMIN.to_owned())).await?;
    let id = reply.answer.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok());
    let user = of_tenant(&app, &tenant, id.unwrap_or(writing.stream)).await?;
    admin.store_secret(&app, &user, reply.repeated).await?;

    let mut answer = found(&app, &tenant).await?;
    answer.admin = Some(UserAnswer::of(user));
    let mut response = answer.answer(StatusCode::CREATED, Some(&reply))?;
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/tenants/{tenant}", tenant = tenant.as_str()))
    {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Makes the tenant itself. One that was left without anybody, because its administrator could not be made, is gone
/// on with.
async fn make(
    app: &App,
    write: &Write,
    tenant: &TenantId,
    command: TenantCommand,
    email: &str,
) -> Result<(), Failure> {
    let writing = write.part(Uuid::from_u128(1)).to(stream_of(tenant), app.clock.now());
    let again = app.log.command_answer(app.partition_of(writing.stream), writing.command_id()).await?;
    if again.is_none() && app.log.installation_claim_holder(EMAIL_CLAIM, email).await?.is_some() {
        return Err(domain::identity::user::claim_taken().into());
    }
    match send(app, &writing.of_tenant(tenant.clone()), Command::Tenant(command)).await {
        Ok(_) => Ok(()),
        Err(failure) if failure.code == "tenant_exists" => {
            let somebody = !app.verifiers.list(VerifierKind::Password, tenant).await?.is_empty();
            if somebody || *tenant == TenantId::default_tenant() { Err(failure) } else { Ok(()) }
        }
        Err(failure) => Err(failure),
    }
}

fn admin(fields: &mut Fields) -> NewUser {
    let given = fields.required("admin");
    let mut inner = match Fields::open(given) {
        Ok(inner) => inner,
        Err(_) => {
            fields.report("/admin", "wrong_type", "expected an object");
            return NewUser::nobody();
        }
    };
    let admin = NewUser::read(&mut inner);
    if !admin.has_secret() {
        inner.report("/password", "missing_field", "the field `password` is missing");
    }
    fields.adopt("/admin", inner);
    admin
}

fn settings(fields: &mut Fields) -> Option<TenantSettings> {
    let given = fields.any("settings").filter(|given| !given.is_null())?;
    match TenantSettings::deserialize(given) {
        Ok(settings) => Some(settings),
        Err(error) => {
            let detail: String = error.to_string().chars().take(200).collect();
            fields.report("/settings", "invalid_value", detail);
            None
        }
    }
}

async fn of_tenant(app: &App, tenant: &TenantId, id: Uuid) -> Result<User, Failure> {
    let user = app.directory.user_now(id).await?.filter(|user| user.tenant == *tenant);
    user.ok_or_else(|| Failure::from(domain::identity::user::not_found(id)))
}

/// The tenants of the installation, by slug.
#[utoipa::path(get, path = "/tenants", tag = "tenants",
    params(("limit" = Option<u16>, Query, description = "1 to 200."), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "A page.", body = schemas::TenantList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query,
) -> Result<Response, Failure> {
    query.only(&["limit", "cursor"])?;
    let limit = query.limit()?;
    let cursor = query.text("cursor").map(Cursor::name).transpose()?;
    wait_until_fresh(&app, &caller.principal, &query, None).await?;
    let page = app.models.tenants(cursor.as_deref(), limit).await.map_err(read_error)?;
    let seen = |row: &TenantRow| caller.may(&resource(&row.tenant)).is_ok();
    let items = page.items.into_iter().filter(seen).map(TenantAnswer::of_row).collect();
    List { items, next_cursor: page.next.map(|slug| Cursor::Name(slug).encode()) }.answer(&query.uri)
}

/// A tenant.
#[utoipa::path(get, path = "/tenants/{slug}", tag = "tenants", params(("slug" = String, Path)),
    responses((status = 200, description = "The tenant.", body = schemas::Tenant)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: PathParams,
    query: Query,
) -> Result<Response, Failure> {
    query.only(&[])?;
    let tenant = slug(&params)?;
    caller.may(&resource(&tenant))?;
    found(&app, &tenant).await?.answer(StatusCode::OK, None)
}

/// Changes a tenant's name and settings.
#[utoipa::path(put, path = "/tenants/{slug}", tag = "tenants", request_body = schemas::TenantChange,
    params(("slug" = String, Path), ("If-Match" = String, Header, description = "The `ETag` of the read."),
        ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, description = "The tenant.", body = schemas::Tenant)))]
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    params: PathParams,
    if_match: IfMatch,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let tenant = slug(&params)?;
    change(&app, &tenant, headers, &if_match, body).await
}

/// Recognises nobody of a tenant any more. What runs goes on.
#[utoipa::path(post, path = "/tenants/{slug}/suspend", tag = "tenants", request_body = schemas::Reason,
    params(("slug" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, description = "The tenant.", body = schemas::Tenant)))]
pub(crate) async fn suspend(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let tenant = slug(&params)?;
    let body = body.or_empty();
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let reason = fields.text("reason");
    fields.finish()?;
    tell(&app, write, &tenant, TenantCommand::Suspend { reason }).await
}

/// Recognises a tenant's users again.
#[utoipa::path(post, path = "/tenants/{slug}/resume", tag = "tenants",
    params(("slug" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, description = "The tenant.", body = schemas::Tenant)))]
pub(crate) async fn resume(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let tenant = slug(&params)?;
    let body = body.or_empty();
    let write = headers.with_body(&body);
    Fields::open(body)?.finish()?;
    tell(&app, write, &tenant, TenantCommand::Resume).await
}

/// The caller's tenant.
#[utoipa::path(get, path = "/tenant", tag = "tenants",
    responses((status = 200, description = "The tenant.", body = schemas::Tenant)))]
pub(crate) async fn own(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query,
) -> Result<Response, Failure> {
    query.only(&[])?;
    let tenant = &caller.principal.tenant;
    caller.may(&resource(tenant))?;
    found(&app, tenant).await?.answer(StatusCode::OK, None)
}

/// Changes the name of the caller's tenant. Its settings are for operators.
#[utoipa::path(put, path = "/tenant", tag = "tenants", request_body = schemas::TenantChange,
    params(("If-Match" = String, Header, description = "The `ETag` of the read."),
        ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, description = "The tenant.", body = schemas::Tenant)))]
pub(crate) async fn update_own(
    State(app): State<Arc<App>>,
    if_match: IfMatch,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let tenant = headers.caller.principal.tenant.clone();
    change(&app, &tenant, headers, &if_match, body).await
}

async fn change(
    app: &App,
    tenant: &TenantId,
    headers: WriteHeaders,
    if_match: &IfMatch,
    body: JsonBody,
) -> Result<Response, Failure> {
    let if_match = if_match.clone().required()?;
    let body = body.required()?;
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let name = fields.text("display_name");
    let settings = settings(&mut fields);
    fields.finish()?;
    write.caller.may(&resource(tenant))?;
    let writing = write.to(stream_of(tenant), app.clock.now()).of_tenant(tenant.clone());
    precondition::check(app, &writing, &if_match).await?;
    let reply = send(app, &writing, Command::Tenant(TenantCommand::Update { name, settings })).await?;
    found(app, tenant).await?.answer(StatusCode::OK, Some(&reply))
}

async fn tell(
    app: &App,
    write: Write,
    tenant: &TenantId,
    command: TenantCommand,
) -> Result<Response, Failure> {
    write.caller.may(&resource(tenant))?;
    let writing = write.to(stream_of(tenant), app.clock.now()).of_tenant(tenant.clone());
    let reply = send(app, &writing, Command::Tenant(command)).await?;
    found(app, tenant).await?.answer(StatusCode::OK, Some(&reply))
}

async fn found(app: &App, tenant: &TenantId) -> Result<TenantAnswer, Failure> {
    let state = app.directory.tenant_as(tenant, Trust::Nothing).await?;
    state.map(|state| TenantAnswer::of(tenant, state)).ok_or_else(|| not_found(tenant.as_str()))
}

fn slug(params: &PathParams) -> Result<TenantId, Failure> {
    let text = params.text("slug");
    TenantId::try_from(text.to_owned()).map_err(|_| not_found(text))
}

fn not_found(slug: &str) -> Failure {
    let shown: String = slug.chars().take(64).collect();
    Rejection::new(RejectionKind::NotFound, "tenant_not_found", format!("there is no tenant `{shown}`"))
        .into()
}

fn resource(tenant: &TenantId) -> Resource<'_> {
    Resource { kind: "tenant", name: tenant.as_str(), ..Resource::default() }
}
