//! Sealing: what must be readable again and still not lie open in a database, such as signing keys and seeds.
//!
//! Owns: [`MasterKey`] and the sealed form, `1 ‖ nonce ‖ ciphertext ‖ tag` in base64url, AES-256-GCM with a random
//! nonce of 96 bits. Invariants: what is sealed is bound to the name of its place, so that a row that is moved does not
//! open; the key is in no `Debug`, error or log. Deliberately absent: where the key comes from (the server) and changing
//! it for another.

use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes256Gcm, Key, Nonce};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use sha2::Sha256;
use std::fmt;
use zeroize::Zeroizing;

/// The bytes of a master key.
const KEY_BYTES: usize = 32;
/// The bytes of a nonce.
const NONCE_BYTES: usize = 12;
/// The first byte of what is sealed in this way.
const FORM: u8 = 1;

/// The key that seals everything of an installation. All its processes have the same.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; KEY_BYTES]>);

/// Without the key: it must not reach a log.
impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Something could not be sealed or opened. Says nothing of what it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The text is not a key.
    #[error("a master key has 32 bytes, written as 44 characters of base64 or 64 of hexadecimal")]
    Key,
    /// What is sealed is damaged, of another place, or sealed with another key.
    #[error("what is sealed does not open: it is damaged, or was sealed with another master key")]
    Opening,
    /// The system gave no random bytes, or the text is too long.
    #[error("it could not be sealed")]
    Sealing,
}

impl MasterKey {
    /// A fresh one.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn generate() -> Result<Self, SealError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        getrandom::fill(&mut *key).map_err(|_| SealError::Sealing)?;
        Ok(Self(key))
    }

    /// Reads 32 bytes written in base64, either alphabet, or in hexadecimal. Space around them is ignored.
    ///
    /// # Errors
    /// It is something else.
    pub fn parse(text: &str) -> Result<Self, SealError> {
        let text = text.trim();
        let bytes = if text.len() == 2 * KEY_BYTES {
            hexadecimal(text).ok_or(SealError::Key)?
        } else {
            let text = text.trim_end_matches('=');
            let decoded = STANDARD_NO_PAD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text));
            Zeroizing::new(decoded.map_err(|_| SealError::Key)?)
        };
        let key: [u8; KEY_BYTES] = bytes.as_slice().try_into().map_err(|_| SealError::Key)?;
        Ok(Self(Zeroizing::new(key)))
    }

    /// The key as [`MasterKey::parse`] reads it, for the one file that it is kept in.
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(*self.0))
    }

    /// Seals bytes for a place, such as `totp:<user>`.
    ///
    /// # Errors
    /// The system has no random bytes.
    pub fn seal(&self, plain: &[u8], place: &str) -> Result<String, SealError> {
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).map_err(|_| SealError::Sealing)?;
        let payload = Payload { msg: plain, aad: place.as_bytes() };
        let sealed = self.cipher().encrypt(&Nonce::from(nonce), payload).map_err(|_| SealError::Sealing)?;
        let mut bytes = vec![FORM];
        bytes.extend_from_slice(&nonce);
        bytes.extend_from_slice(&sealed);
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Opens what was sealed for a place.
    ///
    /// # Errors
    /// It was sealed for another place or with another key, or is damaged.
    pub fn open(&self, sealed: &str, place: &str) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let bytes = URL_SAFE_NO_PAD.decode(sealed).map_err(|_| SealError::Opening)?;
        let (form, rest) = bytes.split_first().ok_or(SealError::Opening)?;
        if *form != FORM || rest.len() < NONCE_BYTES {
            return Err(SealError::Opening);
        }
        let (nonce, sealed) = rest.split_at(NONCE_BYTES);
        let nonce: [u8; NONCE_BYTES] = nonce.try_into().map_err(|_| SealError::Opening)?;
        let payload = Payload { msg: sealed, aad: place.as_bytes() };
        let plain = self.cipher().decrypt(&Nonce::from(nonce), payload).map_err(|_| SealError::Opening)?;
        Ok(Zeroizing::new(plain))
    }

    /// HMAC-SHA256 of some bytes under a key for this purpose alone, derived from the master key.
    pub fn mac(&self, purpose: &str, bytes: &[u8]) -> [u8; 32] {
        let derived = Zeroizing::new(hmac(&*self.0, purpose.as_bytes()));
        hmac(&*derived, bytes)
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new(&Key::<Aes256Gcm>::from(*self.0))
    }
}

fn hmac(key: &[u8; KEY_BYTES], bytes: &[u8]) -> [u8; 32] {
    let mut mac = <Hmac<Sha256> as hmac::KeyInit>::new_from_slice(key).expect("an HMAC takes any key");
    mac.update(bytes);
    mac.finalize().into_bytes().into()
}

fn hexadecimal(text: &str) -> Option<Zeroizing<Vec<u8>>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks_exact(2);
    let bytes = pairs.map(|pair| Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8));
    bytes.collect::<Option<Vec<u8>>>().map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_in_its_place_with_its_key_only() {
        let (key, other) = (MasterKey::generate().unwrap(), MasterKey::generate().unwrap());
        let sealed = key.seal(b"a seed", "totp:1").unwrap();
        assert_eq!(key.open(&sealed, "totp:1").unwrap().as_slice(), b"a seed");
        assert_eq!(key.open(&sealed, "totp:2"), Err(SealError::Opening));
        assert_eq!(other.open(&sealed, "totp:1"), Err(SealError::Opening));
        assert_ne!(sealed, key.seal(b"a seed", "totp:1").unwrap(), "every nonce is new");
        for at in 0..sealed.len() {
            let mut damaged = sealed.clone().into_bytes();
            damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
            let damaged = String::from_utf8(damaged).unwrap();
            assert_eq!(key.open(&damaged, "totp:1"), Err(SealError::Opening), "byte {at}");
        }
        for short in ["", "AQ", "AQAAAAAAAAAAAAAAAA", "not base64!"] {
            assert_eq!(key.open(short, "totp:1"), Err(SealError::Opening));
        }
    }

    #[test]
    fn a_key_is_read_in_every_spelling_and_never_shown() {
        let key = MasterKey([0xfb; 32].into());
        let hexadecimal = "Fb".repeat(32);
        let standard = key.reveal();
        let url_safe = standard.replace('+', "-").replace('/', "_");
        for text in [
            &hexadecimal,
            &*standard,
            standard.trim_end_matches('='),
            &url_safe,
            &format!(" {}\n", *standard),
        ] {
            assert_eq!(*MasterKey::parse(text).unwrap().0, *key.0, "{text}");
        }
        for text in ["", "short", &"f".repeat(63), &"g".repeat(64), &"A".repeat(44)] {
            assert_eq!(MasterKey::parse(text).unwrap_err(), SealError::Key, "{text}");
        }
        assert_eq!(format!("{key:?}"), "[redacted]");
    }

    #[test]
    fn codes_of_one_purpose_are_none_of_another() {
        let key = MasterKey::generate().unwrap();
        assert_eq!(key.mac("csrf", b"1"), key.mac("csrf", b"1"));
        assert_ne!(key.mac("csrf", b"1"), key.mac("csrf", b"2"));
        assert_ne!(key.mac("csrf", b"1"), key.mac("other", b"1"));
    }
}
