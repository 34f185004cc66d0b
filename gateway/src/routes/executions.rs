//! `/executions`.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use domain::execution::view::ExecutionView;
use domain::ids::Partition;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

use crate::access::Followed;
use crate::access::judging::only_visible;
use crate::execution_filter;
use crate::answer::{List, body, json};
use crate::app::App;
use crate::cache::{Found, Kept};
use crate::cursor::Cursor;
use crate::failure::Failure;
use crate::histories;
use crate::large_values::Unpacker;
use crate::live::{StreamTail, is_over_after};
use crate::reading::{needed, read_error, wait_until, wait_until_fresh};
use crate::request::{Caller, PathParams, Query};
use crate::{schemas, status};

use super::sse;

/// How long a read waits for its read model only so that its answer can be kept.
const MODEL_PATIENCE: Duration = Duration::from_millis(50);

/// The tenant's executions, the newest first, without their nodes and data. A page may be short, even empty, and
/// still have a successor.
#[utoipa::path(get, path = "/executions", tag = "executions",
    params(("workflow_id" = Option<Uuid>, Query, description = "Of this workflow."),
        ("status" = Option<String>, Query, description = "One status, or several with commas between."),
        ("owner" = Option<Uuid>, Query, description = "Of this user."),
        ("parent" = Option<Uuid>, Query, description = "Children of this execution."),
        ("origin" = Option<Uuid>, Query, description = "Forks of this execution."),
        ("started_after" = Option<String>, Query, description = "RFC 3339"),
        ("started_before" = Option<String>, Query, description = "RFC 3339"),
        ("q" = Option<String>, Query, description = "Part of the workflow's name or the error's message."),
        ("attr.*" = Option<String>, Query, description = "An attribute's value, for instance `attr.repo=x`; other comparisons stand behind the name: `attr.total[gte]=100` with eq, ne, lt, lte, gt, gte."),
        ("limit" = Option<u16>, Query, description = "1 to 200."), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "A page.", body = schemas::ExecutionList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query,
) -> Result<Response, Failure> {
    let known: Vec<&str> = execution_filter::PARAMETERS.into_iter().chain(["limit", "cursor"]).collect();
    query.only(&known)?;
    let limit = query.limit()?;
    let cursor = query.text("cursor").map(Cursor::id).transpose()?;
    let filter = execution_filter::read(&query)?;
    wait_until_fresh(&app, &caller.principal, &query, None).await?;
    let page = app.models.executions(&caller.viewer()?, &filter, cursor, limit).await.map_err(read_error)?;
    let visible = only_visible(&app, &caller, page.items, |view| view.id).await?;
    let items: Result<Vec<Value>, _> = visible.into_iter().map(summary).collect();
    let items = items.map_err(|_| Failure::new(status::INTERNAL, "an execution could not be written"))?;
    List { items, next_cursor: page.next.map(|id| Cursor::Id(id).encode()) }.answer(&query.uri)
}

/// An execution in a list: what it is about, not what it carries.
fn summary(view: ExecutionView) -> Result<Value, serde_json::Error> {
    let mut value = serde_json::to_value(ExecutionView { nodes: Vec::new(), ..view })?;
    if let Some(fields) = value.as_object_mut() {
        for name in ["nodes", "input", "output", "open_nodes"] {
            fields.remove(name);
        }
    }
    Ok(value)
}

/// An execution with all its nodes.
#[utoipa::path(get, path = "/executions/{id}", tag = "executions",
    params(("id" = Uuid, Path), ("Everline-Min-Position" = Option<String>, Header)),
    responses((status = 200, description = "The execution; its `ETag` is its version.", body = schemas::Execution)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: PathParams,
    query: Query,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    query.only(&[])?;
    let partition = app.partition_of(id);
    let needed = needed(&app, &caller.principal, &query, Some(partition))?;
    let ticket = match look(&app, &caller, id, &needed) {
        Found::Kept(kept) => {
            if !caller.authority()?.is_unbounded() {
                caller.may_execution(&app, id).await?;
            }
            return Ok(shown(&kept));
        }
        Found::Nothing(ticket) => Some(ticket),
        Found::Unknown => None,
    };
    wait_until(&app, &needed).await?;
    // What the read model says may be kept if it has what the feed has shown and forgotten.
    let ticket = match ticket {
        Some(ticket) if app.models.wait_for(&[(partition, ticket.floor)], MODEL_PATIENCE).await => {
            Some(ticket)
        }
        _ => None,
    };
    let view = find(&app, &caller, id).await?;
    let version = view.version;
    let (view, complete) = completed(&app, &caller, view).await?;
    let kept = Kept { tenant: caller.principal.tenant.clone(), version, body: body(&view)? };
    let response = shown(&kept);
    if let Some(ticket) = ticket.filter(|_| complete) {
        app.executions.put(partition, id, kept, &ticket);
    }
    Ok(response)
}

