//! The only writer of the log: decides commands and appends what follows.
//!
//! ```text
//!   CommandHandler ─► partition (fold, decide) ─► committer (group commit) ─► log
//!                          ▲   one task each          │ after the commit
//!                          │                          ├─► replies, commit feed
//!                          └────── timers ◄───────────┼─► timers (wakeups)
//!                                                     └─► dispatcher (ready tasks, leases) ─► task queue
//! ```
//!
//! Invariants: a reply goes out after the commit, never before; a command id has one effect; an append is
//! decided on the state that the log has when it is written. Deliberately absent: rules of any aggregate
//! (they are in `domain`) and SQL (it is in `event-store`).
//!
//! Read in this order: [`service`] (wiring), `pending` (what travels), `partition`, `committer`, `aftermath`, `timers`,
//! `dispatcher`, `recovery`.

mod aftermath;
mod committer;
mod config;
mod dispatcher;
mod error;
mod fact_source;
mod folding;
mod partition;
mod pending;
mod recovery;
pub mod service;
mod timers;

pub use config::CommandServiceConfig;
pub use error::CommandServiceError;
pub use service::{ClusterPorts, CommandService, CommandServicePorts, RelayPorts};
