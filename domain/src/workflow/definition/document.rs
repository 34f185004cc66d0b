//! The whole document: its own fields, its nodes, its edges, and what expressions may refer to.

use serde_json::Value;

use crate::expression::{Credentials, References};
use crate::execution::event::OnLimit;
use crate::node_type::{NodeType, RunsIn};
use crate::nodes::NodeConfig;
use crate::rejection::Problem;

use super::graph::{self, Graph};
use super::node::{self, Node};
use super::problems::Problems;
use super::reader::{Reader, join, shown};
use super::{
    Concurrency, DEFAULT_MAX_NODE_RUNS, DEFAULT_PRIORITY, Definition, MAX_DURATION_MS, MAX_EDGES, MAX_NAME_CHARS,
    MAX_NODES, NodeIndex,
};

/// The most executions of one key that may be allowed at once.
const MAX_CONCURRENCY_LIMIT: u64 = 100_000;
/// Names that expressions may use inside a loop's body.
const LOOP_NAMES: [&str; 3] = ["item", "key", "index"];
/// Names that expressions may use everywhere.
const NAMES: [&str; 6] = ["input", "nodes", "vars", "execution", "trigger", "credentials"];

/// Reads and checks a document.
pub(super) fn parse(document: &Value) -> Result<Definition, Vec<Problem>> {
    let mut problems = Problems::default();
    let parsed = read(document, &mut problems);
    match parsed {
        Some(definition) if problems.is_empty() => Ok(definition),
        _ => Err(problems.into_vec()),
    }
}

fn read(document: &Value, problems: &mut Problems) -> Option<Definition> {
    let mut reader = Reader::open(document, "", problems)?;
    let name = read_name(&mut reader);
    let description = reader.text("description").map(str::to_owned);
    let input_schema = reader.optional("input_schema").cloned();
    let timeout_ms = reader.number("timeout_ms", 1, MAX_DURATION_MS);
    let priority = reader.number("priority", 0, 9).map_or(DEFAULT_PRIORITY, |number| number as u8);
    let attributes = reader
        .optional("attributes")
        .and_then(|value| reader.template("attributes", value, Credentials::Refused));
    let max_node_runs =
        reader.number("max_node_runs", 1, 1_000_000).map_or(DEFAULT_MAX_NODE_RUNS, |number| number as u32);
    let concurrency = read_concurrency(&mut reader);
    reader.ignore(&["position", "notes", "ui"]);
    reader.not_yet(&["rate_limit", "debounce"]);
    let nodes = reader.required_list("nodes");
    let edges = reader.required_list("edges");
    if let Some(schema) = &input_schema
        && !schema.is_object()
        && !schema.is_boolean()
    {
        reader.report("input_schema", "wrong_type", "expected a JSON Schema: an object, true or false");
    }
    reader.finish();

    let graph = read_graph(nodes?, edges?, "", problems);
    let outer = [attributes.as_ref(), concurrency.as_ref().map(|concurrency| &concurrency.key)];
    for (template, pointer) in outer.into_iter().zip(["/attributes", "/concurrency/key"]) {
        if let Some(template) = template {
            Names::of_graph(&graph, None).check(pointer, &template.references(), &[], problems);
        }
    }
    check_references(&graph, None, problems);
    let uses_variables = any_uses(&graph, "vars")
        || outer.into_iter().flatten().any(|template| template.references().roots.contains("vars"));
    Some(Definition {
        name: name?.to_owned(),
        description,
        input_schema,
        timeout_ms,
        priority,
        attributes,
        graph,
        hash: Definition::hash_of(document),
        uses_variables,
        concurrency,
        max_node_runs,
    })
}

/// `concurrency: {key, limit, on_limit}`.
fn read_concurrency(reader: &mut Reader<'_, '_>) -> Option<Concurrency> {
    let value = reader.optional("concurrency")?;
    let pointer = reader.pointer_of("concurrency");
    let mut reader = Reader::open(value, &pointer, reader.problems())?;
    let key = match reader.required("key") {
        Some(value @ (Value::String(_) | Value::Number(_) | Value::Bool(_))) => {
            reader.template("key", value, Credentials::Refused)
        }
        Some(_) => {
            reader.report("key", "wrong_type", "a key is a text, perhaps a template");
            None
        }
        None => None,
    };
    let limit = reader.required("limit").and_then(|_| reader.number("limit", 1, MAX_CONCURRENCY_LIMIT));
    let on_limit = match reader.text("on_limit") {
        None | Some("queue") => OnLimit::Queue,
        Some("drop") => OnLimit::Drop,
        Some("cancel_running") => OnLimit::CancelRunning,
        Some(_) => {
            reader.report("on_limit", "invalid_value", "use queue, drop or cancel_running");
            OnLimit::Queue
        }
    };
    reader.finish();
    Some(Concurrency { key: key?, limit: limit? as u32, on_limit })
}

/// Reads nodes and edges of a graph, the whole or one inside a node.
pub(super) fn read_graph(
    nodes: &[Value],
    edges: &[Value],
    pointer: &str,
    problems: &mut Problems,
) -> Graph {
    let before = problems.count();
    if !problems.count_nodes(nodes.len()) {
        let detail = format!("more than {MAX_NODES} nodes in all graphs of the definition");
        problems.push(Problem::new(format!("{pointer}/nodes"), "too_many", detail));
        return Graph::default();
    }
    let nodes = read_nodes(nodes, &format!("{pointer}/nodes"), problems);
    let edges = read_list(edges, &format!("{pointer}/edges"), MAX_EDGES, problems, graph::parse_edge);
    // Nodes that did not parse are not in the index: an edge to one would only repeat the first report.
    let sound = problems.count() == before;
    Graph::build(pointer, nodes, edges, sound, problems)
}

