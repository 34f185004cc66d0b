//! Verifiers: what a secret is recognised by. Mutable rows beside the log, because secrets are not in it.
//!
//! Owns: the port. Invariants: a row holds a hash, never a secret (a password's argon2 string; of a token only
//! the SHA-256 by which it is looked up, hashed by the caller); [`Verifiers::rotate`] is won by one caller.
//! Deliberately absent: hashing and comparing, expiry on [`Verifiers::find`]: the caller does both.

use async_trait::async_trait;
use domain::ids::TenantId;
use domain::time::Timestamp;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

use crate::log::StoreError;

/// What kind of secret is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum VerifierKind {
    /// A user's password, looked up by e-mail.
    Password,
    /// A long-lived key of a program.
    ApiKey,
    /// A short-lived token of a session.
    AccessToken,
    /// What buys the next access token, once.
    RefreshToken,
}

impl VerifierKind {
    /// The stored name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::ApiKey => "api_key",
            Self::AccessToken => "access_token",
            Self::RefreshToken => "refresh_token",
        }
    }
}

impl fmt::Display for VerifierKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text is not the name of a kind of verifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a kind of verifier")]
pub struct VerifierKindError(String);

impl FromStr for VerifierKind {
    type Err = VerifierKindError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Password, Self::ApiKey, Self::AccessToken, Self::RefreshToken]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| VerifierKindError(text.to_owned()))
    }
}

/// By what one secret is recognised, and whom it stands for.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    /// What kind of secret.
    pub kind: VerifierKind,
    /// How it is found: the e-mail of a password; the lower-case hexadecimal SHA-256 of a token.
    pub lookup: String,
    /// The tenant of the principal.
    pub tenant: TenantId,
    /// Whom it stands for: a user's id.
    pub principal: String,
    /// For people to tell it from others.
    pub name: String,
    /// The argon2 PHC string of a password; empty for tokens, which are found by their hash.
    pub hash: String,
    /// The tokens that are withdrawn together.
    pub family: Option<Uuid>,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when on it is not accepted.
    pub expires_at: Option<Timestamp>,
    /// When it was used up.
    pub used_at: Option<Timestamp>,
}

/// Without the lookup and hash: they must not reach a log.
impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("kind", &self.kind)
            .field("tenant", &self.tenant)
            .field("principal", &self.principal)
            .field("name", &self.name)
            .field("family", &self.family)
            .field("created_at", &self.created_at)
            .field("expires_at", &self.expires_at)
            .field("used_at", &self.used_at)
            .finish_non_exhaustive()
    }
}

/// What became of a refresh token that was offered for the next tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// It is used now, and the next tokens are stored.
    Rotated,
    /// It was used before: its whole family is deleted.
    Reused,
    /// It is not there, or has expired: nothing is changed.
    Refused,
}

/// The table of verifiers.
#[async_trait]
pub trait Verifiers: Send + Sync {
    /// Stores a verifier, in place of one with the same kind and lookup.
    async fn put(&self, verifier: &Verifier) -> Result<(), StoreError>;

    /// Stores verifiers, unless one with the kind and lookup of the first is there; returns whether they are stored
    /// now. One step: of all who offer the same first one, one gets `true`, and nothing of the others' is stored.
    async fn put_new(&self, verifiers: &[Verifier]) -> Result<bool, StoreError>;

    /// The verifier of a kind and lookup, expired or used ones too.
    async fn find(&self, kind: VerifierKind, lookup: &str) -> Result<Option<Verifier>, StoreError>;

    /// Uses a refresh token up and stores the `next` tokens of its family, as one step: of all who offer the same
    /// token one gets [`Rotation::Rotated`], and after a [`Rotation::Reused`] or a [`Verifiers::delete_family`]
    /// nothing of the family is there, nor comes back.
    async fn rotate(&self, lookup: &str, next: &[Verifier], now: Timestamp) -> Result<Rotation, StoreError>;

    /// Deletes all of a family; returns how many there were.
    async fn delete_family(&self, family: Uuid) -> Result<u64, StoreError>;

    /// Deletes one; returns whether it was there.
    async fn delete(&self, kind: VerifierKind, lookup: &str) -> Result<bool, StoreError>;

    /// Those of a kind in a tenant, oldest first.
    async fn list(&self, kind: VerifierKind, tenant: &TenantId) -> Result<Vec<Verifier>, StoreError>;

    /// Deletes those that expired at or before `now`, at most `limit`; returns how many.
    async fn forget_expired(&self, now: Timestamp, limit: usize) -> Result<u64, StoreError>;
}
