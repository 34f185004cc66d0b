//! `/auth/oidc`: logins through providers.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde::Serialize;
use std::sync::Arc;

use crate::answer::{List, json};
use crate::app::App;
use crate::failure::Failure;
use crate::oidc::Callback;
use crate::request::{PathParams, Query};
use crate::{schemas, status};

use super::auth::{Held, Visitor};

/// The longest path to go to after a login.
const MAX_REDIRECT_BYTES: usize = 1_024;

/// A provider to log in with.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct LoginProvider {
    /// As in `/auth/oidc/{provider}`.
    #[schema(example = "corp")]
    name: String,
}

/// Providers to log in with.
#[derive(utoipa::ToSchema)]
pub(crate) struct LoginProviders {
    #[expect(dead_code, reason = "describes what `List` writes")]
    items: Vec<LoginProvider>,
    #[expect(dead_code, reason = "describes what `List` writes")]
    next_cursor: Option<String>,
}

/// With whom one can log in.
#[utoipa::path(get, path = "/auth/oidc", tag = "auth",
    responses((status = 200, description = "The providers.", body = LoginProviders)))]
pub(crate) async fn list(State(app): State<Arc<App>>, query: Query) -> Result<Response, Failure> {
    query.only(&[])?;
    let items = app.providers.names().map(|name| LoginProvider { name: name.to_owned() }).collect();
    json(StatusCode::OK, &List { items, next_cursor: None })
}

/// Begins a login: sends the browser to the provider, with a cookie that the answer needs.
#[utoipa::path(get, path = "/auth/oidc/{provider}", tag = "auth",
    params(("provider" = String, Path, description = "A provider's name."),
        ("redirect" = Option<String>, Query, description = "A path of this server to go to with a session in cookies. Absent: the session is the answer.")),
    responses((status = 302, description = "To the provider.")))]
pub(crate) async fn begin(
    State(app): State<Arc<App>>,
    path: PathParams,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    query.only(&["redirect"])?;
    let redirect = query.text("redirect").map(own_path).transpose()?;
    let question = app.providers.ask(&app, path.text("provider"), &headers, redirect).await?;
    let mut response = StatusCode::FOUND.into_response();
    let sent = response.headers_mut();
    sent.insert(header::LOCATION, question.location);
    sent.insert(header::SET_COOKIE, question.cookie);
    keep_nowhere(sent);
    Ok(response)
}

/// Takes the provider's answer and begins a session: as JSON, or in cookies where the login named a path to go to.
#[utoipa::path(get, path = "/auth/oidc/{provider}/callback", tag = "auth",
    params(("provider" = String, Path, description = "A provider's name."),
        ("code" = Option<String>, Query, description = "The provider's code."),
        ("state" = Option<String>, Query, description = "What ties the answer to the login."),
        ("iss" = Option<String>, Query, description = "The provider's issuer."),
        ("error" = Option<String>, Query, description = "Why the provider did not let the person in.")),
    responses((status = 200, description = "A session.", body = schemas::Session),
        (status = 303, description = "To the path that the login named.")))]
pub(crate) async fn callback(
    State(app): State<Arc<App>>,
    path: PathParams,
    query: Query,
    headers: HeaderMap,
    visitor: Visitor,
) -> Result<Response, Failure> {
    // Providers add what they like; what is ours must be there once.
    let one = |name: &str| match query.prefixed(name).filter(|(rest, _)| rest.is_empty()).count() {
        0 | 1 => Ok(query.text(name).map(str::to_owned)),
        _ => Err(Failure::parameter(name, format!("`{name}` is given twice"))),
    };
    let answer =
        Callback { code: one("code")?, state: one("state")?, iss: one("iss")?, error: one("error")? };
    let arrival = app.providers.answer(&app, path.text("provider"), &headers, answer).await?;
    app.sessions.admit(&app, &arrival.user).await?;
    visitor.note(&app, &arrival.user, "LoginByProvider").await;
    let held = if arrival.redirect.is_some() { Held::Cookie } else { Held::Tokens };
    let begun = visitor.begin(&app, &arrival.user, held, StatusCode::OK).await?;
    let mut response = match &arrival.redirect {
        Some(path) => led_on(&begun, path)?,
        None => begun,
    };
    let sent = response.headers_mut();
    sent.append(header::SET_COOKIE, arrival.cookie);
    keep_nowhere(sent);
    Ok(response)
}

/// To a path of this server, with the cookies of a session.
fn led_on(begun: &Response, path: &str) -> Result<Response, Failure> {
    let mut response = StatusCode::SEE_OTHER.into_response();
    let headers = response.headers_mut();
    for cookie in begun.headers().get_all(header::SET_COOKIE) {
        headers.append(header::SET_COOKIE, cookie.clone());
    }
    let path = HeaderValue::try_from(path)
        .map_err(|_| Failure::new(status::INTERNAL, "the path to go to could not be written"))?;
    headers.insert(header::LOCATION, path);
    Ok(response)
}

/// Neither the codes in the address nor what is answered may reach anybody else.
fn keep_nowhere(headers: &mut HeaderMap) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}

/// A path of this server, so that nobody is sent elsewhere with a fresh session.
fn own_path(text: &str) -> Result<String, Failure> {
    let refuse = || Failure::parameter("redirect", "`redirect` must be a path of this server, such as /docs");
    let plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if text.len() > MAX_REDIRECT_BYTES || !plain || !text.starts_with('/') || text.starts_with("//") {
        return Err(refuse());
    }
    let uri = text.parse::<http::Uri>().map_err(|_| refuse())?;
    if uri.authority().is_some() || uri.scheme().is_some() {
        return Err(refuse());
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_ends_on_this_server() {
        assert_eq!(
            own_path("/device?user_code=BCDF-GHJK").ok().as_deref(),
            Some("/device?user_code=BCDF-GHJK")
        );
        for elsewhere in [
            "https://evil.example",
            "//evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "evil",
            "",
            "/a\r\nSet-Cookie: x",
            "/\t/evil.example",
            "javascript:alert(1)",
            "/é",
        ] {
            assert!(own_path(elsewhere).is_err(), "{elsewhere:?}");
        }
    }
}
