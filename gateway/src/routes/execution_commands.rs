//! `/executions/{id}/…`: what can be asked of an execution.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use std::sync::Arc;

use crate::acting::{self, Act, ForkRequest};
use crate::answer::json;
use crate::app::App;
use crate::executing::ExecutionAnswer;
use crate::failure::Failure;
use crate::request::{Fields, JsonBody, PathParams, WriteHeaders};
use crate::schemas;
use crate::sending::set_position;

/// Ends an execution, undoing what it did where its workflow says how.
#[utoipa::path(post, path = "/executions/{id}/cancel", tag = "executions",
    params(("id" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = schemas::Reason,
    responses((status = 202, description = "It is cancelled, or undoes its work first.", body = schemas::Accepted)))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    act(&app, &params, headers, body, "cancel").await
}

/// Ends an execution at once; nothing is undone.
#[utoipa::path(post, path = "/executions/{id}/terminate", tag = "executions",
    params(("id" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = schemas::Reason,
    responses((status = 202, description = "It has ended.", body = schemas::Accepted)))]
pub(crate) async fn terminate(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    act(&app, &params, headers, body, "terminate").await
}

/// Holds an execution: results of what runs are recorded, nothing new starts.
#[utoipa::path(post, path = "/executions/{id}/pause", tag = "executions",
    params(("id" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = schemas::Reason,
    responses((status = 202, description = "It is paused.", body = schemas::Accepted)))]
pub(crate) async fn pause(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    act(&app, &params, headers, body, "pause").await
}

/// Lets a paused execution go on.
#[utoipa::path(post, path = "/executions/{id}/resume", tag = "executions",
    params(("id" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = schemas::Reason,
    responses((status = 202, description = "It goes on.", body = schemas::Accepted)))]
pub(crate) async fn resume(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    act(&app, &params, headers, body, "resume").await
}

/// Lets a failed execution go on from the nodes that failed, perhaps with other configurations; or tries a failed
/// compensation again.
#[utoipa::path(post, path = "/executions/{id}/retry", tag = "executions",
    params(("id" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = schemas::Retry,
    responses((status = 202, description = "It goes on.", body = schemas::Accepted)))]
pub(crate) async fn retry(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    act(&app, &params, headers, body, "retry").await
}

/// Sends a signal; the body is its payload.
#[utoipa::path(post, path = "/executions/{id}/signals/{name}", tag = "executions",
    params(("id" = Uuid, Path), ("name" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = schemas::AnyJson,
    responses((status = 202, description = "It is in the log.", body = schemas::Accepted)))]
pub(crate) async fn signal(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    let payload = body.0.unwrap_or_default();
    let write = headers.with_body(&payload);
    let act = Act::Signal { name: params.text("name").to_owned(), payload };
    accepted(&acting::act(&app, write, id, act).await?)
}

/// Makes a new execution that goes on from another's state after one of its events. Nothing is copied.
#[utoipa::path(post, path = "/executions/{id}/fork", tag = "executions",
    params(("id" = Uuid, Path, description = "The execution that it comes from."),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key makes one fork.")),
    request_body = schemas::Fork,
    responses((status = 202, description = "The fork, under way.", body = schemas::Accepted)))]
pub(crate) async fn fork(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let origin = params.id("id")?;
    let body = body.or_empty();
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let request = ForkRequest::read(&mut fields);
    fields.finish()?;
    let answer = acting::fork(&app, write, origin, request).await?;
    let mut response = accepted(&answer)?;
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/executions/{}", answer.execution_id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

async fn act(
    app: &App,
    params: &PathParams,
    headers: WriteHeaders,
    body: JsonBody,
    verb: &'static str,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    let body = body.or_empty();
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let act = Act::read(verb, &mut fields).expect("every route's verb is one of `Act`");
    fields.finish()?;
    accepted(&acting::act(app, write, id, act).await?)
}

/// The answer to a command that was accepted.
pub(super) fn accepted(answer: &ExecutionAnswer) -> Result<Response, Failure> {
    let mut response = json(StatusCode::ACCEPTED, answer)?;
    set_position(response.headers_mut(), answer.position);
    Ok(response)
}
