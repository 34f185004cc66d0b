//! The gateway over real sockets, with a real log and an owner that decides with the real domain.
//!
//! Projections are absent here: what reads read models is tested where everything is wired, in `server`.

mod authorization;
mod authorization_matrix;
mod caching;
mod commands;
mod connections;
mod conventions;
mod documented;
mod filters;
mod harness;
mod idempotency;
mod owner;
mod problems;
mod reads;
mod sessions;
mod streams;
mod websocket;
