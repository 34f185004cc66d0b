//! `/api-keys`: keys of programs. Each belongs to a user and can do at most what that user can.

use axum::extract::State;
use axum::response::Response;
use domain::access::Resource;
use domain::command::Command;
use domain::identity::api_key::command::ApiKeyCommand;
use domain::identity::api_key::{ApiKeyState, not_found};
use domain::ids::Slot;
use domain::time::Timestamp;
use event_store::verifiers::{Verifier, VerifierKind};
use http::{HeaderValue, StatusCode, header};
use read_models::{ApiKeyFilter, ApiKeyRow};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

use crate::access::may_scope;
use crate::answer::{List, json};
use crate::app::App;
use crate::auth::Principal;
use crate::auth::token::{self, TokenHash};
use crate::cursor::Cursor;
use crate::failure::Failure;
use crate::reading::{read_error, wait_until_fresh};
use crate::request::{Caller, Fields, JsonBody, PathParams, Query, WriteHeaders};
use crate::sending::{send, set_position};
use crate::{schemas, status};

/// The most scopes of one body that are read.
const MAX_SCOPES: usize = 256;

/// A key as clients see it.
#[derive(Serialize)]
struct KeyAnswer {
    id: Uuid,
    name: String,
    owner: Option<Uuid>,
    fingerprint: String,
    scopes: Vec<String>,
    expires_at: Option<Timestamp>,
    revoked: bool,
    /// In lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_used_at: Option<Timestamp>,
    /// Shown once.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

impl KeyAnswer {
    fn of(id: Uuid, key: ApiKeyState) -> Self {
        Self {
            id,
            name: key.name,
            owner: key.owner,
            fingerprint: key.fingerprint,
            scopes: key.scopes,
            expires_at: key.expires_at,
            revoked: key.revoked,
            revoked_at: None,
            created_at: None,
            last_used_at: None,
            key: None,
        }
    }

    /// From the read model.
    fn of_row(row: ApiKeyRow) -> Self {
        Self {
            id: row.id,
            name: row.name,
            owner: Some(row.owner),
            fingerprint: row.fingerprint,
            scopes: row.scopes,
            expires_at: row.expires_at,
            revoked: row.revoked_at.is_some(),
            revoked_at: row.revoked_at,
            created_at: Some(row.created_at),
            last_used_at: None,
            key: None,
        }
    }
}

/// What a body says of a new key.
struct NewKey {
    name: String,
    scopes: Vec<String>,
    expires_at: Option<Timestamp>,
}

impl NewKey {
    fn read(fields: &mut Fields) -> Self {
        let name = fields.required_text("name");
        let mut scopes = Vec::new();
        match fields.any("scopes") {
            None | Some(Value::Null) => scopes.push("*".to_owned()),
            Some(Value::Array(given)) => {
                for (index, scope) in given.into_iter().enumerate().take(MAX_SCOPES) {
                    match scope {
                        Value::String(scope) => scopes.push(scope),
                        _ => fields.report(&format!("/scopes/{index}"), "wrong_type", "expected a string"),
                    }
                }
            }
            Some(_) => fields.report("/scopes", "wrong_type", "expected an array of scopes"),
        }
        let expires_at = fields.text("expires_at").and_then(|text| {
            let parsed = text.parse().ok();
            if parsed.is_none() {
                fields.report("/expires_at", "invalid_value", "expected an RFC 3339 time");
            }
            parsed
        });
        Self { name, scopes, expires_at }
    }

    /// Holds the key within what the caller may do, and for how long.
    async fn restrict(&mut self, app: &App, principal: &Principal) -> Result<(), Failure> {
        let asking = match principal.api_key {
            Some(key) => app.directory.api_key(key).await?.map(|(_, key)| key.scopes),
            None => None,
        };
        for scope in &self.scopes {
            may_scope(principal, asking.as_deref(), scope)?;
        }
        // A key that ends makes none that outlives it.
        if let (Some(_), Some(own_end)) = (principal.api_key, principal.expires_at) {
            if self.expires_at.is_some_and(|wanted| wanted > own_end) {
                let detail = "a key makes no key that outlives it; choose an earlier `expires_at`";
                return Err(Failure::new(status::FORBIDDEN, detail));
            }
            self.expires_at = self.expires_at.or(Some(own_end));
        }
        Ok(())
    }
}

/// Makes a key. The answer shows it, once; a repetition under the same Idempotency-Key cannot.
#[utoipa::path(post, path = "/api-keys", tag = "api-keys", request_body = schemas::NewApiKey,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key makes one API key; a repetition does not show it.")),
    responses((status = 201, description = "The key.", body = schemas::ApiKey)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let body = body.required()?;
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let mut new = NewKey::read(&mut fields);
    fields.finish()?;
    let principal = write.caller.principal.clone();
    write.caller.may(&resource(None, Some(principal.user), &new.name))?;
    new.restrict(&app, &principal).await?;
    let secret = token::fresh(token::API_KEY);
    let hash = TokenHash::of(&secret);
    let now = app.clock.now();
    let writing = write.create_in(Slot::of_tenant(&principal.tenant), now);
    let command = ApiKeyCommand::Create {
        name: new.name.clone(),
        owner: principal.user,
        fingerprint: hash.short().to_owned(),
        scopes: new.scopes.clone(),
        expires_at: new.expires_at,
    };
    let reply = send(&app, &writing, Command::ApiKey(command)).await?;
    let id = reply.answer.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok());
    let id = id.unwrap_or(writing.stream);
    // What the first time has stored is the key; this secret is nobody's then.
    if !reply.repeated {
        let verifier = Verifier {
            kind: VerifierKind::ApiKey,
            lookup: hash.hex().to_owned(),
            tenant: principal.tenant.clone(),
            principal: principal.user.to_string(),
            name: new.name,
            hash: String::new(),
            family: Some(id),
            created_at: now,
            expires_at: new.expires_at,
            used_at: None,
        };
        app.verifiers.put(&verifier).await?;
    }
    let mut answer = KeyAnswer::of(id, found(&app, writing.caller(), id).await?);
    answer.key = (!reply.repeated).then(|| secret.to_string());
    let mut response = json(StatusCode::CREATED, &answer)?;
    let headers = response.headers_mut();
    set_position(headers, reply.position);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/api-keys/{id}")) {
        headers.insert(header::LOCATION, location);
    }
    Ok(response)
}

