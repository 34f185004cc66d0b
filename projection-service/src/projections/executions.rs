//! Executions: domain's own view, folded in memory, one row however many events.

use std::collections::HashMap;
use uuid::Uuid;

use domain::event::{Event, RecordedEvent};
use domain::execution::view::ExecutionView;
use domain::ids::TenantId;
use read_models::{ExecutionRow, ReadModelError, WriteTx};

use super::{Poison, Trouble, out_of_turn, park, parked, reason_of, skip};
use crate::batch::StreamEvents;
use crate::cache::ViewCache;

/// What is known of a stream before its new events.
enum Known {
    New,
    View(Box<ExecutionView>),
    /// It is there, but cannot be read.
    Unreadable(String),
    Parked,
}

/// Folds the new events of executions and writes their rows.
pub(crate) async fn project(
    tx: &mut WriteTx,
    cache: &mut ViewCache,
    streams: &[StreamEvents],
) -> Result<Trouble, ReadModelError> {
    let mut trouble = Trouble::default();
    let mut stored = load(tx, cache, streams).await?;
    let mut rows = Vec::with_capacity(streams.len());
    for stream in streams {
        let known = match cache.take(stream.stream) {
            Some(view) => Known::View(Box::new(view)),
            None => stored.remove(&stream.stream).unwrap_or(Known::New),
        };
        let (view, poison) = match known {
            Known::Parked => {
                skip(tx, stream.stream, stream.events.len(), &mut trouble).await?;
                continue;
            }
            Known::Unreadable(reason) => (None, Some(Poison { index: 0, reason })),
            Known::New => fold(None, &stream.events),
            Known::View(view) => fold(Some(*view), &stream.events),
        };
        let is_parked = poison.is_some();
        if let Some(poison) = poison {
            park(tx, stream, poison, &mut trouble).await?;
        }
        let Some(view) = view else { continue };
        let row = ExecutionRow::new(&stream.tenant, stream.partition, &view)?;
        // A parked stream must not be in the cache: its next event has to find that it is parked.
        if !is_parked && !view.status.is_final() {
            cache.put(view, row.view_bytes());
        }
        rows.push(row);
    }
    tx.put_executions(rows).await?;
    Ok(trouble)
}

/// Reads what neither begins in this batch nor is cached.
async fn load(
    tx: &mut WriteTx,
    cache: &ViewCache,
    streams: &[StreamEvents],
) -> Result<HashMap<Uuid, Known>, ReadModelError> {
    let mut missing: HashMap<&TenantId, Vec<Uuid>> = HashMap::new();
    for stream in streams {
        let begins = stream.events.first().is_some_and(|event| event.version == 1);
        if !begins && !cache.contains(stream.stream) {
            missing.entry(&stream.tenant).or_default().push(stream.stream);
        }
    }
    let mut known = HashMap::new();
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

/// The view after those events that can be folded, and the first that cannot.
fn fold(
    mut view: Option<ExecutionView>,
    events: &[std::sync::Arc<RecordedEvent>],
) -> (Option<ExecutionView>, Option<Poison>) {
    for (index, event) in events.iter().enumerate() {
        let version = view.as_ref().map_or(0, |view| view.version);
        if event.version != version + 1 {
            return (view, Some(Poison { index, reason: out_of_turn(event, version) }));
        }
        let typed = match event.decode() {
            Ok(Event::Execution(typed)) => typed,
            Ok(_) => unreachable!("the catalogue gives the category by the first segment of the type"),
            Err(error) => return (view, Some(Poison { index, reason: reason_of(&error) })),
        };
        view = ExecutionView::fold(view, event, typed);
        if view.is_none() {
            let reason = format!("the stream begins with `{}`, not with its start", event.event_type);
            return (None, Some(Poison { index, reason }));
        }
    }
    (view, None)
}
