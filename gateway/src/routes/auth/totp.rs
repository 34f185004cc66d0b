//! `/auth/totp`: the caller's second factor.

use axum::extract::State;
use axum::response::Response;
use domain::identity::user::command::UserCommand;
use http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use zeroize::Zeroizing;

use crate::app::App;
use crate::auth::reveal;
use crate::failure::Failure;
use crate::request::{Caller, Fields, JsonBody};
use crate::{schemas, status};

use super::password::refuse_keys;
use super::{change, proof, secret};

/// What stands in for the second factor, each once.
#[derive(Serialize)]
struct RecoveryCodes {
    recovery_codes: Vec<Revealed>,
}

#[derive(Serialize)]
struct Revealed(#[serde(serialize_with = "reveal")] Zeroizing<String>);

/// A seed for an authenticator, shown once. It counts when it is confirmed by a code. The password is needed, so that a
/// session that was left open is not taken over for good.
#[utoipa::path(post, path = "/auth/totp", tag = "auth", request_body = schemas::TotpEnrolment,
    responses((status = 200, description = "The seed.", body = schemas::TotpSeed)))]
pub(crate) async fn enrol_totp(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: JsonBody,
) -> Result<Response, Failure> {
    let mut fields = Fields::open(body.required()?)?;
    let password = Zeroizing::new(fields.required_text("password"));
    fields.finish()?;
    refuse_keys(&caller)?;
    let user = app.auth.user_of(&caller.principal).await?;
    if !app.sessions.knows_password((&app, &caller.client), &user, password).await? {
        return Err(Failure::new(status::INVALID_CREDENTIALS, "the password is wrong"));
    }
    secret(StatusCode::OK, &app.sessions.second_factor.enrol(&user).await?)
}

/// Makes the seed the second factor, by its first code. The recovery codes are shown once.
#[utoipa::path(post, path = "/auth/totp/confirm", tag = "auth", request_body = schemas::TotpCode,
    responses((status = 200, description = "Logins need a code from now on.", body = schemas::RecoveryCodes)))]
pub(crate) async fn confirm_totp(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: JsonBody,
) -> Result<Response, Failure> {
    let mut fields = Fields::open(body.required()?)?;
    let code = fields.required_text("code");
    fields.finish()?;
    refuse_keys(&caller)?;
    let user = app.auth.user_of(&caller.principal).await?;
    let codes = app.sessions.second_factor.confirm(&user, &code).await?;
    change(&app, caller, &user, UserCommand::EnableTotp).await?;
    let recovery_codes = codes.into_iter().map(Revealed).collect();
    secret(StatusCode::OK, &RecoveryCodes { recovery_codes })
}

/// Takes the second factor away, for whoever knows the password or has a code.
#[utoipa::path(delete, path = "/auth/totp", tag = "auth", request_body = schemas::TotpRemoval,
    responses((status = 204, description = "Logins need the password only.")))]
pub(crate) async fn remove_totp(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: JsonBody,
) -> Result<StatusCode, Failure> {
    let mut fields = Fields::open(body.required()?)?;
    let password = fields.text("password").map(Zeroizing::new);
    let proof = proof(&mut fields);
    if password.is_none() && proof.is_none() {
        fields.report("", "missing_field", "send `password`, `code` or `recovery_code`");
    }
    fields.finish()?;
    refuse_keys(&caller)?;
    let user = app.auth.user_of(&caller.principal).await?;
    if !app.sessions.second_factor.is_needed(user.id).await? {
        return Err(Failure::new(status::TOTP_NOT_ENABLED, "there is no second factor to take away"));
    }
    match (password, proof) {
        (Some(password), _) => {
            if !app.sessions.knows_password((&app, &caller.client), &user, password).await? {
                return Err(Failure::new(status::INVALID_CREDENTIALS, "the password is wrong"));
            }
        }
        (None, Some(proof)) => app.sessions.has_factor((&app, &caller.client), &user, &proof).await?,
        (None, None) => {}
    }
    app.sessions.second_factor.remove(user.id).await?;
    change(&app, caller, &user, UserCommand::DisableTotp).await?;
    Ok(StatusCode::NO_CONTENT)
}
