//! The rules, from outside: given these events, when this command, then those events.

mod bad_definitions;
mod engine;
mod golden;
mod properties;
mod scenario;
mod views;
mod workflows;
