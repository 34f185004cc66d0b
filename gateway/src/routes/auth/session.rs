//! `/auth/login`, `/auth/refresh`, `/auth/logout`, `/auth/me`: one session, from its beginning to its end.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::audit::event::AuditResult;
use http::StatusCode;
use std::sync::Arc;
use zeroize::Zeroizing;

use crate::answer::json;
use crate::app::App;
use crate::audit::{self, Act};
use crate::auth::cookies;
use crate::auth::login::Login;
use crate::auth::sessions::UserAnswer;
use crate::failure::Failure;
use crate::request::{Caller, Fields, JsonBody};
use crate::schemas;

use super::{Held, Visitor, held, proof, secret};

/// Begins a session. Where the account has a second factor, `code` or `recovery_code` is needed as well. With
/// `"session": "cookie"` the session is held by a cookie instead of tokens, and requests that change something repeat the
/// cookie `everline_csrf` in the header `X-CSRF-Token`.
#[utoipa::path(post, path = "/auth/login", tag = "auth", request_body = schemas::Login,
    responses((status = 200, description = "A session. Held by a cookie, it has `csrf_token` instead of tokens.", body = schemas::Session)))]
pub(crate) async fn login(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    body: JsonBody,
) -> Result<Response, Failure> {
    let mut fields = Fields::open(body.required()?)?;
    let email = fields.required_text("email");
    let password = Zeroizing::new(fields.required_text("password"));
    let held = held(&mut fields);
    let proof = proof(&mut fields);
    fields.finish()?;
    if held == Held::Cookie {
        // Another site must not log its own user in here.
        cookies::refuse_other_sites(&visitor.uri, &visitor.headers)?;
    }
    let user = app.sessions.log_in(&app, &visitor.client, Login { email, password, proof }).await?;
    let answer = visitor.begin(&app, &user, held, StatusCode::OK).await?;
    let caller = visitor.caller(&app, &user);
    note_session(&app, &caller, "Login").await;
    Ok(answer)
}

/// Renews a session. A refresh token is good for one use; a second use ends the session.
#[utoipa::path(post, path = "/auth/refresh", tag = "auth", request_body = schemas::Refresh,
    responses((status = 200, description = "The next tokens.", body = schemas::Session)))]
pub(crate) async fn refresh(State(app): State<Arc<App>>, body: JsonBody) -> Result<Response, Failure> {
    let mut fields = Fields::open(body.required()?)?;
    let token = Zeroizing::new(fields.required_text("refresh_token"));
    fields.finish()?;
    secret(StatusCode::OK, &app.sessions.refresh(&token).await?)
}

/// Ends the session of the access token or cookie that is sent.
#[utoipa::path(post, path = "/auth/logout", tag = "auth",
    responses((status = 204, description = "The session is over.")))]
pub(crate) async fn logout(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Failure> {
    app.sessions.logout(&caller.principal).await?;
    note_session(&app, &caller, "Logout").await;
    let mut response = StatusCode::NO_CONTENT.into_response();
    cookies::end(response.headers_mut());
    Ok(response)
}

/// Notes in the audit that somebody came or went.
async fn note_session(app: &App, caller: &Caller, action: &'static str) {
    let act = Act {
        action,
        permission: None,
        resource: Some(caller.principal.email.clone()),
        result: AuditResult::Accepted,
        code: None,
    };
    let entry = audit::entry(app, &caller.client, Some(&caller.principal), act);
    audit::note_and_wait(app, &caller.principal.tenant, entry).await;
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
