//! The sandbox: foreign code, run where it can do no harm. In this release: JavaScript expressions.
//!
//! ```text
//!   Sandbox (this process)                       worker (a process of its own, one of a few)
//!   ──────────────────────                       ───────────────────────────────────────────
//!   evaluate ─► a free worker ─► stdin  ─ frame ─► fresh engine ─► expression over the context
//!      ▲           │                                   │ memory limit, deadline, stack limit
//!      └─ reply ◄──┴──────────── stdout ◄─ frame ──────┘
//!      └─ kills the worker at the deadline
//! ```
//!
//! Why a process: the engine looks at its deadline between steps of a program, never inside a native function, so that
//! one call of `indexOf` can run for minutes. Only killing the process ends that for sure.
//!
//! Owns: the pool, the protocol, the limits, and (feature `js`) what a worker does. Invariants: code sees nothing but
//! its context and the language, no file, network, environment or clock of ours; every evaluation has an engine of its
//! own, so nothing is left for the next; whoever evaluates is answered at the deadline, whatever the code does; a worker
//! that broke a limit evaluates nothing more. `Date` and `Math.random` are there, so the same expression may give another
//! value another time: whoever needs the same one again records it.
//!
//! Deliberately absent: languages other than JavaScript, statements, promises (nothing would run them), modules, and
//! a second wall around the worker (namespaces, seccomp): a defect of the engine itself could let code do what the
//! user of this process may do, within the limits of the worker's process.
//!
//! Read in this order: [`config`], [`error`], `frame` (what is said on the pipes), `process` (one worker, from here),
//! [`pool`], then `worker` (one worker, from inside).

pub mod config;
pub mod error;
mod frame;
pub mod pool;
mod process;
#[cfg(feature = "js")]
pub mod worker;

pub use config::{Limits, SandboxConfig};
pub use error::{Limit, SandboxError};
pub use pool::Sandbox;
