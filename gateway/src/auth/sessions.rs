//! Sessions: how they begin, are renewed and end.
//!
//! A session is a family of verifiers: its own row, and a refresh token or a browser's cookie. Its access tokens are
//! signed and hold as long as the row does. A refresh token buys the next pair once; used twice it ends the family at
//! once, because one of the two users of it is a thief. Deliberately absent: who may begin one ([`super::login`], and
//! whoever else has found out who somebody is).

use domain::identity::user::UserStatus;
use domain::ids::{Slot, TenantId, new_id};
use domain::time::{Clock, Timestamp};
use event_store::log::StoreError;
use event_store::sealing::MasterKey;
use event_store::verifiers::{Rotation, Verifier, VerifierKind, Verifiers};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::MissedTickBehavior;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::app::App;
use crate::config::GatewayConfig;
use crate::directory::User;
use crate::failure::Failure;
use crate::status;

use super::password::PasswordChecker;
use super::second_factor::SecondFactor;
use super::signing::{AccessTokens, Subject};
use super::throttle::Throttle;
use super::token::{self, TokenHash};
use super::{Authenticator, Principal, cookies, reveal};

/// The most sessions of a user; with one more, the oldest ends.
const MAX_SESSIONS: usize = 100;
/// The most bytes of a client's name that are kept.
const MAX_AGENT_BYTES: usize = 200;
/// How often expired verifiers are deleted.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);
/// How many in one step, while the writer of the log waits.
const SWEEP_STEP: usize = 500;
/// The most steps of one time; what is left then is deleted the next time.
const SWEEP_STEPS: usize = 1_000;
/// How often it is written when sessions and keys were last used.
const WRITE_USES_EVERY: Duration = Duration::from_secs(60);

/// What a login or refresh is answered with.
#[derive(Serialize)]
pub(crate) struct TokenAnswer {
    #[serde(serialize_with = "reveal")]
    pub(crate) access_token: Zeroizing<String>,
    #[serde(serialize_with = "reveal")]
    pub(crate) refresh_token: Zeroizing<String>,
    pub(crate) token_type: &'static str,
    /// Seconds until the access token expires.
    pub(crate) expires_in: u64,
    pub(crate) user: UserAnswer,
}

/// What a browser's login is answered with: the secret goes into a cookie.
#[derive(Serialize)]
pub(crate) struct CookieAnswer {
    #[serde(skip)]
    pub(crate) secret: Zeroizing<String>,
    /// What requests repeat in `X-CSRF-Token`.
    pub(crate) csrf_token: String,
    /// Seconds until the session ends.
    pub(crate) expires_in: u64,
    pub(crate) user: UserAnswer,
}

/// A user as clients see it.
#[derive(Serialize)]
pub(crate) struct UserAnswer {
    pub(crate) id: String,
    pub(crate) email: String,
    pub(crate) tenant: String,
    pub(crate) role: String,
}

/// A session as its user sees it.
#[derive(Serialize)]
pub(crate) struct SessionAnswer {
    pub(crate) id: Uuid,
    pub(crate) client: String,
    pub(crate) user_agent: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    /// Give or take a minute.
    pub(crate) last_used_at: Option<Timestamp>,
    /// Whether the request belongs to it.
    pub(crate) current: bool,
}

/// With what a user comes in. Kept in the session's row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Device {
    /// The `client_id` of its tokens.
    pub(crate) client: String,
    /// What the program says of itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user_agent: Option<String>,
}

/// Tokens that nobody has yet, and by what they will be recognised. The session's own row is the first.
struct Pair {
    answer: TokenAnswer,
    verifiers: [Verifier; 2],
}

/// Begins, renews and ends sessions.
pub(crate) struct Sessions {
    pub(super) auth: Arc<Authenticator>,
    pub(super) verifiers: Arc<dyn Verifiers>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) passwords: PasswordChecker,
    pub(super) throttle: Throttle,
    /// Seeds and recovery codes.
    pub(crate) second_factor: SecondFactor,
    tokens: Arc<AccessTokens>,
    master_key: MasterKey,
    refresh_ms: u64,
    cookie_ms: u64,
}

