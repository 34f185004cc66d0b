//! Cookies of browsers' sessions, and the guard against requests that other sites make a browser send (CSRF).
//!
//! The session's cookie is out of reach of scripts; beside it stands a readable one with a code bound to the session by
//! HMAC. A request that may change something is believed only if it repeats the code in `X-CSRF-Token`, which another
//! site can neither read nor set, and does not say that it comes from another site. A WebSocket cannot set headers: its
//! `Origin` must be ours. Requests with an `Authorization` header need none of it: a browser adds none by itself.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use event_store::sealing::MasterKey;
use http::{HeaderMap, HeaderValue, Method, Uri, header};
use subtle::ConstantTimeEq;
use uuid::Uuid;

use crate::failure::Failure;
use crate::status;

/// The session's cookie over HTTPS: the prefix makes browsers refuse it from elsewhere.
const SECURE_SESSION: &str = "__Host-everline_session";
/// The session's cookie over HTTP.
const SESSION: &str = "everline_session";
/// The readable cookie with the code.
const CSRF: &str = "everline_csrf";
/// The header that repeats the code.
const CSRF_HEADER: &str = "x-csrf-token";

/// Whether cookies are for HTTPS only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// HTTPS, as far as the client is concerned.
    Secure,
    /// HTTP.
    Plain,
}

impl Transport {
    fn session(self) -> &'static str {
        match self {
            Self::Secure => SECURE_SESSION,
            Self::Plain => SESSION,
        }
    }

    fn attributes(self) -> &'static str {
        match self {
            Self::Secure => "; Path=/; SameSite=Lax; Secure",
            Self::Plain => "; Path=/; SameSite=Lax",
        }
    }
}

/// What the session's cookie holds; the one for HTTPS first.
pub(super) fn session(headers: &HeaderMap) -> Option<&str> {
    cookie(headers, SECURE_SESSION).or_else(|| cookie(headers, SESSION))
}

fn cookie<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let lines = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(found, value)| *found == name && !value.is_empty()).map(|(_, value)| value).next()
}

/// The code of a session.
pub(crate) fn csrf_token(key: &MasterKey, session: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(key.mac("csrf", session.as_bytes()))
}

/// The cookies of a session that begins.
pub(crate) fn begin(
    headers: &mut HeaderMap,
    transport: Transport,
    secret: &str,
    csrf: &str,
    lifetime_ms: u64,
) -> Result<(), Failure> {
    let (attributes, age) = (transport.attributes(), lifetime_ms / 1_000);
    let session = format!("{}={secret}{attributes}; HttpOnly; Max-Age={age}", transport.session());
    let csrf = format!("{CSRF}={csrf}{attributes}; Max-Age={age}");
    for cookie in [session, csrf] {
        let mut value = HeaderValue::try_from(cookie)
            .map_err(|_| Failure::new(status::INTERNAL, "the session's cookie could not be written"))?;
        value.set_sensitive(true);
        headers.append(header::SET_COOKIE, value);
    }
    Ok(())
}

/// Takes the cookies of a session that has ended away.
pub(crate) fn end(headers: &mut HeaderMap) {
    for (name, transport) in
        [(SECURE_SESSION, Transport::Secure), (SESSION, Transport::Plain), (CSRF, Transport::Plain)]
    {
        let cookie = format!("{name}={}; Max-Age=0", transport.attributes());
        if let Ok(value) = HeaderValue::try_from(cookie) {
            headers.append(header::SET_COOKIE, value);
        }
    }
}

