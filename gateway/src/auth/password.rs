//! Passwords: argon2id with the crate's recommended cost, off the async threads, a few at a time.
//!
//! Hashes that users bring along from elsewhere (bcrypt) are accepted, and replaced by argon2id when their password is
//! next seen. Deliberately absent: rules about letters and digits; length is what counts.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::status;

/// How long a check may wait for its turn.
const PATIENCE: Duration = Duration::from_secs(5);
/// Shorter passwords are not taken.
pub(crate) const MIN_PASSWORD_BYTES: usize = 8;
/// Longer passwords are refused before they cost anything.
pub(crate) const MAX_PASSWORD_BYTES: usize = 1_024;
/// The highest cost of a bcrypt hash that is taken over: each step doubles the time, and this is about a second.
const MAX_BCRYPT_COST: u32 = 14;
/// What of a password bcrypt sees.
const BCRYPT_BYTES: usize = 72;

/// Why a password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PasswordRule {
    /// It is too short or too long.
    #[error("a password has {MIN_PASSWORD_BYTES} to {MAX_PASSWORD_BYTES} bytes")]
    Length,
    /// It is the e-mail.
    #[error("the password is the e-mail; choose another")]
    Email,
}

impl PasswordRule {
    /// The code of the defect in a body.
    pub(crate) fn code(self) -> &'static str {
        "invalid_password"
    }
}

/// Whether a user with this e-mail may have this password.
pub(crate) fn check_rules(password: &str, email: &str) -> Result<(), PasswordRule> {
    if !(MIN_PASSWORD_BYTES..=MAX_PASSWORD_BYTES).contains(&password.len()) {
        return Err(PasswordRule::Length);
    }
    if password.trim().to_lowercase() == email {
        return Err(PasswordRule::Email);
    }
    Ok(())
}

/// Whether a text is a hash that logins accept: argon2id as we write it, or bcrypt of a cost that does not stop
/// everybody else's logins.
pub(crate) fn is_accepted_hash(hash: &str) -> bool {
    if is_bcrypt(hash) {
        return hash.parse::<bcrypt::HashParts>().is_ok_and(|parts| parts.get_cost() <= MAX_BCRYPT_COST);
    }
    PasswordHash::new(hash).is_ok_and(|parsed| {
        parsed.algorithm.as_str() == "argon2id"
            && parsed.hash.is_some()
            && argon2::Params::try_from(&parsed).is_ok_and(|params| {
                params.m_cost() <= 4 * argon2::Params::DEFAULT_M_COST
                    && params.t_cost() <= 10
                    && params.p_cost() <= 4
            })
    })
}

/// Whether a hash is to be replaced when its password is known.
pub(crate) fn is_outdated(hash: &str) -> bool {
    is_bcrypt(hash)
}

fn is_bcrypt(hash: &str) -> bool {
    ["$2a$", "$2b$", "$2y$"].iter().any(|version| hash.starts_with(version))
}

/// The password could not be hashed.
#[derive(Debug, thiserror::Error)]
#[error("the password could not be hashed: {0}")]
pub struct PasswordError(String);

impl PasswordError {
    /// The thread that hashed it ended early.
    pub(crate) fn interrupted() -> Self {
        Self("the work was interrupted; start again".to_owned())
    }
}

/// Checks passwords, so many at a time.
pub(crate) struct PasswordChecker {
    permits: Arc<Semaphore>,
}

impl PasswordChecker {
    pub(crate) fn new(at_once: u32) -> Self {
        Self { permits: Arc::new(Semaphore::new(at_once.max(1) as usize)) }
    }

    /// Whether the password fits the hash. Without a hash the answer is no, after the same work: the time does
    /// not tell whether an account exists.
    pub(crate) async fn check(
        &self,
        password: Zeroizing<String>,
        hash: Option<String>,
    ) -> Result<bool, Failure> {
        self.work(move || {
            let exists = hash.is_some();
            let hash = hash.unwrap_or_else(|| decoy().to_owned());
            verify(&password, &hash) && exists
        })
        .await
    }

