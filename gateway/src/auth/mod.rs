//! Who is calling: keys, tokens, sessions, passwords.
//!
//! Owns: [`Principal`], recognising bearer secrets, login and its throttle. Invariants: a secret is never
//! stored, logged or compared as it is, only its SHA-256 (tokens, with 256 random bits) or argon2id
//! (passwords); what is not recognised has no principal. Absent: roles and further users.

pub mod bootstrap;
mod cache;
pub(crate) mod device;
pub(crate) mod password;
pub(crate) mod sessions;
mod throttle;
pub(crate) mod token;

use domain::access::{ADMIN, Grant};
use domain::identity::user::{UserState, UserStatus};
use domain::ids::{Actor, TenantId};
use domain::time::{Clock, Timestamp};
use event_store::log::StoreError;
use event_store::verifiers::{Verifier, VerifierKind, Verifiers};
use http::{HeaderMap, header};
use std::sync::Arc;
use uuid::Uuid;

use crate::cache::Counted;
use crate::config::GatewayConfig;
use crate::directory::{Directory, User, within_scopes};
use crate::failure::Failure;
use crate::position::Watermarks;
use crate::status;

use cache::{PrincipalCache, WatermarkCache};
use token::TokenHash;

/// A recognised caller.
#[derive(Debug)]
pub(crate) struct Principal {
    /// Whose things it sees.
    pub(crate) tenant: TenantId,
    /// Who it is in events.
    pub(crate) actor: Actor,
    /// The user, or the owner of the key.
    pub(crate) user: Uuid,
    /// The user's e-mail.
    pub(crate) email: String,
    /// The e-mail, or the name of the key.
    pub(crate) name: String,
    /// The user's role.
    pub(crate) role: String,
    /// What the role allows, as far as the key's scopes go.
    pub(crate) grants: Arc<[Grant]>,
    /// The key, if it is one that is in the log.
    pub(crate) api_key: Option<Uuid>,
    /// The session that the token belongs to, if it is one of a session.
    pub(crate) family: Option<Uuid>,
    /// From when on it is not recognised.
    pub(crate) expires_at: Option<Timestamp>,
    /// The positions it was answered.
    pub(crate) watermarks: Arc<Watermarks>,
}

/// Recognises callers.
pub(crate) struct Authenticator {
    verifiers: Arc<dyn Verifiers>,
    directory: Arc<Directory>,
    clock: Arc<dyn Clock>,
    principals: PrincipalCache,
    watermarks: WatermarkCache,
}

impl Authenticator {
    pub(crate) fn new(
        verifiers: Arc<dyn Verifiers>,
        directory: Arc<Directory>,
        clock: Arc<dyn Clock>,
        config: &GatewayConfig,
        partitions: u16,
    ) -> Self {
        // The other half is the directory's.
        let (entries, ttl) = (config.auth_cache_entries, crate::config::ms(config.auth_cache_ms / 2));
        Self {
            verifiers,
            directory,
            clock,
            principals: PrincipalCache::new(entries, ttl),
            watermarks: WatermarkCache::new(entries, partitions),
        }
    }

    /// The caller that the `Authorization` header names.
    pub(crate) async fn authenticate(&self, headers: &HeaderMap) -> Result<Arc<Principal>, Failure> {
        let secret = bearer(headers).ok_or_else(|| {
            Failure::new(
                status::UNAUTHENTICATED,
                "send an API key or access token as `Authorization: Bearer …`",
            )
        })?;
        self.recognise(&TokenHash::of(secret)).await
    }

    /// The caller that a secret with this hash stands for.
    pub(crate) async fn recognise(&self, hash: &TokenHash) -> Result<Arc<Principal>, Failure> {
        let now = self.clock.now();
        let principal = match self.principals.get(hash) {
            Ok(principal) => principal,
            Err(asked_at) => {
                let verifier = self.find(hash).await?.ok_or_else(refuse)?;
                let principal = Arc::new(self.principal(verifier, hash).await?);
                self.principals.put(hash.clone(), principal.clone(), asked_at);
                principal
            }
        };
        match principal.expires_at {
            Some(expiry) if expiry <= now => Err(refuse()),
            _ => Ok(principal),
        }
    }

