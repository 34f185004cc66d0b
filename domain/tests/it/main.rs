//! The rules, from outside: given these events, when this command, then those events.

mod back_edges;
mod bad_definitions;
mod bad_graphs;
mod children;
mod compensation;
mod documents;
mod engine;
mod forks;
mod golden;
mod loops;
mod merges;
mod parallel;
mod pause_retry;
mod lanes;
mod properties;
mod reactor;
mod scenario;
mod waits;
mod views;
mod workflows;
