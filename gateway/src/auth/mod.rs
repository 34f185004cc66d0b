//! Who is calling: keys, tokens, sessions, passwords, second factors.
//!
//! ```text
//!   Authorization: Bearer evl_…  ─┐                     ┌─ the key's row ──────┐
//!   Authorization: Bearer eyJ…   ─┼─► Credential ─► cache ─ JWT, session's row ─┼─► user, tenant, role ─► Principal
//!   Cookie: everline_session=evs_…┘   (+ CSRF guard)    └─ the cookie's row ───┘       (directory)
//! ```
//!
//! Owns: [`Principal`], recognising secrets, login and its throttle. Invariants: a secret is never stored, logged or
//! compared as it is, only its SHA-256 (tokens, with 256 random bits) or argon2id (passwords); seeds and signing keys are
//! sealed; what is not recognised has no principal; a signed token is good only as long as its session's row is there.
//! Deliberately absent: what a caller may do ([`crate::access`]) and who there is ([`crate::directory`]).
//!
//! Read in this order: `credential`, this module, `sessions`, `login`, `second_factor`, `signing`, `cookies`.

pub mod bootstrap;
mod cache;
pub(crate) mod cookies;
mod credential;
pub(crate) mod device;
pub(crate) mod login;
#[cfg(test)]
mod measure;
pub(crate) mod password;
pub(crate) mod second_factor;
pub(crate) mod sessions;
pub(crate) mod signing;
pub(crate) mod throttle;
pub(crate) mod token;
mod uses;

use domain::access::{ADMIN, Grant};
use domain::identity::bootstrap_admin_id;
use domain::identity::user::{UserState, UserStatus};
use domain::ids::{Actor, TenantId};
use domain::time::{Clock, Timestamp};
use event_store::log::StoreError;
use event_store::sealing::MasterKey;
use event_store::verifiers::{Verifier, VerifierKind, Verifiers};
use http::{HeaderMap, Method, Uri};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::cache::Counted;
use crate::config::GatewayConfig;
use crate::directory::{Directory, User, within_scopes};
use crate::failure::Failure;
use crate::position::Watermarks;
use crate::status;

use cache::{PrincipalCache, WatermarkCache};
pub(crate) use credential::{Credential, Shown};
use signing::AccessTokens;
use uses::{LastNoted, Uses};

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
    /// When its use was last noted.
    pub(crate) last_noted: LastNoted,
}

/// Recognises callers.
pub(crate) struct Authenticator {
    pub(super) verifiers: Arc<dyn Verifiers>,
    directory: Arc<Directory>,
    pub(super) clock: Arc<dyn Clock>,
    tokens: Arc<AccessTokens>,
    master_key: MasterKey,
    principals: PrincipalCache,
    watermarks: WatermarkCache,
    uses: Uses,
}

