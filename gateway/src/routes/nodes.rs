//! `/executions/{id}/nodes`: the nodes of an execution, a page at a time, also those inside loops and branches.

use axum::extract::State;
use axum::response::Response;
use domain::execution::view::{ExecutionView, NodePlace, NodeView};
use read_models::Viewer;
use std::sync::Arc;

use crate::answer::List;
use crate::app::App;
use crate::cursor::Cursor;
use crate::failure::Failure;
use crate::histories;
use crate::large_values::Unpacker;
use crate::reading::{read_error, wait_until_fresh};
use crate::request::{Caller, PathParams, Query};
use crate::{schemas, status};

use super::executions::find;

/// A page of nodes, and the cursor of the next one.
type Nodes = (Vec<NodeView>, Option<String>);

/// The nodes of an execution: the top level, or what lies directly inside a `loop` or `parallel`, in the order of its
/// iterations or branches.
#[utoipa::path(get, path = "/executions/{id}/nodes", tag = "executions",
    params(("id" = Uuid, Path),
        ("parent" = Option<String>, Query, description = "Path of a `loop` or `parallel`, such as `loop` or `loop/3/inner`."),
        ("at_version" = Option<u64>, Query, description = "As of this event; as they are if none is named."),
        ("limit" = Option<u16>, Query, description = "1 to 200."), ("cursor" = Option<String>, Query),
        ("Everline-Min-Position" = Option<String>, Header)),
    responses((status = 200, description = "A page.", body = schemas::NodeList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: PathParams,
    query: Query,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    query.only(&["parent", "at_version", "limit", "cursor"])?;
    let limit = query.limit()?;
    let (items, next_cursor) = match query.number("at_version")? {
        None => {
            wait_until_fresh(&app, &caller.principal, &query, Some(app.partition_of(id))).await?;
            let view = find(&app, &caller, id).await?;
            match query.text("parent") {
                None => top_level(&app, &caller, &query, view, limit).await?,
                Some(parent) => stored(&app, &caller, &query, &view, parent, limit).await?,
            }
        }
        Some(version) => {
            caller.may_execution(&app, id).await?;
            let folded = histories::read(&app, id, Some(version)).await?;
            match query.text("parent") {
                None => top_level(&app, &caller, &query, folded.view, limit).await?,
                Some(parent) => {
                    check_container(&app, &caller, &folded.view, parent).await?;
                    let after = query.text("cursor").map(place_cursor).transpose()?;
                    in_order(folded.nodes_of(parent), after, limit)
                }
            }
        }
    };
    let mut items = items;
    let mut unpacker = Unpacker::new(&app, &caller.principal.tenant);
    for node in &mut items {
        unpacker.unpack(&mut node.output).await?;
    }
    List { items, next_cursor }.answer(&query.uri)
}

/// A page of the top level, in the definition's order.
async fn top_level(
    app: &App,
    caller: &Caller,
    query: &Query,
    view: ExecutionView,
    limit: usize,
) -> Result<Nodes, Failure> {
    let after = query.text("cursor").map(Cursor::number).transpose()?.unwrap_or(0);
    let after = usize::try_from(after).unwrap_or(usize::MAX);
    let nodes = histories::with_all_nodes(app, &caller.principal.tenant, view).await?.0.nodes;
    let more = nodes.len() > after.saturating_add(limit);
    let next = more.then(|| Cursor::Number((after + limit) as u64).encode());
    Ok((nodes.into_iter().skip(after).take(limit).collect(), next))
}

/// A page of a body, from the read model.
async fn stored(
    app: &App,
    caller: &Caller,
    query: &Query,
    view: &ExecutionView,
    parent: &str,
    limit: usize,
) -> Result<Nodes, Failure> {
    let tenant = &caller.principal.tenant;
    let definition = check_container(app, caller, view, parent).await?;
    let after = query.text("cursor").map(place_cursor).transpose()?;
    let page =
        app.models.nodes_of(&Viewer::any(tenant), view.id, parent, after, limit).await.map_err(read_error)?;
    let mut items = page.items;
    if let Some(definition) = definition {
        items.iter_mut().for_each(|node| node.typed_by(&definition));
    }
    Ok((items, page.next.map(|(iteration, id)| encode_place(iteration, &id))))
}

/// A page of a body that was folded.
fn in_order<'a>(
    nodes: impl Iterator<Item = &'a NodeView>,
    after: Option<(u32, String)>,
    limit: usize,
) -> Nodes {
    let mut placed: Vec<((u32, String), &NodeView)> = nodes
        .filter_map(|node| NodePlace::of(&node.id).map(|place| ((place.iteration, place.id), node)))
        .filter(|(place, _)| after.as_ref().is_none_or(|after| place > after))
        .collect();
    placed.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
    let more = placed.len() > limit;
    placed.truncate(limit);
    let next = placed.last().filter(|_| more).map(|((iteration, id), _)| encode_place(*iteration, id));
    (placed.into_iter().map(|(_, node)| node.clone()).collect(), next)
}

/// Refuses a parent that is no `loop` or `parallel` of the definition. Gives the definition, if it is known.
async fn check_container(
    app: &App,
    caller: &Caller,
    view: &ExecutionView,
    parent: &str,
) -> Result<Option<Arc<domain::workflow::definition::Definition>>, Failure> {
    let tenant = &caller.principal.tenant;
    let definition = app.definitions.get(app, tenant, view.workflow_id, view.workflow_version).await?;
    let is_container = definition
        .as_ref()
        .is_none_or(|known| known.node(parent).is_some_and(|node| node.node_type.is_container()));
    if is_container {
        return Ok(definition);
    }
    let detail = format!("execution {} has no `loop` or `parallel` at the path `{parent}`", view.id);
    Err(Failure::new(status::NODE_NOT_FOUND, detail))
}

fn encode_place(iteration: u32, id: &str) -> String {
    Cursor::Name(format!("{iteration}/{id}")).encode()
}

fn place_cursor(text: &str) -> Result<(u32, String), Failure> {
    let name = Cursor::name(text)?;
    let place = name.split_once('/').and_then(|(number, id)| Some((number.parse().ok()?, id.to_owned())));
    place.ok_or_else(crate::cursor::refuse)
}
