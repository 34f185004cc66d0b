//! The gateway: HTTP, WebSocket and SSE; who may do what; limits.
//!
//! ```text
//!   request ─► gate (trace, caller, limits) ─► routes ─┬─ writes ─► Commands ─► the owner of the partition
//!                                                      ├─ reads  ─► ReadModels, or the log
//!                                                      └─ streams ─► tails ◄─ hub ◄─ CommitFeed
//! ```
//!
//! Invariants: it never appends and decides nothing; every route needs a caller unless [`PUBLIC`] names it;
//! every error is a problem (RFC 9457) whose status is chosen in `status`; everything that a client can make
//! larger or longer has a bound. Deliberately absent: gRPC, GraphQL, webhooks, users and roles.
//!
//! Read in this order: [`gateway`] (ports and life), `gate` (the outermost layer), `request` (what routes take
//! in), `routes`, `sending` and `reading`, `executing`, `live` and `ws`, `cache`, [`auth`].

mod access;
mod acting;
mod answer;
mod app;
mod audit;
pub mod auth;
mod bulk;
mod cache;
mod client;
mod config;
mod cors;
mod cursor;
mod definitions;
mod directory;
mod executing;
mod execution_filter;
mod failure;
mod gate;
pub mod gateway;
mod headers;
mod health_server;
mod histories;
mod large_values;
mod limits;
mod listener;
mod lists;
mod live;
mod metrics;
mod networks;
mod oidc;
mod openapi;
mod origin;
mod position;
mod precondition;
mod random;
mod reading;
mod request;
mod routes;
mod schemas;
mod scripts;
mod sending;
mod serving;
pub mod status;
mod trace_context;
mod variables;
mod workflow_answer;
mod ws;

pub use access::{RULES, Rule};
#[cfg(debug_assertions)]
pub use access::{Guard, Weakness};
pub use auth::signing::{MasterKeyError, check_master_key};
pub use auth::bootstrap::{AdminError, NewAdmin, check_admin, is_api_key, prepare_admin};
pub use client::ForwardedHeader;
pub use config::{GatewayConfig, Registration};
pub use cors::{CorsConfig, CorsError, HeaderNames, Origins};
pub use oidc::{Hidden, OidcConfig, SignUp};
pub use gateway::{Dependency, Gateway, GatewayError, GatewayPorts, Readiness, openapi_document};
pub use health_server::HealthServer;
pub use limits::config::LimitsConfig;
pub use networks::{NetworkError, Networks};
pub use scripts::{ScriptError, ScriptEvaluator};
