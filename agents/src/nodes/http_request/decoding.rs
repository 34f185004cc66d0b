//! From a whole body to the output of the node.
//!
//! The body becomes JSON if the content type says JSON and it is; else text in its charset; else, if it is not
//! text, `{"base64": "…"}`; nothing becomes null. Invariants: JSON of too many values is refused before it is made,
//! because as values a body takes many times its bytes; all that is decoded at once has a bounded estimate.

use bytes::Bytes;
use domain::execution::event::NodeError;
use futures::FutureExt;
use reqwest::Response;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::sync::Semaphore;

use crate::failure;

use super::answer::Whole;
use super::call::base64_of;

/// Bodies longer than this are worked on away from the threads that serve other attempts, in bytes.
const OFF_THREAD_BYTES: usize = 1024 * 1024;
/// The most values of a body, with those inside of others.
const MAX_VALUES: usize = 500_000;
/// The most objects among them; each takes as much as some ten other values.
const MAX_OBJECTS: usize = 100_000;
/// What a value takes, about, with its key and the text of a short one, in bytes.
const VALUE_BYTES: usize = 64;
/// What an object takes beside that, in bytes.
const OBJECT_BYTES: usize = 640;
/// What may be taken by all bodies being decoded, in KiB. The largest single one is let in alone.
const ROOM_KIB: usize = 128 * 1024;

/// Decodes bodies, all within one room.
pub(super) struct Decoding {
    room: Arc<Semaphore>,
}

/// How much there is in a JSON text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size {
    values: usize,
    objects: usize,
}

impl Decoding {
    pub(super) fn new() -> Self {
        Self { room: Arc::new(Semaphore::new(ROOM_KIB)) }
    }

    /// The output of the node. Waits for room; the attempt's deadline ends that.
    pub(super) async fn output(&self, whole: Whole, origin: &str) -> Result<Value, NodeError> {
        let Whole { status, headers, content_type, content } = whole;
        let measured = content.clone();
        let json = says_json(&content_type);
        let size = apart(content.len(), move || {
            let size = if json { Size::of(&measured) } else { Size { values: 0, objects: 0 } };
            // What only claims to be JSON becomes text, however many commas it has.
            let refused = size.is_too_much() && serde_json::from_slice::<IgnoredAny>(&measured).is_ok();
            (!refused).then_some(size)
        });
        let Some(size) = size.await? else {
            let message = format!(
                "the response of {origin} has more than {MAX_VALUES} values or {MAX_OBJECTS} objects; ask for less, \
                 page by page for instance"
            );
            let details = json!({ "status": status, "max_values": MAX_VALUES, "max_objects": MAX_OBJECTS });
            return Err(failure::custom(message, details));
        };
        let bytes = content.len() + size.values * VALUE_BYTES + size.objects * OBJECT_BYTES;
        let kib = (bytes / 1024).clamp(1, ROOM_KIB);
        // The semaphore is never closed, and the room fits a u32.
        let turn = self.room.clone().acquire_many_owned(u32::try_from(kib).unwrap_or(u32::MAX)).await.ok();
        let body = apart(content.len(), move || {
            let _turn = turn;
            decode(content, &content_type)
        });
        Ok(json!({ "status": status, "headers": headers, "body": body.await? }))
    }
}

/// Does work on so many bytes, away from the async threads if they are many.
async fn apart<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, NodeError> {
    if bytes <= OFF_THREAD_BYTES {
        return Ok(work());
    }
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|_| failure::custom("the response could not be decoded", Value::Null))
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

impl Size {
    /// Counts what stands outside of texts: a value for every separator and every opening, and the outermost. What is
    /// not JSON, or has empty lists, is counted too high by a few.
    fn of(content: &[u8]) -> Self {
        let mut size = Self { values: 1, objects: 0 };
        let (mut in_text, mut escaped) = (false, false);
        for byte in content {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_text => escaped = true,
                b'"' => in_text = !in_text,
                _ if in_text => {}
                b',' | b'[' => size.values += 1,
                b'{' => {
                    size.values += 1;
                    size.objects += 1;
                }
                _ => {}
            }
        }
        size
    }

    fn is_too_much(self) -> bool {
        self.values > MAX_VALUES || self.objects > MAX_OBJECTS
    }
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
    use domain::execution::event::ErrorKind;
    use serde_json::Map;

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

    #[test]
    fn values_are_counted_without_being_made() {
        for (text, values, objects) in [
            ("1", 1, 0),
            ("[0,0,0]", 4, 0),
            ("{\"a\": [1, {}], \"b\": \"[,{\\\",\"}", 6, 2),
            ("[\"\\\\\", 1]", 3, 0),
        ] {
            assert_eq!(Size::of(text.as_bytes()), Size { values, objects }, "{text}");
        }
    }

    #[tokio::test]
    async fn json_of_too_many_values_fails_and_takes_no_room() {
        let whole = |text: String, content_type: &str| Whole {
            status: 200,
            headers: Map::new(),
            content_type: content_type.to_owned(),
            content: Bytes::from(text),
        };
        let decoding = Decoding::new();
        let zeros = format!("[{}0]", "0,".repeat(5_000_000));
        let error = decoding.output(whole(zeros.clone(), "application/json"), "http://a").await.unwrap_err();
        assert_eq!((error.kind, error.retryable), (ErrorKind::Custom, false));
        assert!(error.message.contains("500000 values"), "{}", error.message);
        let objects = format!("[{}{{}}]", "{\"a\":1},".repeat(150_000));
        assert!(decoding.output(whole(objects, "application/json"), "http://a").await.is_err());
        let text = decoding.output(whole(zeros, "text/plain"), "http://a").await.unwrap();
        assert!(text["body"].is_string());
        let table = decoding.output(whole("1,2\n".repeat(500_000), "application/json"), "http://a").await;
        assert!(table.unwrap()["body"].is_string(), "it is not JSON");
        let many = format!("[{}0]", "0,".repeat(100_000));
        assert_eq!(
            decoding.output(whole(many, "application/json"), "http://a").await.unwrap()["body"][100_000],
            0
        );
        assert_eq!(decoding.room.available_permits(), ROOM_KIB);
    }
}
