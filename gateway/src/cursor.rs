//! Cursors of lists: opaque to clients, base64url without padding, and where the next page is.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderValue, Uri};
use uuid::Uuid;

use crate::failure::Failure;
use crate::status;

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cursor {
    /// After a thing with an id.
    Id(Uuid),
    /// After a number: a version of a stream or of a definition.
    Number(u64),
    /// After a name.
    Name(String),
}

impl Cursor {
    /// The text for clients.
    pub(crate) fn encode(&self) -> String {
        let mut bytes = Vec::new();
        match self {
            Self::Id(id) => {
                bytes.push(b'i');
                bytes.extend_from_slice(id.as_bytes());
            }
            Self::Number(number) => {
                bytes.push(b'n');
                bytes.extend_from_slice(&number.to_be_bytes());
            }
            Self::Name(name) => {
                bytes.push(b's');
                bytes.extend_from_slice(name.as_bytes());
            }
        }
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn decode(text: &str) -> Option<Self> {
        let bytes = URL_SAFE_NO_PAD.decode(text.get(..text.len().min(1_024))?).ok()?;
        let (kind, rest) = bytes.split_first()?;
        match kind {
            b'i' => Some(Self::Id(Uuid::from_slice(rest).ok()?)),
            b'n' => Some(Self::Number(u64::from_be_bytes(rest.try_into().ok()?))),
            b's' => Some(Self::Name(String::from_utf8(rest.to_vec()).ok()?)),
            _ => None,
        }
    }

    /// A cursor of a list that goes by id.
    pub(crate) fn id(text: &str) -> Result<Uuid, Failure> {
        match Self::decode(text) {
            Some(Self::Id(id)) => Ok(id),
            _ => Err(refuse()),
        }
    }

    /// A cursor of a list that goes by number.
    pub(crate) fn number(text: &str) -> Result<u64, Failure> {
        match Self::decode(text) {
            Some(Self::Number(number)) => Ok(number),
            _ => Err(refuse()),
        }
    }

    /// A cursor of a list that goes by name.
    pub(crate) fn name(text: &str) -> Result<String, Failure> {
        match Self::decode(text) {
            Some(Self::Name(name)) if !name.is_empty() => Ok(name),
            _ => Err(refuse()),
        }
    }
}

/// A cursor that this list did not give.
pub(crate) fn refuse() -> Failure {
    Failure::new(
        status::INVALID_CURSOR,
        "the cursor is not one that this list gave; leave it out to begin anew",
    )
}

/// The `Link` header (RFC 8288) that leads to the next page of the list at `uri`.
pub(crate) fn next_link(uri: &Uri, cursor: &str) -> Option<HeaderValue> {
    let mut link = format!("<{}?", uri.path());
    for pair in uri.query().unwrap_or_default().split('&') {
        if !pair.is_empty() && pair.split('=').next() != Some("cursor") {
            link.push_str(pair);
            link.push('&');
        }
    }
    link.push_str(&format!("cursor={cursor}>; rel=\"next\""));
    HeaderValue::try_from(link).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_one_of_another_list_is_refused() {
        let id = Uuid::from_u128(7);
        assert_eq!(Cursor::id(&Cursor::Id(id).encode()).expect("an id"), id);
        assert_eq!(Cursor::number(&Cursor::Number(12).encode()).expect("a number"), 12);
        assert_eq!(Cursor::name(&Cursor::Name("é".into()).encode()).expect("a name"), "é");
        assert!(Cursor::id(&Cursor::Number(12).encode()).is_err());
        assert!(Cursor::id("").is_err());
        assert!(Cursor::id("*").is_err());
        assert!(!Cursor::Id(id).encode().contains('='));
    }

    #[test]
    fn the_next_link_keeps_the_filters_and_replaces_the_cursor() {
        let uri: Uri = "/api/v1/executions?status=failed&cursor=old&limit=2".parse().expect("a path");
        let link = next_link(&uri, "new").expect("a header");
        assert_eq!(link, "</api/v1/executions?status=failed&limit=2&cursor=new>; rel=\"next\"");
    }
}
