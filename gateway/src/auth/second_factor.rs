//! The second factor: one-time passwords by time (TOTP, RFC 6238), and recovery codes that stand in for them.
//!
//! Owns: a seed's way from draft to use. Invariants: a seed is sealed for its user; a time step is good once, also for
//! two logins at the same moment, because the store alone says who was first; a recovery code is kept as its SHA-256
//! and taken once. Whether a second factor is needed is the seed's row, so that a lost event cannot open an account.

use domain::time::{Clock, Timestamp};
use event_store::sealing::MasterKey;
use event_store::verifiers::{Verifier, VerifierKind, Verifiers};
use serde::Serialize;
use std::sync::Arc;
use totp_rs::{Builder, Secret, Totp};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::directory::User;
use crate::failure::Failure;
use crate::status;

use super::reveal;
use super::token::TokenHash;

/// How long a code is shown, in seconds; one step before and after it is good too.
const STEP_S: u64 = 30;
/// How many bytes a seed has (RFC 4226 wants 20).
const SEED_BYTES: usize = 20;
/// How many recovery codes there are.
const RECOVERY_CODES: usize = 10;
/// How long a seed waits for its first code, in milliseconds.
const DRAFT_MS: u64 = 15 * 60 * 1000;

/// What proves the second factor.
pub(crate) enum Proof {
    /// The six digits of this moment.
    Code(String),
    /// A recovery code.
    Recovery(Zeroizing<String>),
}

/// A seed that is not confirmed yet.
#[derive(Serialize)]
pub(crate) struct Enrolment {
    /// In base32, for typing.
    #[serde(serialize_with = "reveal")]
    pub(crate) secret: Zeroizing<String>,
    /// For a QR code.
    #[serde(serialize_with = "reveal")]
    pub(crate) otpauth_url: Zeroizing<String>,
    /// Until when a code confirms it.
    pub(crate) expires_at: Timestamp,
}

/// Seeds and recovery codes.
pub(crate) struct SecondFactor {
    verifiers: Arc<dyn Verifiers>,
    clock: Arc<dyn Clock>,
    master_key: MasterKey,
}

impl SecondFactor {
    pub(crate) fn new(verifiers: Arc<dyn Verifiers>, clock: Arc<dyn Clock>, master_key: MasterKey) -> Self {
        Self { verifiers, clock, master_key }
    }

    /// Whether a user needs one.
    pub(crate) async fn is_needed(&self, user: Uuid) -> Result<bool, Failure> {
        Ok(self.verifiers.find(VerifierKind::Totp, &user.to_string()).await?.is_some())
    }

    /// A new seed, in place of one that was not confirmed.
    pub(crate) async fn enrol(&self, user: &User) -> Result<Enrolment, Failure> {
        if self.is_needed(user.id).await? {
            let detail = "there is a second factor already; take it away before you set another up";
            return Err(Failure::new(status::TOTP_ENABLED, detail));
        }
        let seed: Zeroizing<[u8; SEED_BYTES]> = Zeroizing::new(crate::random::bytes());
        let sealed = self.master_key.seal(&*seed, &place(user.id)).map_err(|error| {
            tracing::error!(%error, "a seed could not be sealed");
            Failure::new(status::INTERNAL, "the seed could not be sealed")
        })?;
        let now = self.clock.now();
        let expires_at = now.plus_ms(DRAFT_MS);
        let row = row(VerifierKind::TotpDraft, user.id.to_string(), user, now);
        self.verifiers.put(&Verifier { hash: sealed, expires_at: Some(expires_at), ..row }).await?;
        let totp = totp(&*seed, &user.state.email);
        let url = totp.to_url().map_err(|error| {
            tracing::error!(%error, "an otpauth URL could not be written");
            Failure::new(status::INTERNAL, "the seed could not be shown")
        })?;
        let secret = Secret::from(seed.to_vec()).to_base32();
        Ok(Enrolment { secret: Zeroizing::new(secret), otpauth_url: Zeroizing::new(url), expires_at })
    }

    /// Makes a seed the second factor, by its first code. Answers with the recovery codes, which are shown once.
    pub(crate) async fn confirm(&self, user: &User, code: &str) -> Result<Vec<Zeroizing<String>>, Failure> {
        let lookup = user.id.to_string();
        let now = self.clock.now();
        let draft = self.verifiers.find(VerifierKind::TotpDraft, &lookup).await?;
        let draft = draft.filter(|draft| draft.expires_at.is_none_or(|expiry| now < expiry));
        let draft = draft.ok_or_else(|| {
            Failure::new(status::TOTP_NOT_ENABLED, "there is no second factor to confirm; set one up first")
        })?;
        let step = self.step_of(&draft, user.id, code, now)?.ok_or_else(refuse)?;
        // Of two requests that confirm, one takes the draft and makes the codes.
        if self.verifiers.take(VerifierKind::TotpDraft, &lookup, now).await?.is_none() {
            return Err(refuse());
        }
        self.verifiers.delete_of_principal(VerifierKind::RecoveryCode, &lookup).await?;
        let codes: Vec<_> = (0..RECOVERY_CODES).map(|_| recovery_code()).collect();
        let totp =
            Verifier { hash: draft.hash, used_at: Some(step), ..row(VerifierKind::Totp, lookup, user, now) };
        let mut rows = vec![totp];
        rows.extend(codes.iter().map(|code| {
            let lookup = recovery_lookup(user.id, code);
            row(VerifierKind::RecoveryCode, lookup, user, now)
        }));
        if self.verifiers.put_new(&rows).await? { Ok(codes) } else { Err(refuse()) }
    }

