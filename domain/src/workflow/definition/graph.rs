//! The graph: nodes, edges, back edges, and an order in which every node comes after all that lead to it.
//!
//! Back edges are not among the edges that lead to a node: a node's readiness never depends on them. Graphs inside
//! `loop` and `parallel` nodes are graphs of the same kind. A graph never changes; `connect` alone makes one.

use std::collections::HashSet;

use super::NodeIndex;
use super::node::Node;

/// A valid edge, by node index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Where it comes from.
    pub source: usize,
    /// Where it leads.
    pub target: usize,
    /// The handle by which it leaves its source; `None` is the plain one.
    pub handle: Option<String>,
    /// Its place in the document's list.
    pub index: usize,
}

/// Nodes and edges that fit together.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Where it stands in the document.
    pub(super) pointer: String,
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
    pub(super) back_edges: Vec<Edge>,
    pub(super) incoming: Vec<Vec<usize>>,
    pub(super) outgoing: Vec<Vec<usize>>,
    pub(super) leading_back: Vec<Vec<usize>>,
    /// Nodes that run only as compensation.
    pub(super) compensators: Vec<bool>,
    pub(super) order: Vec<usize>,
    pub(super) index: NodeIndex,
    /// Ids of nodes that could not be read: the graph is refused, and what refers to them is not reported again.
    pub(super) unread: HashSet<String>,
}

impl Graph {
    /// Where it stands in the document: a JSON pointer.
    pub fn pointer(&self) -> &str {
        &self.pointer
    }

    /// The nodes, in the document's order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node with an id.
    pub fn node(&self, id: &str) -> Option<&Node> {
        self.index.get(id).map(|index| &self.nodes[*index])
    }

    /// Node indices, each after all that lead to it; among equals in the document's order.
    pub fn order(&self) -> &[usize] {
        &self.order
    }

    /// The place of a node by its id.
    pub fn index_of(&self, id: &str) -> Option<usize> {
        self.index.get(id).copied()
    }

    /// The edges that lead to a node, in the document's order; back edges are not among them.
    pub fn incoming(&self, node: usize) -> impl Iterator<Item = &Edge> {
        self.incoming[node].iter().map(|edge| &self.edges[*edge])
    }

    /// The edges that leave a node; back edges are not among them.
    pub fn outgoing(&self, node: usize) -> impl Iterator<Item = &Edge> {
        self.outgoing[node].iter().map(|edge| &self.edges[*edge])
    }

    /// The back edges that leave a node.
    pub fn back_from(&self, node: usize) -> impl Iterator<Item = &Edge> {
        self.leading_back[node].iter().map(|edge| &self.back_edges[*edge])
    }

    /// Whether anything may run again.
    pub fn has_back_edges(&self) -> bool {
        !self.back_edges.is_empty()
    }

    /// Whether a node runs only as compensation.
    pub fn is_compensator(&self, node: usize) -> bool {
        self.compensators[node]
    }

    /// What taking a back edge to a node runs again: all that is reachable from it, itself included, in order.
    pub fn region(&self, target: usize) -> Vec<usize> {
        let reached = self.reach(target);
        self.order.iter().copied().filter(|node| reached[*node]).collect()
    }

    /// What can only lead into a node, in order: from each of these every way goes through it.
    pub fn only_into(&self, node: usize) -> Vec<usize> {
        let mut inside = vec![false; self.nodes.len()];
        inside[node] = true;
        let mut found = Vec::new();
        // Backwards, so that all that a node leads to is known before it.
        for &candidate in self.order.iter().rev() {
            let mut targets = self.outgoing(candidate).chain(self.back_from(candidate)).peekable();
            if candidate != node && targets.peek().is_some() && targets.all(|edge| inside[edge.target]) {
                inside[candidate] = true;
                found.push(candidate);
            }
        }
        found.reverse();
        found
    }

    /// What can be reached from a node, itself included.
    pub(super) fn reach(&self, from: usize) -> Vec<bool> {
        let mut seen = vec![false; self.nodes.len()];
        let mut stack = vec![from];
        while let Some(node) = stack.pop() {
            if !std::mem::replace(&mut seen[node], true) {
                stack.extend(self.outgoing(node).map(|edge| edge.target));
            }
        }
        seen
    }
}
