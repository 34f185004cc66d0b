//! The log, and what is appended with it.
//!
//! ```text
//!   committer ──Batch──► Log::append ──one transaction──► commits events commands wakeups claims blobs
//!   readers   ──────────► LogReader (streams, pages of a partition, blobs, claims)
//! ```
//!
//! Owns: tables and SQL of the log, the hash chain, migrations. Invariants: offsets of a partition are dense
//! and in commit order, so a reader that follows them can skip nothing; an append is whole or nothing; events
//! are never changed. Deliberately absent: decisions, caches, and any knowledge of what an event means.
//!
//! Read in this order: [`log`] (the port), [`chain`] (what the hashes cover), `plan`, `judge`, `queries` and `rows`
//! (what is the same for every database), [`sqlite`] (the embedded store), [`postgres`] (the shared one), [`blobs`]
//! (large values, in the database or beside it), [`transfer`] (from one to the other).

pub mod blobs;
pub mod chain;
pub mod checkpoints;
mod judge;
pub mod log;
pub mod ownership;
mod plan;
pub mod postgres;
mod queries;
pub mod rate_counters;
mod rows;
pub mod sealing;
pub mod sqlite;
pub mod store;
pub mod transfer;
pub mod verifiers;
mod verify;

pub use blobs::Blobs;
pub use checkpoints::Checkpoints;
pub use log::{
    Append, AppendAnswer, AppendError, Batch, Committed, Log, LogReader, Loser, PartitionHead, Refusal,
    StoreError, StreamAppend,
};
pub use ownership::Ownership;
pub use rate_counters::RateCounters;
pub use store::{Store, StoreHealth};
pub use transfer::{Transfer, TransferError};