    /// Whether the proof holds. What held is used up.
    pub(crate) async fn check(&self, user: Uuid, proof: &Proof) -> Result<(), Failure> {
        let now = self.clock.now();
        match proof {
            Proof::Recovery(code) => {
                let lookup = recovery_lookup(user, code);
                let taken = self.verifiers.take(VerifierKind::RecoveryCode, &lookup, now).await?;
                taken.filter(|taken| taken.principal == user.to_string()).map(drop).ok_or_else(refuse)
            }
            Proof::Code(code) => {
                let lookup = user.to_string();
                let row = self.verifiers.find(VerifierKind::Totp, &lookup).await?.ok_or_else(refuse)?;
                let step = self.step_of(&row, user, code, now)?.ok_or_else(refuse)?;
                if self.verifiers.mark_used(VerifierKind::Totp, &lookup, step).await? {
                    return Ok(());
                }
                Err(refuse())
            }
        }
    }

    /// Takes it away, with its recovery codes. Whether there was one.
    pub(crate) async fn remove(&self, user: Uuid) -> Result<bool, Failure> {
        let lookup = user.to_string();
        let was = self.verifiers.delete(VerifierKind::Totp, &lookup).await?;
        self.verifiers.delete(VerifierKind::TotpDraft, &lookup).await?;
        self.verifiers.delete_of_principal(VerifierKind::RecoveryCode, &lookup).await?;
        Ok(was)
    }

    /// The time step that a code is of, if it is one of now.
    fn step_of(
        &self,
        row: &Verifier,
        user: Uuid,
        code: &str,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, Failure> {
        let seed = self.master_key.open(&row.hash, &place(user)).map_err(|error| {
            tracing::error!(%error, user.id = %user, "the seed of a second factor does not open");
            Failure::new(status::INTERNAL, "the second factor cannot be checked; ask your administrator")
        })?;
        if code.len() != 6 || !code.bytes().all(|digit| digit.is_ascii_digit()) {
            return Ok(None);
        }
        let seconds = u64::try_from(now.unix_ms() / 1_000).unwrap_or(0);
        let step = totp(&seed, &row.name).check(code, seconds);
        Ok(step.map(|step| Timestamp::from_unix_ms(i64::try_from(step * STEP_S * 1_000).unwrap_or(i64::MAX))))
    }
}

fn totp(seed: &[u8], email: &str) -> Totp {
    let builder = Builder::new().with_secret(seed.to_vec()).with_step_duration(STEP_S).with_skew(1);
    // A colon would end the account's name in the URL.
    builder.with_issuer(Some("Everline")).with_account_name(email.replace(':', "")).build_noncompliant()
}

fn row(kind: VerifierKind, lookup: String, user: &User, now: Timestamp) -> Verifier {
    Verifier {
        kind,
        lookup,
        tenant: user.tenant.clone(),
        principal: user.id.to_string(),
        name: user.state.email.clone(),
        hash: String::new(),
        family: None,
        created_at: now,
        expires_at: None,
        used_at: None,
    }
}

/// What a user's seed is sealed for.
fn place(user: Uuid) -> String {
    format!("totp:{user}")
}

/// 80 random bits as `XXXX-XXXX-XXXX-XXXX`.
fn recovery_code() -> Zeroizing<String> {
    let bytes: Zeroizing<[u8; 10]> = Zeroizing::new(crate::random::bytes());
    let text = Zeroizing::new(Secret::from(bytes.to_vec()).to_base32());
    let groups: Vec<&str> = [0..4, 4..8, 8..12, 12..16].into_iter().map(|range| &text[range]).collect();
    Zeroizing::new(groups.join("-"))
}

/// By what a recovery code is found: case, spaces and hyphens do not count. With the user, so that a code is nobody
/// else's.
fn recovery_lookup(user: Uuid, code: &str) -> String {
    let letters = code.chars().filter(|letter| letter.is_ascii_alphanumeric()).take(64);
    let letters: Zeroizing<String> =
        Zeroizing::new(letters.map(|letter| letter.to_ascii_uppercase()).collect());
    TokenHash::of(&format!("recovery:{user}:{}", *letters)).hex().to_owned()
}

fn refuse() -> Failure {
    Failure::new(
        status::INVALID_SECOND_FACTOR,
        "the code is wrong, or was used before; wait for the next one",
    )
}
