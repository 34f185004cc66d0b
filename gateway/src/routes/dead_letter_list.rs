//! `/dead-letters`: nodes that ran out of attempts.

use axum::extract::State;
use axum::response::Response;
use domain::execution::event::ErrorKind;
use http::StatusCode;
use read_models::DeadLetterFilter;
use serde_json::Value;
use std::sync::Arc;

use crate::access::judging::only_visible;
use crate::answer::{List, json};
use crate::app::App;
use crate::cursor::Cursor;
use crate::failure::Failure;
use crate::reading::{read_error, wait_until_fresh};
use crate::request::{Caller, PathParams, Query};
use crate::{schemas, status};

/// Nodes that ran out of attempts, the newest first: those that nobody has tried again, unless `redriven` says
/// otherwise. A page may be short, even empty, and still have a successor.
#[utoipa::path(get, path = "/dead-letters", tag = "dead-letters",
    params(("workflow_id" = Option<Uuid>, Query), ("execution_id" = Option<Uuid>, Query),
        ("node_id" = Option<String>, Query, description = "The path of the node."),
        ("error_kind" = Option<String>, Query, description = "Such as `http_5xx`."),
        ("redriven" = Option<bool>, Query, description = "`false` if it is not given."),
        ("after" = Option<String>, Query, description = "RFC 3339"),
        ("before" = Option<String>, Query, description = "RFC 3339"),
        ("limit" = Option<u16>, Query, description = "1 to 200."), ("cursor" = Option<String>, Query),
        ("Everline-Min-Position" = Option<String>, Header)),
    responses((status = 200, description = "A page.", body = schemas::DeadLetterList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query,
) -> Result<Response, Failure> {
    let known = [
        "workflow_id",
        "execution_id",
        "node_id",
        "error_kind",
        "redriven",
        "after",
        "before",
        "limit",
        "cursor",
    ];
    query.only(&known)?;
    let limit = query.limit()?;
    let cursor = query.text("cursor").map(Cursor::id).transpose()?;
    let filter = DeadLetterFilter {
        redriven: match query.text("redriven") {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(Failure::parameter("redriven", "`redriven` must be true or false")),
        },
        workflow_id: query.id("workflow_id")?,
        execution_id: query.id("execution_id")?,
        node_id: query.text("node_id").map(str::to_owned),
        error_kind: query.text("error_kind").map(error_kind).transpose()?,
        after: query.time("after")?,
        before: query.time("before")?,
    };
    wait_until_fresh(&app, &caller.principal, &query, None).await?;
    let page = app.models.dead_letters(&caller.viewer()?, &filter, cursor, limit).await;
    let page = page.map_err(read_error)?;
    let items = only_visible(&app, &caller, page.items, |letter| letter.execution_id).await?;
    List { items, next_cursor: page.next.map(|id| Cursor::Id(id).encode()) }.answer(&query.uri)
}

/// A kind of error that there is: a misspelt one would find nothing.
fn error_kind(text: &str) -> Result<String, Failure> {
    serde_json::from_value::<ErrorKind>(Value::from(text)).map(|_| text.to_owned()).map_err(|_| {
        let detail = format!("`{text}` is no kind of error; use one such as timeout, http_5xx or custom");
        Failure::parameter("error_kind", detail)
    })
}

/// A node that ran out of attempts.
#[utoipa::path(get, path = "/dead-letters/{id}", tag = "dead-letters",
    params(("id" = Uuid, Path), ("Everline-Min-Position" = Option<String>, Header)),
    responses((status = 200, description = "The dead letter.", body = schemas::DeadLetter)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: PathParams,
    query: Query,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    query.only(&[])?;
    wait_until_fresh(&app, &caller.principal, &query, Some(app.partition_of(id))).await?;
    let found = app.models.dead_letter(&caller.principal.tenant, id).await.map_err(read_error)?;
    let letter = found.ok_or_else(|| {
        Failure::new(status::DEAD_LETTER_NOT_FOUND, format!("there is no dead letter {id}"))
    })?;
    if !caller.authority()?.is_unbounded() {
        caller.may_execution(&app, letter.execution_id).await?;
    }
    json(StatusCode::OK, &letter)
}
