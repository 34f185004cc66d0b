//! Verifiers: what a secret is recognised by. Mutable rows beside the log, because secrets are not in it.
//!
//! Owns: the port. Invariants: a row holds a hash or something sealed, never a secret (a password's argon2 string; of a
//! token only the SHA-256 by which it is looked up, hashed by the caller; a seed or signing key sealed by
//! [`crate::sealing`]); [`Verifiers::rotate`], [`Verifiers::take`] and [`Verifiers::mark_used`] are won by one caller.
//! Deliberately absent: hashing, comparing and sealing, expiry on [`Verifiers::find`]: the caller does all three.

use async_trait::async_trait;
use domain::ids::TenantId;
use domain::time::Timestamp;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

use crate::log::StoreError;

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal;)+) => {
        /// What kind of secret is recognised.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum VerifierKind {
            $($(#[$doc])* $kind,)+
        }

        impl VerifierKind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// The stored name.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                }
            }
        }
    };
}

kinds! {
    /// A user's password, looked up by e-mail.
    Password = "password";
    /// A long-lived key of a program.
    ApiKey = "api_key";
    /// A short-lived token of a session, as releases before signed tokens gave out.
    AccessToken = "access_token";
    /// What buys the next access token, once.
    RefreshToken = "refresh_token";
    /// That a session goes on, looked up by its family: its signed access tokens hold as long as this row does.
    Session = "session";
    /// What a browser holds of a session.
    Cookie = "cookie";
    /// The sealed seed of a second factor, looked up by user; `used_at` is the last time step that was used.
    Totp = "totp";
    /// A seed that its user has not confirmed yet.
    TotpDraft = "totp_draft";
    /// What stands in for a second factor, once.
    RecoveryCode = "recovery_code";
    /// What lets an invited user set a password, once.
    Invitation = "invitation";
    /// What lets a user set another password, once.
    PasswordReset = "password_reset";
    /// What a device asks with whether it was let in.
    DeviceCode = "device_code";
    /// What a user types to let a device in.
    UserCode = "user_code";
    /// What ties a provider's answer to the login that asked for it, once.
    LoginState = "login_state";
    /// An identity of a provider, looked up by the SHA-256 of issuer and subject.
    Identity = "identity";
    /// A sealed key that signs access tokens, looked up by the one before it.
    SigningKey = "signing_key";
    /// What seals in a shared store whose processes are given no master key; in `hash`, as it is.
    StoreKey = "store_key";
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
        let mut kinds = Self::ALL.iter().copied();
        kinds.find(|kind| kind.as_str() == text).ok_or_else(|| VerifierKindError(text.to_owned()))
    }
}

/// How long it is known when something was last used, in milliseconds.
pub const USES_KEPT_MS: u64 = 400 * 24 * 60 * 60 * 1000;

/// By what one secret is recognised, and whom it stands for.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    /// What kind of secret.
    pub kind: VerifierKind,
    /// How it is found: the e-mail of a password; the lower-case hexadecimal SHA-256 of a token; an id of what is no
    /// secret itself.
    pub lookup: String,
    /// The tenant of the principal.
    pub tenant: TenantId,
    /// Whom it stands for: a user's id.
    pub principal: String,
    /// For people to tell it from others.
    pub name: String,
    /// The argon2 or bcrypt string of a password, or what is sealed; of a token what goes with it, mostly nothing: it is
    /// found by its hash.
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

    /// Uses up one that has not expired: it is returned, and gone. Of all who take the same one, one gets it.
    async fn take(
        &self,
        kind: VerifierKind,
        lookup: &str,
        now: Timestamp,
    ) -> Result<Option<Verifier>, StoreError>;

    /// Notes a use at a time, unless one at that time or later is noted; returns whether it is noted now. Of all who note
    /// the same time, one gets `true`.
    async fn mark_used(&self, kind: VerifierKind, lookup: &str, at: Timestamp) -> Result<bool, StoreError>;

    /// Replaces a hash if it is still the one that was read; returns whether it was.
    async fn swap_hash(
        &self,
        kind: VerifierKind,
        lookup: &str,
        from: &str,
        to: &str,
    ) -> Result<bool, StoreError>;

    /// Those of a kind that stand for a principal, oldest first.
    async fn of_principal(&self, kind: VerifierKind, principal: &str) -> Result<Vec<Verifier>, StoreError>;

    /// Deletes those of a kind that stand for a principal; returns how many there were.
    async fn delete_of_principal(&self, kind: VerifierKind, principal: &str) -> Result<u64, StoreError>;

    /// Notes when sessions (by family) and keys (by stream) were last used. Earlier uses than those noted are ignored.
    async fn note_uses(&self, uses: &[(Uuid, Timestamp)]) -> Result<(), StoreError>;

    /// When each was last used, as far as that is noted.
    async fn uses(&self, ids: &[Uuid]) -> Result<Vec<(Uuid, Timestamp)>, StoreError>;

    /// Those of a kind in a tenant, oldest first.
    async fn list(&self, kind: VerifierKind, tenant: &TenantId) -> Result<Vec<Verifier>, StoreError>;

    /// Deletes those that expired at or before `now`, at most `limit`; returns how many. Uses noted more than
    /// [`USES_KEPT_MS`] ago go with them.
    async fn forget_expired(&self, now: Timestamp, limit: usize) -> Result<u64, StoreError>;
}
