//! Everline's rules: pure deciders, events, workflow graph, expressions, the engine.
//!
//! ```text
//!   command ─► Aggregate::decide(facts) ─► Decision::Events ─► appended ─► Aggregate::apply ─► state
//!                        └► Decision::Needs ─► the shell fetches, and asks again
//! ```
//!
//! Invariants: no I/O, no clock, no random source, no async. What follows depends on state, command and facts
//! alone, so replaying a log always gives the same state. Deliberately absent: storage, transport, secrets.
//!
//! Read in this order: [`ids`], [`event`], [`decision`], [`facts`], [`aggregate`], then [`workflow`] (the format)
//! and [`execution`] (the engine), with [`nodes`] and [`expression`] as their parts, [`lane`], [`reactor`]
//! (what follows for other streams), [`identity`] and [`access`] (who there is, and who may do what), [`audit`], [`bulk`].

pub mod access;
pub mod aggregate;
pub mod audit;
pub mod blob;
pub mod bulk;
pub mod command;
pub mod decision;
pub mod event;
pub mod execution;
pub mod expression;
pub mod facts;
pub mod identity;
pub mod ids;
pub mod lane;
pub mod node_type;
pub mod nodes;
pub mod reactor;
pub mod rejection;
pub mod time;
mod upcast;
pub mod variables;
pub mod workflow;
