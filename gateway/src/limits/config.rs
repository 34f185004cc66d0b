//! How often somebody may ask.

use serde::Deserialize;

/// Requests per minute; 0: no limit. Each limit is a bucket that fills evenly.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Of one address without a recognised caller: logins, refreshes, wrong tokens, what is open to everybody.
    pub anonymous_per_ip: u32,
    /// Of one address in all, whoever calls. Counted before anybody is recognised.
    pub per_ip: u32,
    /// Of one user, with all sessions and keys.
    pub per_user: u32,
    /// Of one API key.
    pub per_key: u32,
    /// Of one tenant. A tenant's own setting `requests_per_minute` comes before this.
    pub per_tenant: u32,
    /// The most of each at once, after a pause. 0: as many as a minute brings.
    pub burst: u32,
    /// How often gateways tell each other what they have counted, in milliseconds.
    pub exchange_ms: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            anonymous_per_ip: 1_200,
            per_ip: 0,
            per_user: 0,
            per_key: 0,
            per_tenant: 0,
            burst: 0,
            exchange_ms: 250,
        }
    }
}
