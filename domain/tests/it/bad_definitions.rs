//! Definitions that cannot run: every defect at once, each with its pointer and code.

use domain::workflow::definition::{Definition, MAX_PROBLEMS};
use serde_json::{Value, json};

fn problems(document: Value) -> Vec<(String, String)> {
    let problems = Definition::parse(&document).expect_err("a definition with defects");
    problems.into_iter().map(|problem| (problem.pointer, problem.code.into_owned())).collect()
}

fn around(nodes: Value, edges: Value) -> Value {
    json!({"name": "bad", "nodes": nodes, "edges": edges})
}

fn has(found: &[(String, String)], pointer: &str, code: &str) -> bool {
    found.iter().any(|(p, c)| p == pointer && c == code)
}

#[test]
fn all_defects_are_reported_at_once() {
    let found = problems(json!({
        "name": "bad", "surprise": 1,
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "Wrong Id", "type": "transform", "config": {"output": 1}},
            {"id": "b", "type": "teleport"},
            {"id": "c", "type": "agent"},
            {"id": "d", "type": "condition", "config": {"expression": "1 +"}},
            {"id": "e", "type": "transform", "config": {"output": {"x": ["{{ input. }}"]}, "extra": 1}},
            {"id": "f", "type": "http_request", "config": {}},
        ],
        "edges": [],
    }));
    for (pointer, code) in [
        ("/surprise", "unknown_field"),
        ("/nodes/1/id", "invalid_node_id"),
        ("/nodes/2/type", "unknown_node_type"),
        ("/nodes/3/type", "node_type_not_supported_yet"),
        ("/nodes/4/config/expression", "expression_syntax"),
        ("/nodes/5/config/output/x/0", "expression_syntax"),
        ("/nodes/5/config/extra", "unknown_field"),
        ("/nodes/6/config", "missing_field"),
    ] {
        assert!(has(&found, pointer, code), "{pointer} {code} not in {found:#?}");
    }
}

#[test]
fn a_missing_edge_target_is_named() {
    let nodes = json!([{"id": "start", "type": "start"}, {"id": "end", "type": "end"}]);
    let found = problems(around(
        nodes,
        json!([{"source": "start", "target": "nowhere"}, {"source": "start", "target": "end"}]),
    ));
    assert_eq!(found, [("/edges/0/target".to_owned(), "unknown_edge_target".to_owned())]);
}

#[test]
fn a_cycle_is_found_at_its_edges() {
    let step = |id: &str| json!({"id": id, "type": "transform", "config": {"output": 1}});
    let nodes = json!([{"id": "start", "type": "start"}, step("a"), step("b"), {"id": "end", "type": "end"}]);
    let edge = |source: &str, target: &str| json!({"source": source, "target": target});
    let found = problems(around(
        nodes,
        json!([edge("start", "a"), edge("a", "b"), edge("b", "a"), edge("b", "end")]),
    ));
    assert!(has(&found, "/edges/1", "cycle") && has(&found, "/edges/2", "cycle"), "{found:?}");
}

#[test]
fn an_edge_from_a_condition_needs_a_handle_and_other_handles_are_refused() {
    let nodes = json!([
        {"id": "start", "type": "start"},
        {"id": "c", "type": "condition", "config": {"expression": "true"}},
        {"id": "end", "type": "end"},
    ]);
    let edge = |source: &str, handle: Value| json!({"source": source, "source_handle": handle, "target": if source == "start" { "c" } else { "end" }});
    let found = problems(around(nodes.clone(), json!([edge("start", Value::Null), edge("c", Value::Null)])));
    assert!(has(&found, "/edges/1/source_handle", "invalid_handle"), "{found:?}");
    let found = problems(around(nodes, json!([edge("start", json!("true")), edge("c", json!("true"))])));
    assert!(has(&found, "/edges/0/source_handle", "invalid_handle"), "{found:?}");
}

#[test]
fn unreachable_nodes_second_starts_and_missing_ends_are_found() {
    let found = problems(around(
        json!([{"id": "start", "type": "start"}, {"id": "again", "type": "start"},
            {"id": "alone", "type": "transform", "config": {"output": 1}}]),
        json!([]),
    ));
    assert!(has(&found, "/nodes/1", "several_starts"), "{found:?}");
    assert!(has(&found, "/nodes/2", "unreachable_node"), "{found:?}");
    assert!(has(&found, "/nodes", "end_missing"), "{found:?}");
}

#[test]
fn names_that_do_not_exist_are_found_before_anything_runs() {
    let found = problems(around(
        json!([{"id": "start", "type": "start"},
            {"id": "a", "type": "transform", "config": {"output": "{{ nodes.ghost.output }} {{ imput.x }}"}},
            {"id": "end", "type": "end"}]),
        json!([{"source": "start", "target": "a"}, {"source": "a", "target": "end"}]),
    ));
    assert!(has(&found, "/nodes/1/config", "unknown_node"), "{found:?}");
    assert!(has(&found, "/nodes/1/config", "unknown_name"), "{found:?}");
}

#[test]
fn credentials_are_allowed_only_in_worker_nodes() {
    let found = problems(around(
        json!([{"id": "start", "type": "start"},
            {"id": "a", "type": "transform", "config": {"output": "{{ credentials.token }}"}},
            {"id": "end", "type": "end"}]),
        json!([{"source": "start", "target": "a"}, {"source": "a", "target": "end"}]),
    ));
    assert!(has(&found, "/nodes/1/config/output", "credentials_not_allowed"), "{found:?}");
}

#[test]
fn a_document_that_is_not_an_object_is_one_problem() {
    assert_eq!(problems(json!([])), [(String::new(), "wrong_type".to_owned())]);
}

/// Bytes of everything that an answer would say.
fn said(document: &Value) -> (usize, usize) {
    let problems = Definition::parse(document).expect_err("a definition with defects");
    (problems.len(), problems.iter().map(|problem| problem.pointer.len() + problem.detail.len()).sum())
}

#[test]
fn a_long_key_over_thousands_of_bad_items_does_not_multiply() {
    let output = json!({"k".repeat(100_000): vec!["{{"; 5_000]});
    let nodes = json!([{"id": "a", "type": "transform", "config": {"output": output}}]);
    let (count, bytes) = said(&around(nodes, json!([])));
    assert!(count <= MAX_PROBLEMS && bytes < 2_000, "{count} problems in {bytes} bytes");
}

#[test]
fn names_as_long_as_a_document_are_not_repeated_in_its_problems() {
    let long = "k".repeat(100_000);
    let headers = json!({ long.as_str(): {} });
    let nodes = json!([
        {"id": "a", "type": "start", long.as_str(): 1},
        {"id": "b", "type": "http_request", "config": {"url": "https://a", "headers": headers}},
    ]);
    let (count, bytes) = said(&around(nodes, json!([{"source": "a", "target": long}])));
    assert!(count >= 3 && bytes < 2_000, "{count} problems in {bytes} bytes");
}

#[test]
fn a_document_that_is_wrong_everywhere_has_a_bounded_list_of_problems() {
    let kinds = vec![json!(1); 50_000];
    let node = json!({"id": "a", "type": "http_request", "config": {"url": "https://a"}, "retry": {"retry_on": kinds}});
    let edges = json!(vec![json!({"source": "x", "target": "y"}); 10_000]);
    for document in [
        around(json!([node]), json!([])),
        around(json!([]), edges),
        around(json!([]), json!(vec![1; 10_000])),
        around(json!(vec![1; 1_000]), json!([])),
    ] {
        assert_eq!(said(&document).0, MAX_PROBLEMS);
    }
}
