//! A lane: who holds the slots of one concurrency key of one workflow, and who waits for one.
//!
//! ```text
//!   execution.queued ──► Request ──► lane.requested ─┬─► lane.granted ──► execution.admitted
//!                                                    ├─► lane.refused ──► execution.cancelled (drop)
//!                                                    └─► lane.eviction_requested ──► the oldest is cancelled
//!   the execution's end ──► Release ──► lane.released ──► lane.granted (the next)
//! ```
//!
//! Executions of one key live in many partitions; their lane is one stream, whose partition decides alone. Commands
//! travel through the reactor with ids derived from the events that cause them, so a crash repeats them without
//! effect. Slots are a fold of this log, not a counter: what was granted and not released is held.
//!
//! Deliberately absent: any knowledge of what an execution does with its slot.

pub mod command;
mod decide;
pub mod event;
mod evolve;
mod state;

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::ids::{Slot, TenantId, derived_id};
use crate::time::Timestamp;

pub use decide::decide;
pub use evolve::evolve;
pub use state::{Holder, LaneState, Waiter};

/// The lane of a key of a workflow.
pub fn stream_of(tenant: &TenantId, workflow: Uuid, key: &str) -> Uuid {
    let digest = Sha256::digest(key.as_bytes());
    let parts: [&[u8]; 4] = [b"lane", tenant.as_str().as_bytes(), workflow.as_bytes(), &digest];
    derived_id(Timestamp::default(), Slot::hashed(&parts), &parts)
}
