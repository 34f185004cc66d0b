//! Old event shapes, lifted to today's. One step per type and version; never removed.
//!
//! A version that only added fields which may be left out needs no change of its data, and has its step all the same:
//! the table says of every version how it becomes the next.

use serde_json::{Value, json};

/// Lifts stored data to the schema version that this build writes, one version at a time.
pub(crate) fn upcast(
    event_type: &str,
    schema_version: u16,
    data: &[u8],
) -> Result<Vec<u8>, serde_json::Error> {
    let mut value: Value = serde_json::from_slice(data)?;
    let mut version = schema_version;
    while let Some(step) = step_from(event_type, version) {
        step(&mut value);
        version += 1;
    }
    serde_json::to_vec(&value)
}

/// How the data of a version becomes that of the next; `None` for today's.
fn step_from(event_type: &str, version: u16) -> Option<fn(&mut Value)> {
    Some(match (event_type, version) {
        ("execution.started", 1) => execution_started_1_to_2,
        // Version 2 came before sub-workflows: it has no parent.
        ("execution.started", 2) => as_it_is,
        // Version 3 came before owners.
        ("execution.started", 3)
        | ("execution.forked" | "workflow.created" | "execution.child.started", 1) => as_it_is,
        // Version 1 came before heartbeat timeouts.
        ("execution.node.scheduled", 1) => as_it_is,
        // Version 1 was for workers alone, which always gave their name.
        ("execution.node.started", 1) => as_it_is,
        // Version 1 came before `wait`: there were delays alone, which have no conditions.
        ("execution.node.waiting", 1) => as_it_is,
        // Version 1 came before sub-workflows: no child ended with its node.
        ("execution.node.cancelled", 1) => as_it_is,
        // Version 1 came before lanes and parents: nobody else had to hear of an end.
        ("execution.completed" | "execution.failed" | "execution.cancelled", 1) => as_it_is,
        _ => return None,
    })
}

fn as_it_is(_data: &mut Value) {}

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::CATALOGUE;

    #[test]
    fn every_old_version_has_a_step_to_the_next_and_todays_has_none() {
        for entry in CATALOGUE {
            for version in 1..entry.schema_version {
                assert!(step_from(entry.event_type, version).is_some(), "{} {version}", entry.event_type);
            }
            assert!(step_from(entry.event_type, entry.schema_version).is_none(), "{}", entry.event_type);
        }
    }
}
