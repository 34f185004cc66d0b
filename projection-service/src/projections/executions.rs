//! Executions: domain's own view, folded in memory, one row however many events; and the rows of the nodes in bodies
//! that the events touch.
//!
//! A fork begins with what its origin was at a version. That is read from the log, not from the origin's row, which may
//! be further by now, or not yet there: so a rebuild ends in the same rows.

use std::collections::HashMap;
use uuid::Uuid;

use domain::event::{Event, EventError, ExecutionEvent};
use domain::execution::view::{ExecutionView, History, NodePlace, NodeView, Replay, touched_by};
use domain::ids::TenantId;
use event_store::LogReader;
use read_models::{ExecutionRow, NodeRow, ReadModelError, WantedNode, WriteTx};

use super::{Poison, Trouble, dead_letters, park, parked, reason_of, skip};
use crate::batch::StreamEvents;
use crate::cache::ViewCache;
use crate::error::ProjectionError;

/// Rows of nodes that are collected before they are written: a fork has all those of its origin at once.
const NODE_ROWS: usize = 5_000;

/// What is known of a stream before its new events.
enum Known {
    New,
    View(Box<ExecutionView>),
    /// It is there, but cannot be read.
    Unreadable(String),
    Parked,
}

/// The new events of a stream, read.
struct Decoded<'a> {
    stream: &'a StreamEvents,
    events: Vec<Result<Event, EventError>>,
}

impl Decoded<'_> {
    /// Whether nothing of the stream can be in the tables.
    fn begins(&self) -> bool {
        self.stream.events.first().is_some_and(|event| event.version == 1)
    }

    /// Whose the execution is, as its first event says; later batches do not know it and do not change it.
    fn owner(&self) -> Option<Uuid> {
        match self.events.first() {
            Some(Ok(Event::Execution(ExecutionEvent::Started(started)))) => started.owner,
            Some(Ok(Event::Execution(ExecutionEvent::Forked(forked)))) => forked.owner,
            _ => None,
        }
    }

    fn executions(&self) -> impl Iterator<Item = &ExecutionEvent> {
        self.events.iter().filter_map(|event| match event {
            Ok(Event::Execution(event)) => Some(event),
            _ => None,
        })
    }
}

/// Nodes of bodies as they are stored, by execution.
type StoredNodes = HashMap<Uuid, Vec<Result<NodeView, ReadModelError>>>;

/// Folds the new events of executions and writes their rows.
pub(crate) async fn project(
    log: &dyn LogReader,
    tx: &mut WriteTx,
    cache: &mut ViewCache,
    streams: &[StreamEvents],
) -> Result<Trouble, ProjectionError> {
    let decoded: Vec<Decoded<'_>> = streams
        .iter()
        .map(|stream| Decoded { stream, events: stream.events.iter().map(|event| event.decode()).collect() })
        .collect();
    let mut known = load(tx, cache, &decoded).await?;
    let mut nodes = load_nodes(tx, &known, &decoded).await?;
    let mut trouble = Trouble::default();
    let mut rows = Vec::with_capacity(streams.len());
    let mut node_rows = Vec::new();
    for decoded in decoded {
        let owner = decoded.owner();
        let Decoded { stream, events } = decoded;
        let known = known.remove(&stream.stream).unwrap_or(Known::New);
        let begun = match known {
            Known::Parked => {
                skip(tx, stream.stream, stream.events.len(), &mut trouble).await?;
                continue;
            }
            Known::Unreadable(reason) => Err(reason),
            Known::New => origin_of(log, &events).await?,
            Known::View(view) => continued(*view, nodes.remove(&stream.stream).unwrap_or_default()),
        };
        let (mut history, poison) = match begun {
            Ok(history) => fold(tx, history, stream, events).await?,
            Err(reason) => (History::default(), Some(Poison { index: 0, reason })),
        };
        let is_parked = poison.is_some();
        if let Some(poison) = poison {
            park(tx, stream, poison, &mut trouble).await?;
        }
        // The origin of a fork that could not be folded is not this stream's.
        let Some(view) = history.view.take().filter(|view| view.id == stream.stream) else { continue };
        for node in history.bodies.take_changed() {
            node_rows.extend(NodeRow::new(&stream.tenant, stream.stream, node)?);
        }
        if node_rows.len() >= NODE_ROWS {
            tx.put_nodes(std::mem::take(&mut node_rows)).await?;
        }
        let row = ExecutionRow::new(&stream.tenant, stream.partition, &view)?.owned_by(owner);
        // A parked stream must not be in the cache: its next event has to find that it is parked.
        if !is_parked && !view.status.is_final() {
            cache.put(view, row.view_bytes());
        }
        rows.push(row);
    }
    tx.put_executions(rows).await?;
    tx.put_nodes(node_rows).await?;
    Ok(trouble)
}

