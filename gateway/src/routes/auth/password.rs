//! `/auth/password`, `/auth/password/reset`, `/auth/invitation`: setting passwords, by the old one or a token.

use axum::extract::State;
use axum::response::Response;
use domain::identity::user::UserStatus;
use domain::identity::user::command::UserCommand;
use domain::identity::user::event::PasswordChange;
use event_store::verifiers::{Verifier, VerifierKind};
use http::StatusCode;
use std::sync::Arc;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::app::App;
use crate::directory::User;
use crate::failure::Failure;
use crate::request::{Caller, Fields, JsonBody};
use crate::{schemas, status};

use super::{Visitor, change, check_password, held};

/// Another password. The caller's other sessions end.
#[utoipa::path(post, path = "/auth/password", tag = "auth", request_body = schemas::PasswordChange,
    responses((status = 204, description = "The password is another.")))]
pub(crate) async fn change_password(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: JsonBody,
) -> Result<StatusCode, Failure> {
    let mut fields = Fields::open(body.required()?)?;
    let current = Zeroizing::new(fields.required_text("current_password"));
    let password = Zeroizing::new(fields.required_text("password"));
    fields.finish()?;
    refuse_keys(&caller)?;
    let user = app.auth.user_of(&caller.principal).await?;
    check_password(&password, &user.state.email)?;
    if !app.sessions.knows_password((&app, &caller.client), &user, current).await? {
        return Err(Failure::new(status::INVALID_CREDENTIALS, "the current password is wrong"));
    }
    app.sessions.set_password((&user.tenant, user.id, &user.state.email), password).await?;
    app.sessions.end_all(user.id, caller.principal.family).await?;
    change(&app, caller, &user, UserCommand::ChangePassword { how: PasswordChange::Changed }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Another password for whoever has a token that an administrator has made. All sessions of the user end.
#[utoipa::path(post, path = "/auth/password/reset", tag = "auth", request_body = schemas::PasswordReset,
    responses((status = 204, description = "The password is another.")))]
pub(crate) async fn reset_password(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    body: JsonBody,
) -> Result<StatusCode, Failure> {
    let mut fields = Fields::open(body.required()?)?;
    let token = Zeroizing::new(fields.required_text("token"));
    let password = Zeroizing::new(fields.required_text("password"));
    fields.finish()?;
    app.sessions.count_visit(&app, &visitor.client)?;
    let (taken, user) = take(&app, VerifierKind::PasswordReset, &token, &password).await?;
    let caller = visitor.caller(&app, &user);
    let done = async {
        change(&app, caller, &user, UserCommand::ChangePassword { how: PasswordChange::Reset }).await?;
        app.sessions.set_password((&user.tenant, user.id, &user.state.email), password).await?;
        app.sessions.end_all(user.id, None).await
    };
    restore_on_failure(&app, &taken, done.await).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The first password of whoever was invited, which begins a session.
#[utoipa::path(post, path = "/auth/invitation", tag = "auth", request_body = schemas::Invitation,
    responses((status = 200, description = "A session.", body = schemas::Session)))]
pub(crate) async fn accept_invitation(
    State(app): State<Arc<App>>,
    visitor: Visitor,
    body: JsonBody,
) -> Result<Response, Failure> {
    let mut fields = Fields::open(body.required()?)?;
    let token = Zeroizing::new(fields.required_text("token"));
    let password = Zeroizing::new(fields.required_text("password"));
    let name = fields.text("name");
    let held = held(&mut fields);
    fields.finish()?;
    app.sessions.count_visit(&app, &visitor.client)?;
    let (taken, user) = take(&app, VerifierKind::Invitation, &token, &password).await?;
    let caller = visitor.caller(&app, &user);
    let done = async {
        if let Some(name) = name {
            change(&app, caller.clone(), &user, UserCommand::Rename { name: Some(name) }).await?;
        }
        if user.state.status == UserStatus::Invited {
            change(&app, caller, &user, UserCommand::Activate).await?;
        }
        app.sessions.set_password((&user.tenant, user.id, &user.state.email), password).await
    };
    restore_on_failure(&app, &taken, done.await).await?;
    visitor.begin(&app, &user, held, StatusCode::OK).await
}

/// Uses a token up, if its user can have the password.
async fn take(
    app: &App,
    kind: VerifierKind,
    token: &str,
    password: &str,
) -> Result<(Verifier, User), Failure> {
    let refuse =
        || Failure::new(status::INVALID_ONE_TIME_TOKEN, "whom the token was made for is not there any more");
    let found = app.sessions.look_at(kind, token).await?;
    let id = Uuid::try_parse(&found.principal).map_err(|_| refuse())?;
    let user = app.auth.directory_user(id, &found).await?.ok_or_else(refuse)?;
    let expected = match user.state.status {
        UserStatus::Invited => kind == VerifierKind::Invitation,
        UserStatus::Active => true,
        UserStatus::None | UserStatus::Disabled | UserStatus::Deleted => false,
    };
    if !expected {
        return Err(refuse());
    }
    // A password that is not taken does not cost the token.
    check_password(password, &user.state.email)?;
    Ok((app.sessions.redeem(kind, token).await?, user))
}

/// A token is good again if what it was used for did not happen.
async fn restore_on_failure(app: &App, taken: &Verifier, done: Result<(), Failure>) -> Result<(), Failure> {
    if done.is_err() {
        app.sessions.give_back(taken).await;
    }
    done
}

/// Keys of programs do not change their owner's secrets.
pub(super) fn refuse_keys(caller: &Caller) -> Result<(), Failure> {
    if caller.principal.family.is_some() {
        return Ok(());
    }
    Err(Failure::new(status::NOT_A_SESSION, "an API key cannot do this; log in and send an access token"))
}
