//! Sessions: login, refresh with rotation, logout.
//!
//! A session is a family of tokens. A refresh token buys the next pair once; used twice it ends the family at
//! once, because one of the two users of it is a thief.

use domain::identity::user::UserStatus;
use domain::ids::{Slot, new_id};
use domain::time::{Clock, Timestamp};
use event_store::log::StoreError;
use event_store::verifiers::{Rotation, Verifier, VerifierKind, Verifiers};
use serde::Serialize;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::app::App;
use crate::config::GatewayConfig;
use crate::directory::User;
use crate::failure::Failure;
use crate::status;

use super::password::{MAX_PASSWORD_BYTES, PasswordChecker};
use super::throttle::Throttle;
use super::token::{self, TokenHash};
use super::{Authenticator, Principal};

/// The most bytes of an e-mail address.
const MAX_EMAIL_BYTES: usize = 254;
/// How often expired verifiers are deleted.
const SWEEP_EVERY: Duration = Duration::from_secs(60 * 60);
/// How many in one step, while the writer of the log waits.
const SWEEP_STEP: usize = 500;
/// The most steps of one time; what is left then is deleted the next time.
const SWEEP_STEPS: usize = 1_000;

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

/// Writes a secret into the one answer that shows it.
fn reveal<S: serde::Serializer>(secret: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret)
}

/// A user as clients see it.
#[derive(Serialize)]
pub(crate) struct UserAnswer {
    pub(crate) id: String,
    pub(crate) email: String,
    pub(crate) tenant: String,
    pub(crate) role: String,
}

/// Tokens that nobody has yet, and by what they will be recognised.
struct Pair {
    answer: TokenAnswer,
    verifiers: [Verifier; 2],
}

/// Begins, renews and ends sessions.
pub(crate) struct Sessions {
    verifiers: Arc<dyn Verifiers>,
    clock: Arc<dyn Clock>,
    passwords: PasswordChecker,
    throttle: Throttle,
    access_ms: u64,
    refresh_ms: u64,
}

impl Sessions {
    pub(crate) fn new(verifiers: Arc<dyn Verifiers>, clock: Arc<dyn Clock>, config: &GatewayConfig) -> Self {
        Self {
            verifiers,
            clock,
            passwords: PasswordChecker::new(config.password_checks),
            throttle: Throttle::new(config.login_failures_per_minute),
            access_ms: config.access_token_ms,
            refresh_ms: config.refresh_token_ms,
        }
    }

    /// A new session for whoever knows the password.
    pub(crate) async fn login(
        &self,
        email: &str,
        password: Zeroizing<String>,
    ) -> Result<TokenAnswer, Failure> {
        let refuse = || Failure::new(status::INVALID_CREDENTIALS, "the e-mail or the password is wrong");
        let email = normal_email(email);
        if email.len() > MAX_EMAIL_BYTES || password.len() > MAX_PASSWORD_BYTES {
            return Err(refuse());
        }
        self.throttle.begin(&email, Instant::now()).map_err(|seconds| {
            let detail = "too many failed logins for this e-mail; wait and try again";
            Failure::new(status::TOO_MANY_ATTEMPTS, detail).retry_after(seconds)
        })?;
        let verifier = self.verifiers.find(VerifierKind::Password, &email).await?;
        let hash = verifier.as_ref().map(|verifier| verifier.hash.clone());
        let fits = self.passwords.check(password, hash).await?;
        let Some(verifier) = verifier.filter(|_| fits) else { return Err(refuse()) };
        self.throttle.succeeded(&email);
        let now = self.clock.now();
        let family = new_id(now, Slot::of_tenant(&verifier.tenant), crate::random::number());
        let pair = self.pair(&verifier, family, now);
        for verifier in &pair.verifiers {
            self.verifiers.put(verifier).await?;
        }
        Ok(pair.answer)
    }