impl Device {
    /// A program by its own words.
    pub(crate) fn new(client: &str, user_agent: Option<&str>) -> Self {
        let shown = user_agent.map(|text| {
            let kept = text.chars().filter(|letter| !letter.is_control()).take(MAX_AGENT_BYTES);
            kept.collect::<String>()
        });
        Self { client: client.to_owned(), user_agent: shown.filter(|text| !text.is_empty()) }
    }

    fn of_row(row: Option<&Verifier>) -> Self {
        let device = row.and_then(|row| serde_json::from_str(&row.hash).ok());
        device.unwrap_or_else(|| Self::new("everline", None))
    }

    fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

impl Sessions {
    pub(crate) fn new(
        auth: Arc<Authenticator>,
        tokens: Arc<AccessTokens>,
        master_key: MasterKey,
        config: &GatewayConfig,
    ) -> Self {
        let (verifiers, clock) = (auth.verifiers.clone(), auth.clock.clone());
        Self {
            second_factor: SecondFactor::new(verifiers.clone(), clock.clone(), master_key.clone()),
            auth,
            verifiers,
            clock,
            passwords: PasswordChecker::new(config.password_checks),
            throttle: Throttle::new(config.login_failures_per_minute),
            tokens,
            master_key,
            refresh_ms: config.refresh_token_ms,
            cookie_ms: config.cookie_session_ms,
        }
    }

    /// A new session for somebody who is known to be this user.
    pub(crate) async fn begin(&self, user: &User, device: &Device) -> Result<TokenAnswer, Failure> {
        self.make_room(user.id).await?;
        let now = self.clock.now();
        let family = new_family(&user.tenant, now);
        let pair = self.pair(user, family, now, device, now).await?;
        self.verifiers.put_new(&pair.verifiers).await?;
        Ok(pair.answer)
    }

    /// Whether a user who was recognised in another way than by password, by a provider or on another device, may have
    /// a session.
    pub(crate) async fn admit(&self, app: &App, user: &User) -> Result<(), Failure> {
        let refuse = |detail: &str| Err(Failure::new(status::ACCESS_DENIED, detail));
        if user.state.status != UserStatus::Active {
            return refuse("the user is not active; ask your administrator");
        }
        if app.directory.tenant(&user.tenant).await?.is_none_or(|tenant| tenant.suspended) {
            return refuse("the tenant is suspended; ask whoever runs this installation");
        }
        Ok(())
    }

    /// A new session of a browser, whose secret goes into a cookie.
    pub(crate) async fn begin_cookie(&self, user: &User, device: &Device) -> Result<CookieAnswer, Failure> {
        self.make_room(user.id).await?;
        let now = self.clock.now();
        let family = new_family(&user.tenant, now);
        let secret = token::fresh(token::COOKIE);
        let until = now.plus_ms(self.cookie_ms);
        let session = session_row(user, family, now, device, until);
        let lookup = TokenHash::of(&secret).hex().to_owned();
        let cookie = Verifier { kind: VerifierKind::Cookie, lookup, hash: String::new(), ..session.clone() };
        self.verifiers.put_new(&[session, cookie]).await?;
        Ok(CookieAnswer {
            secret,
            csrf_token: self.csrf_token(family),
            expires_in: self.cookie_ms / 1_000,
            user: UserAnswer::of(user),
        })
    }

    /// What requests of a browser's session repeat in `X-CSRF-Token`.
    pub(crate) fn csrf_token(&self, family: Uuid) -> String {
        cookies::csrf_token(&self.master_key, family)
    }

