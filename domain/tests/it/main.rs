//! The rules, from outside: given these events, when this command, then those events.

mod bad_definitions;
mod engine;
mod golden;
mod lanes;
mod properties;
mod reactor;
mod scenario;
mod workflows;
