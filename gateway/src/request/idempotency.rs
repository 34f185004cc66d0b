//! Writes: who writes, in which trace, and under which `Idempotency-Key`.
//!
//! With a key, the ids of the command and of what it creates are derived from tenant, principal and key, so that a
//! repetition meets the first command in the log, also after a restart; the digest of the request tells a
//! repetition from a second use of the key.

use axum::extract::FromRequestParts;
use domain::command::{Command, CommandEnvelope};
use domain::ids::{Slot, TenantId, derived_id, new_id, parse_id};
use domain::time::Timestamp;
use http::HeaderMap;
use http::request::Parts;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use uuid::Uuid;

use crate::failure::Failure;
use crate::status;

use super::Caller;
use super::parameters::{decode, original_uri, refuse_query};

/// The header's longest value.
const MAX_KEY_BYTES: usize = 255;

/// A request that may change something, before its body was read.
#[derive(Debug)]
pub(crate) struct WriteHeaders {
    pub(crate) caller: Caller,
    key: Option<Key>,
}

/// A request that may change something, with the digest of its body if it has a key.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) caller: Caller,
    key: Option<(Key, [u8; 32])>,
}

/// A caller's name for one request.
#[derive(Debug, Clone)]
struct Key {
    text: String,
    /// Method and path, with ids in one spelling: the same key for another operation is another command.
    operation: String,
}

/// A write with the ids that it will use.
#[derive(Debug)]
pub(crate) struct Writing {
    caller: Caller,
    command_id: Uuid,
    /// The aggregate that the command goes to.
    pub(crate) stream: Uuid,
    digest: Option<[u8; 32]>,
    /// Where it is not the caller's.
    tenant: Option<TenantId>,
}

/// An idempotency key that came in a message.
#[derive(Debug)]
pub(crate) struct MessageKey(String);

impl MessageKey {
    /// The key, if its text can be one.
    pub(crate) fn parse(text: String) -> Option<Self> {
        is_key(text.as_bytes()).then_some(Self(text))
    }
}

impl WriteHeaders {
    /// With the body that came, before anything is done to it.
    pub(crate) fn with_body(self, body: &Value) -> Write {
        let key = self.key.map(|key| {
            let digest = key.digest(body);
            (key, digest)
        });
        Write { caller: self.caller, key }
    }
}

impl Write {
    /// A write that comes in a message instead of a request. With a key it is the same command as the `POST` of the
    /// same body to the same path under that key.
    pub(crate) fn of_message(caller: Caller, key: Option<MessageKey>, path: &str, body: &Value) -> Self {
        let key = key.map(|MessageKey(text)| {
            let key = Key { text, operation: format!("POST {}", in_one_spelling(path)) };
            let digest = key.digest(body);
            (key, digest)
        });
        Self { caller, key }
    }

    /// One of several writes that a request stands for: with a key, each part has a command id of its own.
    pub(crate) fn part(&self, of: Uuid) -> Self {
        let key = self.key.as_ref().map(|(key, digest)| {
            let operation = format!("{} {of}", key.operation);
            (Key { text: key.text.clone(), operation }, *digest)
        });
        Self { caller: self.caller.clone(), key }
    }

    /// To a stream that exists.
    pub(crate) fn to(self, stream: Uuid, now: Timestamp) -> Writing {
        self.begin(stream, Slot::of(stream), now)
    }

    /// To a new stream in a slot.
    pub(crate) fn create_in(self, slot: Slot, now: Timestamp) -> Writing {
        let stream = new_id(now, slot, crate::random::number());
        self.begin(stream, slot, now)
    }

    /// To a new stream in a slot of its own: derived from the key, or random.
    pub(crate) fn create_anywhere(self, now: Timestamp) -> Writing {
        let principal = &self.caller.principal;
        let slot = match &self.key {
            Some((key, _)) => Slot::hashed(&[
                principal.tenant.as_str().as_bytes(),
                principal.actor.as_str().as_bytes(),
                key.text.as_bytes(),
            ]),
            None => Slot::from_bits(crate::random::number()),
        };
        self.create_in(slot, now)
    }