/// The keys that the caller may see, the newest first, without their secrets.
#[utoipa::path(get, path = "/api-keys", tag = "api-keys",
    params(("owner" = Option<Uuid>, Query, description = "Of this user."),
        ("revoked" = Option<bool>, Query, description = "Whether to list those that are revoked too; `false` if it is not given."),
        ("limit" = Option<u16>, Query, description = "1 to 200."), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "A page.", body = schemas::ApiKeyList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query,
) -> Result<Response, Failure> {
    query.only(&["owner", "revoked", "limit", "cursor"])?;
    let limit = query.limit()?;
    let cursor = query.text("cursor").map(Cursor::id).transpose()?;
    let revoked = match query.text("revoked") {
        None | Some("false") => false,
        Some("true") => true,
        Some(_) => return Err(Failure::parameter("revoked", "`revoked` must be true or false")),
    };
    let filter = ApiKeyFilter { owner: query.id("owner")?, revoked };
    let home = Slot::of_tenant(&caller.principal.tenant).partition(app.log.partitions());
    wait_until_fresh(&app, &caller.principal, &query, Some(home)).await?;
    let page = app.models.api_keys(&caller.viewer()?, &filter, cursor, limit).await.map_err(read_error)?;
    let seen = |row: &ApiKeyRow| caller.may(&resource(Some(row.id), Some(row.owner), &row.name)).is_ok();
    let mut items: Vec<KeyAnswer> = page.items.into_iter().filter(seen).map(KeyAnswer::of_row).collect();
    let ids: Vec<Uuid> = items.iter().map(|key| key.id).collect();
    for (id, used) in app.verifiers.uses(&ids).await? {
        if let Some(key) = items.iter_mut().find(|key| key.id == id) {
            key.last_used_at = Some(used);
        }
    }
    List { items, next_cursor: page.next.map(|id| Cursor::Id(id).encode()) }.answer(&query.uri)
}

/// A key, without its secret.
#[utoipa::path(get, path = "/api-keys/{id}", tag = "api-keys", params(("id" = Uuid, Path)),
    responses((status = 200, description = "The key.", body = schemas::ApiKey)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: PathParams,
    query: Query,
) -> Result<Response, Failure> {
    query.only(&[])?;
    let id = params.id("id")?;
    let key = found(&app, &caller, id).await?;
    caller.may(&resource(Some(id), key.owner, &key.name))?;
    json(StatusCode::OK, &KeyAnswer::of(id, key))
}

/// Withdraws a key: it is refused from now on.
#[utoipa::path(delete, path = "/api-keys/{id}", tag = "api-keys", params(("id" = Uuid, Path)),
    responses((status = 204, description = "It is refused from now on.")))]
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    let writing = headers.with_body(&Value::Null).to(id, app.clock.now());
    let reply = send(&app, &writing, Command::ApiKey(ApiKeyCommand::Revoke)).await?;
    app.verifiers.delete_family(id).await?;
    app.auth.forget_key(id);
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    set_position(response.headers_mut(), reply.position);
    Ok(response)
}

fn resource(id: Option<Uuid>, owner: Option<Uuid>, name: &str) -> Resource<'_> {
    Resource { kind: "api_key", id, owner, name, ..Resource::default() }
}

/// A key of the caller's tenant.
async fn found(app: &App, caller: &Caller, id: Uuid) -> Result<ApiKeyState, Failure> {
    let found = app.directory.api_key_now(id).await?;
    let found = found.filter(|(tenant, _)| *tenant == caller.principal.tenant);
    found.map(|(_, key)| key).ok_or_else(|| Failure::from(not_found(id)))
}
