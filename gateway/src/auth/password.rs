//! Passwords: argon2id with the crate's recommended cost, off the async threads, a few at a time.

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
/// Longer passwords are refused before they cost anything.
pub(crate) const MAX_PASSWORD_BYTES: usize = 1_024;

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
        let overloaded = || Failure::new(status::OVERLOADED, "too many logins at once; try again shortly");
        let permit = tokio::time::timeout(PATIENCE, self.permits.clone().acquire_owned())
            .await
            .map_err(|_| overloaded())?
            .map_err(|_| overloaded())?;
        let checked = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            let exists = hash.is_some();
            let hash = hash.unwrap_or_else(|| decoy().to_owned());
            verify(&password, &hash) && exists
        });
        checked.await.map_err(|_| Failure::new(status::INTERNAL, "the password could not be checked"))
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
}
