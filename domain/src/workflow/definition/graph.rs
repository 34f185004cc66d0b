//! The graph: edges, handles, back edges, and an order in which every node comes after all that lead to it.
//!
//! Back edges are not among the edges that lead to a node: a node's readiness never depends on them. Graphs inside
//! `loop` and `parallel` nodes are graphs of the same kind.

use serde_json::Value;

use crate::node_type::NodeType;
use crate::nodes::NodeConfig;
use crate::rejection::Problem;

use super::NodeIndex;
use super::node::{Node, OnError};
use super::problems::Problems;
use super::reader::{Reader, shown};

/// Edges that are followed to see whether they lie on a cycle; each walk may visit the whole graph.
const MAX_CYCLE_CHECKS: usize = 1_000;

/// A valid edge, by node index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// Where it comes from.
    pub source: usize,
    /// Where it leads.
    pub target: usize,
    /// The handle by which it leaves its source; `None` is the plain one.
    pub handle: Option<String>,
}

/// Nodes and edges that fit together.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    /// Where it stands in the document.
    pointer: String,
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    back_edges: Vec<Edge>,
    incoming: Vec<Vec<usize>>,
    outgoing: Vec<Vec<usize>>,
    leading_back: Vec<Vec<usize>>,
    /// Nodes that run only as compensation.
    compensators: Vec<bool>,
    order: Vec<usize>,
    index: NodeIndex,
}

/// An edge as it stands in the document.
pub(super) struct RawEdge {
    pointer: String,
    source: String,
    target: String,
    handle: Option<String>,
    back: bool,
}

