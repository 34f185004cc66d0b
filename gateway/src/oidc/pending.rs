//! A question that a browser carries: sealed in a cookie, so that no replica has to remember it.

use event_store::sealing::MasterKey;
use http::{HeaderMap, HeaderValue, header};
use serde::{Deserialize, Serialize};

use crate::auth::token::TokenHash;
use crate::failure::Failure;
use crate::status;

/// How long a person has at the provider, in milliseconds.
pub(super) const LIFETIME_MS: u64 = 10 * 60 * 1000;
/// Where the cookie is sent: to this one route tree.
const PATH: &str = "/api/v1/auth/oidc";
/// The most bytes of a sealed question; the longest redirect fits.
const MAX_BYTES: usize = 3_800;

/// What ties an answer to its question.
#[derive(Serialize, Deserialize)]
pub(super) struct Pending {
    /// Comes back in the address.
    pub(super) state: String,
    /// Comes back in the ID token.
    pub(super) nonce: String,
    /// Proves to the provider that whoever brings the code has asked for it (PKCE).
    pub(super) verifier: String,
    /// Where the person wanted to go: a path of this server.
    pub(super) redirect: Option<String>,
    /// Until when it is good, in milliseconds of Unix time.
    pub(super) until_ms: i64,
}

impl Pending {
    /// The cookie that carries it. Each question has its own, so that two windows do not spoil each other's.
    pub(super) fn cookie(
        &self,
        key: &MasterKey,
        provider: &str,
        secure: bool,
    ) -> Result<HeaderValue, Failure> {
        let unusable = || Failure::new(status::INTERNAL, "the login could not be begun");
        let json = serde_json::to_vec(self).map_err(|_| unusable())?;
        let sealed = key.seal(&json, &place(provider)).map_err(|_| unusable())?;
        if sealed.len() > MAX_BYTES {
            return Err(Failure::parameter("redirect", "`redirect` is too long"));
        }
        cookie(&self.state, &sealed, LIFETIME_MS / 1000, secure)
    }

    /// The question that an answer with this state is for.
    pub(super) fn of(
        key: &MasterKey,
        provider: &str,
        state: &str,
        headers: &HeaderMap,
        now_ms: i64,
    ) -> Result<Self, Failure> {
        let invalid = |detail: &str| Failure::new(status::LOGIN_STATE_INVALID, detail);
        let name = name(state);
        let sealed = cookies(headers).find(|(found, _)| *found == name).map(|(_, value)| value);
        let sealed = sealed.ok_or_else(|| {
            invalid("this browser has not begun this login, or too long ago; begin it again")
        })?;
        let opened = key.open(sealed, &place(provider));
        let opened = opened.map_err(|_| invalid("the login was begun elsewhere; begin it again"))?;
        let pending: Self = serde_json::from_slice(&opened)
            .map_err(|_| invalid("the login was begun elsewhere; begin it again"))?;
        if !TokenHash::of(&pending.state).matches(TokenHash::of(state).hex()) {
            return Err(invalid("the answer is not for this login; begin it again"));
        }
        if pending.until_ms <= now_ms {
            return Err(invalid("the login took too long; begin it again"));
        }
        Ok(pending)
    }

    /// Takes the cookie of a question away.
    pub(super) fn forget(state: &str, secure: bool) -> Result<HeaderValue, Failure> {
        cookie(state, "", 0, secure)
    }
}

/// Sealed for one provider: another one's answer does not open it (RFC 9700, mix-up).
fn place(provider: &str) -> String {
    format!("oidc-login:{provider}")
}

fn name(state: &str) -> String {
    format!("everline_oidc_{}", TokenHash::of(state).short())
}

fn cookie(state: &str, value: &str, seconds: u64, secure: bool) -> Result<HeaderValue, Failure> {
    let secure = if secure { "; Secure" } else { "" };
    let text =
        format!("{}={value}; Path={PATH}; Max-Age={seconds}; HttpOnly; SameSite=Lax{secure}", name(state));
    HeaderValue::try_from(text).map_err(|_| Failure::new(status::INTERNAL, "a cookie could not be written"))
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = (&str, &str)> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_needs_the_cookie_of_its_question_its_provider_and_its_time() {
        let key = MasterKey::generate().expect("a key");
        let pending = |state: &str| Pending {
            state: state.to_owned(),
            nonce: "n".to_owned(),
            verifier: "v".to_owned(),
            redirect: None,
            until_ms: 100,
        };
        let mut headers = HeaderMap::new();
        let sent = pending("s1").cookie(&key, "corp", true).expect("a cookie");
        let text = sent.to_str().expect("text");
        assert!(text.contains("HttpOnly; SameSite=Lax; Secure"), "{text}");
        let pair = text.split(';').next().expect("a pair").to_owned();
        headers.append(header::COOKIE, HeaderValue::try_from(format!("a=b; {pair}")).expect("a header"));
        assert_eq!(
            Pending::of(&key, "corp", "s1", &headers, 99).map(|found| found.nonce).ok().as_deref(),
            Some("n")
        );
        let code = |result: Result<Pending, Failure>| result.err().map(|failure| failure.code.into_owned());
        let other = MasterKey::generate().expect("a key");
        for refused in [
            Pending::of(&key, "corp", "s1", &headers, 100),
            Pending::of(&key, "evil", "s1", &headers, 1),
            Pending::of(&key, "corp", "s2", &headers, 1),
            Pending::of(&other, "corp", "s1", &headers, 1),
        ] {
            assert_eq!(code(refused).as_deref(), Some("login_state_invalid"));
        }
        // The cookie of one question under the name of another.
        let renamed = pair.replace(&name("s1"), &name("s2"));
        headers.append(header::COOKIE, HeaderValue::try_from(renamed).expect("a header"));
        assert_eq!(
            code(Pending::of(&key, "corp", "s2", &headers, 1)).as_deref(),
            Some("login_state_invalid")
        );
    }
}
