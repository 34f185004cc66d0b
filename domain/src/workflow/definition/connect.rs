//! Joins the nodes and edges of a document to a [`Graph`], and reports all that does not fit.
//!
//! Two kinds of checks. Those of one edge or one `compensate` are always made. Those of the whole (starts and ends,
//! cycles, what is reachable, where back edges lead) are made only if every node and edge could be read: over a part
//! of a graph they would report what is not so.

use serde_json::Value;
use std::collections::{BTreeSet, HashMap, HashSet};

use crate::node_type::NodeType;
use crate::nodes::{MergeMode, NodeConfig};
use crate::rejection::Problem;

use super::NodeIndex;
use super::edge::RawEdge;
use super::graph::{Edge, Graph};
use super::node::Node;
use super::problems::Problems;
use super::reader::{Reader, shown};

/// Edges that are followed to see whether they lie on a cycle; each walk may visit the whole graph.
const MAX_CYCLE_CHECKS: usize = 1_000;

/// What could be read of a graph's nodes and edges.
pub(super) struct Parts {
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<RawEdge>,
    /// Ids of the nodes that could not be read.
    pub(super) unread: HashSet<String>,
    /// Whether everything could be read.
    pub(super) sound: bool,
}

/// Reads a graph inside another: an object with `nodes` and `edges`.
pub(super) fn read(value: &Value, pointer: &str, problems: &mut Problems) -> Option<Graph> {
    if !problems.go_down(pointer) {
        return None;
    }
    let graph = read_fields(value, pointer, problems);
    problems.come_up();
    graph
}

fn read_fields(value: &Value, pointer: &str, problems: &mut Problems) -> Option<Graph> {
    let mut reader = Reader::open(value, pointer, problems)?;
    let nodes = reader.required_list("nodes");
    let edges = reader.required_list("edges");
    reader.ignore(&["position", "notes", "ui"]);
    reader.finish();
    Some(super::document::read_graph(nodes?, edges?, pointer, problems))
}

/// Joins nodes and edges, reporting everything that does not fit.
pub(super) fn build(pointer: &str, parts: Parts, problems: &mut Problems) -> Graph {
    let Parts { nodes, edges, unread, sound } = parts;
    let index: NodeIndex = nodes.iter().enumerate().map(|(at, node)| (node.id.clone(), at)).collect();
    let count = nodes.len();
    let mut graph = Graph {
        pointer: pointer.to_owned(),
        incoming: vec![Vec::new(); count],
        outgoing: vec![Vec::new(); count],
        leading_back: vec![Vec::new(); count],
        compensators: vec![false; count],
        nodes,
        index,
        unread,
        ..Graph::default()
    };
    mark_compensators(&mut graph, problems);
    for raw in edges {
        if problems.is_full() {
            break;
        }
        let Some(edge) = resolve(&graph, &raw, problems) else { continue };
        if raw.back {
            graph.leading_back[edge.source].push(graph.back_edges.len());
            graph.back_edges.push(edge);
        } else {
            graph.incoming[edge.target].push(graph.edges.len());
            graph.outgoing[edge.source].push(graph.edges.len());
            graph.edges.push(edge);
        }
    }
    if sound {
        check_starts_and_ends(&graph, problems);
        sort(&mut graph);
        if graph.order.len() == graph.nodes.len() {
            check_back_edges(&graph, problems);
        } else {
            report_cycles(&graph, problems);
        }
        check_reachable(&graph, problems);
        check_merges(&graph, problems);
    }
    graph
}

