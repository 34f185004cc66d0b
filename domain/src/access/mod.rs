//! Who may do what: the one decision point.
//!
//! ```text
//!   route ─► Permission ─► the caller's Grants for it = Authority ─► judge(authority, resource) ─► yes, or Denied
//!            (gateway)       (role ∩ scopes of the key)    │
//!                                                          └─ travels in the command; judged again on folded state
//! ```
//!
//! Owns: permissions, roles as lists of grants, the judgement. Invariants: what no grant allows is denied; a caller
//! without any grant for a permission has no [`Authority`] and its request ends at the gate; a condition that does not
//! evaluate to `true` denies. Deliberately absent: who the caller is (gateway), and tenants: a thing of another
//! tenant is not found long before anybody asks here.
//!
//! Read in this order: [`permission`], [`role`], [`authority`], `condition`, and `checks` for what deciders judge.

pub mod authority;
mod checks;
mod condition;
pub mod permission;
pub mod role;

pub use authority::{Authority, Denied, Resource, SharedWith, judge};
pub(crate) use checks::{Checked, check};
pub use condition::MAX_CONDITION_BYTES;
pub use permission::is_scope;
pub use permission::{Permission, PermissionError};
pub use role::{ADMIN, Grant, MAX_GRANTS, Reach, Role, USER, VIEWER, builtin, grant_problems};
