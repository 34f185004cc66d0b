//! Keeps the read models up to the log.
//!
//! ```text
//!   CommitFeed ──(doorbell)──┐
//!                            ├─► Intake ──Batch──► Projector ──WriteTx──► rows + checkpoints
//!   LogReader  ──(pages)─────┘   dense offsets     folds in memory        one transaction
//! ```
//!
//! Owns: following the log, folding events into rows, rebuilding. Invariants: every offset of a partition is
//! projected once and in order; an execution with many events in a batch is one upsert; an event that cannot
//! be folded parks its own stream only. Deliberately absent: SQL (read-models) and what an event means
//! (domain's fold).
//!
//! Read in this order: [`config`], [`service`] (the loop), [`rebuild`](mod@rebuild), [`handle`]; inside:
//! `intake` (what comes next), `batch`, `projector` (one transaction), `projections`, `cache`.

mod batch;
mod cache;
pub mod config;
mod error;
pub mod handle;
mod intake;
mod projections;
mod projector;
pub mod rebuild;
pub mod service;

pub use config::ProjectionConfig;
pub use error::ProjectionError;
pub use handle::{PartitionLag, ProjectionHandle, lag};
pub use rebuild::{Rebuilt, rebuild};
pub use service::ProjectionService;