    /// The next pair of tokens for a refresh token that was not used yet.
    pub(crate) async fn refresh(&self, secret: &str) -> Result<TokenAnswer, Failure> {
        let refuse =
            || Failure::new(status::INVALID_REFRESH_TOKEN, "the refresh token is not valid; log in again");
        let hash = TokenHash::of(secret);
        let found = self.verifiers.find(VerifierKind::RefreshToken, hash.hex()).await?;
        let verifier = found.filter(|verifier| hash.matches(&verifier.lookup)).ok_or_else(refuse)?;
        let family = verifier.family.ok_or_else(refuse)?;
        let now = self.clock.now();
        let Some(user) = self.auth.active_user(&verifier).await? else {
            // A stolen token of a user who is gone is of no use, but its reuse must not be hidden either.
            return Err(refuse());
        };
        let row = self.verifiers.find(VerifierKind::Session, &family.to_string()).await?;
        let begun = row.as_ref().map_or(now, |row| row.created_at);
        let pair = self.pair(&user, family, begun, &Device::of_row(row.as_ref()), now).await?;
        // The store alone decides, in one step: what was found above may be used or deleted by now.
        match self.verifiers.rotate(hash.hex(), &pair.verifiers, now).await? {
            Rotation::Rotated => Ok(pair.answer),
            Rotation::Refused => Err(refuse()),
            Rotation::Reused => {
                self.auth.forget_family(family);
                tracing::warn!(user.id = %verifier.principal, "a refresh token was used twice; its session is ended");
                let detail = "the refresh token was used before; the session is ended, log in again";
                Err(Failure::new(status::REFRESH_TOKEN_REUSED, detail))
            }
        }
    }

    /// Ends the caller's session.
    pub(crate) async fn logout(&self, principal: &Principal) -> Result<(), Failure> {
        let family = principal.family.ok_or_else(|| {
            Failure::new(status::NOT_A_SESSION, "an API key has no session to end; send an access token")
        })?;
        Ok(self.end(family).await?)
    }

    /// A user's sessions, oldest first.
    pub(crate) async fn list(&self, principal: &Principal) -> Result<Vec<SessionAnswer>, Failure> {
        let now = self.clock.now();
        let rows = self.verifiers.of_principal(VerifierKind::Session, &principal.user.to_string()).await?;
        let rows: Vec<_> =
            rows.into_iter().filter(|row| row.expires_at.is_none_or(|expiry| now < expiry)).collect();
        let families: Vec<Uuid> = rows.iter().filter_map(|row| row.family).collect();
        let uses = self.auth.last_uses(&families).await?;
        let answers = rows.into_iter().filter_map(|row| {
            let id = row.family?;
            let device = Device::of_row(Some(&row));
            Some(SessionAnswer {
                id,
                client: device.client,
                user_agent: device.user_agent,
                created_at: row.created_at,
                expires_at: row.expires_at,
                last_used_at: uses.get(&id).copied(),
                current: principal.family == Some(id),
            })
        });
        Ok(answers.collect())
    }

    /// Ends one of the caller's sessions.
    pub(crate) async fn end_one(&self, principal: &Principal, session: Uuid) -> Result<(), Failure> {
        let row = self.verifiers.find(VerifierKind::Session, &session.to_string()).await?;
        if row.is_none_or(|row| row.principal != principal.user.to_string()) {
            let detail = format!("you have no session {session}; it may have ended");
            return Err(Failure::new(status::SESSION_NOT_FOUND, detail));
        }
        Ok(self.end(session).await?)
    }

    /// Ends all sessions of a user, but for one, and what another one could be begun with: a device that was let in and
    /// has not come yet, a token for yet another password.
    pub(crate) async fn end_all(&self, user: Uuid, but: Option<Uuid>) -> Result<(), Failure> {
        for kind in [VerifierKind::DeviceCode, VerifierKind::PasswordReset] {
            self.verifiers.delete_of_principal(kind, &user.to_string()).await?;
        }
        // A family's own lock keeps a refresh that is under way from bringing it back, so they end one by one.
        for kind in [VerifierKind::Session, VerifierKind::RefreshToken] {
            for row in self.verifiers.of_principal(kind, &user.to_string()).await? {
                if let Some(family) = row.family.filter(|family| Some(*family) != but) {
                    self.end(family).await?;
                }
            }
        }
        Ok(())
    }

