//! What crosses between the parts of Everline, as ports, and the in-process implementation.
//!
//! ```text
//!   gateway ──Commands──► command-service ──CommitFeed──► projections, live streams
//!   agents  ──Commands──►        │
//!      ▲                         └──TaskQueue──► agents (pull, beat)
//!      └──────────────────────────────┘
//! ```
//!
//! The bus is a doorbell and a work queue, never the truth: losing every message loses no fact. Commands are
//! answered or time out and may be sent again with the same id; a feed with a gap sends its reader to the
//! log; a task that is lost is released again by its owner. Deliberately absent: storage of any kind.

mod cancelled;
pub mod commands;
#[cfg(feature = "contract")]
pub mod contract;
pub mod error;
pub mod events;
pub mod feed;
pub mod in_process;
pub mod nats;
pub mod routed;
pub mod tasks;

pub use commands::{CommandDoors, CommandError, CommandHandler, CommandReply, Commands};
pub use error::BusError;
pub use events::{Continuity, EventPublisher};
pub use feed::{CommitFeed, CommittedBatch, FeedMessage, FeedSubscription};
pub use tasks::{Beat, Task, TaskQueue, TaskRef, Waiting};