    fn begin(self, stream: Uuid, slot: Slot, now: Timestamp) -> Writing {
        let (command_id, digest) = match &self.key {
            None => (new_id(now, slot, crate::random::number()), None),
            Some((key, digest)) => {
                let principal = &self.caller.principal;
                let parts: [&[u8]; 5] = [
                    b"idempotency",
                    principal.tenant.as_str().as_bytes(),
                    principal.actor.as_str().as_bytes(),
                    key.operation.as_bytes(),
                    key.text.as_bytes(),
                ];
                (derived_id(Timestamp::default(), slot, &parts), Some(*digest))
            }
        };
        Writing { caller: self.caller, command_id, stream, digest, tenant: None }
    }
}

impl Writing {
    /// To a thing of another tenant. Only routes for operators of the installation do that.
    pub(crate) fn of_tenant(mut self, tenant: TenantId) -> Self {
        self.tenant = Some(tenant);
        self
    }

    /// Whose thing it goes to.
    pub(crate) fn tenant(&self) -> &TenantId {
        self.tenant.as_ref().unwrap_or(&self.caller.principal.tenant)
    }

    /// The command as it travels. What a start causes belongs to its execution, the rest to its stream.
    pub(crate) fn envelope(&self, command: Command) -> CommandEnvelope {
        CommandEnvelope {
            id: self.command_id,
            tenant: self.tenant().clone(),
            actor: self.caller.principal.actor.clone(),
            stream: self.stream,
            correlation_id: self.stream,
            causation_id: self.command_id,
            traceparent: Some(self.caller.trace.traceparent()),
            digest: self.digest,
            command,
            authority: self.caller.authority.clone(),
        }
    }

    /// The command's id: the same for every repetition under one key.
    pub(crate) fn command_id(&self) -> Uuid {
        self.command_id
    }

    /// Who writes.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }
}

impl Key {
    /// Objects are written with their keys in order, so equal JSON has equal bytes.
    fn digest(&self, body: &Value) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(self.operation.as_bytes());
        hasher.update([0]);
        hasher.update(body.to_string().as_bytes());
        hasher.finalize().into()
    }
}

impl<S: Send + Sync> FromRequestParts<S> for WriteHeaders {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let caller = Caller::from_request_parts(parts, state).await?;
        refuse_query(parts)?;
        let key = read_key(&parts.headers)?;
        let key = key.map(|text| Key { text, operation: operation(parts) });
        Ok(Self { caller, key })
    }
}

/// What is done to what. An id may be written in several ways and is the same thing.
fn operation(parts: &Parts) -> String {
    format!("{} {}", parts.method, in_one_spelling(original_uri(parts).path()))
}

fn in_one_spelling(path: &str) -> String {
    let segments = path.split('/').map(|segment| match decode(segment).and_then(|text| parse_id(&text)) {
        Some(id) => Cow::Owned(id.to_string()),
        None => Cow::Borrowed(segment),
    });
    segments.collect::<Vec<_>>().join("/")
}

fn read_key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let bytes = value.as_bytes();
    if !is_key(bytes) {
        let detail = format!("an Idempotency-Key has 1 to {MAX_KEY_BYTES} visible ASCII characters");
        return Err(Failure::new(status::INVALID_IDEMPOTENCY_KEY, detail));
    }
    Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
}

