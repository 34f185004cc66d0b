//! Which pages of other origins may use the API from a browser (CORS, the Fetch standard).
//!
//! Invariants: nobody unless configured; an origin is allowed by its whole text; whoever allows all origins (`*`) allows
//! none of them credentials such as cookies; a preflight is answered before anybody is recognised, since browsers send
//! it without credentials.

use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use serde::Deserialize;

use crate::lists::ListOrText;

/// Methods that the API has.
const METHODS: HeaderValue = HeaderValue::from_static("GET, HEAD, POST, PUT, DELETE");
/// Headers that requests have, beside those that are always allowed.
const HEADERS: &str = "authorization, content-type, idempotency-key, if-match, if-none-match, prefer, \
    everline-min-position, last-event-id, traceparent, x-request-id, x-csrf-token";
/// Headers of answers that pages may read.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "Everline-Position, Link, ETag, Location, RateLimit, RateLimit-Policy, Retry-After, Preference-Applied, \
     WWW-Authenticate, X-Request-Id, traceparent",
);

/// Who may use the API from pages of other origins.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CorsConfig {
    /// Origins such as `https://console.example.org`, or `*` for all, then without cookies. None by default.
    pub origins: Origins,
    /// Further headers that requests may have.
    pub headers: HeaderNames,
    /// For how long browsers remember what is allowed, in seconds.
    pub max_age_s: u32,
}

impl Default for CorsConfig {
    fn default() -> Self {
        Self { origins: Origins::default(), headers: HeaderNames::default(), max_age_s: 600 }
    }
}

/// Origins that are allowed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "ListOrText")]
pub enum Origins {
    /// No other origin.
    #[default]
    None,
    /// These, with cookies.
    Some(Vec<String>),
    /// All, without cookies.
    All,
}

/// Names of headers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "ListOrText")]
pub struct HeaderNames(Vec<HeaderName>);

/// A text is no origin, or no name of a header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CorsError {
    /// No origin.
    #[error(
        "`{0}` is not an origin; write scheme, host and port alone, such as https://console.example.org, or *"
    )]
    Origin(String),
    /// All, and some.
    #[error("`*` stands for all origins; leave the others out, or it")]
    AllAndSome,
    /// No name.
    #[error("`{0}` is not the name of a header")]
    Header(String),
}

impl TryFrom<ListOrText> for Origins {
    type Error = CorsError;

    fn try_from(list: ListOrText) -> Result<Self, CorsError> {
        let list = list.into_list();
        match list.as_slice() {
            [] => return Ok(Self::None),
            [all] if all == "*" => return Ok(Self::All),
            several if several.iter().any(|origin| origin == "*") => return Err(CorsError::AllAndSome),
            _ => {}
        }
        match list.iter().find(|origin| !is_origin(origin)) {
            Some(other) => Err(CorsError::Origin(other.clone())),
            None => Ok(Self::Some(list)),
        }
    }
}

impl TryFrom<ListOrText> for HeaderNames {
    type Error = CorsError;

    fn try_from(list: ListOrText) -> Result<Self, CorsError> {
        let name = |text: String| HeaderName::try_from(&text).map_err(|_| CorsError::Header(text));
        list.into_list().into_iter().map(name).collect::<Result<_, _>>().map(Self)
    }
}

/// Whether a text is an origin as browsers write it: no path, no upper case, no `null`, which is everybody's.
fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        !host.is_empty()
            && host
                .bytes()
                .all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase() && !b"/?#@\\".contains(&b))
    })
}

impl CorsConfig {
    /// The answer to a preflight; `None` for any other request. What is not allowed is answered without permission.
    pub(crate) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response> {
        let asks = headers.contains_key(header::ORIGIN)
            && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if *method != Method::OPTIONS || !asks || self.origins == Origins::None {
            return None;
        }
        let mut response = StatusCode::NO_CONTENT.into_response();
        let answer = response.headers_mut();
        let vary = "origin, access-control-request-method, access-control-request-headers";
        answer.insert(header::VARY, HeaderValue::from_static(vary));
        if self.allow(headers, answer) {
            answer.remove(header::ACCESS_CONTROL_EXPOSE_HEADERS);
            answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, METHODS);
            let mut allowed = HEADERS.to_owned();
            for name in &self.headers.0 {
                allowed.push_str(", ");
                allowed.push_str(name.as_str());
            }
            if let Ok(allowed) = HeaderValue::try_from(allowed) {
                answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, allowed);
            }
            answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from(self.max_age_s));
        }
        Some(response)
    }

    /// Adds to an answer that its page may read it, if it may.
    pub(crate) fn of_answer(&self, request_origin: Option<&HeaderValue>, answer: &mut HeaderMap) {
        if self.origins == Origins::None {
            return;
        }
        answer.append(header::VARY, HeaderValue::from_static("origin"));
        if let Some(origin) = request_origin {
            self.allow_origin(origin, answer);
        }
    }

    fn allow(&self, headers: &HeaderMap, answer: &mut HeaderMap) -> bool {
        headers.get(header::ORIGIN).is_some_and(|origin| self.allow_origin(origin, answer))
    }

    fn allow_origin(&self, origin: &HeaderValue, answer: &mut HeaderMap) -> bool {
        match &self.origins {
            Origins::None => return false,
            Origins::All => {
                answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            }
            Origins::Some(allowed) => {
                if !allowed.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()) {
                    return false;
                }
                answer.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
                answer.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
            }
        }
        answer.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origins(list: &[&str]) -> Result<Origins, CorsError> {
        ListOrText::List(list.iter().map(|text| (*text).to_owned()).collect()).try_into()
    }

    #[test]
    fn origins_are_exact_or_all() {
        assert_eq!(origins(&[]), Ok(Origins::None));
        assert_eq!(origins(&["*"]), Ok(Origins::All));
        assert!(matches!(origins(&["https://a.example", "http://localhost:3000"]), Ok(Origins::Some(_))));
        assert_eq!(origins(&["*", "https://a.example"]), Err(CorsError::AllAndSome));
        for wrong in [
            "null",
            "a.example",
            "https://",
            "https://a.example/",
            "https://*.example/x",
            "https://A.example",
        ] {
            assert!(origins(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn all_origins_never_get_credentials() {
        let cors = CorsConfig { origins: Origins::All, ..CorsConfig::default() };
        let mut answer = HeaderMap::new();
        cors.of_answer(Some(&HeaderValue::from_static("https://evil.example")), &mut answer);
        assert_eq!(answer[header::ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!answer.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }
}
