//! The roles that a tenant has defined itself: one stream per tenant, in its home partition.

pub mod command;
mod decide;
pub mod event;
mod evolve;

use std::collections::BTreeMap;
use uuid::Uuid;

use crate::access::Role;
use crate::ids::{Slot, TenantId, derived_id};
use crate::time::Timestamp;

pub use decide::{MAX_ROLES, decide, not_found};
pub use evolve::evolve;

/// The stream of a tenant's roles.
pub fn stream_of(tenant: &TenantId) -> Uuid {
    derived_id(Timestamp::default(), Slot::of_tenant(tenant), &[b"roles", tenant.as_str().as_bytes()])
}

/// Folded roles.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RolesState {
    /// The version of the stream.
    pub version: u64,
    /// By name.
    pub roles: BTreeMap<String, Role>,
}

impl RolesState {
    /// A role by its name: a built-in one, or one of the tenant's.
    pub fn find(&self, name: &str) -> Option<Role> {
        crate::access::builtin(name).or_else(|| self.roles.get(name).cloned())
    }
}
