//! The memory level of the cache: answers that are kept, and what the feed says about them.
//!
//! ```text
//!   GET /executions/{id} ─► look ─┬─ hit: the bytes of the last answer
//!                                 └─ miss: a ticket ─► read model ─► rendered ─► put(ticket)
//!   commit feed ─► committed, lagged ─► what has changed is forgotten
//! ```
//!
//! Owns: the rendered executions and how often each cache of the gateway was of use. Invariants: nothing is answered
//! from here unless the feed of its partition is without a gap and was heard a moment ago, has shown the position that
//! the caller needs, and has shown no event of the thing after the version that is kept; whoever may not see a thing is
//! refused as without a cache (the caller of [`ExecutionCache::look`] judges). Losing the feed costs the cache's use,
//! never its truth. Deliberately absent: what is kept of callers ([`crate::auth`]), of things that are judged
//! ([`crate::access`]) and of definitions ([`crate::definitions`], which never change).

mod counters;
mod executions;
mod shelf;
#[cfg(test)]
mod tests;

pub(crate) use counters::{Counted, render};
#[cfg(test)]
pub(crate) use executions::Ticket;
pub(crate) use executions::{ExecutionCache, Found, Kept};
