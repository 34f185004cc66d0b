//! The format read on its own, so that an error in the engine's reading is not repeated here.

use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// A graph of a document.
#[derive(Debug, Clone)]
pub(super) struct Graph<'a> {
    /// By id.
    pub(super) nodes: BTreeMap<&'a str, &'a Value>,
    pub(super) edges: Vec<Edge<'a>>,
}

/// An edge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Edge<'a> {
    pub(super) source: &'a str,
    pub(super) target: &'a str,
    pub(super) handle: Option<&'a str>,
    pub(super) back: bool,
}

impl<'a> Graph<'a> {
    pub(super) fn read(value: &'a Value) -> Self {
        let list = |field: &str| value[field].as_array().map(Vec::as_slice).unwrap_or_default();
        let nodes = list("nodes").iter().map(|node| (text(node, "id"), node)).collect();
        let edges = list("edges").iter().map(|edge| Edge {
            source: text(edge, "source"),
            target: text(edge, "target"),
            handle: edge["source_handle"].as_str(),
            back: edge["back"] == true,
        });
        Self { nodes, edges: edges.collect() }
    }

    /// The edges that lead to a node; back edges do not count.
    pub(super) fn incoming(&self, id: &str) -> Vec<Edge<'a>> {
        self.edges.iter().filter(|edge| edge.target == id && !edge.back).copied().collect()
    }

    /// All that is reachable from a node, itself included; back edges do not count.
    pub(super) fn region(&self, from: &'a str) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::from([from]);
        loop {
            let before = reached.len();
            for edge in self.edges.iter().filter(|edge| !edge.back) {
                if reached.contains(edge.source) {
                    reached.insert(edge.target);
                }
            }
            if reached.len() == before {
                return reached;
            }
        }
    }

    /// All that leads to a node, itself included; back edges do not count.
    pub(super) fn leading_to(&self, id: &'a str) -> BTreeSet<&'a str> {
        self.nodes.keys().filter(|from| self.region(from).contains(id)).copied().collect()
    }

    /// The nodes from which every way goes through a node.
    pub(super) fn only_into(&self, merge: &'a str) -> BTreeSet<&'a str> {
        let mut inside = BTreeSet::from([merge]);
        loop {
            let before = inside.len();
            for id in self.nodes.keys() {
                let mut out = self.edges.iter().filter(|edge| edge.source == *id).peekable();
                if out.peek().is_some() && out.all(|edge| inside.contains(edge.target)) {
                    inside.insert(id);
                }
            }
            if inside.len() == before {
                inside.remove(merge);
                return inside;
            }
        }
    }
}

/// The type of a node.
pub(super) fn kind(node: &Value) -> &str {
    text(node, "type")
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
