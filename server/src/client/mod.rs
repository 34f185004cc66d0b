//! The command line's HTTP client: requests with a key, answers as JSON, refusals in words.
//!
//! Invariants: every request has a time limit; a write carries an idempotency key, so that sending it again
//! after a 503 has no second effect; the key is sent to the named server only; a session renews itself. Deliberately absent: what
//! the paths mean, which the commands know.

mod bearer;
mod credentials;
mod error;
mod lines;
mod stream;

use reqwest::header::{AUTHORIZATION, ETAG, HeaderMap, HeaderValue, IF_MATCH, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::Value;
use std::time::Duration;
use uuid::Uuid;

pub use bearer::Bearer;
pub use credentials::{Credentials, StoredSession};
pub use error::{ClientError, Problem, ProblemItem};
pub use lines::Lines;
pub use stream::{CAUGHT_UP, EventStream, StreamMessage};

use crate::secret::Secret;

/// Longer than the server may wait for an execution (`wait_ms` up to 60 s).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(75);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a request is sent again that the server was too busy for.
const MAX_RETRIES: u32 = 5;
/// The longest pause before sending again.
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// A server, and the key or session for it.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
    bearer: Bearer,
}

/// An answer: its body, and the tag for the next update.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The status.
    pub status: StatusCode,
    /// The body; null if there was none.
    pub body: Value,
    /// The `ETag`.
    pub etag: Option<String>,
}

