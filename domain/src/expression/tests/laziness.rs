//! Scopes are asked for one step at a time.

use crate::blob::BlobRef;
use crate::expression::{Binding, EvaluationError, Fuel, Object, Program, Scope};
use crate::time::Timestamp;
use serde_json::{Value, json};
use std::cell::RefCell;
use uuid::Uuid;

/// Nodes `small` and `large`; the output of `large` lies in a blob.
struct Nodes {
    small: Value,
    asked: RefCell<Vec<String>>,
}

struct NodesObject<'a>(&'a Nodes);
struct NodeObject<'a>(&'a Nodes, bool);

impl Scope for Nodes {
    fn name<'a>(&'a self, name: &str) -> Binding<'a> {
        self.asked.borrow_mut().push(name.to_owned());
        if name == "nodes" { Binding::Object(Box::new(NodesObject(self))) } else { Binding::Missing }
    }

    fn now(&self) -> Timestamp {
        Timestamp::default()
    }

    fn uuid(&self, _: u32) -> Uuid {
        Uuid::nil()
    }
}

impl<'a> Object<'a> for NodesObject<'a> {
    fn get(&self, key: &str) -> Binding<'a> {
        self.0.asked.borrow_mut().push(key.to_owned());
        match key {
            "small" | "large" => Binding::Object(Box::new(NodeObject(self.0, key == "large"))),
            _ => Binding::Missing,
        }
    }

    fn keys(&self) -> Vec<String> {
        vec!["small".to_owned(), "large".to_owned()]
    }
}

impl<'a> Object<'a> for NodeObject<'a> {
    fn get(&self, key: &str) -> Binding<'a> {
        self.0.asked.borrow_mut().push(key.to_owned());
        match (key, self.1) {
            ("output", false) => Binding::Value(&self.0.small),
            ("output", true) => Binding::NeedsBlob(blob()),
            ("count", _) => Binding::Owned(json!({"n": [1, 2]})),
            _ => Binding::Missing,
        }
    }

    fn keys(&self) -> Vec<String> {
        vec!["count".to_owned(), "output".to_owned()]
    }
}

fn blob() -> BlobRef {
    BlobRef { sha256: "ab".to_owned(), bytes: 70_000, media_type: "application/json".to_owned() }
}

fn evaluate(source: &str) -> (Result<Value, EvaluationError>, Vec<String>) {
    let nodes = Nodes { small: json!({"total": 7}), asked: RefCell::default() };
    let program = Program::parse(source).expect("a program");
    let result = program.evaluate(&nodes, &mut Fuel::standard());
    (result, nodes.asked.into_inner())
}

#[test]
fn only_the_path_to_the_leaf_is_asked_for() {
    let (result, asked) = evaluate("nodes.small.output.total + 1");
    assert_eq!(result, Ok(json!(8)));
    assert_eq!(asked, ["nodes", "small", "output"]);
}

#[test]
fn a_value_in_a_blob_must_be_fetched_and_is_never_absorbed() {
    assert_eq!(evaluate("nodes.large.output.x").0, Err(EvaluationError::NeedsBlob(blob())));
    assert_eq!(evaluate("nodes.large.output.x || true").0, Err(EvaluationError::NeedsBlob(blob())));
    assert_eq!(evaluate("true || nodes.large.output.x").0, Ok(json!(true)));
}

#[test]
fn has_does_not_fetch_what_it_finds() {
    assert_eq!(evaluate("has(nodes.large.output) && 'output' in nodes.large").0, Ok(json!(true)));
    assert_eq!(evaluate("has(nodes.other.output)").0, Ok(json!(false)));
    assert_eq!(evaluate("has(nodes.large.output.x)").0, Err(EvaluationError::NeedsBlob(blob())));
}

#[test]
fn objects_are_maps_in_every_other_way() {
    assert_eq!(evaluate("nodes.small").0, Ok(json!({"count": {"n": [1, 2]}, "output": {"total": 7}})));
    assert_eq!(evaluate("size(nodes) == 2 && nodes.small == nodes.small").0, Ok(json!(true)));
    assert_eq!(evaluate("nodes.map(id, nodes[id].count.n[1])").0, Ok(json!([2, 2])));
    let (result, _) = evaluate("nodes.smal");
    assert!(result.expect_err("missing").to_string().contains("there is large, small"));
}
