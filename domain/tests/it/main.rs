//! The rules, from outside: given these events, when this command, then those events.

mod back_edges;
mod bad_definitions;
mod bad_graphs;
mod children;
mod compensation;
mod documents;
mod engine;
mod examples;
mod forks;
mod given;
mod golden;
mod histories;
mod identity;
mod lanes;
mod loops;
mod merges;
mod parallel;
mod pause_retry;
mod properties;
mod reactor;
mod scenario;
mod transitions;
mod views;
mod waits;
mod workflows;
