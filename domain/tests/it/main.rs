//! The rules, from outside: given these events, when this command, then those events.

mod back_edges;
mod bad_definitions;
mod bad_graphs;
mod documents;
mod engine;
mod golden;
mod loops;
mod merges;
mod parallel;
mod properties;
mod scenario;
mod workflows;
