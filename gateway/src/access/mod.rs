//! Which route needs what. Deny by default: a route without a row here is refused, and a test names it.
//!
//! ```text
//!   gate ─► RULES ─► Authority ─┬─ reads:  Things (owner, sharing) ─► domain::access::judge
//!                               ├─ lists:  the widest reach in SQL
//!                               └─ writes: travels in the command, judged on folded state
//!   feed ─► Rights ─► forgets what is remembered of callers and things, wakes long connections
//! ```
//!
//! Owns: the table, how a caller's grants become the [`Authority`] of one request, what must be known of a thing to
//! judge it, and who hears that rights have changed. What is judged on a thing that a route reads or changes is
//! [`domain::access::judge`]; there is no other place.
//!
//! Read in this order: `rules`, `judging`, `things`, `rights`, `following`.

mod following;
mod granting;
pub(crate) mod judging;
mod rights;
mod rules;
mod things;
#[cfg(debug_assertions)]
mod weakness;

use domain::access::{Authority, Permission};
use http::Method;

use crate::auth::Principal;
use crate::failure::Failure;
use crate::status;

pub(crate) use following::{Followed, withdrawn};
pub(crate) use granting::{includes, may_grant, may_scope};
pub(crate) use rights::{Changes, Rights, RightsChange};
pub use rules::{RULES, Rule};
pub(crate) use rules::{methods_of, rule_of};
pub(crate) use things::Things;
#[cfg(debug_assertions)]
pub use weakness::{Guard, Weakness};

/// The caller's right to a permission.
///
/// # Errors
/// No grant of the caller is for it.
pub(crate) fn authority(principal: &Principal, permission: Permission) -> Result<Box<Authority>, Failure> {
    let of_it = principal.grants.iter().filter(|grant| grant.permission == permission);
    let grants: Vec<_> = of_it.cloned().collect();
    if grants.is_empty() {
        let detail = format!("this needs the permission {permission}, which your role or key does not have");
        return Err(Failure::new(status::FORBIDDEN, detail));
    }
    Ok(Box::new(Authority {
        user: principal.user,
        email: principal.email.clone(),
        role: principal.role.clone(),
        permission,
        grants,
    }))
}

/// The caller's right to what a route needs; `None` where it needs a caller only.
///
/// # Errors
/// The caller does not have it, or the route has no rule.
pub(crate) fn authorize(
    principal: &Principal,
    method: &Method,
    route: &str,
) -> Result<Option<Box<Authority>>, Failure> {
    match rule_of(method, route) {
        Some(Rule::Needs(permission)) => authority(principal, permission).map(Some),
        Some(Rule::Recognised | Rule::Public) => Ok(None),
        None => Err(Failure::new(status::FORBIDDEN, "nobody may use this route; report this as a bug")),
    }
}
