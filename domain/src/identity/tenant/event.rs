//! What a tenant's stream is made of.

use serde::{Deserialize, Serialize};

/// What an operator sets for a tenant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TenantSettings {
    /// Requests per minute of all its callers together; none: as the gateway is configured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_minute: Option<u32>,
}

/// `tenant.created`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantCreated {
    /// For people.
    pub name: String,
    /// Its settings.
    pub settings: TenantSettings,
}

/// `tenant.updated`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantUpdated {
    /// For people.
    pub name: String,
    /// Its settings.
    pub settings: TenantSettings,
}

/// `tenant.suspended`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantSuspended {
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `tenant.resumed`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TenantResumed {}
