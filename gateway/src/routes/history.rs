//! `/executions/{id}/state` and `/executions/{id}/diff`: what an execution was, and what differs.

use axum::extract::State;
use axum::response::Response;
use domain::execution::diff::{FieldDiff, Fields, NodeDiff, Side, diff};
use http::StatusCode;
use serde::Serialize;
use std::sync::Arc;
use uuid::Uuid;

use crate::answer::{json, link_next};
use crate::app::App;
use crate::cursor::Cursor;
use crate::failure::Failure;
use crate::histories::{self, Folded};
use crate::large_values::Unpacker;
use crate::request::{Caller, PathParams, Query};
use crate::schemas;

use super::executions::show;

/// The execution as of one of its events, in the shape of the execution itself.
#[utoipa::path(get, path = "/executions/{id}/state", tag = "executions",
    params(("id" = Uuid, Path),
        ("at_version" = Option<u64>, Query, description = "From 1; the last event if none is named.")),
    responses((status = 200, description = "As it then was.", body = schemas::Execution)))]
pub(crate) async fn state(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: PathParams,
    query: Query,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    query.only(&["at_version"])?;
    caller.may_execution(&app, id).await?;
    let folded = histories::read(&app, id, query.number("at_version")?).await?;
    show(&app, &caller, folded.view).await
}

/// What differs between two versions of an execution, node by node.
///
/// Compared is what happened, not when. Large values are compared by the hash of their content.
#[utoipa::path(get, path = "/executions/{id}/diff", tag = "executions",
    params(("id" = Uuid, Path),
        ("from" = Option<u64>, Query, description = "From 1; the first event if none is named."),
        ("to" = Option<u64>, Query, description = "The last event if none is named."),
        ("limit" = Option<u16>, Query, description = "Nodes of one page, 1 to 200."),
        ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "What differs; a page of the nodes.", body = schemas::ExecutionDiff)))]
pub(crate) async fn versions(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: PathParams,
    query: Query,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    query.only(&["from", "to", "limit", "cursor"])?;
    caller.may_execution(&app, id).await?;
    let from = query.number("from")?.unwrap_or(1);
    compare(&app, &caller, &query, (id, Some(from)), (id, query.number("to")?)).await
}

/// What differs between two executions, such as a fork and its origin, node by node.
///
/// Compared is what happened, not when. Large values are compared by the hash of their content.
#[utoipa::path(get, path = "/executions/{id}/diff/{other}", tag = "executions",
    params(("id" = Uuid, Path), ("other" = Uuid, Path),
        ("from" = Option<u64>, Query, description = "A version of the one; its last event if none is named."),
        ("to" = Option<u64>, Query, description = "A version of the other; its last event if none is named."),
        ("limit" = Option<u16>, Query, description = "Nodes of one page, 1 to 200."),
        ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "What differs; a page of the nodes.", body = schemas::ExecutionDiff)))]
pub(crate) async fn executions(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: PathParams,
    query: Query,
) -> Result<Response, Failure> {
    let (id, other) = (params.id("id")?, params.id("other")?);
    query.only(&["from", "to", "limit", "cursor"])?;
    caller.may_execution(&app, id).await?;
    caller.may_execution(&app, other).await?;
    compare(&app, &caller, &query, (id, query.number("from")?), (other, query.number("to")?)).await
}

/// A side of a comparison, as it is named in the answer.
#[derive(Serialize)]
struct Named {
    execution_id: Uuid,
    version: u64,
}

#[derive(Serialize)]
struct DiffAnswer {
    from: Named,
    to: Named,
    execution: Fields,
    nodes: Vec<NodeDiff>,
    next_cursor: Option<String>,
}

async fn compare(
    app: &App,
    caller: &Caller,
    query: &Query,
    from: (Uuid, Option<u64>),
    to: (Uuid, Option<u64>),
) -> Result<Response, Failure> {
    let limit = query.limit()?;
    let after = query.text("cursor").map(Cursor::name).transpose()?;
    let tenant = &caller.principal.tenant;
    let from = histories::read(app, from.0, from.1).await?.with_all_nodes(app, tenant).await?;
    let to = histories::read(app, to.0, to.1).await?.with_all_nodes(app, tenant).await?;
    let mut found = diff(side(&from), side(&to), after.as_deref(), limit);
    let mut unpacker = Unpacker::new(app, tenant);
    let nodes = found.nodes.iter_mut().flat_map(|node| node.fields.values_mut());
    for FieldDiff { from, to } in found.execution.values_mut().chain(nodes) {
        unpacker.unpack(from).await?;
        unpacker.unpack(to).await?;
    }
    let answer = DiffAnswer {
        from: named(&from),
        to: named(&to),
        execution: found.execution,
        nodes: found.nodes,
        next_cursor: found.next.map(|path| Cursor::Name(path).encode()),
    };
    let mut response = json(StatusCode::OK, &answer)?;
    link_next(&mut response, &query.uri, answer.next_cursor.as_deref());
    Ok(response)
}

fn side(folded: &Folded) -> Side<'_> {
    Side { view: &folded.view, bodies: &folded.bodies }
}

fn named(folded: &Folded) -> Named {
    Named { execution_id: folded.view.id, version: folded.view.version }
}
