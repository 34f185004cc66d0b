//! Typed parts: how a rendered config says where a credential goes.
//!
//! ```json
//! {"$parts": ["Bearer ", {"$credential": "shop_token", "field": "value"}]}
//! {"$data": {"anything": "that came from data and has a key with a dollar sign"}}
//! ```
//!
//! Only rendering makes these objects. A template's own objects cannot have such keys, and data that has them is
//! wrapped in `$data`, which is unwrapped without a look inside. So nothing that came from input can name a
//! credential. A `$parts` of another form is left as it is.

use serde_json::{Map, Value, json};

const PARTS: &str = "$parts";
const CREDENTIAL: &str = "$credential";
const FIELD: &str = "field";
const DATA: &str = "$data";

/// A stretch of a text with credentials in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Part {
    Text(String),
    Credential { name: String, field: String },
}

/// The object that stands for a text made of `parts`; neighbouring texts are joined.
pub(super) fn parts_value(parts: Vec<Part>) -> Value {
    let mut joined: Vec<Part> = Vec::with_capacity(parts.len());
    for part in parts {
        match (joined.last_mut(), part) {
            (Some(Part::Text(before)), Part::Text(text)) => before.push_str(&text),
            (_, Part::Text(text)) if text.is_empty() => {}
            (_, part) => joined.push(part),
        }
    }
    let list = joined.into_iter().map(|part| match part {
        Part::Text(text) => Value::String(text),
        Part::Credential { name, field } => json!({ CREDENTIAL: name, FIELD: field }),
    });
    json!({ PARTS: list.collect::<Vec<_>>() })
}

/// `value`, wrapped if it could be taken for parts.
pub(crate) fn guard_data(value: Value) -> Value {
    if has_reserved_key(&value) { json!({ DATA: value }) } else { value }
}

fn has_reserved_key(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.iter().any(has_reserved_key),
        Value::Object(fields) => {
            fields.iter().any(|(key, item)| key.starts_with('$') || has_reserved_key(item))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// Resolves typed parts in a rendered worker config; `lookup(name, field)` gives the secret.
pub fn resolve_parts<E>(
    config: Value,
    lookup: &mut dyn FnMut(&str, &str) -> Result<String, E>,
) -> Result<Value, E> {
    match config {
        Value::Array(items) => {
            let items: Result<_, _> = items.into_iter().map(|item| resolve_parts(item, lookup)).collect();
            Ok(Value::Array(items?))
        }
        Value::Object(mut fields) => {
            if fields.len() == 1
                && let Some(data) = fields.remove(DATA)
            {
                return Ok(data);
            }
            if let Some(parts) = read_parts(&fields) {
                let mut text = String::new();
                for part in parts {
                    match part {
                        Part::Text(part) => text.push_str(&part),
                        Part::Credential { name, field } => text.push_str(&lookup(&name, &field)?),
                    }
                }
                return Ok(Value::String(text));
            }
            let mut resolved = Map::new();
            for (key, item) in fields {
                resolved.insert(key, resolve_parts(item, lookup)?);
            }
            Ok(Value::Object(resolved))
        }
        scalar => Ok(scalar),
    }
}

/// Whether resolving `config` would look a credential up.
pub fn has_credentials(config: &Value) -> bool {
    match config {
        Value::Array(items) => items.iter().any(has_credentials),
        Value::Object(fields) if fields.len() == 1 && fields.contains_key(DATA) => false,
        Value::Object(fields) => match read_parts(fields) {
            Some(parts) => parts.iter().any(|part| matches!(part, Part::Credential { .. })),
            None => fields.values().any(has_credentials),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

/// The parts `fields` stands for, if it is a well-formed `$parts` object.
fn read_parts(fields: &Map<String, Value>) -> Option<Vec<Part>> {
    let list = fields.get(PARTS).filter(|_| fields.len() == 1)?.as_array()?;
    list.iter()
        .map(|part| match part {
            Value::String(text) => Some(Part::Text(text.clone())),
            Value::Object(credential) if credential.len() == 2 => Some(Part::Credential {
                name: credential.get(CREDENTIAL)?.as_str()?.to_owned(),
                field: credential.get(FIELD)?.as_str()?.to_owned(),
            }),
            _ => None,
        })
        .collect()
}
