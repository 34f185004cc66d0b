//! Path segments and query parameters, strictly UTF-8.

use axum::extract::{FromRequestParts, OriginalUri, RawPathParams};
use domain::ids::parse_id;
use domain::time::Timestamp;
use http::request::Parts;
use http::{HeaderMap, Uri};
use uuid::Uuid;

use crate::failure::Failure;
use crate::status;

use super::{DEFAULT_LIMIT, MAX_LIMIT};

/// The named segments of the path, decoded.
#[derive(Debug)]
pub(crate) struct PathParams(Vec<(String, String)>);

impl PathParams {
    /// A segment's text.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// A segment that is an id. Text of another shape names nothing: 404.
    pub(crate) fn id(&self, name: &str) -> Result<Uuid, Failure> {
        parse_id(self.text(name)).ok_or_else(|| {
            let shown: String = self.text(name).chars().take(64).collect();
            Failure::new(status::NOT_FOUND, format!("there is nothing with the id `{shown}`; ids are UUIDv7"))
        })
    }
}

impl<S: Send + Sync> FromRequestParts<S> for PathParams {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let raw = RawPathParams::from_request_parts(parts, state)
            .await
            .map_err(|_| Failure::new(status::INVALID_UTF8, "the path is not percent-encoded UTF-8"))?;
        Ok(Self(raw.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()))
    }
}

/// The query's pairs, decoded; what a route does not know is refused, so that a misspelt filter never
/// answers too much.
#[derive(Debug)]
pub(crate) struct Query {
    pairs: Vec<(String, String)>,
    /// The whole address, for the link to the next page.
    pub(crate) uri: Uri,
    headers: HeaderMap,
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        let mut headers = HeaderMap::new();
        for name in [MIN_POSITION, LAST_EVENT_ID] {
            if let Some(value) = parts.headers.get(name) {
                headers.insert(name, value.clone());
            }
        }
        let pairs = decode_query(parts.uri.query().unwrap_or_default())?;
        Ok(Self { pairs, uri: original_uri(parts), headers })
    }
}

/// The address as the client sent it; below a nested router `parts.uri` has lost its prefix.
pub(super) fn original_uri(parts: &Parts) -> Uri {
    parts.extensions.get::<OriginalUri>().map_or_else(|| parts.uri.clone(), |original| original.0.clone())
}

const MIN_POSITION: &str = "everline-min-position";
const LAST_EVENT_ID: &str = "last-event-id";

impl Query {
    /// Of pairs that came otherwise than in an address.
    pub(crate) fn of_pairs(pairs: Vec<(String, String)>) -> Self {
        Self { pairs, uri: Uri::default(), headers: HeaderMap::new() }
    }

    /// Refuses names outside `known`; one that ends in `.` stands for all that begin so.
    pub(crate) fn only(&self, known: &[&str]) -> Result<(), Failure> {
        for (name, _) in &self.pairs {
            let fits =
                |known: &&str| if known.ends_with('.') { name.starts_with(*known) } else { name == *known };
            if !known.iter().any(fits) {
                let shown: String = name.chars().take(64).collect();
                let detail = match known {
                    [] => format!("`{shown}` is not a parameter here; there are none"),
                    known => format!("`{shown}` is not a parameter here; use {}", known.join(", ")),
                };
                return Err(Failure::parameter(&shown, detail));
            }
        }
        Ok(())
    }