    /// Deletes verifiers that have expired, once an hour, and writes last uses, once a minute, until it is dropped.
    /// Recognising them checks the expiry anyway; this keeps the table from growing with every refresh.
    pub(crate) async fn sweep(&self) -> Infallible {
        let (never, _) = tokio::join!(self.sweep_expired(), self.write_uses());
        never
    }

    /// Writes the last uses that are not written yet.
    pub(crate) async fn write_last_uses(&self) {
        if let Err(error) = self.auth.write_uses().await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "it could not be written when sessions and keys were last used");
        }
    }

    async fn write_uses(&self) -> Infallible {
        let mut minutes = tokio::time::interval(WRITE_USES_EVERY);
        minutes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            minutes.tick().await;
            self.write_last_uses().await;
        }
    }

    async fn sweep_expired(&self) -> Infallible {
        let mut hours = tokio::time::interval(SWEEP_EVERY);
        hours.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            hours.tick().await;
            for _ in 0..SWEEP_STEPS {
                match self.verifiers.forget_expired(self.clock.now(), SWEEP_STEP).await {
                    // A full step may have left some.
                    Ok(forgotten) if forgotten >= SWEEP_STEP as u64 => {}
                    Ok(_) => break,
                    Err(error) => {
                        let error = &error as &dyn std::error::Error;
                        tracing::warn!(
                            error,
                            "expired tokens could not be deleted; the next try is in an hour"
                        );
                        break;
                    }
                }
            }
        }
    }

    async fn end(&self, family: Uuid) -> Result<(), StoreError> {
        self.verifiers.delete_family(family).await?;
        self.auth.forget_family(family);
        Ok(())
    }

    /// Ends a user's oldest sessions if there are too many for one more.
    async fn make_room(&self, user: Uuid) -> Result<(), Failure> {
        let rows = self.verifiers.of_principal(VerifierKind::Session, &user.to_string()).await?;
        for row in rows.iter().take((rows.len() + 1).saturating_sub(MAX_SESSIONS)) {
            if let Some(family) = row.family {
                self.end(family).await?;
            }
        }
        Ok(())
    }

    async fn pair(
        &self,
        user: &User,
        family: Uuid,
        begun: Timestamp,
        device: &Device,
        now: Timestamp,
    ) -> Result<Pair, Failure> {
        let refresh_token = token::fresh(token::REFRESH);
        let session = session_row(user, family, begun, device, now.plus_ms(self.refresh_ms));
        let refresh = Verifier {
            kind: VerifierKind::RefreshToken,
            lookup: TokenHash::of(&refresh_token).hex().to_owned(),
            hash: String::new(),
            created_at: now,
            ..session.clone()
        };
        let subject =
            Subject { user: user.id, tenant: &user.tenant, session: family, client: &device.client };
        let answer = TokenAnswer {
            access_token: self.tokens.issue(subject).await?,
            refresh_token,
            token_type: "Bearer",
            expires_in: self.tokens.lifetime_ms() / 1000,
            user: UserAnswer::of(user),
        };
        Ok(Pair { answer, verifiers: [session, refresh] })
    }
}

fn new_family(tenant: &TenantId, now: Timestamp) -> Uuid {
    new_id(now, Slot::of_tenant(tenant), crate::random::number())
}

fn session_row(user: &User, family: Uuid, begun: Timestamp, device: &Device, until: Timestamp) -> Verifier {
    Verifier {
        kind: VerifierKind::Session,
        lookup: family.to_string(),
        tenant: user.tenant.clone(),
        principal: user.id.to_string(),
        name: user.state.email.clone(),
        hash: device.text(),
        family: Some(family),
        created_at: begun,
        expires_at: Some(until),
        used_at: None,
    }
}

impl UserAnswer {
    pub(crate) fn new(id: &str, email: &str, tenant: &str, role: &str) -> Self {
        Self { id: id.to_owned(), email: email.to_owned(), tenant: tenant.to_owned(), role: role.to_owned() }
    }

    pub(crate) fn of(user: &User) -> Self {
        Self::new(&user.id.to_string(), &user.state.email, user.tenant.as_str(), &user.state.role)
    }
}
