//! `ETag`, `If-Match` and `If-None-Match`: a workflow's stream version in quotes.

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, header};

use crate::failure::Failure;
use crate::status;

/// The versions that the caller takes, usually the one that it has read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum IfMatch {
    /// Nothing is said.
    Absent,
    /// Whatever there is.
    Any,
    /// One of these versions; never empty.
    Versions(Vec<u64>),
}

/// The most tags of one request: each is looked up.
const MAX_TAGS: usize = 16;

/// The entity tag of a version.
pub(crate) fn etag(version: u64) -> HeaderValue {
    HeaderValue::try_from(format!("\"{version}\"")).expect("digits in quotes are a header value")
}

/// Whether a caller has what an entity tag names, by its `If-None-Match` (RFC 9110: tags are compared weakly). A header
/// that is not understood is passed over: then the whole answer is sent.
pub(crate) fn is_known(headers: &HeaderMap, tag: &HeaderValue) -> bool {
    let Ok(tag) = tag.to_str() else { return false };
    let opaque = tag.trim_start_matches("W/");
    let values = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|known| {
        let known = known.trim();
        known == "*" || known.trim_start_matches("W/") == opaque
    })
}

impl IfMatch {
    /// Refuses its absence, where the caller must name a version.
    pub(crate) fn required(self) -> Result<Self, Failure> {
        match self {
            Self::Absent => Err(Failure::new(
                status::PRECONDITION_REQUIRED,
                "send `If-Match` with the `ETag` that it was read with",
            )),
            named => Ok(named),
        }
    }

    /// The versions that the caller takes; none where any will do.
    pub(crate) fn versions(&self) -> &[u64] {
        match self {
            Self::Absent | Self::Any => &[],
            Self::Versions(versions) => versions,
        }
    }

    fn parse(headers: &HeaderMap) -> Result<Self, Failure> {
        if !headers.contains_key(header::IF_MATCH) {
            return Ok(Self::Absent);
        }
        let mut versions = Vec::new();
        for value in headers.get_all(header::IF_MATCH) {
            let text = value.to_str().unwrap_or_default().trim();
            if text == "*" {
                return Ok(Self::Any);
            }
            read_tags(text, &mut versions).ok_or_else(|| {
                let detail = "If-Match takes entity tags in quotes, for instance \"3\"";
                Failure::new(status::INVALID_HEADER, detail)
            })?;
        }
        if versions.len() > MAX_TAGS {
            let detail = format!("send at most {MAX_TAGS} entity tags in If-Match");
            return Err(Failure::new(status::INVALID_HEADER, detail));
        }
        Ok(Self::Versions(versions))
    }
}

/// The tags of a list. One that is none of ours, weak ones too, can match nothing: version 0 is never stored.
fn read_tags(text: &str, versions: &mut Vec<u64>) -> Option<()> {
    let mut rest = text;
    loop {
        let (weak, quoted) = match rest.strip_prefix("W/") {
            Some(quoted) => (true, quoted),
            None => (false, rest),
        };
        let (inner, after) = quoted.strip_prefix('"')?.split_once('"')?;
        versions.push(if weak { 0 } else { inner.parse().unwrap_or(0) });
        let after = after.trim_start();
        if after.is_empty() {
            return Some(());
        }
        rest = after.strip_prefix(',')?.trim_start();
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
    fn a_tag_that_the_caller_has_is_found_in_a_list() {
        let known = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, HeaderValue::from_static(text));
            is_known(&headers, &etag(3))
        };
        for text in ["\"3\"", "*", "W/\"3\"", "\"1\", \"3\""] {
            assert!(known(text), "{text}");
        }
        for text in ["\"4\"", "3", "", "\"33\""] {
            assert!(!known(text), "{text}");
        }
        assert!(!is_known(&HeaderMap::new(), &etag(3)));
    }

    #[test]
    fn an_entity_tag_names_a_version_and_a_strange_one_matches_nothing() {
        assert_eq!(parse("\"3\"").ok(), Some(IfMatch::Versions(vec![3])));
        assert_eq!(parse("\"abc\"").ok(), Some(IfMatch::Versions(vec![0])));
        assert_eq!(parse("W/\"3\"").ok(), Some(IfMatch::Versions(vec![0])));
        assert_eq!(parse("*").ok(), Some(IfMatch::Any));
        assert_eq!(parse("\"3\", W/\"4\" ,\"a,b\",\"5\"").ok(), Some(IfMatch::Versions(vec![3, 0, 0, 5])));
        for bad in ["3", "\"3\" \"4\"", "\"3\",", "\"3", ""] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(IfMatch::parse(&HeaderMap::new()).ok(), Some(IfMatch::Absent));
        assert!(IfMatch::Absent.required().is_err());
    }
}
