//! What rate limits share: how far ahead of its rate each counted thing has gone, by the database's clock.
//!
//! Owns: the port. A row is a bucket in the form of GCRA (ITU-T I.371): the time at which it will be as if nothing had
//! been taken. Spending moves that time on, waiting brings it nearer, and one in the past is the same as none, so rows
//! need no windows and go by themselves. Invariants: an exchange is one statement that adds and reads; times cross the
//! port as differences to the database's clock, so the clocks of gateways do not matter; a key is a hash, so no
//! address and no e-mail is stored. Deliberately absent: limits, and durability: after a crash of the database all
//! buckets are full.

use async_trait::async_trait;
use uuid::Uuid;

use crate::log::StoreError;

/// The most that is exchanged at once.
pub const MAX_EXCHANGED: usize = 1_000;

/// What one process has taken from a bucket since its last exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spent {
    /// The bucket: 16 bytes of a hash of what is counted.
    pub key: Uuid,
    /// What was taken, in microseconds of waiting. Negative: given back.
    pub cost_us: i64,
}

/// The table of buckets.
#[async_trait]
pub trait RateCounters: Send + Sync {
    /// Adds what was taken, each key at most once and [`MAX_EXCHANGED`] of them, and answers for each, in the same
    /// order, how many microseconds it now is from being full. Negative and 0: it is full.
    async fn exchange(&self, spent: &[Spent]) -> Result<Vec<i64>, StoreError>;

    /// Forgets buckets that are full, at most `limit`; returns how many.
    async fn forget_full(&self, limit: usize) -> Result<u64, StoreError>;
}
