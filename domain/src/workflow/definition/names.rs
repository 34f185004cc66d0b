//! What the expressions of a definition may refer to: every name must exist, so that a typing error is found before
//! anything runs.

use crate::expression::References;
use crate::node_type::{NodeType, RunsIn};
use crate::nodes::NodeConfig;
use crate::rejection::Problem;

use super::graph::Graph;
use super::node::Node;
use super::problems::Problems;
use super::reader::shown;

/// Names that expressions may use everywhere.
const NAMES: [&str; 5] = ["input", "nodes", "vars", "execution", "trigger"];
/// Names inside a loop; in a `while` the `item` is what the iteration before gave.
const LOOP_NAMES: [&str; 3] = ["item", "key", "index"];
/// Names that the filters of a `wait` see beside all others.
const FILTER_NAMES: [&str; 2] = ["payload", "event"];

/// What expressions at a place of the document may refer to: the nodes of a graph and of those around it.
pub(super) struct Names<'a> {
    graph: &'a Graph,
    outer: Option<&'a Names<'a>>,
    /// Whether it is inside a loop, at any depth.
    in_loop: bool,
}

impl<'a> Names<'a> {
    /// Of the whole graph.
    pub(super) fn of(graph: &'a Graph) -> Self {
        Self { graph, outer: None, in_loop: false }
    }

    /// Of a graph inside a node of this one.
    fn inside(&'a self, node: &Node, graph: &'a Graph) -> Self {
        Names { graph, outer: Some(self), in_loop: self.in_loop || node.node_type == NodeType::Loop }
    }

    fn node(&self, id: &str) -> Option<&'a Node> {
        self.graph.node(id).or_else(|| self.outer.and_then(|outer| outer.node(id)))
    }

    fn is_unread(&self, id: &str) -> bool {
        self.graph.unread.contains(id) || self.outer.is_some_and(|outer| outer.is_unread(id))
    }

    /// Checks the expressions of all nodes, and of those in the graphs inside them.
    pub(super) fn check_nodes(&self, problems: &mut Problems) {
        for node in self.graph.nodes() {
            if problems.is_full() {
                return;
            }
            let pointer = format!("{}/nodes/{}/config", self.graph.pointer(), node.index);
            let references = node.config.references();
            match &node.config {
                // A script is not read here: what it names is found when it runs.
                NodeConfig::Condition(condition) if condition.is_script() => {}
                NodeConfig::Loop(iteration) if iteration.is_while() => {
                    // Its condition sees the iteration before.
                    self.inside(node, iteration.body()).check(&pointer, &references, &[], problems);
                }
                NodeConfig::Wait(wait) => {
                    self.check(&pointer, &references, &[], problems);
                    self.check(&pointer, &wait.filter_references(), &FILTER_NAMES, problems);
                }
                _ if node.config.runs_in(node.node_type) == RunsIn::Worker => {
                    self.check(&pointer, &references, &["credentials"], problems);
                }
                _ => self.check(&pointer, &references, &[], problems),
            }
            for inner in node.config.graphs() {
                self.inside(node, inner).check_nodes(problems);
            }
        }
    }

    /// Checks what an expression at a pointer uses; `also` are names that only it sees.
    pub(super) fn check(
        &self,
        pointer: &str,
        references: &References,
        also: &[&str],
        problems: &mut Problems,
    ) {
        for root in &references.roots {
            let root = root.as_str();
            let is_of_loop = self.in_loop && LOOP_NAMES.contains(&root);
            if !NAMES.contains(&root) && !also.contains(&root) && !is_of_loop {
                problems.push(unknown(pointer, root));
            }
        }
        for id in &references.nodes {
            let detail = match self.node(id) {
                Some(node) if node.node_type == NodeType::End => {
                    format!("`nodes.{id}` is an end, whose output nothing can use")
                }
                None if !self.is_unread(id) => {
                    format!("`nodes.{}` refers to no node of this graph or one around it", shown(id))
                }
                Some(_) | None => continue,
            };
            problems.push(Problem::new(pointer, "unknown_node", detail));
        }
    }
}

fn unknown(pointer: &str, root: &str) -> Problem {
    let (code, detail) = match root {
        "credentials" => (
            "credentials_not_allowed",
            "credentials are for the configuration of worker nodes, such as `http_request`".to_owned(),
        ),
        "item" | "key" | "index" => ("unknown_name", format!("`{root}` is a name only inside a loop's body")),
        "payload" | "event" => {
            ("unknown_name", format!("`{root}` is a name only in the `filter` of a `wait`"))
        }
        _ => (
            "unknown_name",
            format!("`{}` is not a name here; use input, nodes, vars, execution or trigger", shown(root)),
        ),
    };
    Problem::new(pointer, code, detail)
}