/// What is known of the streams: from the cache, or read where they do not begin in this batch.
async fn load(
    tx: &mut WriteTx,
    cache: &mut ViewCache,
    streams: &[Decoded<'_>],
) -> Result<HashMap<Uuid, Known>, ReadModelError> {
    let mut known = HashMap::new();
    let mut missing: HashMap<&TenantId, Vec<Uuid>> = HashMap::new();
    for decoded in streams {
        let id = decoded.stream.stream;
        if let Some(view) = cache.take(id) {
            known.insert(id, Known::View(Box::new(view)));
        } else if !decoded.begins() {
            missing.entry(&decoded.stream.tenant).or_default().push(id);
        }
    }
    for (tenant, ids) in missing {
        for (id, view) in tx.executions(tenant, &ids).await? {
            let view = match view {
                Ok(view) => Known::View(Box::new(view)),
                Err(error) => Known::Unreadable(reason_of(&error)),
            };
            known.insert(id, view);
        }
        for id in parked(tx, &ids).await? {
            known.insert(id, Known::Parked);
        }
    }
    Ok(known)
}

/// The stored nodes of bodies that the events touch, and no others.
async fn load_nodes(
    tx: &mut WriteTx,
    known: &HashMap<Uuid, Known>,
    streams: &[Decoded<'_>],
) -> Result<StoredNodes, ReadModelError> {
    let mut wanted: HashMap<&TenantId, Vec<WantedNode>> = HashMap::new();
    let mut found = StoredNodes::new();
    for decoded in streams {
        let (id, tenant) = (decoded.stream.stream, &decoded.stream.tenant);
        let Some(Known::View(view)) = known.get(&id) else { continue };
        let mut paths: Vec<NodePlace> = Vec::new();
        let mut insides: Vec<String> = Vec::new();
        for touched in decoded.executions().map(touched_by) {
            paths.extend(touched.paths.iter().filter_map(|path| NodePlace::of(path)));
            insides.extend(touched.insides.into_iter().filter(|path| may_hold_nodes(view, path)));
        }
        insides.sort_unstable();
        insides.dedup();
        for container in insides {
            for (_, node) in tx.nodes_inside(tenant, id, &container).await? {
                found.entry(id).or_default().push(node);
            }
        }
        paths.sort_unstable();
        paths.dedup();
        wanted.entry(tenant).or_default().extend(paths.into_iter().map(|place| (id, place)));
    }
    for (tenant, wanted) in wanted {
        for (id, node) in tx.nodes(tenant, &wanted).await? {
            found.entry(id).or_default().push(node);
        }
    }
    Ok(found)
}

/// Whether there may be rows inside a node: the view knows its top level.
fn may_hold_nodes(view: &ExecutionView, path: &str) -> bool {
    NodePlace::of(path).is_some()
        || view.nodes.iter().any(|node| node.id == path && node.node_type.is_container())
}

/// An execution with the nodes that its events touch, or why it cannot go on.
fn continued(view: ExecutionView, nodes: Vec<Result<NodeView, ReadModelError>>) -> Result<History, String> {
    let mut history = History::of(Some(view));
    for node in nodes {
        history.bodies.insert(node.map_err(|error| reason_of(&error))?);
    }
    Ok(history)
}

/// What a stream that begins here begins with: nothing, or the origin of the fork that it is.
async fn origin_of(
    log: &dyn LogReader,
    events: &[Result<Event, EventError>],
) -> Result<Result<History, String>, ProjectionError> {
    let Some(Ok(Event::Execution(ExecutionEvent::Forked(fork)))) = events.first() else {
        return Ok(Ok(History::default()));
    };
    let mut replay = Replay::of(fork.origin, fork.at_version);
    while let Some(page) = replay.wants() {
        let events = log.read_stream(page.stream, page.after, page.limit).await?;
        if let Err(error) = replay.give(&events) {
            return Ok(Err(reason_of(&error)));
        }
    }
    Ok(Ok(replay.history()))
}

/// The history after those events that can be folded, and the first that cannot.
async fn fold(
    tx: &mut WriteTx,
    mut history: History,
    stream: &StreamEvents,
    events: Vec<Result<Event, EventError>>,
) -> Result<(History, Option<Poison>), ReadModelError> {
    for (index, (recorded, event)) in stream.events.iter().zip(events).enumerate() {
        let letters = event.as_ref().ok().and_then(dead_letters::change_of);
        let taken = event.map_err(Into::into).and_then(|event| history.take_decoded(recorded, event));
        if let Err(error) = taken {
            return Ok((history, Some(Poison { index, reason: reason_of(&error) })));
        }
        if let (Some(change), Some(view)) = (letters, &history.view) {
            dead_letters::write(tx, recorded, view, change).await?;
        }
    }
    Ok((history, None))
}
