//! `/auth/device`, and `/device`, the page on which a person lets a device in (RFC 8628).

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::audit::event::AuditResult;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use std::sync::Arc;

use crate::answer::json;
use crate::app::App;
use crate::audit::{self, Act};
use crate::auth::device::{INTERVAL, LIFETIME_MS};
use crate::failure::Failure;
use crate::origin;
use crate::request::{Caller, Fields, JsonBody};
use crate::{schemas, status};

use super::auth::{Held, Visitor};

const PAGE: &str = include_str!("page.html");
const SCRIPT: &str = include_str!("page.js");
const STYLE: &str = include_str!("page.css");

/// The page runs its own script and style, both files of their own, talks to this server, and stands in no frame.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// The longest name of a program.
const MAX_NAME_CHARS: usize = 100;

/// What a program calls itself.
#[derive(utoipa::ToSchema)]
pub(crate) struct DeviceRequest {
    /// Shown to whoever approves. At most 100 characters.
    #[schema(example = "everline on laptop")]
    #[expect(dead_code, reason = "describes what is read by hand")]
    client_name: String,
}

/// What to show to a person, and what to ask with.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct DeviceAnswer {
    /// For `POST /auth/device/token`. A secret.
    device_code: String,
    /// For the person: eight letters.
    #[schema(example = "BCDF-GHJK")]
    user_code: String,
    /// Where the person types it.
    verification_uri: String,
    /// The same with the code in it.
    verification_uri_complete: String,
    /// For how many seconds both codes are good.
    #[schema(example = 600)]
    expires_in: u64,
    /// How many seconds to wait between questions.
    #[schema(example = 5)]
    interval: u64,
}

/// What a program asks with.
#[derive(utoipa::ToSchema)]
pub(crate) struct DeviceTokenRequest {
    #[expect(dead_code, reason = "describes what is read by hand")]
    device_code: String,
}

/// A person's decision.
#[derive(utoipa::ToSchema)]
pub(crate) struct DeviceDecision {
    /// As the device shows it; case, spaces and hyphens are ignored.
    #[schema(example = "BCDF-GHJK")]
    #[expect(dead_code, reason = "describes what is read by hand")]
    user_code: String,
    /// Whether the device is let in.
    #[expect(dead_code, reason = "describes what is read by hand")]
    approve: bool,
}

/// What was decided.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct DeviceDecided {
    /// What the program calls itself.
    client_name: String,
    /// Whether it is let in.
    approved: bool,
}

/// Begins the login of a program without a browser.
#[utoipa::path(post, path = "/auth/device", tag = "auth", request_body = DeviceRequest,
    responses((status = 200, description = "The codes.", body = DeviceAnswer)))]
pub(crate) async fn begin(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: JsonBody,
) -> Result<Response, Failure> {
    let mut fields = Fields::open(body.required()?)?;
    let name = fields.required_text("client_name");
    if name.trim().is_empty() || name.chars().count() > MAX_NAME_CHARS || name.chars().any(char::is_control) {
        fields.report(
            "/client_name",
            "invalid_name",
            "a program has a name of 1 to 100 printable characters",
        );
    }
    fields.finish()?;
    let page = format!("{}/device", origin::of(&app.config, &headers)?);
    let begun = app.devices.begin(name.trim()).await?;
    let answer = DeviceAnswer {
        verification_uri_complete: format!("{page}?user_code={}", begun.user_code),
        verification_uri: page,
        device_code: begun.device_code.to_string(),
        user_code: begun.user_code,
        expires_in: LIFETIME_MS / 1000,
        interval: INTERVAL.as_secs(),
    };
    not_kept(json(StatusCode::OK, &answer)?)
}

/// Asks whether the program is let in. Until then the answer is a problem with the code `authorization_pending`, or
/// `slow_down` when it asks too often.
#[utoipa::path(post, path = "/auth/device/token", tag = "auth", request_body = DeviceTokenRequest,
    responses((status = 200, description = "A session.", body = schemas::Session)))]
pub(crate) async fn token(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    body: JsonBody,
) -> Result<Response, Failure> {
    let mut fields = Fields::open(body.required()?)?;
    let code = fields.required_text("device_code");
    fields.finish()?;
    let (tenant, user) = app.devices.poll(&code).await?;
    let user = app.directory.user_now(user).await?.filter(|user| user.tenant == tenant);
    let user = user.ok_or_else(|| Failure::new(status::ACCESS_DENIED, "the user is gone"))?;
    app.sessions.admit(&app, &user).await?;
    visitor.note(&app, &user, "LoginByDevice").await;
    visitor.begin(&app, &user, Held::Tokens, StatusCode::OK).await
}

/// Lets a program in, or turns it away. Needs a session; an API key cannot do it.
#[utoipa::path(post, path = "/auth/device/approve", tag = "auth", request_body = DeviceDecision,
    responses((status = 200, description = "What was decided.", body = DeviceDecided)))]
pub(crate) async fn approve(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: JsonBody,
) -> Result<Response, Failure> {
    let mut fields = Fields::open(body.required()?)?;
    let code = fields.required_text("user_code");
    let approve = fields.flag("approve");
    if approve.is_none() {
        fields.report("", "missing_field", "the field `approve` is missing");
    }
    fields.finish()?;
    let approved = approve == Some(true);
    let client_name = app.devices.decide(&caller.principal, &code, approved).await?;
    let act = Act {
        action: if approved { "ApproveDevice" } else { "TurnDeviceAway" },
        permission: None,
        resource: Some(client_name.clone()),
        result: AuditResult::Accepted,
        code: None,
    };
    let principal = &*caller.principal;
    let entry = audit::entry(&app, &caller.client, Some(principal), act);
    audit::note_and_wait(&app, &principal.tenant, entry).await;
    json(StatusCode::OK, &DeviceDecided { client_name, approved })
}

/// The page on which a person lets a device in.
#[utoipa::path(get, path = "/device", tag = "docs",
    responses((status = 200, description = "A page.", content_type = "text/html")))]
pub(crate) async fn page() -> Response {
    file("text/html; charset=utf-8", PAGE)
}

/// The page's script.
#[utoipa::path(get, path = "/device/page.js", tag = "docs",
    responses((status = 200, description = "A script.", content_type = "text/javascript")))]
pub(crate) async fn script() -> Response {
    file("text/javascript; charset=utf-8", SCRIPT)
}

/// The page's style.
#[utoipa::path(get, path = "/device/page.css", tag = "docs",
    responses((status = 200, description = "A style sheet.", content_type = "text/css")))]
pub(crate) async fn style() -> Response {
    file("text/css; charset=utf-8", STYLE)
}

fn file(kind: &'static str, text: &'static str) -> Response {
    let mut response = text.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    response
}

fn not_kept(mut response: Response) -> Result<Response, Failure> {
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
