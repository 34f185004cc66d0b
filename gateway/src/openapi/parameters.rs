//! Parameters: what their names say everywhere, and the headers that many operations take.

use serde_json::{Map, Value, json};

use super::Place;
use super::operations::Row;
use crate::request::{DEFAULT_LIMIT, MAX_LIMIT};

/// An id as examples show it.
const ID: &str = "0190b2c4-7d5e-7abc-8def-0123456789ab";

/// Whether an operation has a parameter of this name.
pub(super) fn has_parameter(operation: &Map<String, Value>, name: &str) -> bool {
    all(operation).any(|parameter| parameter["name"].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name)))
}

fn all(operation: &Map<String, Value>) -> impl Iterator<Item = &Value> {
    operation.get("parameters").and_then(Value::as_array).into_iter().flatten()
}

/// Adds the headers that the operation takes, and says of each parameter what it can be.
pub(super) fn complete(place: &Place<'_>, row: &Row, operation: &mut Map<String, Value>) {
    let mut headers = Vec::new();
    if row.is_command(place) {
        headers.push((
            "Idempotency-Key",
            "The same key within 24 hours has one effect and the same answer.",
            false,
        ));
    }
    if row.fresh {
        let what = "The answer shows at least this position (`partition:offset`, or the `Everline-Position` of a write).";
        headers.push(("Everline-Min-Position", what, false));
    }
    if let Some(needed) = &row.if_match {
        let what = "The `ETag` of the read that the change is based on; several, or `*`, are taken too.";
        headers.push(("If-Match", what, needed == "required"));
    }
    if row.conditional {
        headers.push((
            "If-None-Match",
            "Entity tags that the caller has; if one is current the answer is 304.",
            false,
        ));
    }
    if row.prefer {
        let what = "`wait=N` waits up to N seconds (at most 60) for the end; `respond-async` does not wait. `wait_ms` in \
            the body goes before both.";
        headers.push(("Prefer", what, false));
    }
    let mut parameters = match operation.remove("parameters") {
        Some(Value::Array(parameters)) => parameters,
        _ => Vec::new(),
    };
    for (name, description, required) in headers {
        parameters.retain(|known| !known["name"].as_str().is_some_and(|n| n.eq_ignore_ascii_case(name)));
        let schema = json!({ "type": "string" });
        parameters.push(json!({
            "name": name, "in": "header", "description": description, "required": required, "schema": schema,
        }));
    }
    for parameter in &mut parameters {
        describe(place, parameter);
    }
    if !parameters.is_empty() {
        operation.insert("parameters".to_owned(), Value::Array(parameters));
    }
}

fn describe(place: &Place<'_>, parameter: &mut Value) {
    let name = parameter["name"].as_str().unwrap_or_default().to_owned();
    let within = parameter["in"].as_str().unwrap_or_default().to_owned();
    no_null(&mut parameter["schema"]);
    let known = match (within.as_str(), name.as_str()) {
        ("path", "id" | "other") => {
            Some((json!({ "type": "string", "format": "uuid" }), "An id (UUIDv7).", json!(ID)))
        }
        ("query", "limit") => {
            let schema =
                json!({ "type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT });
            Some((schema, "The most items of the page.", json!(DEFAULT_LIMIT)))
        }
        ("query", "cursor") if place.path != "/api/v1/events" => {
            let schema = json!({ "type": "string", "pattern": "^[A-Za-z0-9_-]+$", "maxLength": 1400 });
            Some((schema, "The `next_cursor` of the page before.", Value::Null))
        }
        ("query", "after" | "before" | "started_after" | "started_before") => {
            let schema = json!({ "type": "string", "format": "date-time" });
            Some((schema, "A time in RFC 3339.", json!("2026-11-21T09:30:00Z")))
        }
        ("header", "Idempotency-Key") => {
            Some((json!({ "type": "string", "pattern": "^[!-~]{1,255}$" }), "", json!("order-1117")))
        }
        ("header", "Everline-Min-Position") => Some((json!({ "type": "string" }), "", Value::Null)),
        ("header", name @ ("If-Match" | "If-None-Match")) => {
            // An `If-None-Match` that says nothing is passed over.
            let schema = match name {
                "If-Match" => json!({ "type": "string", "minLength": 1 }),
                _ => json!({ "type": "string" }),
            };
            Some((
                schema,
                "",
                if place.path.ends_with("/{v}") { json!("\"9f86d081\"") } else { json!("\"3\"") },
            ))
        }
        ("header", "Prefer") => Some((json!({ "type": "string" }), "", json!("wait=5"))),
        _ => None,
    };
    let Some((schema, description, example)) = known else { return };
    parameter["schema"] = schema;
    if !description.is_empty() && parameter.get("description").is_none() {
        parameter["description"] = Value::from(description);
    }
    if within == "path" && !example.is_null() {
        parameter["example"] = example;
    }
}

/// A parameter is a text, which is there or not; it is never null.
fn no_null(schema: &mut Value) {
    if let Some(types) = schema.get_mut("type").filter(|types| types.is_array()) {
        let one = types.as_array().into_iter().flatten().find(|kind| *kind != "null").cloned();
        if let Some(one) = one {
            *types = one;
        }
    }
}
