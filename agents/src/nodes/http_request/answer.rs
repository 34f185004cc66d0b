//! From a response to an output, or to the failure that a status of 400 or more is.
//!
//! The body becomes JSON if the content type says JSON and it is; else text in its charset; else, if it is not
//! text, `{"base64": "…"}`; nothing becomes null. It is cut off where it passes the limit, which is counted after
//! decompression, so a small body cannot unfold without end.

use bytes::{Bytes, BytesMut};
use domain::execution::event::{ErrorKind, NodeError};
use futures::FutureExt;
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::failure;

use super::call::{Secrets, base64_of};
use super::failed_call;

/// How much of a failed response's body is told, in bytes.
const EXCERPT_BYTES: usize = 2 * 1024;
/// How much of it is read, so that a secret at the cut is still recognised.
const EXCERPT_READ_BYTES: usize = 2 * EXCERPT_BYTES;
/// Bodies longer than this are parsed away from the threads that serve other attempts, in bytes.
const OFF_THREAD_BYTES: usize = 1024 * 1024;

/// The output of the node, or why it failed.
pub(super) async fn read(
    mut response: Response,
    method: &Method,
    origin: &str,
    max_bytes: usize,
    secrets: &Secrets,
) -> Result<Value, NodeError> {
    let status = response.status();
    if status.is_client_error() || status.is_server_error() || status.as_u16() >= 600 {
        return Err(refused(response, method, origin, secrets).await);
    }
    let too_large = || {
        let message = format!(
            "the response of {origin} is larger than max_response_bytes, {max_bytes}; raise it (to at most 64 MiB) \
             or ask for less"
        );
        failure::custom(message, json!({ "status": status.as_u16(), "max_response_bytes": max_bytes }))
    };
    // For HEAD the length is that of a body which does not follow.
    if method != Method::HEAD && response.content_length().is_some_and(|length| length > max_bytes as u64) {
        return Err(too_large());
    }
    let content = match collect(&mut response, max_bytes, origin).await? {
        Collected::Whole(content) => content,
        Collected::Cut(_) => return Err(too_large()),
    };
    let content_type = text_header(response.headers(), &CONTENT_TYPE).unwrap_or_default();
    let body = if content.len() > OFF_THREAD_BYTES {
        tokio::task::spawn_blocking(move || decode(content, &content_type))
            .await
            .map_err(|_| failure::custom("the response could not be decoded", Value::Null))?
    } else {
        decode(content, &content_type)
    };
    Ok(json!({ "status": status.as_u16(), "headers": headers(response.headers()), "body": body }))
}

/// A status of 400 or more.
async fn refused(mut response: Response, method: &Method, origin: &str, secrets: &Secrets) -> NodeError {
    let status = response.status();
    let (kind, retryable) = match status {
        StatusCode::TOO_MANY_REQUESTS => (ErrorKind::Http429, true),
        status if status.is_client_error() => (ErrorKind::Http4xx, false),
        _ => (ErrorKind::Http5xx, true),
    };
    // A connection that breaks here takes the excerpt with it, not the status.
    let content = match collect(&mut response, EXCERPT_READ_BYTES, origin).await {
        Ok(Collected::Whole(content) | Collected::Cut(content)) => content,
        Err(_) => Bytes::new(),
    };
    let mut body = secrets.redact(String::from_utf8_lossy(&content).into_owned());
    body.truncate(body.floor_char_boundary(EXCERPT_BYTES));
    let mut details = json!({ "status": status.as_u16(), "body": body });
    if let Some(after) = text_header(response.headers(), &RETRY_AFTER) {
        // Seconds, or a date.
        details["retry_after"] = after.parse::<u64>().map_or_else(|_| after.into(), Value::from);
    }
    NodeError { kind, message: format!("{method} {origin} answered {status}"), retryable, details }
}

enum Collected {
    Whole(Bytes),
    /// More than was wanted; what there is up to then.
    Cut(Bytes),
}

