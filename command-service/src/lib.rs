//! The only writer of the log: decides commands and appends what follows.
//!
//! ```text
//!   ownership ── takes over, gives up ──► tenancy ── tells everybody below
//!
//!   CommandHandler ─► partition (fold, decide) ─► committer (group commit) ─► log
//!                          ▲   one task each          │ after the commit
//!                          │                          ├─► replies, commit feed
//!                          └────── timers ◄───────────┼─► timers (wakeups)
//!                                                     ├─► dispatcher (ready tasks, leases) ─► task queue
//!                                                     └─► relay ─► stream of events for subscribers outside
//! ```
//!
//! Invariants: a reply goes out after the commit, never before; a command id has one effect; an append is
//! decided on the state that the log has when it is written. Deliberately absent: rules of any aggregate
//! (they are in `domain`) and SQL (it is in `event-store`).
//!
//! Partitions may be shared with other processes: what this one owns changes while it runs, and losing one costs
//! that one alone. Safety is the store's (epochs); what is here serves availability and speed.
//!
//! Read in this order: [`service`] (the component), `wiring`, `pending` (what travels), `partition`, `committer`,
//! `aftermath`, `settled`, `timers`, `dispatcher`, `recovery`, `tenancy`, `ownership`, `relay`, `reactor` (what follows
//! for other streams), `event_waits`.

mod aftermath;
mod assignment;
mod committer;
mod config;
mod dispatcher;
mod error;
mod event_waits;
mod fact_source;
mod folding;
mod handle;
mod handler;
mod owned;
mod ownership;
mod partition;
mod pending;
mod reactor;
mod recovery;
mod relay;
pub mod service;
mod settled;
mod tenancy;
mod timers;
mod wiring;

pub use config::CommandServiceConfig;
pub use error::CommandServiceError;
pub use handle::{CommandServiceHandle, OwnedPartition};
pub use service::{ClusterPorts, CommandService, CommandServicePorts, ReactorPorts, RelayPorts};