impl Authenticator {
    pub(crate) fn new(
        verifiers: Arc<dyn Verifiers>,
        directory: Arc<Directory>,
        (tokens, master_key): (Arc<AccessTokens>, MasterKey),
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
            tokens,
            master_key,
            principals: PrincipalCache::new(entries, ttl),
            watermarks: WatermarkCache::new(entries, partitions),
            uses: Uses::default(),
        }
    }

    /// The caller that a request's `Authorization` header or cookie stands for, with what it has shown.
    pub(crate) async fn authenticate(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
    ) -> Result<(Arc<Principal>, Credential), Failure> {
        let credential = Credential::of(headers).ok_or_else(|| {
            Failure::new(
                status::UNAUTHENTICATED,
                "send an API key or access token as `Authorization: Bearer …`",
            )
        })?;
        let principal = self.recognise(&credential).await?;
        if credential.shown == Shown::Cookie {
            let session = principal.family.ok_or_else(refuse)?;
            cookies::guard(&self.master_key, session, method, uri, headers)?;
        }
        Ok((principal, credential))
    }

    /// The caller that a secret stands for.
    pub(crate) async fn recognise(&self, credential: &Credential) -> Result<Arc<Principal>, Failure> {
        if !credential.is_in_its_place() {
            return Err(refuse());
        }
        let now = self.clock.now();
        let principal = match self.principals.get(&credential.hash) {
            Ok(principal) => principal,
            Err(asked_at) => {
                let verifier = self.find(credential, now).await?.ok_or_else(refuse)?;
                let principal = Arc::new(self.principal(verifier, credential).await?);
                self.principals.put(credential.hash.clone(), principal.clone(), asked_at);
                principal
            }
        };
        match principal.expires_at {
            Some(expiry) if expiry <= now => Err(refuse()),
            _ => {
                if let Some(used) = principal.api_key.or(principal.family) {
                    self.uses.note(used, &principal.last_noted, now);
                }
                Ok(principal)
            }
        }
    }

    /// How often a caller was known.
    pub(crate) fn counted(&self) -> &Counted {
        &self.principals.counted
    }

    /// By what a secret is recognised, if it is a good one.
    async fn find(&self, credential: &Credential, now: Timestamp) -> Result<Option<Verifier>, Failure> {
        let kind = match credential.shown {
            Shown::Cookie => VerifierKind::Cookie,
            Shown::Bearer if credential.secret().contains('.') => {
                return self.of_session(credential, now).await;
            }
            Shown::Bearer => VerifierKind::ApiKey,
        };
        let found = self.verifiers.find(kind, credential.hash.hex()).await?;
        Ok(found.filter(|verifier| credential.hash.matches(&verifier.lookup)))
    }

    /// The session of a signed token, if the token is good and the session goes on.
    async fn of_session(&self, credential: &Credential, now: Timestamp) -> Result<Option<Verifier>, Failure> {
        let claims = match self.tokens.verify(credential.secret()).await? {
            Ok(claims) => claims,
            Err(reason) => {
                tracing::debug!(%reason, "an access token was refused");
                return Ok(None);
            }
        };
        let session = self.verifiers.find(VerifierKind::Session, &claims.sid.to_string()).await?;
        let session = session.filter(|session| {
            session.principal == claims.sub.to_string()
                && session.tenant.as_str() == claims.tenant
                && session.expires_at.is_none_or(|expiry| now < expiry)
        });
        // The token ends before the session does.
        Ok(session.map(|session| Verifier { expires_at: Some(claims.until()), ..session }))
    }

    async fn principal(&self, verifier: Verifier, credential: &Credential) -> Result<Principal, Failure> {
        let user = self.active_user(&verifier).await?.ok_or_else(refuse)?;
        let id = user.id;
        let mut grants = self.directory.grants(&user).await?;
        // Access tokens change with every refresh, the user behind them does not; a key is a caller of its own.
        let (actor, api_key) = if verifier.kind == VerifierKind::ApiKey {
            (Actor::new("key", credential.hash.short()), verifier.family)
        } else {
            (Actor::new("user", id), None)
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
            role: user.state.role,
            grants: grants.into(),
            api_key,
            family: if verifier.kind == VerifierKind::ApiKey { None } else { verifier.family },
            expires_at: verifier.expires_at,
            last_noted: LastNoted::default(),
        })
    }

    /// The user that a secret stands for, if they are recognised: active, and of a tenant that is not suspended.
    pub(crate) async fn active_user(&self, verifier: &Verifier) -> Result<Option<User>, Failure> {
        let Ok(id) = Uuid::try_parse(&verifier.principal) else { return Ok(None) };
        let Some(user) = self.user(id, verifier).await? else { return Ok(None) };
        if user.state.status != UserStatus::Active {
            return Ok(None);
        }
        let suspended = self.directory.tenant(&user.tenant).await?.is_none_or(|tenant| tenant.suspended);
        Ok(if suspended { None } else { Some(user) })
    }

    /// The user that a secret stands for. The first administrator is one before the log says so; nobody else is.
    async fn user(&self, id: Uuid, verifier: &Verifier) -> Result<Option<User>, StoreError> {
        if let Some(user) = self.directory.user(id).await? {
            return Ok(Some(user).filter(|user| user.tenant == verifier.tenant));
        }
        if id != bootstrap_admin_id() || verifier.tenant != TenantId::default_tenant() {
            return Ok(None);
        }
        let state = UserState {
            email: verifier.name.clone(),
            role: ADMIN.to_owned(),
            operator: true,
            status: UserStatus::Active,
            ..UserState::default()
        };
        Ok(Some(User { id, tenant: verifier.tenant.clone(), state }))
    }

    /// The user behind a caller.
    pub(crate) async fn user_of(&self, principal: &Principal) -> Result<User, Failure> {
        if let Some(user) = self.directory.user(principal.user).await? {
            return Ok(user);
        }
        if principal.user != bootstrap_admin_id() {
            return Err(refuse());
        }
        // The first administrator, before the log says so.
        let state = UserState {
            email: principal.email.clone(),
            role: principal.role.clone(),
            status: UserStatus::Active,
            ..UserState::default()
        };
        Ok(User { id: principal.user, tenant: principal.tenant.clone(), state })
    }

    /// Whom a token was made for, whatever their status; `None` if they are of another tenant than it says.
    pub(crate) async fn directory_user(
        &self,
        id: Uuid,
        token: &Verifier,
    ) -> Result<Option<User>, StoreError> {
        Ok(self.user(id, token).await?.filter(|user| user.id == id))
    }

    /// A user as a caller, for what follows from having found out who they are. It may do nothing else.
    pub(crate) fn principal_of(&self, user: &User) -> Principal {
        let actor = Actor::new("user", user.id);
        Principal {
            watermarks: self.watermarks.of(&user.tenant, &actor),
            tenant: user.tenant.clone(),
            actor,
            user: user.id,
            email: user.state.email.clone(),
            role: user.state.role.clone(),
            grants: Arc::default(),
            api_key: None,
            family: None,
            expires_at: None,
            last_noted: LastNoted::default(),
        }
    }

    /// When sessions (by family) and keys (by stream) were last used, give or take a minute.
    pub(crate) async fn last_uses(&self, ids: &[Uuid]) -> Result<HashMap<Uuid, Timestamp>, StoreError> {
        let mut uses: HashMap<_, _> = self.verifiers.uses(ids).await?.into_iter().collect();
        uses.extend(ids.iter().filter_map(|id| Some((*id, self.uses.of(*id)?))));
        Ok(uses)
    }

    /// Writes the uses that are not written yet.
    pub(crate) async fn write_uses(&self) -> Result<(), StoreError> {
        self.uses.write(&*self.verifiers).await
    }

    /// The public keys of access tokens.
    pub(crate) async fn jwks(&self) -> Result<signing::Jwks, Failure> {
        self.tokens.jwks().await
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

/// Writes a secret into the one answer that shows it.
pub(crate) fn reveal<S: serde::Serializer>(
    secret: &Zeroizing<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret)
}

fn refuse() -> Failure {
    Failure::new(status::UNAUTHENTICATED, "the key or token is not valid, or has expired; log in again")
}