    /// How often a caller was known.
    pub(crate) fn counted(&self) -> &Counted {
        &self.principals.counted
    }

    async fn find(&self, hash: &TokenHash) -> Result<Option<Verifier>, StoreError> {
        for kind in [VerifierKind::ApiKey, VerifierKind::AccessToken] {
            if let Some(verifier) = self.verifiers.find(kind, hash.hex()).await?
                && hash.matches(&verifier.lookup)
            {
                return Ok(Some(verifier));
            }
        }
        Ok(None)
    }

    async fn principal(&self, verifier: Verifier, hash: &TokenHash) -> Result<Principal, Failure> {
        let id = Uuid::try_parse(&verifier.principal).map_err(|_| refuse())?;
        let user = self.user(id, &verifier).await?;
        let mut grants = self.directory.grants(&user).await?;
        if user.state.status != UserStatus::Active {
            return Err(refuse());
        }
        // Access tokens change with every refresh, the user behind them does not; a key is a caller of its own.
        let (actor, name, api_key) = match verifier.kind {
            VerifierKind::ApiKey => (Actor::new("key", hash.short()), verifier.name, verifier.family),
            // Only keys and tokens are looked for.
            _ => (Actor::new("user", id), user.state.email.clone(), None),
        };
        if let Some(key) = api_key {
            let found = self.directory.api_key(key).await?;
            let (_, key) = found.filter(|(_, key)| !key.revoked).ok_or_else(refuse)?;
            grants = within_scopes(grants, &key.scopes);
        }
        Ok(Principal {
            watermarks: self.watermarks.of(&user.tenant, &actor),
            tenant: user.tenant,
            actor,
            user: id,
            email: user.state.email,
            name,
            role: user.state.role,
            grants: grants.into(),
            api_key,
            family: if api_key.is_some() { None } else { verifier.family },
            expires_at: verifier.expires_at,
        })
    }

    /// The user that a secret stands for. The first administrator is one before the log says so.
    async fn user(&self, id: Uuid, verifier: &Verifier) -> Result<User, Failure> {
        if let Some(user) = self.directory.user(id).await? {
            return if user.tenant == verifier.tenant { Ok(user) } else { Err(refuse()) };
        }
        if verifier.tenant != TenantId::default_tenant() {
            return Err(refuse());
        }
        let state = UserState {
            email: verifier.name.clone(),
            role: ADMIN.to_owned(),
            operator: true,
            status: UserStatus::Active,
            ..UserState::default()
        };
        Ok(User { id, tenant: verifier.tenant.clone(), state })
    }

    /// Forgets the tokens of a session at once.
    pub(crate) fn forget_family(&self, family: Uuid) {
        self.principals.forget(|principal| principal.family == Some(family));
    }

    /// Forgets the tokens and keys of a user at once: they are looked up again.
    pub(crate) fn forget_user(&self, user: Uuid) {
        self.principals.forget(|principal| principal.user == user);
    }

    /// Forgets whoever is of a tenant at once.
    pub(crate) fn forget_tenant(&self, tenant: &TenantId) {
        self.principals.forget(|principal| principal.tenant == *tenant);
    }

    /// Forgets a key at once.
    pub(crate) fn forget_key(&self, key: Uuid) {
        self.principals.forget(|principal| principal.api_key == Some(key));
    }

    /// Forgets everybody at once.
    pub(crate) fn forget_all(&self) {
        self.principals.forget(|_| true);
    }
}

/// The secret of a `Bearer` header; the scheme's name is compared without case.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = text.split_once(' ')?;
    let secret = secret.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty()).then_some(secret)
}

fn refuse() -> Failure {
    Failure::new(status::UNAUTHENTICATED, "the key or token is not valid, or has expired; log in again")
}
