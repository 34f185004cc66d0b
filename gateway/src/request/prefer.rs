//! `Prefer` (RFC 7240): how long to wait for an outcome.
//!
//! A preference is a wish: what is not understood, or out of bounds, is passed over and never an error. Which wishes were
//! followed is said by `Preference-Applied`.

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use std::convert::Infallible;
use std::time::Duration;

/// The longest wait, in seconds.
const MAX_WAIT_S: u64 = 60;

/// What a caller prefers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Prefer {
    wait_s: Option<u64>,
    respond_async: bool,
}

impl Prefer {
    /// How long to wait for the end.
    pub(crate) fn wait(self) -> Option<Duration> {
        // Whoever wants no waiting and names no time gets none.
        self.wait_s.filter(|wait| *wait > 0).map(Duration::from_secs)
    }

    /// The header that says what was followed: the wait, and that the answer came before the outcome.
    pub(crate) fn applied(self, is_pending: bool) -> Option<HeaderValue> {
        let mut applied = Vec::new();
        if self.respond_async && is_pending {
            applied.push("respond-async".to_owned());
        }
        applied.extend(self.wait_s.map(|wait| format!("wait={wait}")));
        if applied.is_empty() { None } else { HeaderValue::try_from(applied.join(", ")).ok() }
    }

    fn parse(headers: &HeaderMap) -> Self {
        let mut prefer = Self::default();
        let values = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        for preference in values.flat_map(|value| value.split(',')) {
            // Parameters behind a `;` say nothing to us.
            let preference = preference.split(';').next().unwrap_or_default();
            let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "respond-async" => prefer.respond_async = true,
                // Of several the first counts.
                "wait" if prefer.wait_s.is_none() => {
                    prefer.wait_s = value.parse::<u64>().ok().map(|wait| wait.min(MAX_WAIT_S));
                }
                _ => {}
            }
        }
        prefer
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Prefer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        Ok(Self::parse(&parts.headers))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[&'static str]) -> Prefer {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append("prefer", HeaderValue::from_static(value));
        }
        Prefer::parse(&headers)
    }

    #[test]
    fn a_wait_is_in_seconds_and_at_most_a_minute() {
        assert_eq!(parse(&["wait=5"]).wait(), Some(Duration::from_secs(5)));
        assert_eq!(parse(&["Wait = \"5\"; x=y, wait=9"]).wait(), Some(Duration::from_secs(5)));
        assert_eq!(parse(&["handling=strict", "wait=600"]).wait(), Some(Duration::from_secs(60)));
        for nothing in ["wait", "wait=-1", "wait=soon", "wait=0", "respond-async", ""] {
            assert_eq!(parse(&[nothing]).wait(), None, "{nothing}");
        }
    }

    #[test]
    fn what_was_followed_is_said() {
        let both = parse(&["respond-async, wait=5"]);
        assert_eq!(both.applied(true).expect("a header"), "respond-async, wait=5");
        assert_eq!(both.applied(false).expect("a header"), "wait=5");
        assert_eq!(parse(&["return=minimal"]).applied(true), None);
    }
}
