//! What tests and benchmarks of the whole need: the program as a process that may be killed, or as a cluster of them, a
//! server for it to call, and an audit of the log and of the stream of events that it leaves behind.
//!
//! Everything is on loopback and on free ports. Deliberately absent: fakes of Everline's own parts.

pub mod audit;
pub mod cluster;
pub mod process;
pub mod projecting;
pub mod published;
pub mod target;

pub use audit::{Audit, audit};
pub use cluster::{Cluster, ClusterOptions, Role};
pub use process::EverlineProcess;
pub use projecting::project;
pub use published::Published;
pub use target::HttpTarget;
