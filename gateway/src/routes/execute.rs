//! `/workflows/{id}/execute`.

use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use std::sync::Arc;

use crate::answer::json;
use crate::app::App;
use crate::executing::{StartRequest, start};
use crate::failure::Failure;
use crate::request::{Fields, JsonBody, PathParams, Prefer, WriteHeaders};
use crate::schemas;
use crate::sending::set_position;

/// Starts an execution.
///
/// With `wait_ms`, or `Prefer: wait=N` (seconds), the answer is 200 with the outcome, failure included, if it ends in
/// time.
#[utoipa::path(post, path = "/workflows/{id}/execute", tag = "executions",
    params(("id" = Uuid, Path, description = "The workflow."),
        ("Idempotency-Key" = Option<String>, Header, description = "The same key has one effect.")),
    request_body = schemas::Execute,
    responses((status = 200, description = "It has ended.", body = schemas::Outcome),
        (status = 202, description = "It is under way.", body = schemas::Accepted)))]
pub(crate) async fn execute(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
    prefer: Prefer,
    body: JsonBody,
) -> Result<Response, Failure> {
    let workflow = params.id("id")?;
    let body = body.or_empty();
    let write = headers.with_body(&body);
    // What the body says goes before what the header wishes.
    let prefer = if body.get("wait_ms").is_none_or(Value::is_null) { prefer } else { Prefer::default() };
    let mut fields = Fields::open(body)?;
    let mut request = StartRequest::read(workflow, &mut fields);
    fields.finish()?;
    request.wait = request.wait.or(prefer.wait());
    let answer = start(&app, write, request, "api").await?;
    let status = if answer.end.is_some() { StatusCode::OK } else { StatusCode::ACCEPTED };
    let mut response = json(status, &answer)?;
    set_position(response.headers_mut(), answer.position);
    if let Some(applied) = prefer.applied(answer.end.is_none()) {
        response.headers_mut().insert("preference-applied", applied);
    }
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/executions/{}", answer.execution_id)) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}
