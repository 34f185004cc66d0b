//! JSON bodies: bounded in bytes, time and depth.

use axum::body::HttpBody;
use axum::extract::{FromRequest, MatchedPath, Request};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use http::{HeaderMap, header};
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

use crate::app::App;
use crate::config::ms;
use crate::failure::Failure;
use crate::status;

use super::parameters::refuse_query;

/// How much of a body that is too large is read and thrown away, so that its sender, still busy sending, gets
/// to read the answer.
const DRAIN_BYTES: usize = 16 * 1024 * 1024;
/// For how long.
const DRAIN_TIME: Duration = Duration::from_secs(5);

/// Below this anybody may send a body, so these bodies get little room and time.
const OPEN_TO_ANYBODY: &str = "/api/v1/auth/";
/// The most bytes of such a body: room for the longest e-mail and password, however they are escaped.
const AUTH_BODY_BYTES: u32 = 8 * 1024;
/// How long such a body may take to arrive.
const AUTH_BODY_TIME: Duration = Duration::from_secs(5);

/// A body of JSON; `None` if there was none.
#[derive(Debug)]
pub(crate) struct JsonBody(pub(crate) Option<Value>);

impl JsonBody {
    /// The value, where there must be one.
    pub(crate) fn required(self) -> Result<Value, Failure> {
        self.0.ok_or_else(|| Failure::new(status::INVALID_JSON, "the body is empty; send JSON"))
    }

    /// The value, or an empty object where every field is optional.
    pub(crate) fn or_empty(self) -> Value {
        self.0.unwrap_or_else(|| Value::Object(serde_json::Map::new()))
    }
}

impl FromRequest<Arc<App>> for JsonBody {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &Arc<App>) -> Result<Self, Failure> {
        let (limit, time) = bounds(&request, app);
        let (parts, body) = request.into_parts();
        refuse_query(&parts)?;
        let declared = content_length(&parts.headers);
        // A body of unknown length may become as long as one may be; one that is too long is not kept.
        let most = body.size_hint().upper().map_or(limit, |bytes| u32::try_from(bytes).unwrap_or(limit));
        let _room = app.body_room(most.min(limit))?;
        let limit = limit as usize;
        let mut chunks = body.into_data_stream();
        let read = async {
            if declared.is_some_and(|length| length > limit as u64) {
                return Err(too_large(limit));
            }
            let mut first = Bytes::new();
            let mut joined = BytesMut::new();
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk.map_err(|_| {
                    Failure::new(status::BAD_REQUEST, "the body ended before it was complete")
                })?;
                if first.len() + joined.len() + chunk.len() > limit {
                    return Err(too_large(limit));
                }
                // Most bodies are one chunk, which is then not copied.
                if first.is_empty() && joined.is_empty() {
                    first = chunk;
                } else {
                    if joined.is_empty() {
                        joined.extend_from_slice(&std::mem::take(&mut first));
                    }
                    joined.extend_from_slice(&chunk);
                }
            }
            Ok(if joined.is_empty() { first } else { joined.freeze() })
        };
        let bytes = match tokio::time::timeout(time, read).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(failure)) => {
                if failure.code == status::BODY_TOO_LARGE.code && !parts.headers.contains_key(header::EXPECT)
                {
                    drain(&mut chunks).await;
                }
                return Err(failure);
            }
            Err(_) => {
                return Err(Failure::new(
                    status::REQUEST_TIMEOUT,
                    "the body did not arrive in time; send it again",
                ));
            }
        };
        if bytes.is_empty() {
            return Ok(Self(None));
        }
        refuse_other_media(&parts.headers)?;
        parse(&bytes).map(|value| Self(Some(value)))
    }
}

/// The most bytes of a request's body, and the time that it may take to arrive.
fn bounds(request: &Request, app: &App) -> (u32, Duration) {
    let (bytes, time) = (app.config.max_body_bytes, ms(app.config.body_timeout_ms));
    match request.extensions().get::<MatchedPath>() {
        Some(route) if route.as_str().starts_with(OPEN_TO_ANYBODY) => {
            (bytes.min(AUTH_BODY_BYTES), time.min(AUTH_BODY_TIME))
        }
        _ => (bytes, time),
    }
}

fn too_large(limit: usize) -> Failure {
    Failure::new(status::BODY_TOO_LARGE, format!("the body is too large; at most {limit} bytes are taken"))
}

async fn drain(chunks: &mut axum::body::BodyDataStream) {
    let read = async {
        let mut left = DRAIN_BYTES;
        while let Some(Ok(chunk)) = chunks.next().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Whether it could be drained changes nothing in the answer.
    let _ = tokio::time::timeout(DRAIN_TIME, read).await;
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// A content type that says something other than JSON is believed; none at all is read as JSON.
fn refuse_other_media(headers: &HeaderMap) -> Result<(), Failure> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let text = value.to_str().unwrap_or_default();
    let essence = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    let detail = "send the body as JSON, with `Content-Type: application/json`";
    Err(Failure::new(status::UNSUPPORTED_MEDIA_TYPE, detail))
}

/// Reads JSON; its depth is bounded by the parser (128).
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, Failure> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let detail = format!("the body is not UTF-8 from byte {} on", error.valid_up_to());
        Failure::new(status::INVALID_UTF8, detail)
    })?;
    serde_json::from_str(text)
        .map_err(|error| Failure::new(status::INVALID_JSON, format!("the body is not JSON: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_json_or_not_utf_8_says_where() {
        assert_eq!(parse(b"{\"a\": \xff}").expect_err("not UTF-8").code, "invalid_utf8");
        let failure = parse(b"{\"a\": }").expect_err("not JSON");
        assert_eq!(failure.code, "invalid_json");
        assert!(failure.detail.contains("line 1 column"), "{}", failure.detail);
        assert!(parse(&[b'['; 200_000]).is_err(), "depth is bounded");
        assert!(parse(b"1e999").is_err());
    }
}
