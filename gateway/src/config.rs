//! The gateway's own settings. Where it listens is the server's to know.

use serde::Deserialize;
use std::collections::BTreeMap;
use std::time::Duration;

use crate::client::ForwardedHeader;
use crate::cors::CorsConfig;
use crate::limits::config::LimitsConfig;
use crate::networks::Networks;
use crate::oidc::{self, OidcConfig};

/// Limits and times of the public surface. Every field has a default.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GatewayConfig {
    /// Where clients reach the gateway, `https://workflows.example.com`, as providers and people are told it. Absent:
    /// what a request was sent to, over plain HTTP.
    pub public_url: Option<String>,
    /// OpenID Connect providers that people log in with, by name.
    pub oidc: BTreeMap<String, OidcConfig>,
    /// The most bytes of a request's body. A definition may have 1 MiB; the rest is room for its envelope.
    pub max_body_bytes: u32,
    /// How long a request's body may take to arrive, in milliseconds.
    pub body_timeout_ms: u32,
    /// The most bytes of all requests' bodies that are being received and read at once; further ones get 503.
    pub max_body_bytes_in_flight: u32,
    /// The most open connections; further ones wait in the operating system's queue.
    pub max_connections: u32,
    /// The most requests being answered at once; further ones get 503.
    pub max_in_flight: u32,
    /// The most WebSocket connections and SSE streams together; further ones get 503.
    pub max_streams: u32,
    /// The most subscriptions of one WebSocket connection.
    pub max_subscriptions: u32,
    /// The most bytes that may wait for one WebSocket client before it counts as slow.
    pub websocket_buffer_bytes: u32,
    /// How long a client with a full buffer may read nothing before it is cut off with 4008, in milliseconds.
    pub slow_client_ms: u32,
    /// How often the server sends a sign of life on WebSockets and SSE, in milliseconds. A WebSocket client
    /// that is silent for three of them is cut off.
    pub heartbeat_ms: u32,
    /// How long a new WebSocket connection without an `Authorization` header has to send its token, in
    /// milliseconds.
    pub websocket_auth_ms: u32,
    /// How long a stream or subscription without news waits before it looks into the log itself, in milliseconds,
    /// give or take a quarter.
    pub idle_reread_ms: u32,
    /// How long a command is sent again while nobody owns its partition, in milliseconds.
    pub command_retry_ms: u32,
    /// How long one command may take in all, in milliseconds.
    pub command_timeout_ms: u32,
    /// How long a read waits for its read model, in milliseconds.
    pub read_wait_ms: u32,
    /// How many recognised keys and tokens are remembered.
    pub auth_cache_entries: u32,
    /// How long a key or token is recognised without asking the store, in milliseconds; a revoked one may be
    /// accepted by another process for this long.
    pub auth_cache_ms: u32,
    /// How long an access token lives, in milliseconds.
    pub access_token_ms: u64,
    /// How long a refresh token lives, in milliseconds.
    pub refresh_token_ms: u64,
    /// How long the session of a browser, held by a cookie, lives, in milliseconds.
    pub cookie_session_ms: u64,
    /// Whether cookies are for HTTPS only, whatever a proxy says of the request.
    pub cookie_secure: bool,
    /// Who makes access tokens: their claim `iss`.
    pub issuer: String,
    /// For whom access tokens are made: their claim `aud`.
    pub audience: String,
    /// How long a key signs access tokens before the next one does, in milliseconds.
    pub signing_key_ms: u64,
    /// Whether people can make accounts themselves.
    pub registration: Registration,
    /// The tenant of such accounts.
    pub registration_tenant: String,
    /// The role of such accounts.
    pub registration_role: String,
    /// How many failed logins one e-mail may have in a minute from one address; from all together, ten times as many.
    pub login_failures_per_minute: u32,
    /// How many passwords are checked at once; each check takes some 20 MiB and 20 ms.
    pub password_checks: u32,
    /// How many expressions are evaluated at once for `expressions/evaluate`.
    pub evaluations: u32,
    /// How many bytes of rendered executions are kept in memory, an equal share for each partition; 0 keeps none.
    pub cache_bytes: u32,
    /// How many bytes of large values one answer fetches; what does not fit stays a reference.
    pub answer_blob_bytes: u32,
    /// How long a runner keeps a bulk job without a sign of life, in milliseconds: after that another one takes it over.
    pub bulk_lease_ms: u32,
    /// How long the process still answers after it was asked to stop, so that load balancers see `/readyz`
    /// fail, in milliseconds.
    pub drain_notice_ms: u32,
    /// How long requests under way may take after that, in milliseconds.
    pub drain_timeout_ms: u32,
    /// How long a request may take until its answer begins, in milliseconds. Streams may go on for longer.
    pub request_timeout_ms: u32,
    /// Networks of proxies that are believed who the client is, such as `10.0.0.0/8`. None by default.
    pub trusted_proxies: Networks,
    /// In which header they say it.
    pub forwarded_header: ForwardedHeader,
    /// How many entries of the audit wait in memory for the log.
    pub audit_buffer_entries: u32,
    /// How often somebody may ask.
    pub limits: LimitsConfig,
    /// Which pages of other origins may use the API.
    pub cors: CorsConfig,
}

