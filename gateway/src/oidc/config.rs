//! What is set for each provider.

use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// An OpenID Connect provider, as `[gateway.oidc.<name>]` has it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OidcConfig {
    /// The issuer, as its discovery document has it. `https`, or a loopback address for tests.
    pub issuer: String,
    /// Under which name this installation is registered with the provider.
    pub client_id: String,
    /// The secret that goes with it; none for a public client.
    pub client_secret: Option<Hidden>,
    /// A file that holds the secret.
    pub client_secret_file: Option<PathBuf>,
    /// What is asked for beside `openid`; `email` and `profile` if nothing is set. A list, or words with spaces.
    #[serde(deserialize_with = "words")]
    pub scopes: Vec<String>,
    /// The tenant whose users come in through it; `default` if absent.
    pub tenant: Option<String>,
    /// The role of users who sign up through it; `USER` if absent.
    pub role: Option<String>,
    /// Whether somebody who is not a user yet becomes one.
    pub sign_up: SignUp,
    /// The domains whose e-mails may sign up and be linked; empty: all. A list, or words with spaces.
    #[serde(deserialize_with = "words")]
    pub allowed_domains: Vec<String>,
    /// Where the provider sends people back to; `<public_url>/api/v1/auth/oidc/<name>/callback` if absent.
    pub redirect_url: Option<String>,
}

/// Whether somebody who is not a user yet becomes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SignUp {
    /// No: only users and those who are invited come in.
    #[default]
    Closed,
    /// Yes, with an e-mail that the provider has verified.
    Open,
}

/// Text that must not be printed by accident.
#[derive(Clone)]
pub struct Hidden(Zeroizing<String>);

impl Hidden {
    /// Wraps a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Hidden {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl OidcConfig {
    /// The secret, wherever it is.
    pub(crate) fn secret(&self) -> Result<Option<Hidden>, String> {
        let Some(path) = &self.client_secret_file else { return Ok(self.client_secret.clone()) };
        if self.client_secret.is_some() {
            return Err("client_secret and client_secret_file are both set; keep one of them".to_owned());
        }
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("client_secret_file {} cannot be read: {error}", path.display()))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() {
            return Err(format!("client_secret_file {} is empty", path.display()));
        }
        Ok(Some(Hidden::new(text)))
    }
}

/// What is wrong with the providers, if anything is.
pub(crate) fn check(providers: &BTreeMap<String, OidcConfig>) -> Result<(), String> {
    for (name, provider) in providers {
        check_one(name, provider).map_err(|detail| format!("{name}: {detail}"))?;
    }
    if !cfg!(feature = "oidc") && !providers.is_empty() {
        return Err("this build has no OpenID Connect; build it with the feature `oidc`".to_owned());
    }
    Ok(())
}

fn check_one(name: &str, provider: &OidcConfig) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    if !(1..=40).contains(&name.len()) || !name.bytes().all(plain) {
        return Err("a provider's name is [a-z0-9_-]{1,40}".to_owned());
    }
    if provider.client_id.is_empty() {
        return Err("client_id is missing".to_owned());
    }
    for (key, url) in [("issuer", Some(&provider.issuer)), ("redirect_url", provider.redirect_url.as_ref())] {
        if url.is_some_and(|url| !is_safe(url)) {
            return Err(format!("{key} must be an https:// URL, or http:// to a loopback address"));
        }
    }
    let tenant = provider.tenant.as_deref().unwrap_or("default");
    domain::ids::TenantId::try_from(tenant.to_owned()).map_err(|error| format!("tenant: {error}"))?;
    provider.secret().map(drop)
}

/// Whether nobody between can read or change what goes there.
fn is_safe(url: &str) -> bool {
    let Ok(uri) = url.parse::<http::Uri>() else { return false };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let loopback = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    match uri.scheme_str() {
        Some("https") => !host.is_empty(),
        Some("http") => loopback,
        _ => false,
    }
}

fn words<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Words {
        Text(String),
        List(Vec<String>),
    }
    Ok(match Words::deserialize(deserializer)? {
        Words::Text(text) => {
            text.split([' ', ',']).filter(|word| !word.is_empty()).map(str::to_owned).collect()
        }
        Words::List(words) => words,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provider(issuer: &str) -> BTreeMap<String, OidcConfig> {
        let config = OidcConfig {
            issuer: issuer.to_owned(),
            client_id: "everline".to_owned(),
            ..OidcConfig::default()
        };
        BTreeMap::from([("corp".to_owned(), config)])
    }

    #[test]
    fn a_provider_is_reached_safely_or_not_at_all() {
        for good in ["https://id.example.com/realms/x", "http://127.0.0.1:9000", "http://[::1]:9000"] {
            assert_eq!(check(&provider(good)), Ok(()), "{good}");
        }
        for bad in ["", "http://id.example.com", "ftp://x", "http://127.0.0.1.example.com"] {
            assert!(check(&provider(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Hidden::new("x")), "[redacted]");
    }
}
