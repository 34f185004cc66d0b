//! Events that will be projected in one transaction, grouped by stream.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use uuid::Uuid;

use domain::event::RecordedEvent;
use domain::ids::{Partition, TenantId};
use read_models::Advance;

use crate::projections::audit::Commands;

/// The new events of one stream, in order.
pub(crate) struct StreamEvents {
    pub(crate) stream: Uuid,
    pub(crate) tenant: TenantId,
    pub(crate) partition: Partition,
    pub(crate) events: Vec<Arc<RecordedEvent>>,
}

/// Streams of one kind in the order of their first event, so that rows are written nearly in key order.
#[derive(Default)]
pub(crate) struct Streams {
    list: Vec<StreamEvents>,
    index: HashMap<Uuid, usize>,
}

impl Streams {
    fn push(&mut self, event: Arc<RecordedEvent>) {
        let index = *self.index.entry(event.stream).or_insert_with(|| {
            self.list.push(StreamEvents {
                stream: event.stream,
                tenant: event.tenant.clone(),
                partition: event.position.partition,
                events: Vec::new(),
            });
            self.list.len() - 1
        });
        self.list[index].events.push(event);
    }

    pub(crate) fn list(&self) -> &[StreamEvents] {
        &self.list
    }
}

/// A batch, and the checkpoints that it moves.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) executions: Streams,
    pub(crate) workflows: Streams,
    pub(crate) users: Streams,
    pub(crate) api_keys: Streams,
    pub(crate) tenants: Streams,
    pub(crate) bulk_jobs: Streams,
    pub(crate) audits: Streams,
    pub(crate) commands: Commands,
    advances: BTreeMap<Partition, (u64, u64)>,
    events: usize,
    bytes: usize,
}

impl Batch {
    /// Adds the event that follows the last of its partition; the caller has checked that it does.
    pub(crate) fn push(&mut self, event: Arc<RecordedEvent>) {
        let position = event.position;
        let advance =
            self.advances.entry(position.partition).or_insert((position.offset - 1, position.offset));
        advance.1 = position.offset;
        self.events += 1;
        self.commands.note(&event);
        // Other aggregates have no read model: they only move the checkpoint and are not even decoded.
        let streams = match event.category() {
            "execution" => &mut self.executions,
            "workflow" => &mut self.workflows,
            "user" => &mut self.users,
            "api_key" => &mut self.api_keys,
            "tenant" => &mut self.tenants,
            "bulk" => &mut self.bulk_jobs,
            "audit" => &mut self.audits,
            _ => return,
        };
        self.bytes += event.data.len();
        streams.push(event);
    }

    pub(crate) fn advances(&self) -> Vec<Advance> {
        let advance = |(&partition, &(from, to)): (&Partition, &(u64, u64))| Advance { partition, from, to };
        self.advances.iter().map(advance).collect()
    }

    pub(crate) fn events(&self) -> usize {
        self.events
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.events == 0
    }
}
