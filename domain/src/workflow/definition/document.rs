//! The whole document: its own fields, its nodes, its edges, and what expressions may refer to.

use serde_json::Value;

use crate::expression::{Credentials, References};
use crate::node_type::NodeType;
use crate::rejection::Problem;

use super::graph::{self, Graph};
use super::node::{self, Node};
use super::problems::Problems;
use super::reader::{Reader, join, shown};
use super::{DEFAULT_PRIORITY, Definition, MAX_DURATION_MS, MAX_EDGES, MAX_NAME_CHARS, MAX_NODES, NodeIndex};

/// Names that expressions may use outside a loop's body.
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
    reader.number("max_node_runs", 1, 1_000_000);
    reader.ignore(&["position", "notes", "ui"]);
    reader.not_yet(&["concurrency", "rate_limit", "debounce"]);
    let nodes = reader.required_list("nodes");
    let edges = reader.required_list("edges");
    if let Some(schema) = &input_schema
        && !schema.is_object()
        && !schema.is_boolean()
    {
        reader.report("input_schema", "wrong_type", "expected a JSON Schema: an object, true or false");
    }
    reader.finish();

    let nodes = read_nodes(nodes?, problems);
    let edges = read_list(edges?, "/edges", MAX_EDGES, problems, graph::parse_edge);
    let graph = Graph::build(nodes, edges, problems);
    check_references(&graph, attributes.as_ref().map(|t| t.references()), problems);
    let uses_variables = graph.nodes().iter().any(|node| uses(node.config.references(), "vars"))
        || attributes.as_ref().is_some_and(|template| uses(template.references(), "vars"));
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
    })
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

fn read_nodes(values: &[Value], problems: &mut Problems) -> Vec<Node> {
    let nodes = read_list(values, "/nodes", MAX_NODES, problems, node::parse);
    let mut index = NodeIndex::new();
    for node in &nodes {
        if let Some(first) = index.insert(node.id.clone(), node.index) {
            problems.push(Problem::new(
                format!("/nodes/{}/id", node.index),
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

/// Every name in an expression must exist: a typing error is found before anything runs.
fn check_references(graph: &Graph, attributes: Option<References>, problems: &mut Problems) {
    let mut check = |pointer: String, references: &References| {
        if problems.is_full() {
            return;
        }
        for root in references.roots.iter().filter(|root| !NAMES.contains(&root.as_str())) {
            problems.push(Problem::new(
                &*pointer,
                "unknown_name",
                format!("`{}` is not a name here; use input, nodes, vars, execution or trigger", shown(root)),
            ));
        }
        for id in references.nodes.iter().filter(|id| graph.node(id).is_none()) {
            problems.push(Problem::new(
                &*pointer,
                "unknown_node",
                format!("`nodes.{}` refers to no node of this graph", shown(id)),
            ));
        }
        let is_end = |id: &&String| graph.node(id).is_some_and(|node| node.node_type == NodeType::End);
        for id in references.nodes.iter().filter(is_end) {
            let detail = format!("`nodes.{id}` is an end, whose output nothing can use");
            problems.push(Problem::new(&*pointer, "unknown_node", detail));
        }
    };
    if let Some(references) = attributes {
        check("/attributes".to_owned(), &references);
    }
    for node in graph.nodes() {
        check(format!("/nodes/{}/config", node.index), &node.config.references());
    }
}

fn uses(references: References, root: &str) -> bool {
    references.roots.contains(root)
}
