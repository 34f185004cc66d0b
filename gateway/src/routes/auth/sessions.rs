//! `/auth/sessions`: where a user is logged in.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use std::sync::Arc;

use crate::answer::{List, json};
use crate::app::App;
use crate::failure::Failure;
use crate::request::{Caller, PathParams};
use crate::schemas;

/// The caller's sessions, oldest first.
#[utoipa::path(get, path = "/auth/sessions", tag = "auth",
    responses((status = 200, description = "All of them, on one page.", body = schemas::Sessions)))]
pub(crate) async fn sessions(State(app): State<Arc<App>>, caller: Caller) -> Result<Response, Failure> {
    let items = app.sessions.list(&caller.principal).await?;
    json(StatusCode::OK, &List { items, next_cursor: None })
}

/// Ends one of the caller's sessions. Its tokens are refused at once.
#[utoipa::path(delete, path = "/auth/sessions/{id}", tag = "auth",
    params(("id" = uuid::Uuid, Path, description = "The session.")),
    responses((status = 204, description = "The session is over.")))]
pub(crate) async fn end_session(
    State(app): State<Arc<App>>,
    caller: Caller,
    path: PathParams,
) -> Result<StatusCode, Failure> {
    app.sessions.end_one(&caller.principal, path.id("id")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
