//! `/auth`: sessions of people.

mod password;
mod register;
mod session;
mod sessions;
mod totp;

use axum::Extension;
use axum::extract::FromRequestParts;
use axum::response::Response;
use domain::audit::event::AuditResult;
use domain::command::Command;
use domain::identity::user::command::UserCommand;
use domain::rejection::Problem;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use serde::Serialize;
use serde_json::Value;
use std::convert::Infallible;
use std::sync::Arc;

use crate::answer::json;
use crate::app::App;
use crate::audit::{self, Act};
use crate::auth::cookies::{self, Transport};
use crate::auth::password::check_rules;
use crate::auth::second_factor::Proof;
use crate::auth::sessions::{Device, TokenAnswer};
use crate::client::Client;
use crate::directory::User;
use crate::failure::Failure;
use crate::request::{Caller, Fields, Write};
use crate::sending::send;
use crate::trace_context::TraceContext;

pub(crate) use password::*;
pub(crate) use register::*;
pub(crate) use session::*;
pub(crate) use sessions::*;
pub(crate) use totp::*;

/// Somebody who is not recognised yet, or need not be.
pub(crate) struct Visitor {
    client: Client,
    trace: TraceContext,
    headers: HeaderMap,
    uri: Uri,
}

/// How a session is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Held {
    /// By tokens, in the answer.
    Tokens,
    /// By a browser, in a cookie.
    Cookie,
}

impl<S: Send + Sync> FromRequestParts<S> for Visitor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let client = Extension::<Client>::from_request_parts(parts, state).await;
        Ok(Self {
            client: client.map(|Extension(client)| client).unwrap_or_default(),
            trace: TraceContext::from_request_parts(parts, state).await?,
            headers: parts.headers.clone(),
            uri: parts.uri.clone(),
        })
    }
}

impl Visitor {
    /// The program that they use.
    fn device(&self) -> Device {
        Device::new("everline", self.client.user_agent.as_deref())
    }

    /// Whether their cookies are for HTTPS only.
    fn transport(&self, app: &App) -> Transport {
        if app.config.cookie_secure || self.client.https { Transport::Secure } else { Transport::Plain }
    }

    /// The session of a user, as it is to be held.
    pub(super) async fn begin(
        &self,
        app: &App,
        user: &User,
        held: Held,
        status: StatusCode,
    ) -> Result<Response, Failure> {
        match held {
            Held::Tokens => secret(status, &app.sessions.begin(user, &self.device()).await?),
            Held::Cookie => {
                let begun = app.sessions.begin_cookie(user, &self.device()).await?;
                let mut response = secret(status, &begun)?;
                let transport = self.transport(app);
                let lifetime = app.config.cookie_session_ms;
                cookies::begin(
                    response.headers_mut(),
                    transport,
                    &begun.secret,
                    &begun.csrf_token,
                    lifetime,
                )?;
                Ok(response)
            }
        }
    }

    /// Notes in the audit that a user has come in, and how.
    pub(super) async fn note(&self, app: &App, user: &User, action: &'static str) {
        let act = Act {
            action,
            permission: None,
            resource: Some(user.state.email.clone()),
            result: AuditResult::Accepted,
            code: None,
        };
        let principal = app.auth.principal_of(user);
        audit::note_and_wait(app, &user.tenant, audit::entry(app, &self.client, Some(&principal), act)).await;
    }

    /// As the user that somebody has turned out to be.
    fn caller(&self, app: &App, user: &User) -> Caller {
        Caller {
            principal: Arc::new(app.auth.principal_of(user)),
            trace: self.trace.clone(),
            authority: None,
            client: self.client.clone(),
        }
    }
}

/// Changes a user in their own name.
async fn change(app: &App, caller: Caller, user: &User, command: UserCommand) -> Result<(), Failure> {
    let write = Write::of_message(caller, None, "", &Value::Null);
    let writing = write.to(user.id, app.clock.now());
    send(app, &writing, Command::User(command)).await.map(drop)
}

/// How the session is to be held.
fn held(fields: &mut Fields) -> Held {
    match fields.text("session").as_deref() {
        None | Some("tokens") => Held::Tokens,
        Some("cookie") => Held::Cookie,
        Some(_) => {
            fields.report("/session", "invalid_value", "use tokens or cookie");
            Held::Tokens
        }
    }
}

/// A second factor, if one was sent.
fn proof(fields: &mut Fields) -> Option<Proof> {
    let code = fields.text("code").map(Proof::Code);
    let recovery = fields.text("recovery_code").map(|code| Proof::Recovery(code.into()));
    if code.is_some() && recovery.is_some() {
        fields.report("/recovery_code", "invalid_value", "send `code` or `recovery_code`, not both");
    }
    code.or(recovery)
}

/// Refuses a password that a user with this e-mail may not have.
fn check_password(password: &str, email: &str) -> Result<(), Failure> {
    check_rules(password, email)
        .map_err(|rule| Failure::invalid_body(vec![Problem::new("/password", rule.code(), rule.to_string())]))
}

/// A session of tokens.
pub(super) fn session(answer: &TokenAnswer) -> Result<Response, Failure> {
    secret(StatusCode::OK, answer)
}

/// An answer that shows secrets.
pub(super) fn secret(status: StatusCode, answer: &impl Serialize) -> Result<Response, Failure> {
    let mut response = json(status, answer)?;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}
