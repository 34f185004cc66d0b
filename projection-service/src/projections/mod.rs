//! The projections: one file for each kind of row. What cannot be folded is parked here.

mod api_keys;
pub(crate) mod audit;
mod bulk_jobs;
mod dead_letters;
pub(crate) mod executions;
pub(crate) mod small;
mod tenants;
mod users;
pub(crate) mod workflows;

use std::collections::HashSet;
use uuid::Uuid;

use domain::event::RecordedEvent;
use read_models::{MAIN_PROJECTION, ReadModelError, WriteTx};

use crate::batch::StreamEvents;

/// What went wrong in a batch without stopping it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// Streams parked.
    pub(crate) parked: u64,
    /// Events of parked streams passed over.
    pub(crate) skipped: u64,
}

impl std::ops::AddAssign for Trouble {
    fn add_assign(&mut self, other: Self) {
        self.parked += other.parked;
        self.skipped += other.skipped;
    }
}

/// An event that cannot be folded: its index among its stream's events of the batch, and why.
struct Poison {
    index: usize,
    reason: String,
}

/// An error and all its sources, on one line.
fn reason_of(error: &dyn std::error::Error) -> String {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        reason.push_str(": ");
        reason.push_str(&cause.to_string());
        source = cause.source();
    }
    reason
}

/// Why an event is not the successor of what is known of its stream.
fn out_of_turn(event: &RecordedEvent, known: u64) -> String {
    format!("event version {} does not follow version {known} of the read model", event.version)
}

/// Parks a stream at its poisonous event and counts those that came after it.
async fn park(
    tx: &mut WriteTx,
    stream: &StreamEvents,
    poison: Poison,
    trouble: &mut Trouble,
) -> Result<(), ReadModelError> {
    let position = stream.events[poison.index].position;
    tracing::warn!(
        stream.id = %stream.stream,
        event.position = %position,
        reason = %poison.reason,
        "an event could not be folded; its stream is parked until the projection is rebuilt"
    );
    tx.park_stream(MAIN_PROJECTION, stream.stream, position, &poison.reason).await?;
    trouble.parked += 1;
    skip(tx, stream.stream, stream.events.len() - poison.index - 1, trouble).await
}

/// Counts events of a parked stream.
async fn skip(
    tx: &mut WriteTx,
    stream: Uuid,
    events: usize,
    trouble: &mut Trouble,
) -> Result<(), ReadModelError> {
    if events == 0 {
        return Ok(());
    }
    trouble.skipped += events as u64;
    tx.count_skipped(MAIN_PROJECTION, stream, events as u64).await
}

/// Which of these streams are parked.
async fn parked(tx: &mut WriteTx, streams: &[Uuid]) -> Result<HashSet<Uuid>, ReadModelError> {
    if streams.is_empty() {
        return Ok(HashSet::new());
    }
    tx.parked(MAIN_PROJECTION, streams).await
}
