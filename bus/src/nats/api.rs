//! The JSON API of JetStream, over [`Requests`].

use async_nats::HeaderMap;
use async_nats::jetstream::ErrorCode;
use async_nats::jetstream::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::time::Duration;

use super::requests::{AskError, Requests};

/// How long the server may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// The code of a message that is not in the stream.
const NO_MESSAGE_FOUND: ErrorCode = ErrorCode::NO_MESSAGE_FOUND;

/// Why JetStream did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    /// It is not there: the server runs without it, or the stream or consumer that was asked does not exist.
    #[error(
        "JetStream does not answer; start nats-server with JetStream (`-js`, or `jetstream {{}}` in its configuration)"
    )]
    NoJetStream,
    /// It was not reached.
    #[error("JetStream was not reached")]
    Unreachable(#[source] AskError),
    /// It refused.
    #[error("JetStream refused: {description} ({code})")]
    Refused {
        /// The server's code.
        code: u64,
        /// The server's words.
        description: String,
    },
    /// The answer is not one that is understood.
    #[error("JetStream's answer does not decode")]
    Malformed(#[from] serde_json::Error),
}

impl ApiError {
    /// Whether it is a refusal with this code.
    pub(super) fn is(&self, wanted: ErrorCode) -> bool {
        matches!(self, Self::Refused { code, .. } if *code == wanted.0)
    }

    fn refused(error: &async_nats::jetstream::Error) -> Self {
        let disabled = [ErrorCode::JETSTREAM_NOT_ENABLED, ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT];
        if disabled.contains(&error.error_code()) {
            return Self::NoJetStream;
        }
        Self::Refused { code: error.error_code().0, description: error.to_string() }
    }
}

/// Calls the API.
pub(super) async fn call<T: DeserializeOwned>(
    requests: &Requests,
    subject: &str,
    body: &impl Serialize,
) -> Result<T, ApiError> {
    let body = Bytes::from(serde_json::to_vec(body)?);
    let answer = requests.ask(format!("$JS.API.{subject}"), HeaderMap::new(), body, PATIENCE).await;
    let answer = answer.map_err(|error| match error {
        AskError::NoResponders => ApiError::NoJetStream,
        other => ApiError::Unreachable(other),
    })?;
    match serde_json::from_slice(&answer.payload)? {
        Response::Ok(value) => Ok(value),
        Response::Err { error } => Err(ApiError::refused(&error)),
    }
}

/// What a publish into a stream was answered.
#[derive(Deserialize)]
struct Stored {
    seq: u64,
}

/// Reads the acknowledgement of a publish: the message's number in the stream.
pub(super) fn stored(payload: &[u8]) -> Result<u64, ApiError> {
    match serde_json::from_slice(payload)? {
        Response::Ok(Stored { seq }) => Ok(seq),
        Response::Err { error } => Err(ApiError::refused(&error)),
    }
}

#[derive(Deserialize)]
struct Got {
    message: GotMessage,
}

#[derive(Deserialize)]
struct GotMessage {
    #[serde(default)]
    hdrs: String,
}

/// The headers of a message in a stream.
pub(super) struct StoredHeaders(String);

impl StoredHeaders {
    /// The value of a header.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value.trim())
    }
}

async fn headers(requests: &Requests, stream: &str, query: Value) -> Result<Option<StoredHeaders>, ApiError> {
    match call::<Got>(requests, &format!("STREAM.MSG.GET.{stream}"), &query).await {
        Ok(got) => {
            let bytes = BASE64.decode(got.message.hdrs).unwrap_or_default();
            Ok(Some(StoredHeaders(String::from_utf8_lossy(&bytes).into_owned())))
        }
        Err(error) if error.is(NO_MESSAGE_FOUND) || error.is(ErrorCode::STREAM_NOT_FOUND) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The headers of the message with a number; `None` if the stream does not hold it.
pub(super) async fn headers_at(
    requests: &Requests,
    stream: &str,
    seq: u64,
) -> Result<Option<StoredHeaders>, ApiError> {
    headers(requests, stream, json!({ "seq": seq })).await
}

/// The headers of the last message under a subject, wildcards included.
pub(super) async fn last_headers(
    requests: &Requests,
    stream: &str,
    subject: &str,
) -> Result<Option<StoredHeaders>, ApiError> {
    headers(requests, stream, json!({ "last_by_subj": subject })).await
}

#[derive(Deserialize)]
struct Deleted {}

/// Takes a message out of a stream, without overwriting its bytes on disk.
pub(super) async fn delete(requests: &Requests, stream: &str, seq: u64) -> Result<(), ApiError> {
    let query = json!({ "seq": seq, "no_erase": true });
    match call::<Deleted>(requests, &format!("STREAM.MSG.DELETE.{stream}"), &query).await {
        Ok(Deleted {}) => Ok(()),
        // Delivered and gone meanwhile.
        Err(ApiError::Refused { .. }) => Ok(()),
        Err(error) => Err(error),
    }
}
