//! The process as its users meet it: whole, over HTTP and through the binary.
//!
//! Every test has a process of its own on a free port. Nothing sleeps: a test waits for a state, with a limit
//! that only a defect reaches.

#![expect(clippy::unwrap_used, reason = "what fails here is a failed test, helpers included")]

mod bad_input;
mod clients;
mod bulk;
mod cluster;
mod command_line;
mod compose;
mod crash;
mod endurance;
mod examples;
mod executing;
mod expression_bombs;
mod forks;
mod golden_paths;
mod harness;
mod idempotency;
mod lanes;
mod live_streams;
mod read_models;
mod roles;
mod scripts;
mod supervision;
mod tail;
mod transfer;
mod values;
mod workflow_tests;
