//! What a case expects, and how what came of it differs, path by path.

use domain::execution::event::ErrorKind;
use domain::execution::{ExecutionStatus, NodeState, NodeStatus};
use domain::node_type::NodeType;
use domain::workflow::definition::Definition;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fmt;

use super::fixture::{Case, read_kind};
use super::reader::{Defects, Object, place};
use super::world::{CaseOutcome, resolved};

/// The most differences that are shown of one case.
const MAX_FINDINGS: usize = 50;
/// The statuses of a node.
const NODE_STATUSES: [&str; 9] = [
    "pending",
    "scheduled",
    "running",
    "waiting",
    "completed",
    "failed",
    "skipped",
    "compensated",
    "cancelled",
];

/// What must come of a case. Where no status is named, it must complete, or fail if an error is expected.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Expectation {
    status: Option<String>,
    output: Option<Value>,
    error: Option<ExpectedError>,
    nodes: BTreeMap<String, ExpectedNode>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct ExpectedError {
    kind: Option<ErrorKind>,
    node_id: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq)]
struct ExpectedNode {
    status: Option<String>,
    output: Option<Value>,
    run: Option<u64>,
}

/// What is not as expected.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Finding {
    /// A value is another, or is missing, or should not be there.
    Differs {
        /// Where, such as `output.items[1].total`.
        path: String,
        /// What the fixture says; absent if nothing should be there.
        #[serde(skip_serializing_if = "Option::is_none")]
        expected: Option<Value>,
        /// What came; absent if nothing did.
        #[serde(skip_serializing_if = "Option::is_none")]
        found: Option<Value>,
    },
    /// The case could not run as it should.
    Problem {
        /// Why.
        problem: String,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Problem { problem } => f.write_str(problem),
            Self::Differs { path, expected: Some(expected), found: Some(found) } => {
                write!(f, "{path}: expected {expected}, found {found}")
            }
            Self::Differs { path, expected: Some(expected), found: None } => {
                write!(f, "{path}: expected {expected}, found nothing")
            }
            Self::Differs { path, found, .. } => {
                let found = found.as_ref().unwrap_or(&Value::Null);
                write!(f, "{path}: not expected, found {found}")
            }
        }
    }
}

impl Expectation {
    pub(super) fn read(
        at: &str,
        value: Value,
        definition: &Definition,
        defects: &mut Defects,
    ) -> Option<Self> {
        let mut object = Object::open(at, value, defects)?;
        let status = read_status(&mut object, &ExecutionStatus::ALL.map(ExecutionStatus::as_str), defects);
        let output = object.any("output");
        let error_at = object.at("error");
        let error = object.any("error").and_then(|error| read_error(&error_at, error, defects));
        let nodes_at = object.at("nodes");
        let mut nodes = BTreeMap::new();
        for (path, node) in object.object("nodes", defects) {
            let at = place(&nodes_at, &path);
            if definition.node(&path).is_none() {
                defects.add(&at, format!("there is no node `{path}`"));
            }
            nodes.extend(read_node(&at, node, defects).map(|node| (path, node)));
        }
        object.finish(defects);
        Some(Self { status, output, error, nodes })
    }

    /// How an outcome differs.
    pub(super) fn findings(
        &self,
        definition: &Definition,
        case: &Case,
        outcome: &CaseOutcome,
    ) -> Vec<Finding> {
        let mut found = Findings(Vec::new());
        found.0.extend(outcome.problems.iter().map(|problem| Finding::Problem { problem: problem.clone() }));
        if !found.0.is_empty() {
            // Whatever else differs follows from these.
            return found.0;
        }
        let otherwise = if self.error.is_some() { "failed" } else { "completed" };
        let status = self.status.as_deref().unwrap_or(otherwise);
        if found.compare("status", &json!(status), Some(&json!(outcome.status))) {
            found.explain(outcome);
        }
        if let Some(expected) = &self.output {
            found.compare("output", expected, Some(&resolved(&outcome.blobs, &outcome.output)));
        }
        if let Some(expected) = &self.error {
            expected.compare(outcome, &mut found);
        }
        for (path, expected) in &self.nodes {
            expected.compare(path, definition, case, outcome, &mut found);
        }
        found.0.truncate(MAX_FINDINGS);
        found.0
    }
}