fn read_name<'a>(reader: &mut Reader<'a, '_>) -> Option<&'a str> {
    let name = reader.required_text("name")?;
    let chars = name.chars().count();
    if chars == 0 || chars > MAX_NAME_CHARS || name.trim() != name || name.chars().any(char::is_control) {
        reader.report(
            "name",
            "invalid_name",
            format!(
                "a name has 1 to {MAX_NAME_CHARS} characters, no control characters, and no space at its ends"
            ),
        );
        return None;
    }
    Some(name)
}

fn read_nodes(values: &[Value], pointer: &str, problems: &mut Problems) -> Vec<Node> {
    let nodes = read_list(values, pointer, MAX_NODES, problems, node::parse);
    let mut index = NodeIndex::new();
    for node in &nodes {
        if let Some(first) = index.insert(node.id.clone(), node.index) {
            problems.push(Problem::new(
                format!("{pointer}/{}/id", node.index),
                "duplicate_node_id",
                format!("the id `{}` is used by node {first} already", node.id),
            ));
        }
    }
    nodes
}

fn read_list<T>(
    values: &[Value],
    pointer: &str,
    most: usize,
    problems: &mut Problems,
    read: fn(usize, &Value, &str, &mut Problems) -> Option<T>,
) -> Vec<T> {
    if values.len() > most {
        problems.push(Problem::new(
            pointer,
            "too_many",
            format!("{} items; at most {most} are allowed", values.len()),
        ));
        return Vec::new();
    }
    let mut items = Vec::new();
    for (index, value) in values.iter().enumerate() {
        if problems.is_full() {
            break;
        }
        items.extend(read(index, value, &join(pointer, &index.to_string()), problems));
    }
    items
}

/// What expressions at a place of the document may refer to.
struct Names<'a> {
    graph: &'a Graph,
    outer: Option<&'a Names<'a>>,
    /// Whether it is inside a loop's body, at any depth.
    in_loop: bool,
}

impl<'a> Names<'a> {
    fn of_graph(graph: &'a Graph, outer: Option<&'a Names<'a>>) -> Self {
        Self { graph, outer, in_loop: outer.is_some_and(|outer| outer.in_loop) }
    }

    fn node(&self, id: &str) -> Option<&'a Node> {
        self.graph.node(id).or_else(|| self.outer.and_then(|outer| outer.node(id)))
    }

    /// Every name in an expression must exist: a typing error is found before anything runs.
    fn check(&self, pointer: &str, references: &References, also: &[&str], problems: &mut Problems) {
        if problems.is_full() {
            return;
        }
        let is_known = |root: &str| {
            NAMES.contains(&root) || also.contains(&root) || (self.in_loop && LOOP_NAMES.contains(&root))
        };
        for root in references.roots.iter().filter(|root| !is_known(root)) {
            let detail = if LOOP_NAMES.contains(&root.as_str()) {
                format!("`{root}` is a name only inside a loop's body")
            } else {
                format!("`{}` is not a name here; use input, nodes, vars, execution or trigger", shown(root))
            };
            problems.push(Problem::new(pointer, "unknown_name", detail));
        }
        for id in &references.nodes {
            match self.node(id) {
                None => {
                    let detail = format!("`nodes.{}` refers to no node of this graph or one around it", shown(id));
                    problems.push(Problem::new(pointer, "unknown_node", detail));
                }
                Some(node) if node.node_type == NodeType::End => {
                    let detail = format!("`nodes.{id}` is an end, whose output nothing can use");
                    problems.push(Problem::new(pointer, "unknown_node", detail));
                }
                Some(_) => {}
            }
        }
    }
}

/// Checks the expressions of a graph and of the graphs inside it.
fn check_references(graph: &Graph, outer: Option<&Names<'_>>, problems: &mut Problems) {
    check_names(&Names::of_graph(graph, outer), problems);
}

fn check_names(names: &Names<'_>, problems: &mut Problems) {
    for node in names.graph.nodes() {
        let pointer = format!("{}/nodes/{}/config", names.graph.pointer(), node.index);
        match &node.config {
            // A script is not read here: what it names is found when it runs.
            NodeConfig::Condition(_) if node.config.runs_in(node.node_type) == RunsIn::Worker => {}
            NodeConfig::Loop(iteration) if iteration.is_while() => {
                // Its condition sees the iteration before.
                let inner = Names { graph: iteration.body(), outer: Some(names), in_loop: true };
                inner.check(&pointer, &node.config.references(), &[], problems);
            }
            NodeConfig::Wait(wait) => {
                names.check(&pointer, &node.config.references(), &[], problems);
                names.check(&pointer, &wait.filter_references(), &["payload", "event"], problems);
            }
            _ => names.check(&pointer, &node.config.references(), &[], problems),
        }
        for inner in node.config.graphs() {
            let in_loop = names.in_loop || node.node_type == NodeType::Loop;
            check_names(&Names { graph: inner, outer: Some(names), in_loop }, problems);
        }
    }
}

fn any_uses(graph: &Graph, root: &str) -> bool {
    graph.nodes().iter().any(|node| {
        let in_filters = match &node.config {
            NodeConfig::Wait(wait) => wait.filter_references().roots.contains(root),
            _ => false,
        };
        in_filters
            || node.config.references().roots.contains(root)
            || node.config.graphs().iter().any(|inner| any_uses(inner, root))
    })
}
