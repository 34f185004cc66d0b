//! From a response to its whole body, or to the failure that a status of 400 or more is.
//!
//! A body is cut off where it passes the limit, which is counted after decompression, so a small body cannot unfold
//! without end. What it becomes is [`super::decoding`]'s to say.

use bytes::{Bytes, BytesMut};
use domain::execution::event::{ErrorKind, NodeError};
use reqwest::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::failure;

use super::call::Secrets;
use super::failed_call;

/// How much of a failed response's body is told, in bytes.
const EXCERPT_BYTES: usize = 2 * 1024;
/// How much of it is read, so that a secret at the cut is still recognised.
const EXCERPT_READ_BYTES: usize = 2 * EXCERPT_BYTES;

/// A response that has arrived.
pub(super) struct Whole {
    pub(super) status: u16,
    pub(super) headers: Map<String, Value>,
    pub(super) content_type: String,
    pub(super) content: Bytes,
}

/// The whole response, or why the node failed.
pub(super) async fn read(
    mut response: Response,
    method: &Method,
    origin: &str,
    max_bytes: usize,
    secrets: &Secrets,
) -> Result<Whole, NodeError> {
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
    Ok(Whole { status: status.as_u16(), headers: headers(response.headers()), content_type, content })
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
