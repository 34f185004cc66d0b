//! What the document promises of itself.

use serde_json::Value;
use std::collections::HashSet;

use super::operations::Row;
use super::{METHODS, Place, codes};
use crate::access::RULES;

fn document() -> Value {
    let (_, document) = crate::routes::router();
    super::complete(&document)
}

/// Every operation with its place.
fn each(document: &Value, mut look: impl FnMut(&Place<'_>, &Value)) {
    for (path, item) in document["paths"].as_object().expect("paths") {
        for method in METHODS {
            if let Some(operation) = item.get(method) {
                look(&Place { method, path }, operation);
            }
        }
    }
}

#[test]
fn every_operation_has_a_row_of_the_table_and_a_name_of_its_own() {
    let mut seen = HashSet::new();
    each(&document(), |place, operation| {
        assert!(
            Row::exists(place),
            "{} {} has no row in gateway/src/openapi/operations",
            place.method.to_uppercase(),
            place.path
        );
        let id = operation["operationId"].as_str().expect("an id").to_owned();
        assert!(id.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{id}");
        assert!(seen.insert(id.clone()), "{id} stands twice");
    });
}

#[test]
fn every_operation_says_in_one_line_what_it_does() {
    each(&document(), |place, operation| {
        let summary = operation["summary"].as_str().unwrap_or_default();
        let fits = (4..=120).contains(&summary.chars().count()) && !summary.contains('\n');
        assert!(fits, "{} {}: `{summary}`", place.method, place.path);
        assert!(operation["tags"].as_array().is_some_and(|tags| tags.len() == 1), "{}", place.path);
    });
}

#[test]
fn every_body_and_every_answer_has_an_example() {
    each(&document(), |place, operation| {
        let shown = format!("{} {}", place.method.to_uppercase(), place.path);
        if let Some(body) = operation.get("requestBody") {
            assert!(body["content"]["application/json"].get("example").is_some(), "{shown}: the body");
        }
        for (status, answer) in operation["responses"].as_object().expect("answers") {
            for (kind, media) in answer["content"].as_object().into_iter().flatten() {
                let streams = ["text/event-stream", "application/x-ndjson"].contains(&kind.as_str());
                assert!(streams || media.get("example").is_some(), "{shown}: {status} {kind}");
            }
        }
    });
}

#[test]
fn every_operation_says_what_can_go_wrong() {
    each(&document(), |place, operation| {
        let shown = format!("{} {}", place.method.to_uppercase(), place.path);
        let answers = operation["responses"].as_object().expect("answers");
        assert!(!answers.contains_key("default"), "{shown}: `default` would document anything");
        assert!(answers.contains_key("500"), "{shown}");
        let open = place.is_public();
        assert!(open || answers.contains_key("401"), "{shown}");
        assert!(open || answers.keys().any(|status| status.starts_with('4')), "{shown}");
        for (status, answer) in answers {
            let codes = answer["x-codes"].as_array();
            let refused = status.starts_with(['4', '5']);
            let fine = codes.is_some_and(|codes| !codes.is_empty());
            // Health says in its own words what is wrong.
            assert!(!refused || fine || place.path == "/readyz", "{shown}: {status}");
        }
    });
}

#[test]
fn every_code_of_the_table_has_a_status_and_a_page() {
    let pages = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors");
    for (key, row) in Row::all() {
        for text in &row.codes {
            let (_, code) = codes::parse(text).unwrap_or_else(|| panic!("{key}: `{text}` has no status"));
            assert!(
                std::path::Path::new(pages).join(format!("{code}.md")).exists(),
                "{key}: {code} has no page"
            );
        }
    }
}

#[test]
fn every_row_is_of_a_route_that_has_a_rule() {
    let known: HashSet<String> = RULES.iter().map(|(method, path, _)| format!("{method} {path}")).collect();
    for (key, _) in Row::all() {
        assert!(known.contains(key), "{key} is in the table of operations and not in access::RULES");
    }
}

#[test]
fn bodies_are_closed() {
    let document = document();
    each(&document, |place, operation| {
        let Some(name) = operation.as_object().and_then(super::schemas::body_of) else { return };
        let schema = &document["components"]["schemas"][&name];
        let closed = schema.get("properties").is_none() || schema["additionalProperties"] == false;
        assert!(closed, "{} {}: {name}", place.method, place.path);
    });
}
