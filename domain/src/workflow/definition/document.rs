//! The whole document: its own fields, its nodes, its edges, and what expressions may refer to.

use serde_json::Value;
use std::collections::HashSet;

use crate::execution::event::OnLimit;
use crate::expression::Credentials;
use crate::nodes::NodeConfig;
use crate::rejection::Problem;

use super::connect::{self, Parts};
use super::edge;
use super::graph::Graph;
use super::names::Names;
use super::node::{self, Node};
use super::problems::Problems;
use super::reader::{Reader, join};
use super::{
    Concurrency, DEFAULT_MAX_NODE_RUNS, DEFAULT_PRIORITY, Definition, MAX_DURATION_MS, MAX_EDGES,
    MAX_NAME_CHARS, MAX_NODES, NodeIndex,
};

/// The most executions of one key that may be allowed at once.
const MAX_CONCURRENCY_LIMIT: u64 = 100_000;

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
    let names = Names::of(&graph);
    for (template, pointer) in outer.into_iter().zip(["/attributes", "/concurrency/key"]) {
        if let Some(template) = template {
            names.check(pointer, &template.references(), &[], problems);
        }
    }
    names.check_nodes(problems);
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
    if key.as_ref().is_some_and(|key| key.references().roots.contains("nodes")) {
        reader.report("key", "unknown_name", "no node has run when the key is rendered; use input or vars");
    }
    let limit = reader.required_number("limit", 1, MAX_CONCURRENCY_LIMIT);
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
pub(super) fn read_graph(nodes: &[Value], edges: &[Value], pointer: &str, problems: &mut Problems) -> Graph {
    if !problems.count_nodes(nodes.len()) {
        let detail = format!("more than {MAX_NODES} nodes in all graphs of the definition");
        problems.push(Problem::new(format!("{pointer}/nodes"), "too_many", detail));
        return Graph::default();
    }
    let read = read_nodes(nodes, &format!("{pointer}/nodes"), problems);
    let raw = read_list(edges, &format!("{pointer}/edges"), MAX_EDGES, problems, edge::parse);
    let ids: HashSet<&str> = read.iter().map(|node| node.id.as_str()).collect();
    let parts = Parts {
        sound: ids.len() == nodes.len() && raw.len() == edges.len(),
        unread: unread_ids(nodes, &ids),
        nodes: read,
        edges: raw,
    };
    connect::build(pointer, parts, problems)
}

/// The ids of nodes that could not be read.
fn unread_ids(nodes: &[Value], read: &HashSet<&str>) -> HashSet<String> {
    let ids = nodes.iter().filter_map(|node| node.get("id")?.as_str());
    ids.filter(|id| !read.contains(id)).map(str::to_owned).collect()
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