impl Client {
    /// A client of the server at `url`, such as `http://127.0.0.1:7070`.
    ///
    /// # Errors
    /// The URL is not one, or TLS cannot be set up.
    pub fn new(url: &str, bearer: impl Into<Bearer>) -> Result<Self, ClientError> {
        let base = url.trim_end_matches('/').to_owned();
        let bad = |detail: String| ClientError::BadServer { url: base.clone(), detail };
        let parsed = reqwest::Url::parse(&base).map_err(|error| bad(error.to_string()))?;
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("everline/", env!("CARGO_PKG_VERSION")));
        match parsed.scheme() {
            // Without TLS the system's certificates are not read: that is slow, and fails where there are none.
            "http" => builder = builder.tls_certs_only([]),
            "https" => {}
            other => return Err(bad(format!("`{other}` is not http or https"))),
        }
        if parsed.host_str().is_some_and(is_loopback) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| bad(error::chain(&error)))?;
        Ok(Self { http, base, bearer: bearer.into() })
    }

    /// The server's URL, without a slash at its end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Whether nothing is sent to be recognised by.
    pub fn is_anonymous(&self) -> bool {
        matches!(self.bearer, Bearer::Nobody)
    }

    /// `GET` with query parameters.
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Answer, ClientError> {
        self.request(Method::GET, path, |request| request.query(query)).await
    }

    /// `GET` from read models that have seen a position at least.
    pub async fn get_from(
        &self,
        path: &str,
        query: &[(&str, String)],
        position: Option<&str>,
    ) -> Result<Answer, ClientError> {
        self.request(Method::GET, path, |request| match position {
            Some(position) => request.query(query).header("everline-min-position", position),
            None => request.query(query),
        })
        .await
    }

    /// `POST` of JSON.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Answer, ClientError> {
        let key = Uuid::new_v4().to_string();
        self.request(Method::POST, path, |request| request.header("idempotency-key", &key).json(body)).await
    }

    /// `PUT` of JSON, on the version with this tag if one is given.
    pub async fn put(&self, path: &str, body: &Value, etag: Option<&str>) -> Result<Answer, ClientError> {
        let key = Uuid::new_v4().to_string();
        self.request(Method::PUT, path, |request| {
            with_etag(request, etag).header("idempotency-key", &key).json(body)
        })
        .await
    }

    /// `DELETE`, of the version with this tag if one is given.
    pub async fn delete(&self, path: &str, etag: Option<&str>) -> Result<Answer, ClientError> {
        let key = Uuid::new_v4().to_string();
        self.request(Method::DELETE, path, |request| with_etag(request, etag).header("idempotency-key", &key))
            .await
    }

    /// All items of a list, page by page, at most `limit`.
    pub async fn list(
        &self,
        path: &str,
        query: &[(&str, String)],
        limit: usize,
    ) -> Result<Vec<Value>, ClientError> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let mut query = query.to_vec();
            query.push(("limit", (limit - items.len()).clamp(1, 200).to_string()));
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let mut page = self.get(path, &query).await?.body;
            if let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) {
                items.extend(more);
            }
            cursor = page.get("next_cursor").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() || items.len() >= limit {
                items.truncate(limit);
                return Ok(items);
            }
        }
    }

    /// Follows a stream of server-sent events, also across lost connections.
    pub fn stream(&self, path: &str, query: &[(&str, String)]) -> EventStream {
        EventStream::new(self.clone(), path, query)
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        fill: impl Fn(RequestBuilder) -> RequestBuilder,
    ) -> Result<Answer, ClientError> {
        let mut attempt = 0;
        let mut bearer = self.bearer().await?;
        let mut renewed = false;
        loop {
            let request = self.http.request(method.clone(), self.url(path)).headers(headers(bearer.as_ref()));
            let response = self.send(fill(request.timeout(REQUEST_TIMEOUT))).await?;
            attempt += 1;
            // A session may have been renewed by another process, or its token be refused before its time.
            if response.status() == StatusCode::UNAUTHORIZED
                && !std::mem::replace(&mut renewed, true)
                && let Some(refused) = &bearer
                && let Some(next) = self.after_refusal(refused).await?
            {
                bearer = Some(next);
                continue;
            }
            if response.status() == StatusCode::SERVICE_UNAVAILABLE && attempt <= MAX_RETRIES {
                tokio::time::sleep(pause(response.headers())).await;
                continue;
            }
            return self.answer(response).await;
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        request.send().await.map_err(|source| self.unreachable(&source))
    }

    fn unreachable(&self, source: &reqwest::Error) -> ClientError {
        ClientError::Unreachable { url: self.base.clone(), detail: error::chain(source) }
    }

    async fn answer(&self, response: Response) -> Result<Answer, ClientError> {
        let status = response.status();
        let etag = response.headers().get(ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let bytes = response.bytes().await.map_err(|source| self.unreachable(&source))?;
        if !status.is_success() {
            return Err(ClientError::refused(status, &bytes, !self.is_anonymous()));
        }
        let body = if bytes.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(&bytes) };
        let body = body.map_err(|_| ClientError::NotEverline { url: self.base.clone() })?;
        Ok(Answer { status, body, etag })
    }

    fn url(&self, path: &str) -> String {
        format!("{}/api/v1{path}", self.base)
    }
}

fn headers(bearer: Option<&Secret>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let bearer = bearer.map(|key| HeaderValue::from_str(&format!("Bearer {}", key.expose())));
    if let Some(Ok(mut bearer)) = bearer {
        bearer.set_sensitive(true);
        headers.insert(AUTHORIZATION, bearer);
    }
    headers
}

fn with_etag(request: RequestBuilder, etag: Option<&str>) -> RequestBuilder {
    match etag {
        Some(etag) => request.header(IF_MATCH, etag),
        None => request,
    }
}

/// A text as one segment of a path.
pub fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'~' => out.push(char::from(byte)),
            // A dot too: `.` and `..` mean something in a path.
            _ => out.push_str(&format!("%{byte:02X}")),
        }
        out
    })
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// What the server asks for, within reason.
fn pause(headers: &HeaderMap) -> Duration {
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(1)).min(MAX_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_segment() {
        assert_eq!(segment("shop_url"), "shop_url");
        assert_eq!(segment("../a b?c#d/é"), "%2E%2E%2Fa%20b%3Fc%23d%2F%C3%A9");
    }

    #[test]
    fn only_http_is_a_server() {
        let error = Client::new("ftp://x", None).unwrap_err();
        assert!(error.to_string().contains("not http or https"), "{error}");
        assert!(Client::new("7070", None).is_err());
    }
}
