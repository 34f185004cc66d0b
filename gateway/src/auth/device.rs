//! Device login (RFC 8628): a program without a browser is let in by a person who has one.
//!
//! ```text
//!   program ── begin ──► device code, user code         two rows that expire in ten minutes
//!   person  ── approve (user code, in a session) ──►    the user code is used up, the device's row says for whom
//!   program ── poll (device code) ──► pending … session the device's row is used up
//! ```
//!
//! Invariants: neither code is stored, only its SHA-256; each is good for one use, whichever replica is asked; only a
//! session approves, never a key, whose scopes a session would exceed. Whoever guesses user codes is slowed down by
//! user, on each replica by itself: ten wrong ones a minute among 20⁸ find nothing in the ten minutes that one lives.
//! Deliberately absent: the page ([`crate::routes`]).

use domain::ids::{Slot, TenantId, new_id};
use domain::time::{Clock, Timestamp};
use event_store::verifiers::{Verifier, VerifierKind, Verifiers};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Principal;
use super::token::{self, TokenHash};
use crate::failure::Failure;
use crate::status;

/// How long both codes are good for.
pub(crate) const LIFETIME_MS: u64 = 10 * 60 * 1000;
/// The pause between questions, and what a program that asks too soon has to add to it.
pub(crate) const INTERVAL: Duration = Duration::from_secs(5);
/// The prefix of device codes.
const PREFIX: &str = "evd_";
/// Letters of user codes: no vowels, so that no words, and none that look alike (RFC 8628, 6.1).
const LETTERS: &[u8; 20] = b"BCDFGHJKLMNPQRSTVWXZ";
/// How many letters a user code has.
const CODE_LETTERS: usize = 8;
/// How many programs and people are watched.
const WATCHED: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");
/// How many wrong user codes one person may send in a minute.
const WRONG_CODES: u32 = 10;
/// How long wrong codes count.
const WINDOW: Duration = Duration::from_secs(60);
/// How often a fresh user code is drawn that another program has at the moment.
const DRAWS: u32 = 5;
/// What a device's row holds before somebody has decided, and after.
const PENDING: &str = "pending";
const APPROVED: &str = "approved";
const DENIED: &str = "denied";

/// A device login that has begun.
pub(crate) struct Begun {
    /// What the program asks with.
    pub(crate) device_code: Zeroizing<String>,
    /// What the person types, `BCDF-GHJK`.
    pub(crate) user_code: String,
}

/// Lets devices in.
pub(crate) struct DeviceLogins {
    verifiers: Arc<dyn Verifiers>,
    clock: Arc<dyn Clock>,
    /// When a program asked last, and how long it has to wait.
    polls: Mutex<LruCache<String, (Instant, Duration)>>,
    /// Wrong codes of a person, and since when they are counted.
    wrong: Mutex<LruCache<Uuid, (u32, Instant)>>,
}

impl DeviceLogins {
    pub(crate) fn new(verifiers: Arc<dyn Verifiers>, clock: Arc<dyn Clock>) -> Self {
        let (polls, wrong) = (Mutex::new(LruCache::new(WATCHED)), Mutex::new(LruCache::new(WATCHED)));
        Self { verifiers, clock, polls, wrong }
    }

    /// Begins a login of a program that calls itself so.
    pub(crate) async fn begin(&self, client_name: &str) -> Result<Begun, Failure> {
        let now = self.clock.now();
        for _ in 0..DRAWS {
            let (device_code, user_code) = (token::fresh(PREFIX), draw_user_code());
            let (device, user) = (TokenHash::of(&device_code), TokenHash::of(&user_code));
            let row = |kind, lookup: &TokenHash, hash: &str| row(kind, lookup.hex(), client_name, hash, now);
            let rows = [
                row(VerifierKind::UserCode, &user, device.hex()),
                row(VerifierKind::DeviceCode, &device, PENDING),
            ];
            if self.verifiers.put_new(&rows).await? {
                let (first, second) = user_code.split_at(CODE_LETTERS / 2);
                return Ok(Begun { device_code, user_code: format!("{first}-{second}") });
            }
        }
        Err(Failure::new(status::OVERLOADED, "too many devices log in at once; try again shortly"))
    }

    /// Lets the program in whose user code this is, or turns it away. Returns its name.
    pub(crate) async fn decide(
        &self,
        principal: &Principal,
        user_code: &str,
        approve: bool,
    ) -> Result<String, Failure> {
        if principal.family.is_none() {
            let detail = "only a session lets a device in; log in with e-mail and password or a provider";
            return Err(Failure::new(status::NOT_A_SESSION, detail));
        }
        self.admit_guess(principal.user, Instant::now())?;
        let unknown = || {
            let detail =
                "no device shows this code, or it has expired; compare it with what the device shows";
            Failure::new(status::USER_CODE_NOT_FOUND, detail)
        };
        let code = normal_user_code(user_code).ok_or_else(unknown)?;
        let now = self.clock.now();
        let taken = self.verifiers.take(VerifierKind::UserCode, TokenHash::of(&code).hex(), now).await?;
        let taken = taken.ok_or_else(unknown)?;
        let device = self.verifiers.find(VerifierKind::DeviceCode, &taken.hash).await?;
        let device = device.filter(|device| !has_expired(device, now)).ok_or_else(unknown)?;
        self.wrong.lock().unwrap_or_else(PoisonError::into_inner).pop(&principal.user);
        let decided = Verifier {
            tenant: principal.tenant.clone(),
            principal: principal.user.to_string(),
            hash: if approve { APPROVED } else { DENIED }.to_owned(),
            ..device
        };
        self.verifiers.put(&decided).await?;
        Ok(decided.name)
    }

