//! Old event shapes, lifted to today's. One function per type and version; never removed.

use serde_json::{Value, json};

/// Lifts stored data to the schema version that this build writes, one version at a time.
pub(crate) fn upcast(
    event_type: &str,
    schema_version: u16,
    data: &[u8],
) -> Result<Vec<u8>, serde_json::Error> {
    let mut value: Value = serde_json::from_slice(data)?;
    if event_type == "execution.started" && schema_version == 1 {
        execution_started_1_to_2(&mut value);
    }
    serde_json::to_vec(&value)
}

/// Version 1 came before priorities and attributes, and named the trigger by a plain text.
fn execution_started_1_to_2(data: &mut Value) {
    let Some(fields) = data.as_object_mut() else { return };
    if let Some(kind) = fields.get("trigger").and_then(Value::as_str) {
        let trigger = json!({ "kind": kind });
        fields.insert("trigger".to_owned(), trigger);
    }
    fields.entry("priority").or_insert(json!(5));
    fields.entry("attributes").or_insert(json!({}));
}
