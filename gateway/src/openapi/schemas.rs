//! Bodies: closed, since unknown fields are refused, and with an example.

use serde_json::{Map, Value};
use std::collections::BTreeSet;

use super::operations::Row;

const PREFIX: &str = "#/components/schemas/";

/// The name of the schema of an operation's body.
pub(super) fn body_of(operation: &Map<String, Value>) -> Option<String> {
    let schema = &operation.get("requestBody")?["content"]["application/json"]["schema"];
    schema["$ref"].as_str()?.strip_prefix(PREFIX).map(str::to_owned)
}

/// Gives a body its example, and says whether it may be left out.
pub(super) fn complete_body(row: &Row, operation: &mut Map<String, Value>) {
    let Some(body) = operation.get_mut("requestBody") else { return };
    if let Some(example) = &row.request {
        body["content"]["application/json"]["example"] = example.clone();
    }
    if row.any_body {
        body["required"] = Value::Bool(false);
    }
}

/// Closes the schemas of bodies: a field that is not in them is refused.
pub(super) fn close_bodies(all: &mut Map<String, Value>, bodies: BTreeSet<String>) {
    let mut waiting: Vec<String> = bodies.into_iter().collect();
    let mut closed = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        let Some(schema) = all.get_mut(&name).and_then(Value::as_object_mut) else { continue };
        if !closed.insert(name) {
            continue;
        }
        if schema.contains_key("properties") && !schema.contains_key("additionalProperties") {
            schema.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
        let mut found = Vec::new();
        references(&Value::Object(schema.clone()), &mut found);
        waiting.extend(found);
    }
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(name) =
                fields.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(PREFIX))
            {
                found.push(name.to_owned());
            }
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}