/// Whether people can make accounts themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Registration {
    /// Administrators make them.
    #[default]
    Closed,
    /// Anybody can, who reaches the gateway.
    Open,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            public_url: None,
            oidc: BTreeMap::new(),
            max_body_bytes: 1024 * 1024 + 64 * 1024,
            body_timeout_ms: 30_000,
            max_body_bytes_in_flight: 64 * 1024 * 1024,
            max_connections: 12_000,
            max_in_flight: 4_096,
            max_streams: 10_000,
            max_subscriptions: 100,
            websocket_buffer_bytes: 1024 * 1024,
            slow_client_ms: 5_000,
            heartbeat_ms: 20_000,
            websocket_auth_ms: 5_000,
            idle_reread_ms: 5_000,
            command_retry_ms: 5_000,
            command_timeout_ms: 30_000,
            read_wait_ms: 5_000,
            auth_cache_entries: 10_000,
            auth_cache_ms: 10_000,
            access_token_ms: 15 * 60 * 1000,
            refresh_token_ms: 30 * 24 * 60 * 60 * 1000,
            cookie_session_ms: 12 * 60 * 60 * 1000,
            cookie_secure: false,
            issuer: "everline".to_owned(),
            audience: "everline-api".to_owned(),
            signing_key_ms: 30 * 24 * 60 * 60 * 1000,
            registration: Registration::Closed,
            registration_tenant: "default".to_owned(),
            registration_role: "USER".to_owned(),
            login_failures_per_minute: 10,
            password_checks: 2,
            evaluations: 2,
            cache_bytes: 64 * 1024 * 1024,
            answer_blob_bytes: 8 * 1024 * 1024,
            bulk_lease_ms: 15_000,
            drain_notice_ms: 250,
            drain_timeout_ms: 10_000,
            request_timeout_ms: 120_000,
            trusted_proxies: Networks::default(),
            forwarded_header: ForwardedHeader::default(),
            audit_buffer_entries: 10_000,
            limits: LimitsConfig::default(),
            cors: CorsConfig::default(),
        }
    }
}

impl GatewayConfig {
    /// What no single key can say.
    ///
    /// # Errors
    /// What is wrong, after the key that it is about.
    pub fn check(&self) -> Result<(), String> {
        oidc::check(&self.oidc).map_err(|detail| format!("oidc.{detail}"))
    }
}

/// A setting in milliseconds as a duration.
pub(crate) fn ms(milliseconds: u32) -> Duration {
    Duration::from_millis(u64::from(milliseconds))
}
