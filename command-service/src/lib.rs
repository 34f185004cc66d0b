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
//! Read in this order: [`service`] (wiring), `partition`, `committer`, `timers`, `dispatcher`, `recovery`.

mod aftermath;
mod committer;
mod config;
mod dispatcher;
mod fact_source;
mod partition;
mod recovery;
pub mod service;
mod timers;

pub use config::CommandServiceConfig;
pub use service::{CommandService, CommandServiceError};