/// What a request authenticated by cookie must show beside it.
pub(super) fn guard(
    key: &MasterKey,
    session: Uuid,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<(), Failure> {
    let forged = |detail| Err(Failure::new(status::CSRF_FAILED, detail));
    if headers.contains_key(header::UPGRADE) || method == Method::CONNECT {
        // Any site may open a WebSocket to here, and read what it gets.
        return match origin(headers, uri) {
            Some(Origin::Ours) => Ok(()),
            Some(Origin::Another) | None => {
                forged("a WebSocket with a cookie needs the `Origin` of this host")
            }
        };
    }
    if [Method::GET, Method::HEAD, Method::OPTIONS].contains(method) {
        return Ok(());
    }
    refuse_other_sites(uri, headers)?;
    let sent = headers.get(CSRF_HEADER).map(HeaderValue::as_bytes).unwrap_or_default();
    if bool::from(sent.ct_eq(csrf_token(key, session).as_bytes())) {
        return Ok(());
    }
    forged("a request with a cookie repeats the cookie `everline_csrf` in the header `X-CSRF-Token`")
}

/// Refuses what a browser says comes from another site.
pub(crate) fn refuse_other_sites(uri: &Uri, headers: &HeaderMap) -> Result<(), Failure> {
    let from_another = headers.get("sec-fetch-site").is_some_and(|site| site == "cross-site");
    if from_another || origin(headers, uri) == Some(Origin::Another) {
        return Err(Failure::new(status::CSRF_FAILED, "the request comes from another site"));
    }
    Ok(())
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Ours,
    Another,
}

/// Whose page sent the request, if it says so. Host and port are compared; the scheme may differ behind a proxy.
fn origin(headers: &HeaderMap, uri: &Uri) -> Option<Origin> {
    let origin = headers.get(header::ORIGIN)?;
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| uri.authority().map(|authority| authority.as_str()));
    let of_page = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, host)| host);
    let same = of_page.zip(host).is_some_and(|(of_page, host)| of_page.eq_ignore_ascii_case(host));
    Some(if same { Origin::Ours } else { Origin::Another })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::try_from(*value).expect("a value"));
        }
        headers
    }

    #[test]
    fn the_sessions_cookie_is_found_among_others() {
        let found = headers(&[("cookie", "a=b; everline_session=evs_1; c=d")]);
        assert_eq!(session(&found), Some("evs_1"));
        let both =
            headers(&[("cookie", "everline_session=evs_1"), ("cookie", "__Host-everline_session=evs_2")]);
        assert_eq!(session(&both), Some("evs_2"), "the one that other hosts cannot set");
        for none in ["", "xeverline_session=evs_1", "everline_session=", "everline_session"] {
            assert_eq!(session(&headers(&[("cookie", none)])), None, "{none}");
        }
    }

    #[test]
    fn a_request_with_a_cookie_needs_the_code_of_its_session_and_our_origin() {
        let key = MasterKey::generate().expect("a key");
        let uri = Uri::from_static("/api/v1/workflows");
        let session = Uuid::from_u128(1);
        let code = csrf_token(&key, session);
        let judge = |method: Method, pairs: &[(&'static str, &str)]| {
            guard(&key, session, &method, &uri, &headers(pairs)).is_ok()
        };
        assert!(judge(Method::GET, &[]));
        assert!(!judge(Method::POST, &[]));
        assert!(judge(Method::POST, &[("x-csrf-token", &code)]));
        assert!(!judge(Method::DELETE, &[("x-csrf-token", &csrf_token(&key, Uuid::from_u128(2)))]));
        assert!(!judge(Method::POST, &[("x-csrf-token", "")]));
        let from = |host: &'static str, origin: &'static str| {
            judge(Method::PUT, &[("x-csrf-token", &code), ("host", host), ("origin", origin)])
        };
        assert!(from("a.example:7070", "https://a.example:7070"));
        assert!(!from("a.example:7070", "https://a.example"));
        assert!(!from("a.example", "https://b.a.example"));
        assert!(!from("a.example", "null"));
        assert!(!judge(Method::POST, &[("x-csrf-token", &code), ("sec-fetch-site", "cross-site")]));
        assert!(judge(Method::POST, &[("x-csrf-token", &code), ("sec-fetch-site", "same-origin")]));
        let socket = |origin: Option<&'static str>| {
            let mut pairs = vec![("host", "a.example"), ("upgrade", "websocket")];
            pairs.extend(origin.map(|origin| ("origin", origin)));
            judge(Method::GET, &pairs)
        };
        assert!(socket(Some("https://a.example")));
        assert!(!socket(Some("https://b.example")) && !socket(None));
    }
}