    /// The PHC string of a password, in turn.
    pub(crate) async fn hash(&self, password: Zeroizing<String>) -> Result<String, Failure> {
        self.work(move || hash(&password)).await?.map_err(|error| {
            tracing::error!(%error, "a password could not be hashed");
            Failure::new(status::INTERNAL, "the password could not be hashed")
        })
    }

    async fn work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Failure> {
        let overloaded = || Failure::new(status::OVERLOADED, "too many logins at once; try again shortly");
        let permit = tokio::time::timeout(PATIENCE, self.permits.clone().acquire_owned())
            .await
            .map_err(|_| overloaded())?
            .map_err(|_| overloaded())?;
        let done = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        done.await.map_err(|_| Failure::new(status::INTERNAL, "the password could not be worked on"))
    }
}

/// The PHC string of a password. Takes some 20 ms: not for async threads.
pub(crate) fn hash(password: &str) -> Result<String, PasswordError> {
    let hashed: argon2::password_hash::phc::PasswordHash = Argon2::default()
        .hash_password(password.as_bytes())
        .map_err(|error| PasswordError(error.to_string()))?;
    Ok(hashed.to_string())
}

fn verify(password: &str, hash: &str) -> bool {
    // A row may say anything; it must not keep a thread for an hour.
    if !is_accepted_hash(hash) {
        return false;
    }
    if is_bcrypt(hash) {
        // As bcrypt does everywhere: what is beyond its 72 bytes does not count. The next hash is argon2id's.
        let seen = &password.as_bytes()[..password.len().min(BCRYPT_BYTES)];
        return bcrypt::verify(seen, hash).unwrap_or(false);
    }
    PasswordHash::new(hash)
        .is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
}

/// A hash that no password is checked against in earnest.
fn decoy() -> &'static str {
    static DECOY: OnceLock<String> = OnceLock::new();
    DECOY.get_or_init(|| hash("nobody's password").unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_fits_its_own_hash_only() {
        let checker = PasswordChecker::new(1);
        let stored = hash("correct horse").expect("a hash");
        assert!(stored.starts_with("$argon2id$"));
        let check =
            |password: &str, hash: Option<String>| checker.check(Zeroizing::new(password.to_owned()), hash);
        assert!(check("correct horse", Some(stored.clone())).await.expect("checked"));
        assert!(!check("wrong horse", Some(stored)).await.expect("checked"));
        assert!(!check("nobody's password", None).await.expect("checked"));
        assert!(!check("x", Some("damaged".to_owned())).await.expect("checked"));
    }

    #[test]
    fn hashes_of_bcrypt_fit_their_passwords_in_every_version() {
        let hash = bcrypt::hash("correct horse", 4).expect("a hash");
        for version in ["$2a$", "$2b$", "$2y$"] {
            let hash = format!("{version}{}", &hash[4..]);
            assert!(is_accepted_hash(&hash) && is_outdated(&hash));
            assert!(verify("correct horse", &hash), "{hash}");
            assert!(!verify("wrong horse", &hash));
        }
    }

    #[test]
    fn hashes_that_no_login_could_use_or_that_cost_too_much_are_not_accepted() {
        let ours = hash("correct horse").expect("a hash");
        assert!(is_accepted_hash(&ours) && !is_outdated(&ours));
        let dear = ours.replace("m=19456", "m=4194304");
        let salt_only = ours.rsplit_once('$').expect("parts").0.to_owned();
        let bcrypt = bcrypt::hash("correct horse", 4).expect("a hash");
        let slow = bcrypt.replace("$04$", "$20$");
        for hash in ["", "secret", "$2b$", "$1$abc$def", &dear, &salt_only, &slow, &bcrypt[..40]] {
            assert!(!is_accepted_hash(hash), "{hash}");
        }
    }

    #[test]
    fn a_password_has_a_length_and_is_not_the_email() {
        let judge = |password: &str| check_rules(password, "someone@example.org");
        assert_eq!(judge("12345678"), Ok(()));
        assert_eq!(judge("1234567"), Err(PasswordRule::Length));
        assert_eq!(judge(&"x".repeat(1_024)), Ok(()));
        assert_eq!(judge(&"x".repeat(1_025)), Err(PasswordRule::Length));
        assert_eq!(judge(" Someone@Example.org "), Err(PasswordRule::Email));
    }
}
