//! Claim checks: what stands in an event or command for a value too large to travel.
//!
//! A value over [`INLINE_LIMIT`] becomes `{"$blob": {"sha256", "bytes", "media_type"}}` before it meets the
//! bus. The bytes live beside the log, found by their hash.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Values whose JSON is longer than this travel by reference, in bytes.
pub const INLINE_LIMIT: usize = 64 * 1024;

/// The media type of claim-checked JSON.
pub const JSON_MEDIA_TYPE: &str = "application/json";

/// The only key of a claim check.
const KEY: &str = "$blob";

/// A reference to bytes kept beside the log.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BlobRef {
    /// Lower-case hexadecimal SHA-256 of the bytes.
    pub sha256: String,
    /// Length in bytes.
    pub bytes: u64,
    /// Media type of the bytes.
    pub media_type: String,
}

/// Bytes with the reference that finds them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blob {
    /// The reference.
    pub reference: BlobRef,
    /// The content.
    pub content: bytes::Bytes,
}

impl BlobRef {
    /// The reference in `value`, if `value` is a claim check.
    pub fn from_value(value: &Value) -> Option<Self> {
        let object = value.as_object().filter(|o| o.len() == 1)?;
        Self::deserialize(object.get(KEY)?).ok()
    }

    /// The claim check that stands for the bytes.
    pub fn to_value(&self) -> Value {
        json!({ KEY: self })
    }
}

/// How deep a value in an event may be nested. Events, views and answers wrap values some levels deeper, and JSON
/// readers stop at 128.
pub const MAX_DEPTH: usize = 96;

/// Whether arrays and objects are nested deeper than [`MAX_DEPTH`] in a value.
pub fn is_too_deep(value: &Value) -> bool {
    fn deeper(value: &Value, levels: usize) -> bool {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
            Value::Array(_) | Value::Object(_) if levels == 0 => true,
            Value::Array(items) => items.iter().any(|item| deeper(item, levels - 1)),
            Value::Object(fields) => fields.values().any(|item| deeper(item, levels - 1)),
        }
    }
    deeper(value, MAX_DEPTH)
}

/// An upper bound of a value's JSON in bytes, not above [`INLINE_LIMIT`] by more than one part of it.
pub fn inline_bytes_bound(value: &Value) -> usize {
    let mut sum = 0;
    bound(value, &mut sum);
    sum
}

/// Replaces `value` by a claim check if its JSON is over [`INLINE_LIMIT`]; the blob must then be stored.
pub fn claim_check(value: Value) -> (Value, Option<Blob>) {
    if inline_bytes_bound(&value) <= INLINE_LIMIT {
        return (value, None);
    }
    let content = value.to_string();
    if content.len() <= INLINE_LIMIT {
        return (value, None);
    }
    let reference = BlobRef {
        sha256: hex(&Sha256::digest(content.as_bytes())),
        bytes: content.len() as u64,
        media_type: JSON_MEDIA_TYPE.to_owned(),
    };
    (reference.to_value(), Some(Blob { reference, content: content.into() }))
}

/// A cheap upper bound, so that small values are never serialised just to be measured. True once it is over the
/// limit; nothing further is counted then.
fn bound(value: &Value, sum: &mut usize) -> bool {
    *sum += match value {
        Value::Null | Value::Bool(_) => 6,
        Value::Number(_) => 26,
        // A control character takes six bytes when escaped.
        Value::String(text) => text.len() * 6 + 3,
        Value::Array(items) => {
            *sum += 2;
            return items.iter().any(|item| bound(item, sum));
        }
        Value::Object(fields) => {
            *sum += 2;
            return fields.iter().any(|(key, item)| {
                *sum += key.len() * 6 + 4;
                bound(item, sum)
            });
        }
    };
    *sum > INLINE_LIMIT
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writing to a String cannot fail");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_value_travels_as_it_is() {
        let (value, blob) = claim_check(json!({"a": "b"}));
        assert_eq!(value, json!({"a": "b"}));
        assert_eq!(blob, None);
    }

    #[test]
    fn a_large_value_becomes_a_reference_that_names_its_content() {
        let large = json!({"text": "x".repeat(INLINE_LIMIT)});
        let (value, blob) = claim_check(large.clone());
        let blob = blob.expect("a blob");
        assert_eq!(BlobRef::from_value(&value).as_ref(), Some(&blob.reference));
        assert_eq!(serde_json::from_slice::<Value>(&blob.content).expect("JSON"), large);
    }

    #[test]
    fn many_small_parts_that_are_large_together_become_a_reference() {
        let (value, blob) = claim_check(json!(vec![1_234_567; 20_000]));
        assert!(blob.is_some());
        assert!(BlobRef::from_value(&value).is_some());
    }
}
