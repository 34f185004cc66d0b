//! The graph: edges, handles, and an order in which every node comes after all that lead to it.

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
    nodes: Vec<Node>,
    edges: Vec<Edge>,
    incoming: Vec<Vec<usize>>,
    order: Vec<usize>,
    index: NodeIndex,
}

/// An edge as it stands in the document.
pub(super) struct RawEdge {
    pointer: String,
    source: String,
    target: String,
    handle: Option<String>,
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
    if reader.flag("back") == Some(true) {
        reader.report("back", "not_supported_yet", "back edges come in a later release");
    }
    reader.finish();
    Some(RawEdge {
        pointer: pointer.to_owned(),
        source: source?.to_owned(),
        target: target?.to_owned(),
        handle,
    })
}

impl Graph {
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

    /// The edges that lead to a node.
    pub fn incoming(&self, node: usize) -> impl Iterator<Item = &Edge> {
        self.incoming[node].iter().map(|edge| &self.edges[*edge])
    }

    /// Joins nodes and edges, reporting everything that does not fit.
    pub(super) fn build(nodes: Vec<Node>, raw: Vec<RawEdge>, problems: &mut Problems) -> Self {
        let index: NodeIndex = nodes.iter().enumerate().map(|(at, node)| (node.id.clone(), at)).collect();
        // Nodes that did not parse are not in the index: an edge to one would only repeat the first report.
        let sound_before = problems.is_empty();
        let mut graph = Self { incoming: vec![Vec::new(); nodes.len()], nodes, index, ..Self::default() };
        for edge in raw {
            if problems.is_full() {
                break;
            }
            if let Some(edge) = graph.resolve(edge, sound_before, problems) {
                graph.incoming[edge.target].push(graph.edges.len());
                graph.edges.push(edge);
            }
        }
        if sound_before {
            graph.check_starts_and_ends(problems);
            graph.sort(problems);
            graph.check_reachable(problems);
        }
        graph
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
            NodeConfig::Start(_)
            | NodeConfig::End(_)
            | NodeConfig::Transform(_)
            | NodeConfig::Delay(_)
            | NodeConfig::HttpRequest(_) => Vec::new(),
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
            0 => problems.push(Problem::new("/nodes", "start_missing", "there is no node of type `start`")),
            _ => {
                for node in of(NodeType::Start).skip(1) {
                    problems.push(Problem::new(
                        format!("/nodes/{}", node.index),
                        "several_starts",
                        "there is more than one node of type `start`",
                    ));
                }
            }
        }
        if of(NodeType::End).next().is_none() {
            problems.push(Problem::new("/nodes", "end_missing", "there is no node of type `end`"));
        }
    }

    /// Kahn's algorithm (Kahn 1962, "Topological sorting of large networks"), smallest index first.
    fn sort(&mut self, problems: &mut Problems) {
        let mut open: Vec<usize> = self.incoming.iter().map(Vec::len).collect();
        let mut outgoing = vec![Vec::new(); self.nodes.len()];
        for edge in &self.edges {
            outgoing[edge.source].push(edge.target);
        }
        let mut ready: std::collections::BTreeSet<usize> =
            (0..self.nodes.len()).filter(|node| open[*node] == 0).collect();
        while let Some(node) = ready.pop_first() {
            self.order.push(node);
            for target in &outgoing[node] {
                open[*target] -= 1;
                if open[*target] == 0 {
                    ready.insert(*target);
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
            if self.reach(edge.target, &outgoing)[edge.source] {
                problems.push(Problem::new(
                    format!("/edges/{at}"),
                    "cycle",
                    format!(
                        "the edge from `{}` to `{}` lies on a cycle",
                        self.nodes[edge.source].id, self.nodes[edge.target].id
                    ),
                ));
            }
            if problems.is_full() {
                return;
            }
        }
    }

    fn reach(&self, from: usize, outgoing: &[Vec<usize>]) -> Vec<bool> {
        let mut seen = vec![false; self.nodes.len()];
        let mut stack = vec![from];
        while let Some(node) = stack.pop() {
            if !std::mem::replace(&mut seen[node], true) {
                stack.extend(&outgoing[node]);
            }
        }
        seen
    }

    fn check_reachable(&self, problems: &mut Problems) {
        let Some(start) = self.nodes.iter().position(|node| node.node_type == NodeType::Start) else {
            return;
        };
        let mut outgoing = vec![Vec::new(); self.nodes.len()];
        for edge in &self.edges {
            outgoing[edge.source].push(edge.target);
        }
        let seen = self.reach(start, &outgoing);
        for (at, node) in self.nodes.iter().enumerate() {
            if !seen[at] && node.node_type != NodeType::Start {
                problems.push(Problem::new(
                    format!("/nodes/{}", node.index),
                    "unreachable_node",
                    format!("no way leads from the start to `{}`", node.id),
                ));
            }
        }
    }
}
