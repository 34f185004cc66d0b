//! Who is calling: keys, tokens, sessions, passwords.
//!
//! Owns: [`Principal`], recognising bearer secrets, login and its throttle. Invariants: a secret is never
//! stored, logged or compared as it is, only its SHA-256 (tokens, with 256 random bits) or argon2id
//! (passwords); what is not recognised has no principal. Absent: roles and further users.

pub mod bootstrap;
mod cache;
pub(crate) mod password;
pub(crate) mod sessions;
mod throttle;
pub(crate) mod token;

use domain::ids::{Actor, TenantId};
use domain::time::{Clock, Timestamp};
use event_store::log::StoreError;
use event_store::verifiers::{Verifier, VerifierKind, Verifiers};
use http::{HeaderMap, header};
use std::sync::Arc;
use uuid::Uuid;

use crate::config::GatewayConfig;
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
    /// The user's id.
    pub(crate) user: String,
    /// The user's e-mail, or the name of the key.
    pub(crate) name: String,
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
    clock: Arc<dyn Clock>,
    principals: PrincipalCache,
    watermarks: WatermarkCache,
}

impl Authenticator {
    pub(crate) fn new(
        verifiers: Arc<dyn Verifiers>,
        clock: Arc<dyn Clock>,
        config: &GatewayConfig,
        partitions: u16,
    ) -> Self {
        let (entries, ttl) = (config.auth_cache_entries, crate::config::ms(config.auth_cache_ms));
        Self {
            verifiers,
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
                let principal = Arc::new(self.principal(verifier, hash));
                self.principals.put(hash.clone(), principal.clone(), asked_at);
                principal
            }
        };
        match principal.expires_at {
            Some(expiry) if expiry <= now => Err(refuse()),
            _ => Ok(principal),
        }
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

    fn principal(&self, verifier: Verifier, hash: &TokenHash) -> Principal {
        // Access tokens change with every refresh, the user behind them does not; a key is a caller of its own.
        let actor = match verifier.kind {
            VerifierKind::ApiKey => Actor::new("key", hash.short()),
            VerifierKind::AccessToken | VerifierKind::RefreshToken | VerifierKind::Password => {
                Actor::new("user", &verifier.principal)
            }
        };
        Principal {
            watermarks: self.watermarks.of(&verifier.tenant, &actor),
            tenant: verifier.tenant,
            actor,
            user: verifier.principal,
            name: verifier.name,
            family: verifier.family,
            expires_at: verifier.expires_at,
        }
    }

    /// Forgets the tokens of a session at once.
    pub(crate) fn forget_family(&self, family: Uuid) {
        self.principals.forget_family(family);
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
