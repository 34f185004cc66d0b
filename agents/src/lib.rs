//! Workers: they carry out the nodes that touch the world outside, and report how that ended.
//!
//! ```text
//!   TaskQueue ──pull──► slot ──► executor of the node type ──► the outside
//!       ▲                │
//!       └─────beats──────┤
//!   Commands ◄──StartNode, CompleteNode (same command id until it is answered)
//! ```
//!
//! Owns: how an attempt runs, its deadline, its signs of life, its report, and where its requests may go.
//! Invariants: a worker decides nothing; losing one loses no fact, since tasks are delivered again and the first
//! result of an attempt wins. Deliberately absent: the rules of retries (the engine's), state that outlives the process, and
//! credentials, which this release refuses by name.
//!
//! Read in this order: [`config`], [`runtime`] (the slots), then [`nodes`] (one file per node type), with
//! [`egress`] as the guard of every request and `circuit` as the memory of targets that fail.

mod attempt;
mod circuit;
pub mod config;
mod credentials;
pub mod egress;
mod error;
mod failure;
pub mod nodes;
mod report;
mod running;
pub mod runtime;

pub use circuit::CircuitCounts;
pub use config::AgentsConfig;
pub use egress::EgressConfig;
pub use error::Error;
pub use nodes::{ConfigForm, Executors, NodeContext, NodeExecutor};
pub use runtime::WorkerRuntime;
