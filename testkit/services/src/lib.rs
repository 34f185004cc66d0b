//! Real servers for tests and benchmarks: a private Postgres and a private nats-server, on free ports of loopback.
//!
//! ```text
//!   database()      an empty database on the Postgres that this test process shares (not durable: fast)
//!   PostgresServer  a cluster of one's own, which can crash and come back
//!   NatsServer      a nats-server with JetStream, of the oldest or a new version
//! ```
//!
//! The programs are found where `cargo xtask test` puts them, or where Debian does. Every server is a child of a small
//! shell that ends it and removes its folder when the test process is gone, however that ended. Deliberately absent:
//! any crate of ours, so that the leaves' tests can use it.

mod guard;
pub mod nats;
pub mod postgres;
mod programs;

pub use nats::{NatsServer, NatsVersion};
pub use postgres::{Durability, PostgresServer, database};

use anyhow::{Context, Result};

/// A port of loopback that was free a moment ago.
pub fn free_port() -> Result<u16> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("no free port")?;
    Ok(listener.local_addr().context("the listener has no address")?.port())
}
