//! What tests and benchmarks of the whole need: the program as a process that may be killed, a server for it
//! to call, and an audit of the log that it leaves behind.
//!
//! Everything is on loopback and on free ports. Deliberately absent: fakes of Everline's own parts.

pub mod audit;
pub mod process;
pub mod target;

pub use audit::{Audit, audit};
pub use process::EverlineProcess;
pub use target::HttpTarget;