fn is_key(bytes: &[u8]) -> bool {
    (1..=MAX_KEY_BYTES).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Principal;
    use crate::position::Watermarks;
    use crate::trace_context::TraceContext;
    use domain::ids::{Actor, TenantId};
    use http::HeaderValue;
    use serde_json::json;
    use std::sync::Arc;

    fn write(actor: &str, operation: &str, key: Option<&str>) -> WriteHeaders {
        let principal = Principal {
            tenant: TenantId::default_tenant(),
            actor: Actor::recorded(actor),
            user: uuid::Uuid::nil(),
            email: "n".into(),
            name: "n".into(),
            role: "ADMIN".into(),
            grants: Arc::from([]),
            api_key: None,
            family: None,
            expires_at: None,
            watermarks: Arc::new(Watermarks::new(16)),
            last_noted: Default::default(),
        };
        let caller = Caller {
            principal: Arc::new(principal),
            trace: TraceContext::fresh(),
            authority: None,
            client: crate::client::Client::default(),
        };
        let key = key.map(|text| Key { text: text.into(), operation: operation.into() });
        WriteHeaders { caller, key }
    }

    #[test]
    fn a_repeated_key_meets_the_same_command_in_the_same_partition() {
        let (early, late) = (Timestamp::from_unix_ms(1), Timestamp::from_unix_ms(9_999));
        let first =
            write("key:a", "POST /x", Some("k")).with_body(&json!({"b": 1, "a": 2})).create_anywhere(early);
        let again =
            write("key:a", "POST /x", Some("k")).with_body(&json!({"a": 2, "b": 1})).create_anywhere(late);
        assert_eq!(first.command_id, again.command_id);
        assert_eq!(first.digest, again.digest);
        assert_eq!(Slot::of(first.stream), Slot::of(again.stream));
        assert_eq!(Slot::of(first.stream), Slot::of(first.command_id));
    }

    #[test]
    fn another_principal_operation_key_or_body_differs() {
        let now = Timestamp::from_unix_ms(1);
        let base = write("key:a", "POST /x", Some("k")).with_body(&json!(1)).create_anywhere(now);
        for other in [
            write("key:b", "POST /x", Some("k")),
            write("key:a", "POST /y", Some("k")),
            write("key:a", "POST /x", Some("l")),
            write("key:a", "POST /x", None),
        ] {
            assert_ne!(other.with_body(&json!(1)).create_anywhere(now).command_id, base.command_id);
        }
        let changed = write("key:a", "POST /x", Some("k")).with_body(&json!(2)).create_anywhere(now);
        assert_eq!(changed.command_id, base.command_id);
        assert_ne!(changed.digest, base.digest);
    }

    #[test]
    fn a_message_under_a_key_is_the_same_command_as_the_request() {
        let now = Timestamp::from_unix_ms(1);
        let path = "/api/v1/executions/01a1ee56-5e00-7005-8000-00000000000a/cancel";
        let stream = parse_id("01a1ee56-5e00-7005-8000-00000000000a").expect("an id");
        let body = json!({"reason": "x"});
        let request = write("key:a", &format!("POST {path}"), Some("k")).with_body(&body).to(stream, now);
        let message = |key: Option<&str>, body: &Value| {
            let caller = write("key:a", "", None).caller;
            let key = key.map(|key| MessageKey::parse(key.to_owned()).expect("a key"));
            Write::of_message(
                caller,
                key,
                &path
                    .to_uppercase()
                    .replace("/API/V1/EXECUTIONS", "/api/v1/executions")
                    .replace("CANCEL", "cancel"),
                body,
            )
            .to(stream, now)
        };
        let same = message(Some("k"), &body);
        assert_eq!((same.command_id, same.digest), (request.command_id, request.digest));
        assert_ne!(message(Some("k"), &json!({})).digest, request.digest);
        assert_ne!(message(None, &body).command_id, message(None, &body).command_id);
        assert!(MessageKey::parse("a b".to_owned()).is_none());
    }

    #[test]
    fn an_id_in_upper_case_is_the_same_operation() {
        let operation = |path: &str| {
            let (parts, ()) = http::Request::post(path).body(()).expect("a request").into_parts();
            operation(&parts)
        };
        let lower = "/api/v1/workflows/01a1ee56-5e00-7005-8000-00000000000a/publish";
        let upper = "/api/v1/workflows/01A1EE56-5E00-7005-8000-00000000000A/publish";
        assert_eq!(operation(lower), format!("POST {lower}"));
        assert_eq!(operation(upper), operation(lower));
        assert_eq!(operation(&lower.replace("/01a1", "/%301%611")), operation(lower));
        assert_ne!(operation("/api/v1/variables/A"), operation("/api/v1/variables/a"));
    }

    #[test]
    fn a_key_is_1_to_255_visible_characters() {
        let read = |bytes: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("idempotency-key", HeaderValue::from_bytes(bytes).expect("a header"));
            read_key(&headers)
        };
        assert_eq!(read(b"a-1").ok().flatten().as_deref(), Some("a-1"));
        assert!(read(b"").is_err());
        assert!(read(b"a b").is_err());
        assert!(read("é".as_bytes()).is_err());
        assert!(read(&[b'a'; 256]).is_err());
        assert!(read(&[b'a'; 255]).is_ok());
    }
}
