//! What differs between two executions, or between two versions of one, node by node.
//!
//! Compared is what happened, not when: two executions of the same course are the same. Large values are compared by
//! their claim checks, which name their content's hash. Bounded: a page of nodes at a time, in the order of their paths.

use serde::Serialize;
use serde_json::{Value, json};
use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::node_type::NodeType;

use super::view::{Bodies, ExecutionView, NodeView};

/// One side of a comparison.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// The execution; with [`ExecutionView::with_all_nodes`], nodes that one side has not reached are compared too.
    pub view: &'a ExecutionView,
    /// All nodes of its bodies.
    pub bodies: &'a Bodies,
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExecutionDiff {
    /// What differs of the executions themselves, by the name of the field.
    pub execution: Fields,
    /// The nodes that differ, in the order of their paths.
    pub nodes: Vec<NodeDiff>,
    /// The path of the last of them, if there are more.
    #[serde(skip)]
    pub next: Option<String>,
}

/// Fields that differ, by name.
pub type Fields = BTreeMap<&'static str, FieldDiff>;

/// Both values of a field.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FieldDiff {
    /// On the one side; null where it has none.
    pub from: Value,
    /// On the other.
    pub to: Value,
}

/// A node that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeDiff {
    /// Its path.
    pub id: String,
    /// Its type, on the other side if it is there.
    #[serde(rename = "type")]
    pub node_type: NodeType,
    /// How.
    pub change: Change,
    /// The fields that differ, by name.
    pub fields: Fields,
}

/// How a node differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Only the other side has it.
    Added,
    /// Only the one side has it.
    Removed,
    /// Both have it.
    Changed,
}

/// What differs from `from` to `to`: at most `limit` nodes, of those after the path `after`.
pub fn diff(from: Side<'_>, to: Side<'_>, after: Option<&str>, limit: usize) -> ExecutionDiff {
    let (ours, theirs) = (by_path(from), by_path(to));
    let mut paths: Vec<&Path<'_>> = ours.keys().chain(theirs.keys()).collect();
    paths.sort_unstable();
    paths.dedup();
    let after = after.map(Path);
    let mut nodes = Vec::new();
    let mut next = None;
    for path in paths {
        if after.as_ref().is_some_and(|after| path <= after) {
            continue;
        }
        let Some(found) = node_diff(path.0, ours.get(path).copied(), theirs.get(path).copied()) else {
            continue;
        };
        if nodes.len() == limit {
            next = nodes.last().map(|last: &NodeDiff| last.id.clone());
            break;
        }
        nodes.push(found);
    }
    ExecutionDiff { execution: fields(execution_fields(from.view), execution_fields(to.view)), nodes, next }
}

fn by_path(side: Side<'_>) -> BTreeMap<Path<'_>, &NodeView> {
    let nodes = side.view.nodes.iter().chain(side.bodies.nodes());
    nodes.map(|node| (Path(&node.id), node)).collect()
}

fn node_diff(path: &str, from: Option<&NodeView>, to: Option<&NodeView>) -> Option<NodeDiff> {
    let change = match (from, to) {
        (Some(from), Some(to)) if is_same(from, to) => return None,
        (Some(_), Some(_)) => Change::Changed,
        (Some(_), None) => Change::Removed,
        (None, _) => Change::Added,
    };
    let node_type = to.or(from)?.node_type;
    let fields = fields(node_fields(from), node_fields(to));
    Some(NodeDiff { id: path.to_owned(), node_type, change, fields })
}

/// Whether nothing that is compared differs. Says the same as [`node_fields`], without building values.
fn is_same(from: &NodeView, to: &NodeView) -> bool {
    let child = |node: &NodeView| node.child.as_ref().map(|child| child.status);
    from.node_type == to.node_type
        && from.status == to.status
        && from.run == to.run
        && from.attempt == to.attempt
        && from.output == to.output
        && from.error == to.error
        && from.iterations == to.iterations
        && child(from) == child(to)
}

/// What is compared of a node. Not the times, and not the id of a child: those always differ.
fn node_fields(node: Option<&NodeView>) -> Vec<(&'static str, Value)> {
    let Some(node) = node else { return Vec::new() };
    vec![
        ("type", json!(node.node_type)),
        ("status", json!(node.status)),
        ("run", json!(node.run)),
        ("attempt", json!(node.attempt)),
        ("output", node.output.clone()),
        ("error", json!(node.error)),
        ("iterations", json!(node.iterations)),
        ("child_status", json!(node.child.as_ref().map(|child| child.status))),
    ]
}

/// What is compared of an execution. Its duration is the one measure of time.
fn execution_fields(view: &ExecutionView) -> Vec<(&'static str, Value)> {
    let compensation = view.compensation.as_ref();
    vec![
        ("workflow_id", json!(view.workflow_id)),
        ("workflow_version", json!(view.workflow_version)),
        ("status", json!(view.status)),
        ("paused", json!(view.paused)),
        ("input", view.input.clone()),
        ("output", view.output.clone()),
        ("error", json!(view.error)),
        ("cancel_reason", json!(view.cancel_reason)),
        ("duration_ms", json!(view.duration_ms)),
        ("priority", json!(view.priority)),
        ("attributes", json!(view.attributes)),
        ("ends", json!(view.ends)),
        ("compensation", json!(compensation.map(|undo| undo.status))),
    ]
}

/// The fields whose values differ; what one side does not have is null there.
fn fields(from: Vec<(&'static str, Value)>, to: Vec<(&'static str, Value)>) -> Fields {
    let mut found: Fields =
        from.into_iter().map(|(name, from)| (name, FieldDiff { from, to: Value::Null })).collect();
    for (name, to) in to {
        found.entry(name).or_insert(FieldDiff { from: Value::Null, to: Value::Null }).to = to;
    }
    found.retain(|_, field| field.from != field.to);
    found
}

/// A path, in an order that has the tenth iteration after the ninth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Path<'a>(&'a str);

impl Ord for Path<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        let (mut ours, mut theirs) = (self.0.split('/'), other.0.split('/'));
        loop {
            let order = match (ours.next(), theirs.next()) {
                (Some(a), Some(b)) => match (a.parse::<u32>(), b.parse::<u32>()) {
                    (Ok(a), Ok(b)) => a.cmp(&b),
                    _ => a.cmp(b),
                },
                // Unequal texts may be equal as numbers only where nobody writes them: `loop/03`.
                (None, None) => return self.0.cmp(other.0),
                (a, b) => return a.is_some().cmp(&b.is_some()),
            };
            if order != Ordering::Equal {
                return order;
            }
        }
    }
}

impl PartialOrd for Path<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenth_iteration_comes_after_the_ninth_and_after_the_loop_itself() {
        let mut paths = ["loop/10/a", "loop/9/a", "loop", "loop/9/inner/2/x", "loop2", "a"].map(Path);
        paths.sort_unstable();
        assert_eq!(
            paths.map(|path| path.0),
            ["a", "loop", "loop/9/a", "loop/9/inner/2/x", "loop/10/a", "loop2"]
        );
    }
}
