//! The worker against a real HTTP server on this machine and the in-process bus.

#![expect(clippy::unwrap_used, reason = "helpers of tests end where what they expect does not hold")]

mod circuit;
mod condition;
mod egress;
mod http_failures;
mod http_request;
mod runtime;
mod support;
