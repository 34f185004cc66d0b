//! Building blocks of definitions for tests.

use serde_json::{Value, json};

/// A definition around these nodes and edges; `start` and `end` are there already.
pub(crate) fn graph(nodes: Value, edges: Value) -> Value {
    let mut document = body(nodes, edges);
    document["name"] = json!("test");
    document
}

/// The same as a graph inside a node. An edge is `source[.handle]>target`, a back edge has `<` in the place of `>`.
pub(crate) fn body(nodes: Value, edges: Value) -> Value {
    let mut all = vec![json!({"id": "start", "type": "start"})];
    all.extend(nodes.as_array().expect("a list of nodes").iter().cloned());
    if !all.iter().any(|node| node["type"] == "end") {
        all.push(json!({"id": "end", "type": "end"}));
    }
    let edges: Vec<Value> = edges.as_array().expect("a list of edges").iter().map(edge).collect();
    json!({"nodes": all, "edges": edges})
}

fn edge(text: &Value) -> Value {
    let text = text.as_str().expect("source[.handle]>target");
    let (source, target) = text.split_once(['>', '<']).expect("an edge");
    let mut edge = json!({"source": source, "target": target});
    if let Some((source, handle)) = source.split_once('.') {
        edge["source"] = json!(source);
        edge["source_handle"] = json!(handle);
    }
    if text.contains('<') {
        edge["back"] = json!(true);
    }
    edge
}

/// A node of a type.
pub(crate) fn node(id: &str, node_type: &str, config: Value) -> Value {
    json!({"id": id, "type": node_type, "config": config})
}

pub(crate) fn transform(id: &str, output: Value) -> Value {
    node(id, "transform", json!({"output": output}))
}

pub(crate) fn request(id: &str) -> Value {
    node(id, "http_request", json!({"url": "http://127.0.0.1:1/"}))
}

pub(crate) fn condition(id: &str, expression: &str) -> Value {
    node(id, "condition", json!({"expression": expression}))
}

pub(crate) fn end(output: Value) -> Value {
    node("end", "end", json!({"output": output}))
}

pub(crate) fn with(mut node: Value, field: &str, value: Value) -> Value {
    node[field] = value;
    node
}