    /// A parameter's text; an empty one counts as absent.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.pairs
            .iter()
            .find(|(key, value)| key == name && !value.is_empty())
            .map(|(_, value)| value.as_str())
    }

    /// Every parameter whose name begins with `prefix`, without it.
    pub(crate) fn prefixed<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.pairs.iter().filter_map(move |(key, value)| Some((key.strip_prefix(prefix)?, value.as_str())))
    }

    /// A whole number of 0 or more.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Failure> {
        let parse = |text: &str| {
            text.parse().map_err(|_| {
                Failure::parameter(name, format!("`{name}` must be a whole number of 0 or more"))
            })
        };
        self.text(name).map(parse).transpose()
    }

    /// A time in RFC 3339.
    pub(crate) fn time(&self, name: &str) -> Result<Option<Timestamp>, Failure> {
        let parse = |text: &str| {
            // A `+` that was not encoded has become a space.
            text.replace(' ', "+").parse().map_err(|_| {
                Failure::parameter(
                    name,
                    format!("`{name}` must be an RFC 3339 time, for instance 2026-11-21T09:30:00Z"),
                )
            })
        };
        self.text(name).map(parse).transpose()
    }

    /// An id.
    pub(crate) fn id(&self, name: &str) -> Result<Option<Uuid>, Failure> {
        let parse = |text: &str| {
            parse_id(text).ok_or_else(|| Failure::parameter(name, format!("`{name}` must be an id (UUIDv7)")))
        };
        self.text(name).map(parse).transpose()
    }

    /// How many items a page has.
    pub(crate) fn limit(&self) -> Result<usize, Failure> {
        match self.number("limit")? {
            None => Ok(DEFAULT_LIMIT as usize),
            Some(limit @ 1..=MAX_LIMIT) => Ok(limit as usize),
            Some(limit) => {
                Err(Failure::parameter("limit", format!("`limit` is {limit}; use 1 to {MAX_LIMIT}")))
            }
        }
    }

    /// `Everline-Min-Position`.
    pub(crate) fn min_position(&self) -> Result<Option<&str>, Failure> {
        self.header(MIN_POSITION)
    }

    /// `Last-Event-ID`.
    pub(crate) fn last_event_id(&self) -> Result<Option<&str>, Failure> {
        self.header(LAST_EVENT_ID)
    }

    fn header(&self, name: &str) -> Result<Option<&str>, Failure> {
        let Some(value) = self.headers.get(name) else { return Ok(None) };
        let text = value.to_str().map_err(|_| {
            Failure::new(status::INVALID_HEADER, format!("the header {name} must be visible ASCII"))
        })?;
        Ok(Some(text.trim()).filter(|text| !text.is_empty()))
    }
}

/// Refuses every query parameter: what a write is told stands in its body, and one that is overlooked would not do
/// what was meant.
pub(super) fn refuse_query(parts: &Parts) -> Result<(), Failure> {
    let pairs = decode_query(parts.uri.query().unwrap_or_default())?;
    Query { pairs, uri: Uri::default(), headers: HeaderMap::new() }.only(&[])
}

fn decode_query(query: &str) -> Result<Vec<(String, String)>, Failure> {
    let mut pairs: Vec<(String, String)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let refuse = || Failure::new(status::INVALID_UTF8, "the query is not percent-encoded UTF-8");
        let (key, value) = (decode(key).ok_or_else(refuse)?, decode(value).ok_or_else(refuse)?);
        if key.contains('\0') || value.contains('\0') {
            return Err(Failure::parameter(
                &key.replace('\0', "?"),
                "a parameter must not have a NUL character",
            ));
        }
        if pairs.iter().any(|(known, _)| *known == key) {
            // Which of them was meant is not for us to guess.
            let shown: String = key.chars().take(64).collect();
            return Err(Failure::parameter(&shown, format!("`{shown}` is given more than once")));
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// Undoes `application/x-www-form-urlencoded`; `None` if that gives no UTF-8.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: u8| char::from(byte).to_digit(16);
                (digit(rest.next()?)? * 16 + digit(rest.next()?)?) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(text: &str) -> Result<Query, Failure> {
        Ok(Query { pairs: decode_query(text)?, uri: Uri::from_static("/"), headers: HeaderMap::new() })
    }

    #[test]
    fn a_query_is_decoded_strictly() {
        let pairs = decode_query("a=1+2&b=%C3%A9&c&attr.x=%25").expect("a query");
        assert_eq!(pairs[0], ("a".to_owned(), "1 2".to_owned()));
        assert_eq!(pairs[1].1, "é");
        assert_eq!(pairs[3], ("attr.x".to_owned(), "%".to_owned()));
        assert!(decode_query("a=%FF").is_err());
        assert!(decode_query("a=%2").is_err());
    }

    #[test]
    fn a_misspelt_filter_is_refused() {
        let query = query("status=failed&attr.repo=x&statsu=1").expect("a query");
        assert!(query.only(&["status", "attr."]).is_err());
        assert!(query.only(&["status", "attr.", "statsu"]).is_ok());
        assert_eq!(query.prefixed("attr.").collect::<Vec<_>>(), vec![("repo", "x")]);
    }

    #[test]
    fn a_parameter_that_is_given_twice_is_refused() {
        let failure = query("status=failed&limit=1&status=completed").expect_err("twice");
        assert_eq!(failure.code, "invalid_parameter");
        assert!(failure.detail.contains("`status`"), "{}", failure.detail);
        assert!(query("attr.a=1&attr.b=1").is_ok());
    }

    #[test]
    fn a_limit_is_1_to_200() {
        assert_eq!(query("").and_then(|q| q.limit()).expect("the default"), 50);
        assert_eq!(query("limit=200").and_then(|q| q.limit()).expect("a limit"), 200);
        for bad in ["limit=0", "limit=201", "limit=x", "limit=-1"] {
            assert!(query(bad).and_then(|q| q.limit()).is_err(), "{bad}");
        }
    }
}
