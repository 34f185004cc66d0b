//! Workflows and their versions. Seldom written, so there is no cache.

use serde_json::Value;
use uuid::Uuid;

use domain::event::{Event, RecordedEvent, WorkflowEvent};
use domain::workflow::event::{ShareAccess, Visibility};
use read_models::{ReadModelError, WorkflowRow, WorkflowVersionRow, WriteTx};

use super::{Poison, Trouble, out_of_turn, park, parked, reason_of, skip};
use crate::batch::StreamEvents;

/// Folds the new events of workflows and writes their rows.
pub(crate) async fn project(tx: &mut WriteTx, streams: &[StreamEvents]) -> Result<Trouble, ReadModelError> {
    let mut trouble = Trouble::default();
    let ids: Vec<_> = streams.iter().map(|stream| stream.stream).collect();
    let parked = parked(tx, &ids).await?;
    for stream in streams {
        if parked.contains(&stream.stream) {
            skip(tx, stream.stream, stream.events.len(), &mut trouble).await?;
            continue;
        }
        let mut row = tx.workflow(&stream.tenant, stream.stream).await?;
        for (index, event) in stream.events.iter().enumerate() {
            match fold(row.as_ref(), event) {
                Ok((next, version, shared)) => {
                    if let Some(users) = shared {
                        tx.put_workflow_shares(&stream.tenant, stream.stream, &users).await?;
                    }
                    if let Some(version) = version {
                        tx.put_workflow_version(&version).await?;
                    }
                    row = Some(next);
                }
                Err(reason) => {
                    park(tx, stream, Poison { index, reason }, &mut trouble).await?;
                    break;
                }
            }
        }
        if let Some(row) = row {
            tx.put_workflow(&row).await?;
        }
    }
    Ok(trouble)
}

/// The row after one more event, the version that the event stored, and with whom the workflow is shared from here on.
type Folded = (WorkflowRow, Option<WorkflowVersionRow>, Option<Vec<Uuid>>);

fn fold(row: Option<&WorkflowRow>, recorded: &RecordedEvent) -> Result<Folded, String> {
    let known = row.map_or(0, |row| row.etag);
    if recorded.version != known + 1 {
        return Err(out_of_turn(recorded, known));
    }
    let event = match recorded.decode() {
        Ok(Event::Workflow(event)) => event,
        Ok(_) => unreachable!("the catalogue gives the category by the first segment of the type"),
        Err(error) => return Err(reason_of(&error)),
    };
    let mut next = match (row, &event) {
        (Some(row), _) => row.clone(),
        (None, WorkflowEvent::Created(_)) => empty(recorded),
        (None, _) => {
            return Err(format!("the stream begins with `{}`, not with its creation", recorded.event_type));
        }
    };
    next.etag = recorded.version;
    next.updated_at = recorded.recorded_at;
    let mut shared = None;
    let version = match event {
        WorkflowEvent::Created(e) => {
            next.owner = e.owner;
            Some(define(&mut next, recorded, 1, e.name, &e.definition, e.definition_hash))
        }
        WorkflowEvent::Updated(e) => {
            Some(define(&mut next, recorded, e.definition_version, e.name, &e.definition, e.definition_hash))
        }
        WorkflowEvent::Published(e) => {
            next.published_version = Some(e.definition_version);
            None
        }
        WorkflowEvent::Enabled(_) => {
            next.enabled = true;
            None
        }
        WorkflowEvent::Disabled(_) => {
            next.enabled = false;
            None
        }
        WorkflowEvent::Deleted(_) => {
            next.deleted = true;
            None
        }
        WorkflowEvent::Shared(e) => {
            next.visibility = e.visibility;
            next.shared_access = e.access;
            shared = Some(e.users);
            None
        }
        WorkflowEvent::Restored(_) => {
            next.deleted = false;
            None
        }
    };
    Ok((next, version, shared))
}

fn empty(recorded: &RecordedEvent) -> WorkflowRow {
    WorkflowRow {
        tenant: recorded.tenant.clone(),
        id: recorded.stream,
        name: String::new(),
        description: None,
        latest_version: 0,
        published_version: None,
        enabled: true,
        deleted: false,
        etag: 0,
        created_at: recorded.recorded_at,
        updated_at: recorded.recorded_at,
        created_by: recorded.actor.as_str().to_owned(),
        definition: String::new(),
        owner: None,
        visibility: Visibility::default(),
        shared_access: ShareAccess::default(),
    }
}

fn define(
    row: &mut WorkflowRow,
    recorded: &RecordedEvent,
    version: u64,
    name: String,
    definition: &Value,
    hash: String,
) -> WorkflowVersionRow {
    row.name = name;
    row.latest_version = version;
    row.description = definition.get("description").and_then(Value::as_str).map(str::to_owned);
    row.definition = definition.to_string();
    WorkflowVersionRow {
        tenant: row.tenant.clone(),
        workflow_id: row.id,
        version,
        hash,
        created_at: recorded.recorded_at,
        created_by: recorded.actor.as_str().to_owned(),
        definition: row.definition.clone(),
    }
}
