//! The projection against a real log and real read models.

#![expect(clippy::unwrap_used, reason = "a test that fails to set up has failed")]

mod ahead;
mod bodies;
mod following;
mod histories;
mod identity;
mod outage;
mod rebuilding;
mod support;
mod trouble;