/// What the cache has for a caller's tenant. Whether the caller may see it is another question.
fn look(app: &App, caller: &Caller, id: Uuid, needed: &[(Partition, u64)]) -> Found {
    let partition = app.partition_of(id);
    // Positions of other partitions are waited for by the read model only.
    let found = match needed {
        [] => app.executions.look(partition, &caller.principal.tenant, id, 0),
        [(only, offset)] if *only == partition => {
            app.executions.look(partition, &caller.principal.tenant, id, *offset)
        }
        _ => Found::Unknown,
    };
    app.executions.counted.count(matches!(found, Found::Kept(_)));
    found
}

/// The answer with its tag.
fn shown(kept: &Kept) -> Response {
    let mut response = kept.body.clone().into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Ok(tag) = HeaderValue::try_from(format!("\"{}\"", kept.version)) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// An execution that the caller may see.
pub(super) async fn find(app: &App, caller: &Caller, id: Uuid) -> Result<ExecutionView, Failure> {
    match app.models.execution(&caller.principal.tenant, id).await.map_err(read_error)? {
        Some(view) => {
            if !caller.authority()?.is_unbounded() {
                caller.may_execution(app, id).await?;
            }
            Ok(view)
        }
        // Another caller's start may not have reached the read model yet; the log has it.
        None => {
            caller.may_execution(app, id).await?;
            Ok(histories::read(app, id, None).await?.view)
        }
    }
}

/// The whole view: nodes without events too, and large values in place.
pub(super) async fn show(app: &App, caller: &Caller, view: ExecutionView) -> Result<Response, Failure> {
    let (view, _) = completed(app, caller, view).await?;
    json(StatusCode::OK, &view)
}

/// The view with nodes without events too, and large values in place; whether the definition was there for that.
async fn completed(
    app: &App,
    caller: &Caller,
    view: ExecutionView,
) -> Result<(ExecutionView, bool), Failure> {
    let tenant = &caller.principal.tenant;
    let (mut view, complete) = histories::with_all_nodes(app, tenant, view).await?;
    let mut unpacker = Unpacker::new(app, tenant);
    unpacker.unpack(&mut view.output).await?;
    unpacker.unpack(&mut view.input).await?;
    for node in &mut view.nodes {
        unpacker.unpack(&mut node.output).await?;
    }
    Ok((view, complete))
}

/// The execution's own log, in order.
#[utoipa::path(get, path = "/executions/{id}/events", tag = "executions",
    params(("id" = Uuid, Path), ("after_version" = Option<u64>, Query), ("limit" = Option<u16>, Query),
        ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "Events after a version.", body = schemas::EventList)))]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: PathParams,
    query: Query,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    query.only(&["after_version", "limit", "cursor"])?;
    let limit = query.limit()?;
    let after = match query.text("cursor") {
        Some(cursor) => Cursor::number(cursor)?,
        None => query.number("after_version")?.unwrap_or(0),
    };
    caller.may_execution(&app, id).await?;
    let mut items = app.log.read_stream(id, after, limit + 1).await?;
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| Cursor::Number(last.version).encode());
    List { items, next_cursor: next }.answer(&query.uri)
}

/// The execution's events as they come (SSE): those after a version, then live, until its end.
#[utoipa::path(get, path = "/executions/{id}/stream", tag = "executions",
    params(("id" = Uuid, Path), ("after_version" = Option<u64>, Query),
        ("filter" = Option<String>, Query, description = "CEL over `event`, as for `/events`."),
        ("Last-Event-ID" = Option<String>, Header, description = "The version of the last event received.")),
    responses((status = 200, description = "Server-sent events; `id` is the version.",
        content_type = "text/event-stream", body = String),
        (status = 204, description = "There is nothing after `Last-Event-ID`: it has ended.")))]
pub(crate) async fn stream(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: PathParams,
    query: Query,
    token: sse::Token,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    query.only(&["after_version", "filter"])?;
    let filter = super::events::expression(&query)?;
    caller.may_execution(&app, id).await?;
    let after = match query.last_event_id()? {
        None => query.number("after_version")?.unwrap_or(0),
        Some(text) => {
            let version = text.parse().map_err(|_| {
                Failure::new(status::INVALID_HEADER, "Last-Event-ID must be a version: a whole number")
            })?;
            // A browser reconnects after every end; 204 tells it that there is nothing more to come for now.
            if is_over_after(app.log.as_ref(), id, version).await? {
                return Ok(StatusCode::NO_CONTENT.into_response());
            }
            version
        }
    };
    let tail = StreamTail::new(&app.hub, app.log.clone(), id, after).filtered(filter);
    sse::answer(&app, caller, token, Followed::Execution(id), sse::AnyTail::Stream(Box::new(tail)))
}
