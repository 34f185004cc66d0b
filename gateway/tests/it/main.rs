//! The gateway over real sockets, with a real log and an owner that decides with the real domain.
//!
//! Projections are absent here: what reads read models is tested where everything is wired, in `server`.

mod accounts;
mod audit;
mod authorization;
mod authorization_matrix;
mod browsers;
mod caching;
mod commands;
mod connections;
mod conventions;
mod cors;
mod documented;
mod filters;
mod harness;
mod headers;
mod idempotency;
mod identity;
mod limits;
mod owner;
mod problems;
mod reads;
mod second_factor;
mod sessions;
mod streams;
mod token_attacks;
mod websocket;
