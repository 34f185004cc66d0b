//! Who somebody is, by what only they know: an e-mail's password, with a second factor where there is one, or a token
//! that was made for one use.
//!
//! Invariants: an unknown e-mail takes the work of a known one and gets the same answer; whether an account is disabled,
//! deleted or of a suspended tenant is told nobody; an attempt counts from its beginning until its whole login, second
//! factor included, has succeeded.

use domain::identity::normal_email;
use domain::ids::TenantId;
use event_store::verifiers::{Verifier, VerifierKind};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::app::App;
use crate::client::Client;
use crate::directory::User;
use crate::failure::Failure;
use crate::status;

use super::password::{self, MAX_PASSWORD_BYTES};
use super::second_factor::Proof;
use super::sessions::Sessions;
use super::token::TokenHash;

/// The most bytes of an e-mail address.
const MAX_EMAIL_BYTES: usize = 254;

/// What somebody logs in with.
pub(crate) struct Login {
    pub(crate) email: String,
    pub(crate) password: Zeroizing<String>,
    /// The second factor, if one was sent.
    pub(crate) proof: Option<Proof>,
}

impl Sessions {
    /// The user who knows the password, and has the second factor where one is needed.
    pub(crate) async fn log_in(&self, app: &App, client: &Client, login: Login) -> Result<User, Failure> {
        let refuse = || Failure::new(status::INVALID_CREDENTIALS, "the e-mail or the password is wrong");
        let email = normal_email(&login.email);
        if email.len() > MAX_EMAIL_BYTES || login.password.len() > MAX_PASSWORD_BYTES {
            return Err(refuse());
        }
        let attempt = self.throttle.begin(app, &email, client)?;
        let verifier = self.verifiers.find(VerifierKind::Password, &email).await?;
        let hash = verifier.as_ref().map(|verifier| verifier.hash.clone());
        let fits = self.passwords.check(login.password.clone(), hash).await?;
        let Some(verifier) = verifier.filter(|_| fits) else { return Err(refuse()) };
        let Some(user) = self.auth.active_user(&verifier).await? else { return Err(refuse()) };
        if password::is_outdated(&verifier.hash) {
            self.renew_hash(&verifier, login.password).await?;
        }
        if self.second_factor.is_needed(user.id).await? {
            let proof = login.proof.ok_or_else(|| {
                let detail = "this account has a second factor; send `code` or `recovery_code` as well";
                Failure::new(status::SECOND_FACTOR_REQUIRED, detail)
            })?;
            self.second_factor.check(user.id, &proof).await?;
        }
        self.throttle.succeeded(app, attempt);
        Ok(user)
    }

    /// Whether a user's password is this one. Counts as a login's attempt.
    pub(crate) async fn knows_password(
        &self,
        (app, client): (&App, &Client),
        user: &User,
        password: Zeroizing<String>,
    ) -> Result<bool, Failure> {
        if password.len() > MAX_PASSWORD_BYTES {
            return Ok(false);
        }
        let email = normal_email(&user.state.email);
        let attempt = self.throttle.begin(app, &email, client)?;
        let verifier = self.verifiers.find(VerifierKind::Password, &email).await?;
        let verifier = verifier.filter(|verifier| verifier.principal == user.id.to_string());
        let fits = self.passwords.check(password, verifier.map(|verifier| verifier.hash)).await?;
        if fits {
            self.throttle.succeeded(app, attempt);
        }
        Ok(fits)
    }

    /// Whether a user's second factor holds. Counts as a login's attempt.
    pub(crate) async fn has_factor(
        &self,
        (app, client): (&App, &Client),
        user: &User,
        proof: &Proof,
    ) -> Result<(), Failure> {
        let email = normal_email(&user.state.email);
        let attempt = self.throttle.begin(app, &email, client)?;
        self.second_factor.check(user.id, proof).await?;
        self.throttle.succeeded(app, attempt);
        Ok(())
    }

    /// Counts an attempt at something that anybody may try: an account of their own, a one-time token.
    pub(crate) fn count_visit(&self, app: &App, client: &Client) -> Result<(), Failure> {
        self.throttle.begin_visit(app, client)
    }

    /// Stores a user's password, in place of the one before. The rules are the caller's to check.
    pub(crate) async fn set_password(
        &self,
        (tenant, user, email): (&TenantId, Uuid, &str),
        password: Zeroizing<String>,
    ) -> Result<(), Failure> {
        let hash = self.passwords.hash(password).await?;
        let email = normal_email(email);
        let verifier = Verifier {
            kind: VerifierKind::Password,
            lookup: email.clone(),
            tenant: tenant.clone(),
            principal: user.to_string(),
            name: email,
            hash,
            family: None,
            created_at: self.clock.now(),
            expires_at: None,
            used_at: None,
        };
        Ok(self.verifiers.put(&verifier).await?)
    }

    /// What a token that is good for one use was made for, without using it.
    pub(crate) async fn look_at(&self, kind: VerifierKind, secret: &str) -> Result<Verifier, Failure> {
        let hash = TokenHash::of(secret);
        let now = self.clock.now();
        let found = self.verifiers.find(kind, hash.hex()).await?;
        let found = found.filter(|row| hash.matches(&row.lookup));
        found.filter(|row| row.expires_at.is_none_or(|expiry| now < expiry)).ok_or_else(refuse_token)
    }

    /// Uses a token up. Of all who send it, one gets what it was made for.
    pub(crate) async fn redeem(&self, kind: VerifierKind, secret: &str) -> Result<Verifier, Failure> {
        let hash = TokenHash::of(secret);
        let taken = self.verifiers.take(kind, hash.hex(), self.clock.now()).await?;
        taken.ok_or_else(refuse_token)
    }

    /// Makes a token good again, because what it was used for did not happen.
    pub(crate) async fn give_back(&self, token: &Verifier) {
        if let Err(error) = self.verifiers.put(token).await {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, verifier.kind = %token.kind, "a one-time token is lost; make another");
        }
    }

    /// Replaces a hash from elsewhere by ours, unless the password was changed meanwhile.
    async fn renew_hash(&self, verifier: &Verifier, password: Zeroizing<String>) -> Result<(), Failure> {
        let hash = self.passwords.hash(password).await?;
        let kind = VerifierKind::Password;
        if self.verifiers.swap_hash(kind, &verifier.lookup, &verifier.hash, &hash).await? {
            tracing::info!(user.id = %verifier.principal, "a password's hash was renewed");
        }
        Ok(())
    }
}

fn refuse_token() -> Failure {
    Failure::new(status::INVALID_ONE_TIME_TOKEN, "the token is not valid, was used before, or has expired")
}
