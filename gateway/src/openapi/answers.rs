//! Answers: every status with its codes, headers and an example.

use http::StatusCode;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

use super::Place;
use super::codes;
use super::operations::Row;
use super::parameters::has_parameter;
use crate::status::CODES;

/// The headers that answers refer to.
pub(super) fn headers() -> Value {
    let text = |description: &str| json!({ "description": description, "schema": { "type": "string" } });
    json!({
        "Everline-Position": text("Where the write stands in the log: `partition:offset`, or a token for several partitions. Sent back as `Everline-Min-Position` it makes a read show the write."),
        "Link": text("The next page (RFC 8288, `rel=\"next\"`), if there is one."),
        "ETag": text("The version of what was read; for `If-Match` and `If-None-Match`."),
        "Location": text("Where what was made can be read."),
        "Preference-Applied": text("The preferences of `Prefer` that were followed (RFC 7240)."),
        "Retry-After": { "description": "Seconds after which another try can help.", "schema": { "type": "integer", "minimum": 0 } },
        "WWW-Authenticate": text("The challenge of RFC 6750."),
        "RateLimit": text("What is left of the limit that is closest, by the RateLimit header draft; absent where no limit is set."),
    })
}

/// Writes an operation's answers.
pub(super) fn complete(place: &Place<'_>, row: &Row, operation: &mut Map<String, Value>) {
    let found = codes::of(place, row, operation);
    let is_list = has_parameter(operation, "cursor");
    let mut responses = match operation.remove("responses") {
        Some(Value::Object(responses)) => responses,
        _ => Map::new(),
    };
    responses.remove("default");
    if row.conditional {
        let description = "What the caller has is current.";
        responses.insert("304".to_owned(), json!({ "description": description }));
    }
    for (status, answer) in &mut responses {
        let fine = status.starts_with(['2', '3']);
        if let Some(example) = row.answers.get(status) {
            give_example(answer, example);
        }
        let mut names = Vec::new();
        if fine {
            names.extend(row.etag.then_some("ETag"));
            names.extend((is_list && status == "200").then_some("Link"));
            names.extend(row.is_command(place).then_some("Everline-Position"));
            names.extend((row.location && status != "304").then_some("Location"));
            names.extend(row.prefer.then_some("Preference-Applied"));
        }
        names.extend((!row.health).then_some("RateLimit"));
        add_headers(answer, &names);
    }
    for (status, codes) in found {
        let status_code = StatusCode::from_u16(status).expect("codes have statuses of HTTP");
        let answer =
            responses.entry(status.to_string()).or_insert_with(|| problem(place, status_code, &codes));
        answer["x-codes"] = json!(codes);
        let mut names = vec!["RateLimit"];
        names.extend((status_code == StatusCode::UNAUTHORIZED).then_some("WWW-Authenticate"));
        let later = [StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE];
        names.extend(later.contains(&status_code).then_some("Retry-After"));
        add_headers(answer, &names);
    }
    operation.insert("responses".to_owned(), Value::Object(responses));
}

fn give_example(answer: &mut Value, example: &Value) {
    let content = answer.as_object_mut().map(|answer| answer.entry("content").or_insert_with(|| json!({})));
    let Some(content) = content.and_then(Value::as_object_mut) else { return };
    if content.is_empty() {
        content.insert("application/json".to_owned(), json!({ "schema": {} }));
    }
    for media in content.values_mut() {
        media["example"] = example.clone();
    }
}

fn add_headers(answer: &mut Value, names: &[&str]) {
    for name in names {
        answer["headers"][*name] = json!({ "$ref": format!("#/components/headers/{name}") });
    }
}

/// An answer that carries one of these codes, the first of them as an example.
fn problem(place: &Place<'_>, status: StatusCode, codes: &BTreeSet<String>) -> Value {
    let named: Vec<String> = codes.iter().map(|code| format!("`{code}`")).collect();
    let reason = status.canonical_reason().unwrap_or("Problem");
    let code = codes.first().map_or("internal", String::as_str);
    let title = CODES.iter().find(|known| known.code == code).map_or(reason, |known| known.title);
    json!({
        "description": format!("{reason}: {}.", named.join(", ")),
        "content": { "application/problem+json": {
            "schema": { "$ref": "#/components/schemas/Problem" },
            "example": {
                "type": format!("/docs/errors/{code}"),
                "title": title,
                "status": status.as_u16(),
                "detail": title,
                "instance": place.path,
                "code": code,
                "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
            },
        } },
    })
}
