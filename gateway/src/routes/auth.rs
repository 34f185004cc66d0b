//! `/auth`: sessions of people.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use std::sync::Arc;
use zeroize::Zeroizing;

use crate::answer::json;
use crate::app::App;
use crate::auth::sessions::{TokenAnswer, UserAnswer};
use crate::failure::Failure;
use crate::request::{Caller, Fields, JsonBody};
use crate::{schemas, status};

/// Registration is closed: the first administrator is made when the server first starts.
#[utoipa::path(post, path = "/auth/register", tag = "auth", request_body = schemas::Credentials)]
pub(crate) async fn register() -> Failure {
    let detail = "registration is closed; ask your administrator for an account";
    Failure::new(status::REGISTRATION_CLOSED, detail)
}

/// Begins a session.
#[utoipa::path(post, path = "/auth/login", tag = "auth", request_body = schemas::Credentials,
    responses((status = 200, description = "A session.", body = schemas::Session)))]
pub(crate) async fn login(State(app): State<Arc<App>>, body: JsonBody) -> Result<Response, Failure> {
    let mut fields = Fields::open(body.required()?)?;
    let email = fields.required_text("email");
    let password = Zeroizing::new(fields.required_text("password"));
    fields.finish()?;
    session(&app.sessions.login(&email, password).await?)
}

/// Renews a session. A refresh token is good for one use; a second use ends the session.
#[utoipa::path(post, path = "/auth/refresh", tag = "auth", request_body = schemas::Refresh,
    responses((status = 200, description = "The next tokens.", body = schemas::Session)))]
pub(crate) async fn refresh(State(app): State<Arc<App>>, body: JsonBody) -> Result<Response, Failure> {
    let mut fields = Fields::open(body.required()?)?;
    let token = Zeroizing::new(fields.required_text("refresh_token"));
    fields.finish()?;
    session(&app.sessions.refresh(&app.auth, &token).await?)
}

/// Ends the session of the access token that is sent.
#[utoipa::path(post, path = "/auth/logout", tag = "auth",
    responses((status = 204, description = "The session is over.")))]
pub(crate) async fn logout(State(app): State<Arc<App>>, caller: Caller) -> Result<StatusCode, Failure> {
    app.sessions.logout(&app.auth, &caller.principal).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Who is calling.
#[utoipa::path(get, path = "/auth/me", tag = "auth",
    responses((status = 200, description = "The caller.", body = schemas::User)))]
pub(crate) async fn me(caller: Caller) -> Result<Response, Failure> {
    let principal = &caller.principal;
    json(
        StatusCode::OK,
        &UserAnswer::new(
            &principal.user.to_string(),
            &principal.email,
            principal.tenant.as_str(),
            &principal.role,
        ),
    )
}

pub(super) fn session(answer: &TokenAnswer) -> Result<Response, Failure> {
    let mut response = json(StatusCode::OK, answer)?;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