async fn collect(response: &mut Response, max_bytes: usize, origin: &str) -> Result<Collected, NodeError> {
    let failed = |error: reqwest::Error| failed_call(&error, origin);
    // Most bodies come in one piece, which need not be copied.
    let Some(first) = response.chunk().await.map_err(failed)? else {
        return Ok(Collected::Whole(Bytes::new()));
    };
    if first.len() > max_bytes {
        return Ok(Collected::Cut(first));
    }
    let Some(second) = response.chunk().await.map_err(failed)? else {
        return Ok(Collected::Whole(first));
    };
    let mut content = BytesMut::from(first);
    content.extend_from_slice(&second);
    while content.len() <= max_bytes {
        match response.chunk().await.map_err(failed)? {
            Some(piece) => content.extend_from_slice(&piece),
            None => return Ok(Collected::Whole(content.freeze())),
        }
    }
    Ok(Collected::Cut(content.freeze()))
}

/// Lower-case names; the values of a repeated one joined by a comma.
fn headers(headers: &HeaderMap) -> Map<String, Value> {
    let mut output = Map::new();
    for name in headers.keys() {
        let values: Vec<_> =
            headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
        output.insert(name.as_str().to_owned(), Value::String(values.join(", ")));
    }
    output
}

fn text_header(headers: &HeaderMap, name: &reqwest::header::HeaderName) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_owned())
}

fn decode(content: Bytes, content_type: &str) -> Value {
    if content.is_empty() {
        return Value::Null;
    }
    let bare = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&content);
    // A body that is not the JSON it claims to be is still worth more as text than a failed node: the request
    // may have had its effect.
    if says_json(content_type)
        && let Ok(value) = serde_json::from_slice(bare)
    {
        return value;
    }
    let text = match charset(content_type) {
        Some(charset) if !charset.eq_ignore_ascii_case("utf-8") => in_charset(bare, &charset),
        _ => std::str::from_utf8(bare).ok().map(str::to_owned),
    };
    text.map_or_else(|| json!({ "base64": base64_of(&content) }), Value::String)
}

/// `application/json`, `text/json` and `…+json`.
fn says_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence == "application/json" || essence == "text/json" || essence.ends_with("+json")
}

fn charset(content_type: &str) -> Option<String> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches('"').to_owned())
    })
}

/// Text in another charset; none where it holds what the charset does not, or the charset is not known.
fn in_charset(content: &[u8], charset: &str) -> Option<String> {
    // The client brings the tables; the body is in memory, so the future is ready at once.
    let response = Response::from(http::Response::new(content.to_vec()));
    let text = response.text_with_charset(charset).now_or_never()?.ok()?;
    (!text.contains(char::REPLACEMENT_CHARACTER)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_json_body_is_parsed_whatever_the_json_type_is_called() {
        for content_type in
            ["application/json", "Application/JSON; charset=utf-8", "application/problem+json"]
        {
            assert_eq!(
                decode(Bytes::from_static(b"{\"a\":1}"), content_type),
                json!({"a": 1}),
                "{content_type}"
            );
        }
        assert_eq!(decode(Bytes::from_static(b"{\"a\":1}"), "text/plain"), json!("{\"a\":1}"));
    }

    #[test]
    fn a_body_that_is_not_the_json_it_claims_to_be_is_text() {
        assert_eq!(decode(Bytes::from_static(b"OK"), "application/json"), json!("OK"));
    }

    #[test]
    fn text_is_read_in_its_charset() {
        assert_eq!(
            decode(Bytes::from_static(b"caf\xe9"), "text/plain; charset=\"iso-8859-1\""),
            json!("café")
        );
        assert_eq!(decode(Bytes::from_static(b"\xef\xbb\xbfcaf\xc3\xa9"), "text/plain"), json!("café"));
    }

    #[test]
    fn bytes_that_are_not_text_are_base64() {
        let encoded = json!({"base64": "/wD+"});
        for content_type in ["", "image/png", "text/plain; charset=utf-8", "text/plain; charset=unheard-of"] {
            assert_eq!(decode(Bytes::from_static(b"\xff\x00\xfe"), content_type), encoded, "{content_type}");
        }
    }

    #[test]
    fn nothing_is_null() {
        assert_eq!(decode(Bytes::new(), "application/json"), Value::Null);
    }
}
