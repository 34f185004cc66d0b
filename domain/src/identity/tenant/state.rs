//! What a tenant's events add up to.

use super::event::TenantSettings;

/// A folded tenant.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TenantState {
    /// The version of the stream; 0 before it was made.
    pub version: u64,
    /// For people.
    pub name: String,
    /// Its settings.
    pub settings: TenantSettings,
    /// Whether nobody of it is recognised.
    pub suspended: bool,
}
