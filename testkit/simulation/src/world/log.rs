//! The log of the simulation: streams, command ids, wakeups and the epoch of its one partition, all in memory.
//!
//! It promises what the real one promises: an append is whole or nothing, is refused under an old epoch or an
//! unexpected version, and writes events, wakeups and the command's answer together.

use domain::aggregate::Aggregate;
use domain::command::CommandEnvelope;
use domain::decision::{Outcome, Wakeup};
use domain::event::{Codec, RecordedEvent};
use domain::ids::{Partition, Position, event_id};
use domain::time::Timestamp;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use uuid::Uuid;

/// Everything durable.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log {
    pub(crate) streams: BTreeMap<Uuid, Vec<RecordedEvent>>,
    /// The answers of commands that were carried out.
    pub(crate) answers: HashMap<Uuid, Value>,
    pub(crate) wakeups: BTreeSet<(Timestamp, Uuid, Wakeup)>,
    pub(crate) blobs: HashMap<String, Arc<Value>>,
    /// The owner that may append.
    pub(crate) epoch: u64,
    offset: u64,
}

/// Why nothing was appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refused {
    /// Another owner has the partition.
    Fenced,
    /// The stream has changed.
    Conflict,
}

/// Which checks the log makes; all of them, unless a rule is broken on purpose.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Guards {
    pub(crate) epoch: bool,
    pub(crate) command_ids: bool,
}

impl Log {
    /// Appends what follows from a command.
    pub(crate) fn append(
        &mut self,
        epoch: u64,
        expected: u64,
        command: &CommandEnvelope,
        outcome: &Outcome,
        at: Timestamp,
        guards: Guards,
    ) -> Result<Vec<RecordedEvent>, Refused> {
        if guards.epoch && epoch != self.epoch {
            return Err(Refused::Fenced);
        }
        let stream = self.streams.entry(command.stream).or_default();
        if guards.epoch && stream.len() as u64 != expected {
            return Err(Refused::Conflict);
        }
        let mut recorded = Vec::new();
        for event in &outcome.events {
            self.offset += 1;
            let version = stream.len() as u64 + 1 + recorded.len() as u64;
            recorded.push(RecordedEvent {
                position: Position { partition: Partition(0), offset: self.offset },
                stream: command.stream,
                version,
                tenant: command.tenant.clone(),
                event_type: event.event_type().into(),
                schema_version: event.schema_version(),
                id: event_id(at, command.stream, command.id, version),
                recorded_at: at,
                correlation_id: command.correlation_id,
                causation_id: command.id,
                actor: command.actor.clone(),
                traceparent: None,
                codec: Codec::Json,
                key_id: None,
                data: event.encode(),
            });
        }
        stream.extend(recorded.iter().cloned());
        for wakeup in &outcome.wakeups {
            self.wakeups.insert((wakeup.due_at, command.stream, wakeup.clone()));
        }
        for blob in &outcome.blobs {
            let content = serde_json::from_slice(&blob.content).unwrap_or_default();
            self.blobs.insert(blob.reference.sha256.clone(), Arc::new(content));
        }
        if guards.command_ids {
            self.answers.insert(command.id, outcome.answer.clone());
        }
        Ok(recorded)
    }

    /// A stream folded from its bytes.
    pub(crate) fn fold(&self, stream: Uuid) -> Result<Aggregate, String> {
        let mut aggregate = Aggregate::default();
        for event in self.streams.get(&stream).into_iter().flatten() {
            aggregate.apply_recorded(event).map_err(|error| format!("an event does not decode: {error}"))?;
        }
        Ok(aggregate)
    }

    /// When the next wakeup is due.
    pub(crate) fn next_wakeup(&self) -> Option<Timestamp> {
        self.wakeups.first().map(|(due_at, _, _)| *due_at)
    }
}
