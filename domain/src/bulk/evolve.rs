//! Folding a bulk job's events.

use crate::event::BulkEvent;

use super::state::{BulkState, BulkStatus};

/// How many refusals are kept.
const KEPT: usize = 200;

/// The state after one more event.
pub fn evolve(mut state: BulkState, event: &BulkEvent) -> BulkState {
    state.version += 1;
    match event {
        BulkEvent::Started(started) => {
            state.status = BulkStatus::Running;
            state.started = Some(Box::new(started.clone()));
        }
        BulkEvent::Leased(leased) => state.lease = Some((leased.runner, leased.until)),
        BulkEvent::Progressed(progressed) => {
            state.cursor = Some(progressed.cursor);
            state.done = progressed.done;
            state.failed = progressed.failed;
            state.failures.extend(progressed.failures.iter().cloned());
            let surplus = state.failures.len().saturating_sub(KEPT);
            state.failures.drain(..surplus);
            state.lease = state.lease.map(|(runner, _)| (runner, progressed.until));
        }
        BulkEvent::Completed(_) => state.status = BulkStatus::Completed,
        BulkEvent::Cancelled(_) => state.status = BulkStatus::Cancelled,
    }
    state
}
