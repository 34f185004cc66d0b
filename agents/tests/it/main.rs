//! The worker against a real HTTP server on this machine and the in-process bus.

mod egress;
mod http_failures;
mod http_request;
mod runtime;
mod support;
