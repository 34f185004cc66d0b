//! The audit: who asked for what, from where, and what became of it. Recorded as events, so that it is as hard to change
//! as the rest of the log.
//!
//! Entries are written by gateways in batches, one stream per tenant and day. Invariants: what was asked for is named by
//! its command or route, never by its content: no bodies, no secrets. Deliberately absent: judging.

pub mod command;
mod decide;
pub mod event;

use uuid::Uuid;

use crate::event::AuditEvent;
use crate::ids::{Slot, TenantId, derived_id};
use crate::time::Timestamp;

pub use decide::decide;

/// The most entries of one event.
pub const MAX_ENTRIES: usize = 200;

/// The stream of a tenant's audit at a time: one per day.
pub fn stream_of(tenant: &TenantId, at: Timestamp) -> Uuid {
    let day = at.unix_ms().div_euclid(86_400_000);
    let begin = Timestamp::from_unix_ms(day * 86_400_000);
    derived_id(begin, Slot::of_tenant(tenant), &[b"audit", tenant.as_str().as_bytes(), &day.to_be_bytes()])
}

/// Folded audit: nothing but how far it is.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct AuditState {
    /// The version of the stream.
    pub version: u64,
}

/// The state after one more event.
pub fn evolve(mut state: AuditState, event: &AuditEvent) -> AuditState {
    state.version += 1;
    match event {
        AuditEvent::Recorded(_) => {}
    }
    state
}
