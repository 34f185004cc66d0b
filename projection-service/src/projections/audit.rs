//! The audit: what gateways have noted, and what the log itself says of every command of a user or a key.
//!
//! A command's first event gives a row, whose id is the command's; the gateway's entry meets it there. What belongs to
//! one row is put together in memory first, so that a batch costs one statement. An audit's stream holds no state, so
//! nothing is read.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

use domain::event::{AuditEvent, Event, RecordedEvent};
use domain::ids::{TenantId, event_id};
use read_models::{AuditRow, ReadModelError, WriteTx};

use super::{Poison, Trouble, park, parked, reason_of, skip};
use crate::batch::StreamEvents;

/// The rows of a batch, by tenant and id, in the order of their first.
#[derive(Default)]
struct AuditRows {
    rows: Vec<AuditRow>,
    index: HashMap<(TenantId, Uuid), usize>,
}

impl AuditRows {
    fn add(&mut self, row: AuditRow) {
        match self.index.entry((row.tenant.clone(), row.id)) {
            Entry::Occupied(at) => self.rows[*at.get()].meet(row),
            Entry::Vacant(free) => {
                free.insert(self.rows.len());
                self.rows.push(row);
            }
        }
    }
}

/// The first event of each command of a user or a key in a batch.
#[derive(Default)]
pub(crate) struct Commands {
    first: Vec<Arc<RecordedEvent>>,
    seen: HashSet<Uuid>,
}

impl Commands {
    /// Notes an event, if it begins what one of those commands did. What a worker or a part of Everline does is not
    /// audited, and an audit does not audit itself.
    pub(crate) fn note(&mut self, event: &Arc<RecordedEvent>) {
        let actor = event.actor.as_str();
        if !(actor.starts_with("user:") || actor.starts_with("key:")) || event.category() == "audit" {
            return;
        }
        let command = event.causation_id;
        if self.seen.contains(&command) {
            return;
        }
        // An event's id is derived from its command's: that tells a command of its own from what another event caused.
        if event_id(event.recorded_at, event.stream, command, event.version) == event.id {
            self.seen.insert(command);
            self.first.push(Arc::clone(event));
        }
    }

    pub(crate) fn list(&self) -> &[Arc<RecordedEvent>] {
        &self.first
    }
}

/// Writes the rows of a batch: those of the commands whose events these are, and those of the entries of audits.
pub(crate) async fn project(
    tx: &mut WriteTx,
    commands: &[Arc<RecordedEvent>],
    audits: &[StreamEvents],
) -> Result<Trouble, ReadModelError> {
    let mut trouble = Trouble::default();
    let mut rows = AuditRows::default();
    for event in commands {
        rows.add(AuditRow::of_event(event));
    }
    let ids: Vec<_> = audits.iter().map(|stream| stream.stream).collect();
    let parked = parked(tx, &ids).await?;
    for stream in audits {
        if parked.contains(&stream.stream) {
            skip(tx, stream.stream, stream.events.len(), &mut trouble).await?;
            continue;
        }
        for (index, recorded) in stream.events.iter().enumerate() {
            match recorded.decode() {
                Ok(Event::Audit(AuditEvent::Recorded(noted))) => {
                    for entry in noted.entries {
                        rows.add(AuditRow::of_entry(&stream.tenant, entry));
                    }
                }
                Ok(_) => unreachable!("the catalogue gives the category by the first segment of the type"),
                Err(error) => {
                    park(tx, stream, Poison { index, reason: reason_of(&error) }, &mut trouble).await?;
                    break;
                }
            }
        }
    }
    tx.put_audit(rows.rows).await?;
    Ok(trouble)
}