    /// A new session of a user who was recognised in another way: by a provider, or on another device.
    pub(crate) async fn begin(&self, app: &App, user: &User) -> Result<TokenAnswer, Failure> {
        let refuse = |detail: &str| Err(Failure::new(status::ACCESS_DENIED, detail));
        if user.state.status != UserStatus::Active {
            return refuse("the user is not active; ask your administrator");
        }
        if app.directory.tenant(&user.tenant).await?.is_none_or(|tenant| tenant.suspended) {
            return refuse("the tenant is suspended; ask whoever runs this installation");
        }
        let now = self.clock.now();
        let family = new_id(now, Slot::of_tenant(&user.tenant), crate::random::number());
        let whose = Verifier {
            kind: VerifierKind::Password,
            lookup: String::new(),
            tenant: user.tenant.clone(),
            principal: user.id.to_string(),
            name: user.state.email.clone(),
            hash: String::new(),
            family: None,
            created_at: now,
            expires_at: None,
            used_at: None,
        };
        let pair = self.pair(&whose, family, now);
        for verifier in &pair.verifiers {
            self.verifiers.put(verifier).await?;
        }
        Ok(pair.answer)
    }

    /// The next pair of tokens for a refresh token that was not used yet.
    pub(crate) async fn refresh(&self, auth: &Authenticator, secret: &str) -> Result<TokenAnswer, Failure> {
        let refuse =
            || Failure::new(status::INVALID_REFRESH_TOKEN, "the refresh token is not valid; log in again");
        let hash = TokenHash::of(secret);
        let found = self.verifiers.find(VerifierKind::RefreshToken, hash.hex()).await?;
        let verifier = found.filter(|verifier| hash.matches(&verifier.lookup)).ok_or_else(refuse)?;
        let family = verifier.family.ok_or_else(refuse)?;
        let now = self.clock.now();
        let pair = self.pair(&verifier, family, now);
        // The store alone decides, in one step: what was found above may be used or deleted by now.
        match self.verifiers.rotate(hash.hex(), &pair.verifiers, now).await? {
            Rotation::Rotated => Ok(pair.answer),
            Rotation::Refused => Err(refuse()),
            Rotation::Reused => {
                auth.forget_family(family);
                tracing::warn!(user.id = %verifier.principal, "a refresh token was used twice; its session is ended");
                let detail = "the refresh token was used before; the session is ended, log in again";
                Err(Failure::new(status::REFRESH_TOKEN_REUSED, detail))
            }
        }
    }

    /// Ends the caller's session.
    pub(crate) async fn logout(&self, auth: &Authenticator, principal: &Principal) -> Result<(), Failure> {
        let family = principal.family.ok_or_else(|| {
            Failure::new(status::NOT_A_SESSION, "an API key has no session to end; send an access token")
        })?;
        Ok(self.end(auth, family).await?)
    }

    /// Deletes verifiers that have expired, once an hour, until it is dropped. Recognising them checks the expiry
    /// anyway; this keeps the table from growing with every refresh.
    pub(crate) async fn sweep(&self) -> Infallible {
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

    async fn end(&self, auth: &Authenticator, family: Uuid) -> Result<(), StoreError> {
        self.verifiers.delete_family(family).await?;
        auth.forget_family(family);
        Ok(())
    }

    fn pair(&self, whose: &Verifier, family: Uuid, now: Timestamp) -> Pair {
        let (access_token, refresh_token) = (token::fresh(token::ACCESS), token::fresh(token::REFRESH));
        let verifier = |kind, secret: &str, ttl_ms| Verifier {
            kind,
            lookup: TokenHash::of(secret).hex().to_owned(),
            tenant: whose.tenant.clone(),
            principal: whose.principal.clone(),
            name: whose.name.clone(),
            hash: String::new(),
            family: Some(family),
            created_at: now,
            expires_at: Some(now.plus_ms(ttl_ms)),
            used_at: None,
        };
        let verifiers = [
            verifier(VerifierKind::RefreshToken, &refresh_token, self.refresh_ms),
            verifier(VerifierKind::AccessToken, &access_token, self.access_ms),
        ];
        let answer = TokenAnswer {
            access_token,
            refresh_token,
            token_type: "Bearer",
            expires_in: self.access_ms / 1000,
            user: UserAnswer::new(
                &whose.principal,
                &whose.name,
                whose.tenant.as_str(),
                domain::access::ADMIN,
            ),
        };
        Pair { answer, verifiers }
    }
}

impl UserAnswer {
    pub(crate) fn new(id: &str, email: &str, tenant: &str, role: &str) -> Self {
        Self { id: id.to_owned(), email: email.to_owned(), tenant: tenant.to_owned(), role: role.to_owned() }
    }
}

/// E-mails are compared without case and outer space.
pub(crate) fn normal_email(email: &str) -> String {
    email.trim().to_lowercase()
}
