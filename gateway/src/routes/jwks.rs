//! `/.well-known/jwks.json`: with what access tokens can be checked.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use std::sync::Arc;

use crate::answer::json;
use crate::app::App;
use crate::failure::Failure;
use crate::schemas;

/// The public keys of access tokens (RFC 7517). Keys come and go: look again when a token names one that is not here.
#[utoipa::path(get, path = "/.well-known/jwks.json", tag = "auth",
    responses((status = 200, description = "The keys.", body = schemas::Jwks)))]
pub(crate) async fn jwks(State(app): State<Arc<App>>) -> Result<Response, Failure> {
    let mut response = json(StatusCode::OK, &app.auth.jwks().await?)?;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=300"));
    Ok(response)
}
