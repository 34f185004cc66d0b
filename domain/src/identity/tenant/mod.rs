//! A tenant: whose things everything else is. Its id is its slug; the stream is derived from it.

pub mod command;
mod decide;
pub mod event;
mod evolve;
pub mod state;

use uuid::Uuid;

use crate::ids::{Slot, TenantId, derived_id};
use crate::time::Timestamp;

pub use decide::decide;
pub use evolve::evolve;
pub use state::TenantState;

/// The stream of a tenant.
pub fn stream_of(tenant: &TenantId) -> Uuid {
    derived_id(Timestamp::default(), Slot::of_tenant(tenant), &[b"tenant", tenant.as_str().as_bytes()])
}
