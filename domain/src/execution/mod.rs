//! The execution aggregate: the engine.
//!
//! ```text
//!   command ──► decide ──► the one event that the command states
//!                 │
//!                 └──► advance: everything that follows inside the engine, in the same append
//! ```
//!
//! [`evolve`] folds events, `advance` alone decides what follows from a state, so any prefix of a stream can
//! be continued. Deliberately absent: clocks, random sources, and what a worker does.
//!
//! Read in this order: [`event`], [`state`](ExecutionState), `evolve`, [`paths`], `agenda`, `progress` (a state on its
//! way), `advance` (the worklist), `readiness` (the graph's rules), `begin` (what each type does), `failure`,
//! `iterations`, `waits`, `compensate`, then the commands: `decide`, `start`, `fork`, `control`.

mod advance;
mod agenda;
mod begin;
mod budget;
pub mod command;
mod compensate;
mod control;
mod decide;
pub mod diff;
pub mod event;
mod evolve;
mod failure;
mod fork;
mod iterations;
pub mod paths;
mod progress;
mod readiness;
mod recording;
mod scope;
mod start;
mod state;
pub mod view;
mod waits;

use uuid::Uuid;

use crate::rejection::{Rejection, RejectionKind};

pub use decide::decide;
pub(crate) use decide::public_status;
pub use evolve::{evolve, forked};
pub use recording::{Recorded, Recording};
pub use state::{
    ChildAnswer, CompensationState, Completion, ExecutionState, ExecutionStatus, FINAL_EVENT_TYPES,
    ForkFacts, Iterations, NodeState, NodeStatus, Past, Phase, ScopeState, Signal, StartedFacts, WaitState,
};

/// How many workers may be lost over one run of a node before it fails.
pub const MAX_LOST_WORKERS: u32 = 5;

/// The most events of one execution.
pub const MAX_HISTORY_EVENTS: u64 = 50_000;

/// How deep sub-workflows may go below the root.
pub const MAX_CHILD_DEPTH: u32 = 32;

/// How many forks may lead to one another.
pub const MAX_FORK_DEPTH: u32 = 32;

/// No such execution for this tenant.
pub(crate) fn not_found(id: Uuid) -> Rejection {
    Rejection::new(RejectionKind::NotFound, "execution_not_found", format!("there is no execution {id}"))
}
