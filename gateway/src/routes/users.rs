//! `/users`: who there is in the tenant.

mod changing;
mod last_admin;

use axum::extract::State;
use axum::response::Response;
use domain::access::builtin;
use domain::command::Command;
use domain::identity::user::command::UserCommand;
use domain::identity::user::{UserState, UserStatus, not_found};
use domain::identity::{normal_email, users_slot};
use domain::rejection::Problem;
use domain::time::Timestamp;
use http::{HeaderValue, StatusCode, header};
use read_models::{UserFilter, UserRow};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::access::may_grant;
use crate::answer::{List, json};
use crate::app::App;
use crate::cursor::Cursor;
use crate::directory::{OneTime, Secret, User, check_password, imported_hash, one_time, put_password};
use crate::failure::Failure;
use crate::reading::{read_error, wait_until_fresh};
use crate::request::{Caller, Fields, JsonBody, PathParams, Query, Write, WriteHeaders, etag};
use crate::schemas;
use crate::sending::{send, set_position};

pub(crate) use changing::*;

/// A user as administrators see them.
#[derive(Debug, Serialize)]
pub(crate) struct UserAnswer {
    id: Uuid,
    tenant: String,
    email: String,
    name: Option<String>,
    role: String,
    status: &'static str,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    operator: bool,
    email_verified: bool,
    totp: bool,
    /// In lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    created_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    updated_at: Option<Timestamp>,
    #[serde(skip)]
    etag: u64,
}

impl UserAnswer {
    /// From the log.
    pub(super) fn of(user: User) -> Self {
        let UserState { version, email, name, role, operator, status, email_verified, totp, .. } = user.state;
        Self {
            id: user.id,
            tenant: user.tenant.as_str().to_owned(),
            email,
            name,
            role,
            status: status.as_str(),
            operator,
            email_verified,
            totp,
            created_at: None,
            updated_at: None,
            etag: version,
        }
    }

    /// From the read model.
    fn of_row(row: UserRow) -> Self {
        Self {
            id: row.id,
            tenant: row.tenant.as_str().to_owned(),
            email: row.email,
            name: row.name,
            role: row.role,
            status: row.status.as_str(),
            operator: row.operator,
            email_verified: row.email_verified,
            totp: row.totp,
            created_at: Some(row.created_at),
            updated_at: Some(row.updated_at),
            etag: row.version,
        }
    }

    fn answer(&self, status: StatusCode) -> Result<Response, Failure> {
        let mut response = json(status, self)?;
        response.headers_mut().insert(header::ETAG, etag(self.etag));
        Ok(response)
    }
}

/// A token that is shown once.
#[derive(Serialize)]
struct Shown {
    token: String,
    expires_at: Timestamp,
}

/// A new user.
#[derive(Serialize)]
struct Created<'a> {
    #[serde(flatten)]
    user: &'a UserAnswer,
    #[serde(skip_serializing_if = "Option::is_none")]
    invitation: Option<Shown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invitation_token: Option<String>,
}

/// What a body says of a new user.
pub(super) struct NewUser {
    pub(super) email: String,
    pub(super) name: Option<String>,
    secret: Option<Secret>,
}

impl NewUser {
    /// Reads e-mail, name and secret.
    pub(super) fn read(fields: &mut Fields) -> Self {
        let email = normal_email(&fields.required_text("email"));
        let name = fields.text("name");
        let password = fields.text("password").map(Zeroizing::new);
        let hash = fields.text("password_hash");
        if password.is_some() && hash.is_some() {
            fields.report(
                "/password_hash",
                "conflicting_fields",
                "send `password` or `password_hash`, not both",
            );
        }
        let problems = [
            password.as_ref().and_then(|password| check_password("/password", password, &email)),
            hash.as_ref().and_then(|hash| imported_hash("/password_hash", hash)),
        ];
        for Problem { pointer, detail, .. } in problems.into_iter().flatten() {
            fields.report(&pointer, "invalid_password", detail);
        }
        let secret = password.map(Secret::Plain).or(hash.map(Secret::Hash));
        Self { email, name, secret }
    }

    /// A placeholder where the body said nothing that can be read.
    pub(super) fn nobody() -> Self {
        Self { email: String::new(), name: None, secret: None }
    }

    /// Whether they can log in at once.
    pub(super) fn has_secret(&self) -> bool {
        self.secret.is_some()
    }

    /// The command that makes them.
    pub(super) fn command(&self, role: String) -> Command {
        Command::User(UserCommand::Create {
            email: self.email.clone(),
            name: self.name.clone(),
            role,
            invited: self.secret.is_none(),
            operator: false,
        })
    }

    /// Stores what they log in with, once they are in the log.
    pub(super) async fn store_secret(self, app: &App, user: &User, repeated: bool) -> Result<(), Failure> {
        match self.secret {
            Some(secret) => {
                put_password(app, (&user.tenant, user.id, &user.state.email), secret, repeated).await
            }
            None => Ok(()),
        }
    }
}

