//! What is done to users that are there.

use axum::extract::State;
use axum::response::Response;
use bus::CommandReply;
use domain::command::Command;
use domain::identity::user::UserStatus;
use domain::identity::user::command::UserCommand;
use domain::rejection::{Rejection, RejectionKind};
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use std::sync::Arc;

use crate::answer::json;
use crate::app::App;
use crate::directory::{OneTime, User, forget_secrets, one_time};
use crate::failure::Failure;
use crate::request::{Fields, IfMatch, JsonBody, PathParams, Write, WriteHeaders};
use crate::sending::{send, set_position};
use crate::{precondition, schemas};

use super::last_admin::{Loss, lose};
use super::{Shown, UserAnswer, found, role_to_give, step, target};

/// Gives a user another name or role.
#[utoipa::path(put, path = "/users/{id}", tag = "users", request_body = schemas::UserChange,
    params(("id" = Uuid, Path), ("If-Match" = String, Header, description = "The `ETag` of the read."),
        ("Idempotency-Key" = Option<String>, Header)),
    responses((status = 200, description = "The user.", body = schemas::TenantUser)))]
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    params: PathParams,
    if_match: IfMatch,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    let if_match = if_match.required()?;
    let body = body.required()?;
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let name = match fields.any("name") {
        None => None,
        Some(Value::Null) => Some(None),
        Some(Value::String(name)) => Some(Some(name)),
        Some(_) => {
            fields.report("/name", "wrong_type", "expected a string, or null for none");
            None
        }
    };
    let role = fields.text("role");
    fields.finish()?;
    let user = target(&app, &write.caller, id).await?;
    let writing = step(&write, 1).to(id, app.clock.now());
    precondition::check(&app, &writing, &if_match).await?;
    let mut last = None;
    // The role first: it is what may be refused.
    if let Some(role) = role {
        let role = role_to_give(&app, &write.caller, &role).await?;
        if role != user.state.role {
            last = Some(lose(&app, &write, &user, Loss::Role(role)).await?);
        }
    }
    if let Some(name) = name {
        let writing = step(&write, 2).to(id, app.clock.now());
        last = Some(send(&app, &writing, Command::User(UserCommand::Rename { name })).await?);
    }
    shown(&app, &write, id, last.as_ref()).await
}

/// The user as the commands have left them.
async fn shown(
    app: &App,
    write: &Write,
    id: uuid::Uuid,
    reply: Option<&CommandReply>,
) -> Result<Response, Failure> {
    let user = found(app, &write.caller, id).await?;
    let mut response = UserAnswer::of(user).answer(StatusCode::OK)?;
    set_position(response.headers_mut(), reply.and_then(|reply| reply.position));
    Ok(response)
}

/// Takes a user away, with all that they were recognised by. Their e-mail is free again; what they own stays.
#[utoipa::path(delete, path = "/users/{id}", tag = "users",
    params(("id" = Uuid, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "They are gone.")))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    params: PathParams,
    if_match: IfMatch,
    headers: WriteHeaders,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    let write = headers.with_body(&Value::Null);
    let user = target(&app, &write.caller, id).await?;
    precondition::check(&app, &step(&write, 1).to(id, app.clock.now()), &if_match).await?;
    let reply = lose(&app, &write, &user, Loss::All).await?;
    forget_secrets(&app, id).await?;
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    set_position(response.headers_mut(), reply.position);
    Ok(response)
}

/// Recognises a user no more, until they are enabled again.
#[utoipa::path(post, path = "/users/{id}/disable", tag = "users", params(("id" = Uuid, Path)),
    responses((status = 200, description = "The user.", body = schemas::TenantUser)))]
pub(crate) async fn disable(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let (write, user) = begin(&app, &params, headers, body).await?;
    let reply = lose(&app, &write, &user, Loss::Recognition).await?;
    // Whoever is enabled again logs in anew.
    app.sessions.end_all(user.id, None).await?;
    shown(&app, &write, user.id, Some(&reply)).await
}

/// Recognises a user again.
#[utoipa::path(post, path = "/users/{id}/enable", tag = "users", params(("id" = Uuid, Path)),
    responses((status = 200, description = "The user.", body = schemas::TenantUser)))]
pub(crate) async fn enable(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let (write, user) = begin(&app, &params, headers, body).await?;
    let writing = step(&write, 1).to(user.id, app.clock.now());
    let reply = send(&app, &writing, Command::User(UserCommand::Enable)).await?;
    shown(&app, &write, user.id, Some(&reply)).await
}

/// Makes another token with which an invited user sets a password. The ones before it are void.
#[utoipa::path(post, path = "/users/{id}/invite", tag = "users", params(("id" = Uuid, Path)),
    responses((status = 200, description = "The token, shown only now.", body = schemas::OneTimeToken)))]
pub(crate) async fn invite(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let (_, user) = begin(&app, &params, headers, body).await?;
    if user.state.status != UserStatus::Invited {
        let detail = format!(
            "user {} is {}; only invited ones are invited again",
            user.id,
            user.state.status.as_str()
        );
        return Err(Rejection::new(RejectionKind::Conflict, "user_not_invited", detail).into());
    }
    token(&app, &user, OneTime::Invitation).await
}

/// Makes a token with which a user sets another password. The ones before it are void; the password holds until then.
#[utoipa::path(post, path = "/users/{id}/reset-password", tag = "users", params(("id" = Uuid, Path)),
    responses((status = 200, description = "The token, shown only now.", body = schemas::OneTimeToken)))]
pub(crate) async fn reset_password(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let (_, user) = begin(&app, &params, headers, body).await?;
    if user.state.status != UserStatus::Active {
        let detail =
            format!("user {} is {}; invite or enable them instead", user.id, user.state.status.as_str());
        return Err(Rejection::new(RejectionKind::Conflict, "user_not_active", detail).into());
    }
    token(&app, &user, OneTime::PasswordReset).await
}

async fn begin(
    app: &App,
    params: &PathParams,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<(Write, User), Failure> {
    let id = params.id("id")?;
    let body = body.or_empty();
    let write = headers.with_body(&body);
    Fields::open(body)?.finish()?;
    let user = target(app, &write.caller, id).await?;
    Ok((write, user))
}

async fn token(app: &App, user: &User, what: OneTime) -> Result<Response, Failure> {
    let (token, expires_at) = one_time(app, user, what).await?;
    let mut response = json(StatusCode::OK, &Shown { token: token.to_string(), expires_at })?;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
