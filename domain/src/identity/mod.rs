//! Who there is: tenants, users, roles, API keys. Each is an aggregate like any other.
//!
//! | aggregate | stream | slot |
//! |---|---|---|
//! | `tenant` | derived from the slug | home slot of the tenant |
//! | `user` | new id, or the bootstrap administrator's | [`users_slot`], one for the installation |
//! | `role` | one per tenant, derived | home slot of the tenant |
//! | `api_key` | new id | home slot of the tenant |
//!
//! Owns: the rules. Invariants: an e-mail belongs to one user of the installation (a claim of the installation); a
//! tenant keeps one active ADMIN at least, judged by whoever sends the command; no secret is here: passwords, tokens,
//! seeds are verifiers beside the log. Deliberately absent: sessions (rows beside the log) and what roles allow
//! ([`crate::access`]).

pub mod api_key;
mod checks;
pub mod role;
pub mod tenant;
pub mod user;

use uuid::Uuid;

use crate::ids::{Slot, derived_id};
use crate::time::Timestamp;

/// Where all users live, so that the claim of an e-mail is in the partition of its user.
pub fn users_slot() -> Slot {
    Slot::hashed(&[b"users"])
}

/// The user that the first start of an installation makes.
pub fn bootstrap_admin_id() -> Uuid {
    derived_id(Timestamp::default(), users_slot(), &[b"bootstrap-admin"])
}

/// E-mails are compared without case and outer space.
pub fn normal_email(email: &str) -> String {
    email.trim().to_lowercase()
}

/// Whether a text can be an e-mail: something, `@`, something, at most 254 bytes, no spaces, and none of the letters that
/// would have to be quoted in a header.
pub fn is_email(email: &str) -> bool {
    let is_odd =
        |letter: char| letter.is_whitespace() || letter.is_control() || r#"()<>[]:;,\""#.contains(letter);
    email.len() <= 254
        && !email.chars().any(is_odd)
        && email.rsplit_once('@').is_some_and(|(name, host)| !name.is_empty() && !host.is_empty())
}