/// Makes a user. Without a password they are invited: the answer shows, once, a token with which they set one.
#[utoipa::path(post, path = "/users", tag = "users", request_body = schemas::NewUser,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key makes one user; a repetition shows no token.")),
    responses((status = 201, description = "The user.", body = schemas::CreatedUser)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let body = body.required()?;
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let new = NewUser::read(&mut fields);
    let role = fields.text("role").unwrap_or_else(|| domain::access::USER.to_owned());
    fields.finish()?;
    let role = role_to_give(&app, &write.caller, &role).await?;
    let writing = write.create_in(users_slot(), app.clock.now());
    let reply = send(&app, &writing, new.command(role)).await?;
    let id = reply.answer.get("id").and_then(Value::as_str).and_then(|id| id.parse().ok());
    let user = found(&app, writing.caller(), id.unwrap_or(writing.stream)).await?;
    let invited = !new.has_secret();
    new.store_secret(&app, &user, reply.repeated).await?;
    let invitation = match invited && !reply.repeated {
        true => Some(one_time(&app, &user, OneTime::Invitation).await?),
        false => None,
    };
    let user = UserAnswer::of(user);
    let invitation_token = invitation.as_ref().map(|(token, _)| token.to_string());
    let invitation = invitation.map(|(token, expires_at)| Shown { token: token.to_string(), expires_at });
    let mut response = json(StatusCode::CREATED, &Created { user: &user, invitation, invitation_token })?;
    let headers = response.headers_mut();
    set_position(headers, reply.position);
    headers.insert(header::ETAG, etag(user.etag));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/users/{}", user.id)) {
        headers.insert(header::LOCATION, location);
    }
    Ok(response)
}

/// The tenant's users who are not deleted, the newest first.
#[utoipa::path(get, path = "/users", tag = "users",
    params(("role" = Option<String>, Query), ("status" = Option<String>, Query, description = "`invited`, `active`, `disabled` or `deleted`."),
        ("q" = Option<String>, Query, description = "Part of the e-mail or name."),
        ("limit" = Option<u16>, Query, description = "1 to 200."), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "A page.", body = schemas::TenantUserList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query,
) -> Result<Response, Failure> {
    query.only(&["role", "status", "q", "limit", "cursor"])?;
    let limit = query.limit()?;
    let cursor = query.text("cursor").map(Cursor::id).transpose()?;
    let status = query.text("status").map(|text| {
        let parsed = serde_json::from_value(Value::from(text)).ok();
        parsed.filter(|status| *status != UserStatus::None).ok_or_else(|| {
            Failure::parameter("status", "`status` must be invited, active, disabled or deleted")
        })
    });
    let filter = UserFilter {
        // Built-in roles are found in any case.
        role: query.text("role").map(|name| builtin(name).map_or_else(|| name.to_owned(), |role| role.name)),
        status: status.transpose()?,
        q: query.text("q").map(str::to_owned),
    };
    wait_until_fresh(&app, &caller.principal, &query, Some(users_slot().partition(app.log.partitions())))
        .await?;
    let page = app.models.users(&caller.viewer()?, &filter, cursor, limit).await.map_err(read_error)?;
    let seen = |row: &UserRow| {
        let resource = domain::access::Resource {
            kind: "user",
            id: Some(row.id),
            owner: Some(row.id),
            name: &row.email,
            ..Default::default()
        };
        caller.may(&resource).is_ok()
    };
    let items = page.items.into_iter().filter(seen).map(UserAnswer::of_row).collect();
    List { items, next_cursor: page.next.map(|id| Cursor::Id(id).encode()) }.answer(&query.uri)
}

/// A user.
#[utoipa::path(get, path = "/users/{id}", tag = "users", params(("id" = Uuid, Path)),
    responses((status = 200, description = "The user.", body = schemas::TenantUser)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: PathParams,
    query: Query,
) -> Result<Response, Failure> {
    query.only(&[])?;
    let user = found(&app, &caller, params.id("id")?).await?;
    caller.may(&resource(&user))?;
    UserAnswer::of(user).answer(StatusCode::OK)
}

/// A user as the judgement sees them: they are their own.
fn resource(user: &User) -> domain::access::Resource<'_> {
    domain::access::Resource {
        kind: "user",
        id: Some(user.id),
        owner: Some(user.id),
        name: &user.state.email,
        ..Default::default()
    }
}

/// A user of the caller's tenant who is not deleted.
async fn found(app: &App, caller: &Caller, id: Uuid) -> Result<User, Failure> {
    let user = app.directory.user_now(id).await?;
    let user = user
        .filter(|user| user.tenant == caller.principal.tenant && user.state.status != UserStatus::Deleted);
    user.ok_or_else(|| Failure::from(not_found(id)))
}

/// The name of a role that the caller may give.
async fn role_to_give(app: &App, caller: &Caller, name: &str) -> Result<String, Failure> {
    let roles = app.directory.roles_as(&caller.principal.tenant, crate::directory::Trust::Nothing).await?;
    let role = roles.find(name).ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        let detail = format!("there is no role `{shown}`; `GET /api/v1/roles` lists them");
        Failure::invalid_body(vec![Problem::new("/role", "unknown_role", detail)])
    })?;
    may_grant(&caller.principal, &role.grants)?;
    Ok(role.name)
}

/// A user whom the caller may change: one who has no more rights than the caller.
async fn target(app: &App, caller: &Caller, id: Uuid) -> Result<User, Failure> {
    let user = found(app, caller, id).await?;
    // Judged again by the decider; here, so that nobody learns from the checks before it.
    caller.may(&resource(&user))?;
    may_grant(&caller.principal, &app.directory.grants_of_role(&user).await?)?;
    Ok(user)
}

/// One of several commands of one request.
fn step(write: &Write, number: u128) -> Write {
    write.part(Uuid::from_u128(number))
}