/// Reads an edge of the `edges` list.
pub(super) fn parse_edge(
    _index: usize,
    value: &Value,
    pointer: &str,
    problems: &mut Problems,
) -> Option<RawEdge> {
    let mut reader = Reader::open(value, pointer, problems)?;
    let source = reader.required_text("source");
    let target = reader.required_text("target");
    let handle = reader.text("source_handle").map(str::to_owned);
    reader.text("id");
    reader.text("label");
    reader.ignore(&["target_handle", "position", "notes", "ui"]);
    let back = reader.flag("back") == Some(true);
    reader.finish();
    Some(RawEdge {
        pointer: pointer.to_owned(),
        source: source?.to_owned(),
        target: target?.to_owned(),
        handle,
        back,
    })
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

    /// What can only lead into a node: from each of these every way goes through it.
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
        found
    }

    /// Reads a graph inside another: an object with `nodes` and `edges`.
    pub(super) fn read(value: &Value, pointer: &str, problems: &mut Problems) -> Option<Self> {
        if !problems.go_down(pointer) {
            return None;
        }
        let graph = Self::read_fields(value, pointer, problems);
        problems.come_up();
        graph
    }

    fn read_fields(value: &Value, pointer: &str, problems: &mut Problems) -> Option<Self> {
        let mut reader = Reader::open(value, pointer, problems)?;
        let nodes = reader.required_list("nodes");
        let edges = reader.required_list("edges");
        reader.ignore(&["position", "notes", "ui"]);
        reader.finish();
        Some(super::document::read_graph(nodes?, edges?, pointer, problems))
    }

    /// Joins nodes and edges, reporting everything that does not fit.
    pub(super) fn build(
        pointer: &str,
        nodes: Vec<Node>,
        raw: Vec<RawEdge>,
        sound_before: bool,
        problems: &mut Problems,
    ) -> Self {
        let index: NodeIndex = nodes.iter().enumerate().map(|(at, node)| (node.id.clone(), at)).collect();
        let count = nodes.len();
        let mut graph = Self {
            pointer: pointer.to_owned(),
            incoming: vec![Vec::new(); count],
            outgoing: vec![Vec::new(); count],
            leading_back: vec![Vec::new(); count],
            compensators: vec![false; count],
            nodes,
            index,
            ..Self::default()
        };
        graph.find_compensators(sound_before, problems);
        let mut back = Vec::new();
        for edge in raw {
            if problems.is_full() {
                break;
            }
            let (is_back, at) = (edge.back, edge.pointer.clone());
            let Some(edge) = graph.resolve(edge, sound_before, problems) else { continue };
            if is_back {
                back.push((at, edge));
            } else {
                graph.incoming[edge.target].push(graph.edges.len());
                graph.outgoing[edge.source].push(graph.edges.len());
                graph.edges.push(edge);
            }
        }
        if sound_before {
            graph.check_starts_and_ends(problems);
            graph.sort(problems);
            graph.check_reachable(problems);
        }
        for (at, edge) in back {
            if sound_before && edge.source != edge.target && !graph.reach(edge.target)[edge.source] {
                let (source, target) = (&graph.nodes[edge.source].id, &graph.nodes[edge.target].id);
                let detail = format!("a back edge leads to an ancestor; no way leads from `{target}` to `{source}`");
                problems.push(Problem::new(at, "back_edge_not_back", detail));
            }
            graph.leading_back[edge.source].push(graph.back_edges.len());
            graph.back_edges.push(edge);
        }
        graph
    }

    /// Marks the nodes that others name in `compensate`.
    fn find_compensators(&mut self, report_missing: bool, problems: &mut Problems) {
        for at in 0..self.nodes.len() {
            let Some(id) = self.nodes[at].compensate.clone() else { continue };
            let pointer = format!("{}/nodes/{}/compensate", self.pointer, self.nodes[at].index);
            match self.index.get(&id).copied() {
                None if report_missing => {
                    let detail = format!("there is no node `{}` in this graph", shown(&id));
                    problems.push(Problem::new(pointer, "unknown_node", detail));
                }
                None => {}
                Some(found) if found == at || !self.nodes[found].node_type.can_compensate() => {
                    let detail = format!("`{id}` cannot undo another node's work");
                    problems.push(Problem::new(pointer, "invalid_compensation", detail));
                }
                Some(found) => self.compensators[found] = true,
            }
        }
    }

    fn resolve(&self, raw: RawEdge, report_missing: bool, problems: &mut Problems) -> Option<Edge> {
        let mut find = |field: &str, id: &str| {
            let found = self.index.get(id).copied();
            if found.is_none() && report_missing {
                problems.push(Problem::new(
                    format!("{}/{field}", raw.pointer),
                    if field == "source" { "unknown_edge_source" } else { "unknown_edge_target" },
                    format!("there is no node `{}`", shown(id)),
                ));
            }
            found
        };
        let source = find("source", &raw.source);
        let target = find("target", &raw.target);
        let (source, target) = (source?, target?);
        self.check_handle(&self.nodes[source], &raw, problems);
        for (field, at) in [("source", source), ("target", target)] {
            if self.compensators[at] {
                let detail = format!("`{}` runs only as compensation; no edge joins it", self.nodes[at].id);
                problems.push(Problem::new(format!("{}/{field}", raw.pointer), "invalid_compensation", detail));
            }
        }
        if self.nodes[source].node_type == NodeType::End {
            problems.push(Problem::new(
                format!("{}/source", raw.pointer),
                "edge_from_end",
                "no edge leaves an `end`",
            ));
        }
        if self.nodes[target].node_type == NodeType::Start {
            problems.push(Problem::new(
                format!("{}/target", raw.pointer),
                "edge_to_start",
                "no edge leads to the `start`",
            ));
        }
        Some(Edge { source, target, handle: raw.handle })
    }

    fn check_handle(&self, source: &Node, raw: &RawEdge, problems: &mut Problems) {
        let mut handles: Vec<&str> = match &source.config {
            NodeConfig::Condition(_) => vec!["true", "false"],
            NodeConfig::Switch(switch) => switch.case_names().chain(["default"]).collect(),
            _ => Vec::new(),
        };
        let branches = !handles.is_empty();
        if source.on_error == OnError::Route {
            handles.push("error");
        }
        let fits = match &raw.handle {
            Some(handle) => handles.contains(&handle.as_str()),
            None => !branches,
        };
        if !fits {
            let detail = if handles.is_empty() {
                format!("`{}` has only the plain handle; leave `source_handle` out", source.id)
            } else {
                format!("an edge from `{}` has a `source_handle`: {}", source.id, handles.join(", "))
            };
            problems.push(Problem::new(format!("{}/source_handle", raw.pointer), "invalid_handle", detail));
        }
    }

    fn check_starts_and_ends(&self, problems: &mut Problems) {
        let of = |wanted| self.nodes.iter().filter(move |node| node.node_type == wanted);
        match of(NodeType::Start).count() {
            1 => {}
            0 => problems.push(Problem::new(format!("{}/nodes", self.pointer), "start_missing", "there is no node of type `start`")),
            _ => {
                for node in of(NodeType::Start).skip(1) {
                    problems.push(Problem::new(
                        format!("{}/nodes/{}", self.pointer, node.index),
                        "several_starts",
                        "there is more than one node of type `start`",
                    ));
                }
            }
        }
        if of(NodeType::End).next().is_none() {
            problems.push(Problem::new(format!("{}/nodes", self.pointer), "end_missing", "there is no node of type `end`"));
        }
    }

    /// Kahn's algorithm (Kahn 1962, "Topological sorting of large networks"), smallest index first.
    fn sort(&mut self, problems: &mut Problems) {
        let mut open: Vec<usize> = self.incoming.iter().map(Vec::len).collect();
        let mut ready: std::collections::BTreeSet<usize> =
            (0..self.nodes.len()).filter(|node| open[*node] == 0).collect();
        while let Some(node) = ready.pop_first() {
            self.order.push(node);
            for edge in &self.outgoing[node] {
                let target = self.edges[*edge].target;
                open[target] -= 1;
                if open[target] == 0 {
                    ready.insert(target);
                }
            }
        }
        if self.order.len() == self.nodes.len() {
            return;
        }
        // What is left lies on a cycle or behind one; name only the edges inside cycles' remainder.
        let suspects =
            self.edges.iter().enumerate().filter(|(_, e)| open[e.source] > 0 && open[e.target] > 0);
        for (at, edge) in suspects.take(MAX_CYCLE_CHECKS) {
            if self.reach(edge.target)[edge.source] {
                problems.push(Problem::new(
                    format!("{}/edges/{at}", self.pointer),
                    "cycle",
                    format!(
                        "the edge from `{}` to `{}` lies on a cycle; mark the one that leads back with `back: true`",
                        self.nodes[edge.source].id, self.nodes[edge.target].id
                    ),
                ));
            }
            if problems.is_full() {
                return;
            }
        }
    }

    /// What can be reached from a node, itself included.
    fn reach(&self, from: usize) -> Vec<bool> {
        let mut seen = vec![false; self.nodes.len()];
        let mut stack = vec![from];
        while let Some(node) = stack.pop() {
            if !std::mem::replace(&mut seen[node], true) {
                stack.extend(self.outgoing(node).map(|edge| edge.target));
            }
        }
        seen
    }

    fn check_reachable(&self, problems: &mut Problems) {
        let Some(start) = self.nodes.iter().position(|node| node.node_type == NodeType::Start) else {
            return;
        };
        let seen = self.reach(start);
        for (at, node) in self.nodes.iter().enumerate() {
            if !seen[at] && node.node_type != NodeType::Start && !self.compensators[at] {
                problems.push(Problem::new(
                    format!("{}/nodes/{}", self.pointer, node.index),
                    "unreachable_node",
                    format!("no way leads from the start to `{}`", node.id),
                ));
            }
        }
    }
}
