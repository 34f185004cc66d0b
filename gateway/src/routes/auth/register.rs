//! `/auth/register`: accounts that people make themselves, where the installation lets them.

use axum::extract::State;
use axum::response::Response;
use domain::command::Command;
use domain::identity::user::command::UserCommand;
use domain::identity::user::{UserState, UserStatus};
use domain::identity::{is_email, normal_email, users_slot};
use domain::ids::{TenantId, new_id};
use http::StatusCode;
use std::sync::Arc;
use zeroize::Zeroizing;

use crate::app::App;
use crate::config::Registration;
use crate::directory::User;
use crate::failure::Failure;
use crate::request::{Fields, JsonBody, Write};
use crate::sending::send;
use crate::{schemas, status};

use super::{Visitor, check_password, held};

/// A new account, where registration is open; it begins a session.
#[utoipa::path(post, path = "/auth/register", tag = "auth", request_body = schemas::Registration,
    responses((status = 201, description = "The account is there, with a session.", body = schemas::Session)))]
pub(crate) async fn register(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    body: JsonBody,
) -> Result<Response, Failure> {
    if app.config.registration == Registration::Closed {
        let detail = "registration is closed; ask your administrator for an account";
        return Err(Failure::new(status::REGISTRATION_CLOSED, detail));
    }
    let mut fields = Fields::open(body.required()?)?;
    let email = normal_email(&fields.required_text("email"));
    let password = Zeroizing::new(fields.required_text("password"));
    let name = fields.text("name");
    let held = held(&mut fields);
    if !email.is_empty() && !is_email(&email) {
        fields.report("/email", "invalid_email", "that is not an e-mail address");
    }
    fields.finish()?;
    check_password(&password, &email)?;
    app.sessions.count_visit(&app, &visitor.client)?;
    let user = newcomer(&app, email, name).await?;
    // The event comes first: it claims the e-mail. A verifier never stands for nobody.
    let write = Write::of_message(visitor.caller(&app, &user), None, "", &serde_json::Value::Null);
    let writing = write.to(user.id, app.clock.now());
    let create = UserCommand::Create {
        email: user.state.email.clone(),
        name: user.state.name.clone(),
        role: user.state.role.clone(),
        invited: false,
        operator: false,
    };
    send(&app, &writing, Command::User(create)).await?;
    app.sessions.set_password((&user.tenant, user.id, &user.state.email), password).await?;
    visitor.begin(&app, &user, held, StatusCode::CREATED).await
}

/// A user as the configuration wants new ones.
async fn newcomer(app: &App, email: String, name: Option<String>) -> Result<User, Failure> {
    let misconfigured = |what: &str| {
        tracing::error!(
            what,
            "registration is open and its tenant or role cannot be used; see gateway.registration_*"
        );
        Failure::new(status::REGISTRATION_CLOSED, "registration is not possible at the moment")
    };
    let tenant = TenantId::try_from(app.config.registration_tenant.clone());
    let tenant = tenant.map_err(|_| misconfigured("the tenant's name cannot be one"))?;
    match app.directory.tenant(&tenant).await? {
        Some(state) if !state.suspended => {}
        Some(_) => return Err(misconfigured("the tenant is suspended")),
        None => return Err(misconfigured("there is no such tenant")),
    }
    let roles = app.directory.roles(&tenant).await?;
    let role =
        roles.find(&app.config.registration_role).ok_or_else(|| misconfigured("there is no such role"))?;
    let now = app.clock.now();
    let state =
        UserState { email, name, role: role.name, status: UserStatus::Active, ..UserState::default() };
    Ok(User { id: new_id(now, users_slot(), crate::random::number()), tenant, state })
}
