//! `ETag` and `If-Match`: a workflow's stream version in quotes.

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};

use crate::failure::Failure;
use crate::status;

/// The version that the caller has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// Nothing is said.
    Absent,
    /// Whatever there is.
    Any,
    /// This version.
    Version(u64),
}

/// The entity tag of a version.
pub(crate) fn etag(version: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{version}\"")).expect("digits in quotes are a header value")
}

impl IfMatch {
    /// The expected version, where the caller must name one.
    pub(crate) fn required(self) -> Result<Option<u64>, Failure> {
        match self {
            Self::Absent => Err(Failure::new(
                status::PRECONDITION_REQUIRED,
                "send `If-Match` with the `ETag` that the workflow was read with",
            )),
            Self::Any | Self::Version(_) => Ok(self.expected()),
        }
    }

    /// The expected version, where the caller may name one.
    pub(crate) fn expected(self) -> Option<u64> {
        match self {
            Self::Absent | Self::Any => None,
            Self::Version(version) => Some(version),
        }
    }

    fn parse(headers: &HeaderMap) -> Result<Self, Failure> {
        let mut values = headers.get_all(header::IF_MATCH).iter();
        let Some(value) = values.next() else { return Ok(Self::Absent) };
        let text = value.to_str().unwrap_or_default().trim();
        if text == "*" {
            return Ok(Self::Any);
        }
        if values.next().is_some() || text.contains(',') {
            return Err(Failure::new(status::INVALID_HEADER, "send one entity tag in If-Match"));
        }
        let quoted = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
        match quoted {
            // A tag that is none of ours, weak ones too, can match nothing: version 0 is never stored.
            Some(inner) => Ok(Self::Version(inner.parse().unwrap_or(0))),
            None if text.starts_with("W/\"") => Ok(Self::Version(0)),
            None => Err(Failure::new(
                status::INVALID_HEADER,
                "If-Match takes an entity tag in quotes, for instance \"3\"",
            )),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        Self::parse(&parts.headers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &'static str) -> Result<IfMatch, Failure> {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_MATCH, HeaderValue::from_static(text));
        IfMatch::parse(&headers)
    }

    #[test]
    fn an_entity_tag_names_a_version_and_a_strange_one_matches_nothing() {
        assert_eq!(parse("\"3\"").ok(), Some(IfMatch::Version(3)));
        assert_eq!(parse("\"abc\"").ok(), Some(IfMatch::Version(0)));
        assert_eq!(parse("W/\"3\"").ok(), Some(IfMatch::Version(0)));
        assert_eq!(parse("*").ok(), Some(IfMatch::Any));
        assert!(parse("3").is_err());
        assert_eq!(IfMatch::parse(&HeaderMap::new()).ok(), Some(IfMatch::Absent));
        assert!(IfMatch::Absent.required().is_err());
    }
}
