//! `/filters`: trying out a filter of events.

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::answer::json as answer_json;
use crate::app::App;
use crate::failure::Failure;
use crate::live::EventFilter;
use crate::request::{Caller, Fields, JsonBody};
use crate::{schemas, status};

/// Whether a filter matches an event.
///
/// The event has its public shape; what is missing of it is missing for the filter. An event on which the filter
/// cannot be evaluated does not match: then `error` says why.
#[utoipa::path(post, path = "/filters/evaluate", tag = "events", request_body = schemas::EvaluateFilter,
    responses((status = 200, description = "Whether it matches.", body = schemas::FilterVerdict)))]
pub(crate) async fn evaluate(
    State(app): State<Arc<App>>,
    _caller: Caller,
    body: JsonBody,
) -> Result<Response, Failure> {
    let mut fields = Fields::open(body.required()?)?;
    let source = fields.required_text("filter");
    let event = Value::Object(fields.object("event"));
    fields.finish()?;
    let filter = EventFilter::parse(&source, "/filter")?;
    // Bodies are larger than events, and so is what they cost.
    let turn = app.evaluation_turn().await?;
    let verdict = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        filter.try_matches(&event)
    });
    let verdict = verdict.await;
    let body =
        match verdict.map_err(|_| Failure::new(status::INTERNAL, "the filter could not be evaluated"))? {
            Ok(matches) => json!({ "matches": matches }),
            Err(error) => json!({ "matches": false, "error": error }),
        };
    answer_json(StatusCode::OK, &body)
}