/// Marks the nodes that others name in `compensate`.
fn mark_compensators(graph: &mut Graph, problems: &mut Problems) {
    let mut refuse = |graph: &Graph, at: usize, code: &'static str, detail: String| {
        let pointer = format!("{}/nodes/{}/compensate", graph.pointer, graph.nodes[at].index);
        problems.push(Problem::new(pointer, code, detail));
    };
    for at in 0..graph.nodes.len() {
        let Some(id) = graph.nodes[at].compensate.clone() else { continue };
        match graph.index.get(&id).copied() {
            None if graph.unread.contains(&id) => {}
            None => {
                refuse(graph, at, "unknown_node", format!("there is no node `{}` in this graph", shown(&id)))
            }
            Some(found) if found == at => {
                refuse(graph, at, "invalid_compensation", format!("`{id}` cannot undo its own work"));
            }
            Some(found) if !graph.nodes[found].node_type.can_compensate() => {
                let kind = graph.nodes[found].node_type.as_str();
                let detail = format!("`{id}` is a `{kind}`, which cannot undo another node's work");
                refuse(graph, at, "invalid_compensation", detail);
            }
            Some(found) => graph.compensators[found] = true,
        }
    }
    for at in (0..graph.nodes.len()).filter(|at| graph.compensators[*at]) {
        if graph.nodes[at].compensate.is_some() {
            let detail = format!("`{}` runs only as compensation, which nothing undoes", graph.nodes[at].id);
            refuse(graph, at, "invalid_compensation", detail);
        }
    }
}

