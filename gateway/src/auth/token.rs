//! Bearer secrets: 256 random bits with a prefix that names their kind, kept only as SHA-256.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::blob::hex;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The prefix of API keys.
pub(crate) const API_KEY: &str = "evl_";
/// The prefix of refresh tokens.
pub(crate) const REFRESH: &str = "evr_";
/// The prefix of what a browser holds of a session.
pub(crate) const COOKIE: &str = "evs_";
/// The prefix of tokens that are good for one use: invitations, password resets, device codes.
pub(crate) const ONE_TIME: &str = "evt_";
/// Longer text is not a secret of ours; it is not hashed. Access tokens are the longest.
pub(crate) const MAX_SECRET_BYTES: usize = 4 * 1024;

/// By what a secret is looked up: its SHA-256.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct TokenHash(String);

impl TokenHash {
    /// The hash of a secret.
    pub(crate) fn of(secret: &str) -> Self {
        // An over-long text hashes to something that no secret hashes to, without the work.
        let bytes = secret.as_bytes();
        let bytes = if bytes.len() > MAX_SECRET_BYTES { &[] } else { bytes };
        Self(hex(&Sha256::digest(bytes)))
    }

    /// Lower-case hexadecimal.
    pub(crate) fn hex(&self) -> &str {
        &self.0
    }

    /// Enough of it to tell keys apart in events; says nothing about the secret.
    pub(crate) fn short(&self) -> &str {
        &self.0[..16]
    }

    /// Whether a stored hash is this one, in constant time.
    pub(crate) fn matches(&self, stored: &str) -> bool {
        self.0.as_bytes().ct_eq(stored.as_bytes()).into()
    }
}

/// A fresh secret.
pub(crate) fn fresh(prefix: &str) -> Zeroizing<String> {
    let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(crate::random::bytes());
    Zeroizing::new(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(*bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_differ_and_name_their_kind() {
        let (one, other) = (fresh(API_KEY), fresh(API_KEY));
        assert_ne!(*one, *other);
        assert!(one.starts_with("evl_") && one.len() == 4 + 43);
        assert_eq!(TokenHash::of(&one), TokenHash::of(&one));
        assert!(TokenHash::of(&one).matches(TokenHash::of(&one).hex()));
        assert!(!TokenHash::of(&one).matches(TokenHash::of(&other).hex()));
    }
}