fn read_error(at: &str, value: Value, defects: &mut Defects) -> Option<ExpectedError> {
    let mut object = Object::open(at, value, defects)?;
    let kind = read_kind(&mut object, defects);
    let node_id = object.text("node_id", defects);
    object.finish(defects);
    Some(ExpectedError { kind, node_id })
}

fn read_node(at: &str, value: Value, defects: &mut Defects) -> Option<ExpectedNode> {
    let mut object = Object::open(at, value, defects)?;
    let status = read_status(&mut object, &NODE_STATUSES, defects);
    let output = object.any("output");
    let run = object.number("run", defects);
    object.finish(defects);
    Some(ExpectedNode { status, output, run })
}

fn read_status(object: &mut Object, known: &[&str], defects: &mut Defects) -> Option<String> {
    let status = object.text("status", defects)?;
    if !known.contains(&status.as_str()) {
        let detail = format!("`{status}` is not a status here; use {}", known.join(", "));
        defects.add(&object.at("status"), detail);
    }
    Some(status)
}

impl ExpectedError {
    fn compare(&self, outcome: &CaseOutcome, found: &mut Findings) {
        let error = outcome.error.as_ref();
        if let Some(kind) = self.kind {
            let actual = error.map(|(_, error)| json!(error.kind));
            found.compare("error.kind", &json!(kind), actual.as_ref());
        }
        if let Some(node_id) = &self.node_id {
            let actual = error.and_then(|(node_id, _)| node_id.as_ref()).map(|id| json!(id));
            found.compare("error.node_id", &json!(node_id), actual.as_ref());
        }
    }
}

impl ExpectedNode {
    fn compare(
        &self,
        path: &str,
        definition: &Definition,
        case: &Case,
        outcome: &CaseOutcome,
        found: &mut Findings,
    ) {
        let at = place("nodes", path);
        let actual = ActualNode::of(path, definition, case, outcome);
        if let Some(status) = &self.status {
            found.compare(&format!("{at}.status"), &json!(status), Some(&json!(actual.status)));
        }
        if let Some(run) = self.run {
            found.compare(&format!("{at}.run"), &json!(run), Some(&json!(actual.run)));
        }
        if let Some(output) = &self.output {
            found.compare(&format!("{at}.output"), output, actual.output.as_ref());
        }
    }
}

/// A node as the API would show it.
struct ActualNode {
    status: &'static str,
    run: u32,
    output: Option<Value>,
}

impl ActualNode {
    fn of(path: &str, definition: &Definition, case: &Case, outcome: &CaseOutcome) -> Self {
        if let Some(node) = outcome.state.nodes.get(path) {
            let output = node.output.as_ref().map(|output| resolved(&outcome.blobs, output));
            return Self { status: status_of(path, node, outcome), run: node.run, output };
        }
        let pending = Self { status: "pending", run: 0, output: None };
        // The start and the ends of the whole graph have no events of their own.
        match definition.node(path).map(|node| node.node_type) {
            Some(NodeType::Start) if !path.contains('/') => {
                Self { status: "completed", run: 1, output: Some(case.input.clone()) }
            }
            Some(NodeType::End) if outcome.ends.iter().any(|end| end == path) => {
                let own =
                    if outcome.ends.len() > 1 { outcome.output.get(path) } else { Some(&outcome.output) };
                let output = own.map(|output| resolved(&outcome.blobs, output));
                Self { status: "completed", run: 1, output }
            }
            Some(NodeType::End) if !path.contains('/') && outcome.status == "completed" => {
                Self { status: "skipped", ..pending }
            }
            _ => pending,
        }
    }
}

fn status_of(path: &str, node: &NodeState, outcome: &CaseOutcome) -> &'static str {
    let undone = |compensation: &domain::execution::CompensationState| {
        compensation.compensated.iter().any(|(undone, run)| undone.as_ref() == path && *run == node.run)
    };
    if outcome.state.compensation.as_deref().is_some_and(undone) {
        return "compensated";
    }
    match node.status {
        NodeStatus::Pending => "pending",
        NodeStatus::Scheduled { .. } => "scheduled",
        NodeStatus::Running { .. } | NodeStatus::Iterating => "running",
        NodeStatus::Waiting { .. } | NodeStatus::BackingOff { .. } | NodeStatus::Due { .. } => "waiting",
        NodeStatus::Failed { .. } => "failed",
        NodeStatus::Completed { .. } => "completed",
        NodeStatus::Skipped => "skipped",
        NodeStatus::Cancelled => "cancelled",
    }
}

