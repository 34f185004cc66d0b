//! From a rendered configuration to a request.
//!
//! Invariant: a complaint names the field, never its value, which may be a secret. Templates may render to
//! anything, so every form is checked here although `domain` has checked what it could.

use bytes::Bytes;
use domain::execution::event::NodeError;
use reqwest::header::{
    AUTHORIZATION, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use reqwest::{Client, Method, Request, Url};
use serde_json::{Map, Value};

use crate::egress::Guard;
use crate::failure::invalid_config;

/// The largest body that is read if nothing else is said.
const DEFAULT_MAX_RESPONSE_BYTES: u64 = 10 * 1024 * 1024;
/// The largest body that is ever read.
const MAX_RESPONSE_BYTES: u64 = 64 * 1024 * 1024;
/// Methods that a node may use.
const METHODS: [Method; 7] =
    [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::PATCH, Method::DELETE, Method::OPTIONS];
/// How a message is framed is the client's; a caller's idea of it would let one request look like two.
const FRAMING: [HeaderName; 6] = [CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
/// Shorter secrets are not looked for in answers: they would be found everywhere.
const SHORTEST_SECRET: usize = 4;

/// A request and how to treat its response.
pub(super) struct Call {
    pub(super) request: Request,
    pub(super) follow_redirects: bool,
    pub(super) max_response_bytes: usize,
    pub(super) secrets: Secrets,
}

/// What must not be repeated if the server sends it back.
#[derive(Default)]
pub(super) struct Secrets(Vec<String>);

impl Secrets {
    fn add(&mut self, secret: &str) {
        if secret.len() >= SHORTEST_SECRET {
            self.0.push(secret.to_owned());
        }
    }

    /// The text without the secrets.
    pub(super) fn redact(&self, text: String) -> String {
        self.0.iter().fold(text, |text, secret| {
            if text.contains(secret.as_str()) { text.replace(secret.as_str(), "***") } else { text }
        })
    }
}

impl Call {
    /// Reads the configuration. The client only builds the request here; nothing is sent. The guard is asked
    /// first because it has better words than the client for a URL that is not for requests.
    pub(super) fn read(config: Value, client: &Client, guard: Guard) -> Result<Self, NodeError> {
        let Value::Object(mut config) = config else {
            return Err(invalid_config("the configuration must be an object"));
        };
        let mut secrets = Secrets::default();
        let method = method(config.get("method"))?;
        let url = url(&config)?;
        guard.check(&url)?;
        if let Some(password) = url.password() {
            secrets.add(password);
        }
        let mut headers = headers(config.get("headers"))?;
        let body = body(config.remove("body"), &mut headers);
        // First the client takes userinfo out of the URL, then headers win over it, then `auth` over both.
        let mut request = client.request(method, url).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        request = authorize(request, config.get("auth"), &mut secrets)?;
        let request =
            request.build().map_err(|_| invalid_config("the request cannot be made from its parts"))?;
        if let Some(value) = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok()) {
            secrets.add(value.split_once(' ').map_or(value, |(_, secret)| secret));
        }
        Ok(Self {
            request,
            follow_redirects: flag(config.get("follow_redirects"), "follow_redirects", true)?,
            max_response_bytes: max_response_bytes(config.get("max_response_bytes"))?,
            secrets,
        })
    }
}

fn method(value: Option<&Value>) -> Result<Method, NodeError> {
    let text = match value {
        None | Some(Value::Null) => return Ok(Method::GET),
        Some(Value::String(text)) => text.to_ascii_uppercase(),
        Some(_) => return Err(wrong_type("method", "a text")),
    };
    METHODS.into_iter().find(|known| known.as_str() == text).ok_or_else(|| {
        let known: Vec<_> = METHODS.iter().map(Method::as_str).collect();
        invalid_config(format!("`method` must be one of {}", known.join(", ")))
    })
}

fn url(config: &Map<String, Value>) -> Result<Url, NodeError> {
    let text = config.get("url").and_then(Value::as_str).ok_or_else(|| wrong_type("url", "a text"))?;
    let mut url: Url =
        text.trim().parse().map_err(|error| invalid_config(format!("`url` is not a URL: {error}")))?;
    url.set_fragment(None);
    let Some(query) = fields(config, "query")? else { return Ok(url) };
    if query.is_empty() {
        return Ok(url);
    }
    let mut pairs = url.query_pairs_mut();
    for (name, value) in query {
        match value {
            Value::Array(items) => {
                for item in items {
                    if let Some(text) = plain(item, "query", name)? {
                        pairs.append_pair(name, &text);
                    }
                }
            }
            value => {
                if let Some(text) = plain(value, "query", name)? {
                    pairs.append_pair(name, &text);
                }
            }
        }
    }
    drop(pairs);
    if url.query() == Some("") {
        // Every value was null.
        url.set_query(None);
    }
    Ok(url)
}

fn headers(value: Option<&Value>) -> Result<HeaderMap, NodeError> {
    let mut headers = HeaderMap::new();
    let fields = match value {
        None | Some(Value::Null) => return Ok(headers),
        Some(Value::Object(fields)) => fields,
        Some(_) => return Err(wrong_type("headers", "an object of names and values")),
    };
    for (name, value) in fields {
        let Some(text) = plain(value, "headers", name)? else { continue };
        let key = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| invalid_config(format!("`headers`: `{name}` is not the name of a header")))?;
        if FRAMING.contains(&key) {
            return Err(invalid_config(format!("`headers`: `{key}` is set by Everline; leave it out")));
        }
        let value = HeaderValue::from_str(&text).map_err(|_| {
            invalid_config(format!("`headers`: the value of `{key}` has forbidden characters"))
        })?;
        headers.insert(key, value);
    }
    Ok(headers)
}

