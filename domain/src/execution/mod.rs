//! The execution aggregate: the engine.
//!
//! ```text
//!   command ──► decide ──► the one event that the command states
//!                 │
//!                 └──► advance: everything that follows inside the engine, in the same append
//! ```
//!
//! [`evolve`] folds events, [`advance`] alone decides what follows from a state, so any prefix of a stream can
//! be continued. Deliberately absent: clocks, random sources, and what a worker does.

mod advance;
mod budget;
pub mod command;
mod decide;
pub mod event;
mod evolve;
mod scope;
mod state;
pub mod diff;
pub mod view;

use uuid::Uuid;

use crate::rejection::{Rejection, RejectionKind};

pub use decide::decide;
pub use evolve::evolve;
pub use state::{
    ExecutionState, ExecutionStatus, FINAL_EVENT_TYPES, NodeState, NodeStatus, Phase, StartedFacts,
};

/// How many workers may be lost over one run of a node before it fails.
pub const MAX_LOST_WORKERS: u32 = 5;

/// The most events of one execution.
pub const MAX_HISTORY_EVENTS: u64 = 50_000;

/// No such execution for this tenant.
pub(crate) fn not_found(id: Uuid) -> Rejection {
    Rejection::new(RejectionKind::NotFound, "execution_not_found", format!("there is no execution {id}"))
}
