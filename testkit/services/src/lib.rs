//! Real servers for tests and benchmarks: a private Postgres and a private nats-server, on free ports of loopback.
//!
//! ```text
//!   database()      an empty database on the Postgres that this test process shares (not durable: fast)
//!   PostgresServer  a cluster of one's own, which can crash and come back
//!   NatsServer      a nats-server with JetStream, of the oldest or a new version
//!   S3Server        what Everline uses of the protocol of S3, in this process, with faults at will
//! ```
//!
//! The programs of the others are found where `cargo xtask test` puts them, or where Debian does. Each of these
//! is a child of a small shell that ends it and removes its folder when the test process is gone, however that ended. Deliberately absent:
//! any crate of ours, so that the leaves' tests can use it.

mod guard;
pub mod nats;
pub mod postgres;
mod programs;
pub mod s3;

pub use nats::{NatsServer, NatsVersion};
pub use postgres::{Durability, PostgresServer, database};
pub use s3::{S3Fault, S3Server};

use anyhow::Result;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where ports of tests begin, and how many there are.
const FIRST_PORT: u16 = 12_000;
const PORTS: u16 = 20_000;
/// How many are tried.
const TRIES: u32 = 1_000;

/// A port of loopback that was free a moment ago, and that no connection gets by itself: below the range from which
/// Linux takes the ports of outgoing connections (32768 to 60999), so that a server that is stopped for a while finds
/// its port free again.
pub fn free_port() -> Result<u16> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    for _ in 0..TRIES {
        // Processes begin at places of their own, and no process takes a port twice in a row.
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = std::process::id().wrapping_mul(7_919).wrapping_add(step.wrapping_mul(13));
        let port = FIRST_PORT + (place % u32::from(PORTS)) as u16;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    anyhow::bail!("no free port from {FIRST_PORT} on")
}