/// A text as it is, other JSON as JSON; null is no body.
fn body(value: Option<Value>, headers: &mut HeaderMap) -> Option<Bytes> {
    let (content, media_type) = match value? {
        Value::Null => return None,
        Value::String(text) => (Bytes::from(text), "text/plain; charset=utf-8"),
        json => (Bytes::from(json.to_string()), "application/json"),
    };
    headers.entry(CONTENT_TYPE).or_insert_with(|| HeaderValue::from_static(media_type));
    Some(content)
}

fn authorize(
    request: reqwest::RequestBuilder,
    auth: Option<&Value>,
    secrets: &mut Secrets,
) -> Result<reqwest::RequestBuilder, NodeError> {
    let auth = match auth {
        None | Some(Value::Null) => return Ok(request),
        Some(Value::Object(auth)) => auth,
        Some(_) => return Err(wrong_type("auth", "an object with `type`")),
    };
    let text = |field: &str| {
        auth.get(field)
            .and_then(Value::as_str)
            .ok_or_else(|| invalid_config(format!("`auth`: `{field}` must be a text")))
    };
    let header = match text("type")? {
        "basic" => {
            let (username, password) = (text("username")?, text("password")?);
            secrets.add(password);
            format!("Basic {}", base64_of(format!("{username}:{password}")))
        }
        "bearer" => format!("Bearer {}", text("token")?),
        _ => return Err(invalid_config("`auth`: `type` must be basic or bearer")),
    };
    let mut value = HeaderValue::from_str(&header)
        .map_err(|_| invalid_config("`auth`: `token` has characters that a header cannot hold"))?;
    value.set_sensitive(true);
    // `headers` replaces where `header` would add a second one.
    Ok(request.headers(HeaderMap::from_iter([(AUTHORIZATION, value)])))
}

/// Standard base64 with padding.
pub(super) fn base64_of(content: impl AsRef<[u8]>) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(content)
}

fn flag(value: Option<&Value>, field: &str, default: bool) -> Result<bool, NodeError> {
    match value {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(_) => Err(wrong_type(field, "true or false")),
    }
}

fn max_response_bytes(value: Option<&Value>) -> Result<usize, NodeError> {
    let limit = match value {
        None | Some(Value::Null) => DEFAULT_MAX_RESPONSE_BYTES,
        Some(value) => value
            .as_u64()
            .filter(|limit| *limit > 0)
            .ok_or_else(|| wrong_type("max_response_bytes", "a whole number from 1"))?,
    };
    // At most 64 MiB, which fits every target's usize.
    Ok(limit.min(MAX_RESPONSE_BYTES) as usize)
}

fn fields<'a>(
    config: &'a Map<String, Value>,
    field: &str,
) -> Result<Option<&'a Map<String, Value>>, NodeError> {
    match config.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(fields)) => Ok(Some(fields)),
        Some(_) => Err(wrong_type(field, "an object of names and values")),
    }
}

/// A scalar as text; null is left out.
fn plain(value: &Value, field: &str, name: &str) -> Result<Option<String>, NodeError> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Number(number) => Ok(Some(number.to_string())),
        Value::Bool(flag) => Ok(Some(flag.to_string())),
        Value::Array(_) | Value::Object(_) => {
            Err(invalid_config(format!("`{field}`: `{name}` must be a text, number or boolean")))
        }
    }
}

fn wrong_type(field: &str, expected: &str) -> NodeError {
    invalid_config(format!("`{field}` must be {expected}"))
}
