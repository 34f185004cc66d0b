//! What a request shows to be recognised: a bearer secret, or the cookie of a browser's session.
//!
//! Invariant: a secret is good in one place only. What a cookie holds is no bearer token, or the guard against requests
//! forged by other sites could be walked around; a refresh or one-time token is neither.

use http::{HeaderMap, header};
use std::fmt;
use std::sync::Arc;
use zeroize::Zeroizing;

use super::cookies;
use super::token::{self, TokenHash};

/// Where a secret was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shown {
    /// In the `Authorization` header, or a WebSocket's first message.
    Bearer,
    /// In a cookie, which a browser sends by itself.
    Cookie,
}

/// A secret that was shown. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Credential {
    secret: Arc<Zeroizing<String>>,
    pub(super) hash: TokenHash,
    pub(crate) shown: Shown,
}

/// Without the secret: it must not reach a log.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credential").field("shown", &self.shown).finish_non_exhaustive()
    }
}

impl Credential {
    /// A bearer secret.
    pub(crate) fn bearer(secret: &str) -> Self {
        Self::new(secret, Shown::Bearer)
    }

    /// What a request shows: the `Authorization` header, or where there is none the cookie.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        if headers.contains_key(header::AUTHORIZATION) {
            return bearer(headers).map(Self::bearer);
        }
        cookies::session(headers).map(|secret| Self::new(secret, Shown::Cookie))
    }

    fn new(secret: &str, shown: Shown) -> Self {
        let hash = TokenHash::of(secret);
        Self { secret: Arc::new(Zeroizing::new(secret.to_owned())), hash, shown }
    }

    pub(super) fn secret(&self) -> &str {
        &self.secret
    }

    /// Whether it was shown where a secret of its kind belongs.
    pub(super) fn is_in_its_place(&self) -> bool {
        self.secret.starts_with(token::COOKIE) == (self.shown == Shown::Cookie)
    }
}

/// The secret of a `Bearer` header; the scheme's name is compared without case.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = text.split_once(' ')?;
    let secret = secret.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !secret.is_empty()).then_some(secret)
}