    /// Whom a program is let in for: tenant and user, once.
    ///
    /// # Errors
    /// `authorization_pending`, `slow_down`, `access_denied` or `expired_token`.
    pub(crate) async fn poll(&self, device_code: &str) -> Result<(TenantId, Uuid), Failure> {
        let expired = || {
            let detail = "the code has expired, was used, or was never given out; begin the login again";
            Failure::new(status::EXPIRED_TOKEN, detail)
        };
        let hash = TokenHash::of(device_code);
        let now = self.clock.now();
        let found = self.verifiers.find(VerifierKind::DeviceCode, hash.hex()).await?;
        let found = found.filter(|device| hash.matches(&device.lookup) && !has_expired(device, now));
        match found.ok_or_else(expired)?.hash.as_str() {
            PENDING => {
                self.admit_poll(hash.hex(), Instant::now())?;
                Err(Failure::new(
                    status::AUTHORIZATION_PENDING,
                    "nobody has approved the code yet; ask again",
                ))
            }
            state => {
                let approved = state == APPROVED;
                let taken = self.verifiers.take(VerifierKind::DeviceCode, hash.hex(), now).await?;
                let taken = taken.ok_or_else(expired)?;
                self.polls.lock().unwrap_or_else(PoisonError::into_inner).pop(hash.hex());
                if !approved {
                    return Err(Failure::new(status::ACCESS_DENIED, "the login was turned away"));
                }
                let user = Uuid::try_parse(&taken.principal).map_err(|_| expired())?;
                Ok((taken.tenant, user))
            }
        }
    }

    fn admit_poll(&self, lookup: &str, now: Instant) -> Result<(), Failure> {
        let mut polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
        match polls.get_mut(lookup) {
            None => drop(polls.put(lookup.to_owned(), (now, INTERVAL))),
            // A little early is the network's doing.
            Some((last, interval)) if now.duration_since(*last) + INTERVAL / 5 >= *interval => *last = now,
            Some((last, interval)) => {
                (*last, *interval) = (now, *interval + INTERVAL);
                let detail =
                    format!("you ask too often; wait {} seconds between questions", interval.as_secs());
                return Err(Failure::new(status::SLOW_DOWN, detail));
            }
        }
        Ok(())
    }

    fn admit_guess(&self, user: Uuid, now: Instant) -> Result<(), Failure> {
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = wrong.get_or_insert_mut(user, || (0, now));
        if now.duration_since(entry.1) >= WINDOW {
            *entry = (0, now);
        }
        if entry.0 >= WRONG_CODES {
            let wait = WINDOW.saturating_sub(now.duration_since(entry.1)).as_secs() + 1;
            let detail = "too many codes that no device shows; wait and compare again";
            return Err(Failure::new(status::TOO_MANY_ATTEMPTS, detail).retry_after(wait));
        }
        entry.0 += 1;
        Ok(())
    }
}

/// Whose it is is known when somebody has decided.
fn row(kind: VerifierKind, lookup: &str, client_name: &str, hash: &str, now: Timestamp) -> Verifier {
    Verifier {
        kind,
        lookup: lookup.to_owned(),
        tenant: TenantId::default_tenant(),
        principal: new_id(now, Slot::from_bits(0), 0).to_string(),
        name: client_name.to_owned(),
        hash: hash.to_owned(),
        family: None,
        created_at: now,
        expires_at: Some(now.plus_ms(LIFETIME_MS)),
        used_at: None,
    }
}

fn has_expired(verifier: &Verifier, now: Timestamp) -> bool {
    verifier.expires_at.is_some_and(|expiry| expiry <= now)
}

fn draw_user_code() -> String {
    let mut code = String::with_capacity(CODE_LETTERS);
    while code.len() < CODE_LETTERS {
        // Bytes from 240 on would make the first letters likelier.
        for byte in crate::random::bytes::<16>().into_iter().filter(|byte| *byte < 240) {
            if code.len() < CODE_LETTERS {
                code.push(char::from(LETTERS[usize::from(byte) % LETTERS.len()]));
            }
        }
    }
    code
}

/// What was drawn, from what was typed: case, spaces and hyphens say nothing.
fn normal_user_code(typed: &str) -> Option<String> {
    if typed.len() > 4 * CODE_LETTERS {
        return None;
    }
    let letters =
        typed.bytes().filter(|byte| !matches!(byte, b' ' | b'-')).map(|byte| byte.to_ascii_uppercase());
    let code: Option<String> =
        letters.map(|byte| LETTERS.contains(&byte).then_some(char::from(byte))).collect();
    code.filter(|code| code.len() == CODE_LETTERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_code_is_read_however_it_is_typed() {
        let code = draw_user_code();
        assert_eq!(code.len(), CODE_LETTERS);
        assert!(code.bytes().all(|byte| LETTERS.contains(&byte)));
        let typed = format!(" {}-{} ", code[..4].to_lowercase(), &code[4..]);
        assert_eq!(normal_user_code(&typed), Some(code));
        for wrong in ["", "BCDF-GHJ", "BCDF-GHJA", "BCDFGHJKL", "ÄCDFGHJK"] {
            assert_eq!(normal_user_code(wrong), None, "{wrong}");
        }
    }
}
