//! Logins through OpenID Connect providers: authorization code with PKCE.
//!
//! ```text
//!   GET /auth/oidc/{provider}    ──► 302 to the provider, and a sealed cookie: state, nonce, verifier, where to go then
//!   GET …/callback?code&state&iss ──► cookie opened, code exchanged, ID token verified, account found ──► session
//! ```
//!
//! Owns: [`Providers`]. Invariants: what ties an answer to its question is in the browser alone, sealed for its provider
//! and good for ten minutes and one use, so that any replica takes the answer; nothing of an ID token is believed before
//! signature, issuer, audience, expiry and nonce are right; calls to providers are bounded in time and size and follow
//! no redirect; a provider that is down stops nothing but logins through it. Deliberately absent: the provider's tokens,
//! which are dropped once it is known who came.

#[cfg(feature = "oidc")]
mod accounts;
mod config;
#[cfg(feature = "oidc")]
mod outbound;
#[cfg(feature = "oidc")]
mod pending;
#[cfg(feature = "oidc")]
mod provider;
#[cfg(feature = "oidc")]
mod providers;

#[cfg(not(feature = "oidc"))]
mod absent;

use http::HeaderValue;

use crate::directory::User;

pub(crate) use config::check;
pub use config::{Hidden, OidcConfig, SignUp};

#[cfg(not(feature = "oidc"))]
pub(crate) use absent::Providers;
#[cfg(feature = "oidc")]
pub(crate) use providers::Providers;

/// Where a browser is sent, and what it has to bring back.
pub(crate) struct Question {
    pub(crate) location: HeaderValue,
    pub(crate) cookie: HeaderValue,
}

/// The answer of a provider as it came back.
#[derive(Debug, Default)]
pub(crate) struct Callback {
    pub(crate) code: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) iss: Option<String>,
    pub(crate) error: Option<String>,
}

/// Who came, and where they wanted to go.
pub(crate) struct Arrival {
    pub(crate) user: User,
    pub(crate) redirect: Option<String>,
    /// Takes the cookie of the question away.
    pub(crate) cookie: HeaderValue,
}
