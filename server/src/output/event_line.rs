//! An event as one line for people: when, what, where, and what matters about it.

use serde_json::Value;

use super::printable;
use super::table::cut;

/// Outputs longer than this are cut.
const MAX_VALUE_CHARS: usize = 100;

/// The line of an event in its public shape.
pub fn event_line(event: &Value) -> String {
    let text = |pointer: &str| event.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    // `2026-11-21T03:21:19.123Z`: the date says nothing while one watches.
    let time = text("/recorded_at").get(11..23).unwrap_or_default();
    let data = event.get("data").unwrap_or(&Value::Null);
    let place = ["node_id", "name", "workflow_name", "code"]
        .iter()
        .find_map(|field| data.get(field).and_then(Value::as_str))
        .unwrap_or_default();
    let line = format!("{time}  {:<32}  {:<20}  {}", text("/type"), place, summary(data));
    printable(line.trim_end())
}

/// What matters, in the order in which it is looked for.
fn summary(data: &Value) -> String {
    let mut parts = Vec::new();
    for (field, label) in [("node_type", ""), ("handle", "→ "), ("due_at", "due "), ("reason", "")] {
        if let Some(text) = data.get(field).and_then(Value::as_str) {
            parts.push(format!("{label}{text}"));
        }
    }
    let number = |field: &str| data.get(field).and_then(Value::as_u64);
    if let Some(version) = number("workflow_version").or_else(|| number("version")) {
        parts.push(format!("version {version}"));
    }
    if let Some(attempt) = number("attempt").filter(|attempt| *attempt > 1) {
        parts.push(format!("attempt {attempt}"));
    }
    if let Some(duration) = number("duration_ms") {
        parts.push(format!("{duration} ms"));
    }
    if let Some(error) = data.get("error").filter(|error| error.is_object()) {
        let text = |field: &str| error.get(field).and_then(Value::as_str).unwrap_or_default();
        parts.push(format!("{}: {}", text("kind"), text("message")));
    } else if let Some(message) = data.get("message").and_then(Value::as_str) {
        parts.push(message.to_owned());
    }
    for field in ["output", "payload"] {
        if let Some(value) = data.get(field).filter(|value| !value.is_null()) {
            parts.push(cut(&value.to_string(), MAX_VALUE_CHARS));
        }
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_says_when_what_where_and_why() {
        let event = json!({
            "recorded_at": "2026-11-21T03:21:19.123Z", "type": "execution.node.failed",
            "data": {
                "node_id": "fetch", "node_type": "http_request", "attempt": 2, "duration_ms": 12,
                "error": {"kind": "timeout", "message": "no answer\u{1b}[1m"},
            },
        });
        let line = event_line(&event);
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>().join(" "),
            "03:21:19.123 execution.node.failed fetch http_request attempt 2 12 ms timeout: no answer\\u{1b}[1m"
        );
    }

    #[test]
    fn an_event_of_an_unknown_shape_still_gives_a_line() {
        assert_eq!(event_line(&json!({"type": "x.y"})).trim(), "x.y");
        assert_eq!(event_line(&json!(null)).trim(), "");
    }
}