fn resolve(graph: &Graph, raw: &RawEdge, problems: &mut Problems) -> Option<Edge> {
    let mut find = |field: &str, id: &str| {
        let found = graph.index.get(id).copied();
        if found.is_none() && !graph.unread.contains(id) {
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
    check_handle(&graph.nodes[source], raw, problems);
    for (field, at) in [("source", source), ("target", target)] {
        if graph.compensators[at] {
            let detail = format!("`{}` runs only as compensation; no edge joins it", graph.nodes[at].id);
            raw.report(field, "invalid_compensation", detail, problems);
        }
    }
    if graph.nodes[source].node_type == NodeType::End {
        raw.report("source", "edge_from_end", "no edge leaves an `end`", problems);
    }
    if graph.nodes[target].node_type == NodeType::Start {
        raw.report("target", "edge_to_start", "no edge leads to the `start`", problems);
    }
    Some(Edge { source, target, handle: raw.handle.clone(), index: raw.index })
}

fn check_handle(source: &Node, raw: &RawEdge, problems: &mut Problems) {
    let handles = source.handles();
    if handles.contains(&raw.handle.as_deref()) {
        return;
    }
    let named: Vec<&str> = handles.into_iter().flatten().collect();
    let detail = if named.is_empty() {
        format!("`{}` has only the plain handle; leave `source_handle` out", source.id)
    } else {
        format!("an edge from `{}` has a `source_handle`: {}", source.id, named.join(", "))
    };
    raw.report("source_handle", "invalid_handle", detail, problems);
}

fn check_starts_and_ends(graph: &Graph, problems: &mut Problems) {
    let of = |wanted| graph.nodes.iter().filter(move |node| node.node_type == wanted);
    let nodes = format!("{}/nodes", graph.pointer);
    if of(NodeType::Start).next().is_none() {
        problems.push(Problem::new(nodes.clone(), "start_missing", "there is no node of type `start`"));
    }
    for node in of(NodeType::Start).skip(1) {
        let detail = "there is more than one node of type `start`";
        problems.push(Problem::new(format!("{nodes}/{}", node.index), "several_starts", detail));
    }
    if of(NodeType::End).next().is_none() {
        problems.push(Problem::new(nodes, "end_missing", "there is no node of type `end`"));
    }
}

/// Kahn's algorithm (Kahn 1962, "Topological sorting of large networks"), smallest index first. What lies on a cycle
/// or behind one is left out.
fn sort(graph: &mut Graph) {
    let mut open: Vec<usize> = graph.incoming.iter().map(Vec::len).collect();
    let mut ready: BTreeSet<usize> = (0..graph.nodes.len()).filter(|node| open[*node] == 0).collect();
    while let Some(node) = ready.pop_first() {
        graph.order.push(node);
        for edge in &graph.outgoing[node] {
            let target = graph.edges[*edge].target;
            open[target] -= 1;
            if open[target] == 0 {
                ready.insert(target);
            }
        }
    }
}

/// Names the edges that lie on a cycle.
fn report_cycles(graph: &Graph, problems: &mut Problems) {
    let mut sorted = vec![false; graph.nodes.len()];
    graph.order.iter().for_each(|node| sorted[*node] = true);
    let suspects = graph.edges.iter().filter(|edge| !sorted[edge.source] && !sorted[edge.target]);
    for edge in suspects.take(MAX_CYCLE_CHECKS) {
        if problems.is_full() {
            return;
        }
        if graph.reach(edge.target)[edge.source] {
            let (source, target) = (&graph.nodes[edge.source].id, &graph.nodes[edge.target].id);
            let detail = format!(
                "the edge from `{source}` to `{target}` lies on a cycle; mark the one that leads back with `back: true`"
            );
            problems.push(Problem::new(at_edge(graph, edge), "cycle", detail));
        }
    }
}

fn at_edge(graph: &Graph, edge: &Edge) -> String {
    format!("{}/edges/{}", graph.pointer, edge.index)
}

fn check_reachable(graph: &Graph, problems: &mut Problems) {
    let Some(start) = graph.nodes.iter().position(|node| node.node_type == NodeType::Start) else {
        return;
    };
    let seen = graph.reach(start);
    for (at, node) in graph.nodes.iter().enumerate() {
        if !seen[at] && node.node_type != NodeType::Start && !graph.compensators[at] {
            problems.push(Problem::new(
                format!("{}/nodes/{}", graph.pointer, node.index),
                "unreachable_node",
                format!("no way leads from the start to `{}`", node.id),
            ));
        }
    }
}

/// A merge that waits for more inputs than it has would never fire.
fn check_merges(graph: &Graph, problems: &mut Problems) {
    for (at, node) in graph.nodes.iter().enumerate() {
        let NodeConfig::Merge(merge) = &node.config else { continue };
        let inputs = graph.incoming[at].len();
        if let MergeMode::Count(count) = merge.mode()
            && count as usize > inputs
        {
            let pointer = format!("{}/nodes/{}/config/count", graph.pointer, node.index);
            let detail = format!("`{}` waits for {count} inputs and has {inputs}", node.id);
            problems.push(Problem::new(pointer, "out_of_range", detail));
        }
    }
}

/// Back edges lead to an ancestor, are alone on their handle, and can be left.
fn check_back_edges(graph: &Graph, problems: &mut Problems) {
    // Many back edges may share a target; what is reachable from it is found once.
    let mut walks: HashMap<usize, (Vec<bool>, Vec<bool>)> = HashMap::new();
    for edge in &graph.back_edges {
        if problems.is_full() {
            return;
        }
        let (source, target) = (&graph.nodes[edge.source].id, &graph.nodes[edge.target].id);
        let at = || at_edge(graph, edge);
        let (reached, certain) = walks
            .entry(edge.target)
            .or_insert_with(|| (graph.reach(edge.target), certain_from(graph, edge.target)));
        if !reached[edge.source] {
            let detail =
                format!("a back edge leads to an ancestor; no way leads from `{target}` to `{source}`");
            problems.push(Problem::new(at(), "back_edge_not_back", detail));
        } else if certain[edge.source] && graph.nodes[edge.source].handles().len() == 1 {
            let detail = format!(
                "from `{target}` every way leads to `{source}` and back, without an end; let a condition, a switch or `on_error: route` lead out"
            );
            problems.push(Problem::new(at(), "endless_back_edge", detail));
        }
        let ordinary = graph.outgoing(edge.source).any(|other| other.handle == edge.handle);
        if ordinary {
            let detail = format!(
                "an ordinary edge leaves `{source}` by the same handle; a back edge runs all that follows anew, so only back edges may be there"
            );
            problems.push(Problem::new(at(), "ambiguous_back_edge", detail));
        }
    }
}

/// What runs whenever a node has run, as far as no choice lies between: those that an only handle leads to.
fn certain_from(graph: &Graph, from: usize) -> Vec<bool> {
    let mut certain = vec![false; graph.nodes.len()];
    let mut stack = vec![from];
    while let Some(node) = stack.pop() {
        if !std::mem::replace(&mut certain[node], true) && graph.nodes[node].handles().len() == 1 {
            stack.extend(graph.outgoing(node).map(|edge| edge.target));
        }
    }
    certain
}
