//! The `everline` binary as a library: command line, configuration, and the wiring of any roles in one process.
//!
//! ```text
//!   main ─► cli ─┬─► process ─► command-service, projection-service, agents, gateway   (this process serves)
//!                └─► client  ─► HTTP                                                   (another one does)
//!           config: defaults ◄ everline.toml ◄ EVERLINE_* ◄ flags
//! ```
//!
//! Owns: which parts a process has, how they start and stop, what can be configured and typed. Invariants: a
//! part that ends takes the process with it; nothing is detached; secrets are never printed. Deliberately
//! absent: rules (`domain`), SQL (the stores), HTTP routes (`gateway`).
//!
//! Read in this order: [`process`], [`config`], [`cli`], [`client`], [`workflow_tests`], [`output`], [`exit`].

pub mod embedded;
pub mod process;
mod readiness;
mod supervision;

pub mod admin;
pub mod clock;
pub mod config;
pub mod secret;

pub mod cli;
pub mod client;
pub mod doctor;
pub mod exit;
pub mod logs;
pub mod output;
pub mod signals;
pub mod workflow_tests;

pub use admin::AdminKey;
pub use embedded::{Embedded, EmbeddedOptions};
pub use process::{NatsTarget, Process, ProcessOptions, Role, Roles, Storage};