struct Findings(Vec<Finding>);

impl Findings {
    /// Compares two values part by part; says whether anything differs.
    fn compare(&mut self, path: &str, expected: &Value, found: Option<&Value>) -> bool {
        let before = self.0.len();
        match found {
            None => self.differs(path, Some(expected), None),
            Some(found) => self.values(path, expected, found),
        }
        self.0.len() > before
    }

    fn values(&mut self, path: &str, expected: &Value, found: &Value) {
        match (expected, found) {
            (Value::Object(expected), Value::Object(found)) => self.objects(path, expected, found),
            (Value::Array(expected), Value::Array(found)) => {
                for index in 0..expected.len().max(found.len()) {
                    let at = format!("{path}[{index}]");
                    self.optional(&at, expected.get(index), found.get(index));
                }
            }
            (Value::Number(a), Value::Number(b)) if same_number(a, b) => {}
            (expected, found) if expected == found => {}
            (expected, found) => self.differs(path, Some(expected), Some(found)),
        }
    }

    fn objects(&mut self, path: &str, expected: &Map<String, Value>, found: &Map<String, Value>) {
        for (name, value) in expected {
            self.optional(&place(path, name), Some(value), found.get(name));
        }
        for (name, value) in found.iter().filter(|(name, _)| !expected.contains_key(*name)) {
            self.optional(&place(path, name), None, Some(value));
        }
    }

    fn optional(&mut self, path: &str, expected: Option<&Value>, found: Option<&Value>) {
        match (expected, found) {
            (Some(expected), Some(found)) => self.values(path, expected, found),
            (None, None) => {}
            (expected, found) => self.differs(path, expected, found),
        }
    }

    fn differs(&mut self, path: &str, expected: Option<&Value>, found: Option<&Value>) {
        self.0.push(Finding::Differs {
            path: path.to_owned(),
            expected: expected.cloned(),
            found: found.cloned(),
        });
    }

    /// Why the status is not the expected one, as far as the outcome tells.
    fn explain(&mut self, outcome: &CaseOutcome) {
        if let Some((node_id, error)) = &outcome.error {
            let place = node_id.as_ref().map(|id| format!("node `{id}`: ")).unwrap_or_default();
            let kind = json!(error.kind);
            let kind = kind.as_str().unwrap_or_default();
            self.0.push(Finding::Problem { problem: format!("it failed: {place}{kind}: {}", error.message) });
        }
        for path in &outcome.state.waits {
            self.0.push(Finding::Problem { problem: format!("node `{path}` still waits") });
        }
    }
}

/// 3 and 3.0 are one number in JSON.
fn same_number(a: &serde_json::Number, b: &serde_json::Number) -> bool {
    a == b || (a.is_f64() != b.is_f64() && a.as_f64() == b.as_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(expected: Value, found: Value) -> Vec<String> {
        let mut findings = Findings(Vec::new());
        findings.compare("output", &expected, Some(&found));
        findings.0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_difference_names_the_innermost_place() {
        let expected = json!({"a": [1, {"b": 2}], "gone": null, "x y": "z"});
        let found = json!({"a": [1, {"b": 3}, 4], "x y": "z", "more": true});
        assert_eq!(
            differences(expected, found),
            [
                "output.a[1].b: expected 2, found 3",
                "output.a[2]: not expected, found 4",
                "output.gone: expected null, found nothing",
                "output.more: not expected, found true",
            ]
        );
        assert_eq!(differences(json!([1]), json!("1")), ["output: expected [1], found \"1\""]);
    }

    #[test]
    fn a_number_is_the_same_with_and_without_a_point() {
        assert_eq!(differences(json!([3, 3.0, 0]), json!([3.0, 3, -0.0])), [""; 0]);
        assert_eq!(differences(json!(9_007_199_254_740_993_u64), json!(9_007_199_254_740_992_u64)).len(), 1);
    }
}
