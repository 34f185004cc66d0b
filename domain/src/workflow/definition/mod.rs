//! A workflow definition: parsed, checked, and ready for the engine.
//!
//! [`Definition::parse`] is the only way to get one, so whoever holds a [`Definition`] holds a valid graph:
//! ids are unique, edges lead to nodes, the graph without its back edges is acyclic and reachable from its one start,
//! and every expression and template parses; the same holds for the graphs inside its nodes. All defects of a document are reported at once, each with its pointer.

mod connect;
mod document;
mod edge;
mod graph;
mod names;
mod node;
mod problems;
mod reader;

use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::HashMap;

use crate::blob::hex;
use crate::execution::event::OnLimit;
use crate::execution::paths;
use crate::expression::Template;
use crate::nodes::NodeConfig;
use crate::rejection::Problem;

pub use graph::{Edge, Graph};
pub use node::{Backoff, Node, OnError, Retry};
pub(crate) use problems::Problems;
pub(crate) use reader::{Reader, shown};

/// The most bytes of a definition's JSON.
pub const MAX_DEFINITION_BYTES: usize = 1024 * 1024;
/// The most nodes of a definition, in all its graphs.
pub const MAX_NODES: usize = 1_000;
/// How deep graphs may lie inside graphs.
pub const MAX_GRAPH_DEPTH: usize = 16;
/// How often a node may run by back edges where the definition does not say.
pub const DEFAULT_MAX_NODE_RUNS: u32 = 1_000;
/// The most edges of a graph.
pub const MAX_EDGES: usize = 10_000;
/// The most characters of a workflow's name.
pub const MAX_NAME_CHARS: usize = 200;
/// The most problems that one answer lists.
pub const MAX_PROBLEMS: usize = 100;
/// The longest time that a definition can ask for: a year, in milliseconds.
pub const MAX_DURATION_MS: u64 = 366 * 24 * 60 * 60 * 1000;
/// Priority where none is given; 0 to 9, higher goes first.
pub const DEFAULT_PRIORITY: u8 = 5;

/// A valid workflow.
#[derive(Debug, Clone)]
pub struct Definition {
    /// The name, unique in the tenant.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// JSON Schema that inputs must satisfy.
    pub input_schema: Option<Value>,
    /// How long an execution may take, in milliseconds.
    pub timeout_ms: Option<u64>,
    /// 0 to 9; higher goes first.
    pub priority: u8,
    /// Rendered at the start, for search.
    pub attributes: Option<Template>,
    /// The nodes and edges.
    pub graph: Graph,
    /// SHA-256 of the document's JSON, in hexadecimal.
    pub hash: String,
    /// Whether any expression refers to `vars`.
    pub uses_variables: bool,
    /// How many executions of one key may run at once.
    pub concurrency: Option<Concurrency>,
    /// How often a node may run by back edges.
    pub max_node_runs: u32,
}

/// How many executions of one key may run at once.
#[derive(Debug, Clone)]
pub struct Concurrency {
    /// Rendered at the start; a text, number or boolean.
    pub key: Template,
    /// How many.
    pub limit: u32,
    /// What happens to one more.
    pub on_limit: OnLimit,
}

impl Definition {
    /// Reads and checks a document. The problems are all that were found, up to [`MAX_PROBLEMS`].
    pub fn parse(document: &Value) -> Result<Self, Vec<Problem>> {
        document::parse(document)
    }

    /// SHA-256 of the document's JSON, in hexadecimal.
    pub fn hash_of(document: &Value) -> String {
        hex(&Sha256::digest(document.to_string().as_bytes()))
    }

    /// The node at a path.
    pub fn node(&self, path: &str) -> Option<&Node> {
        self.scope(paths::scope_of(path))?.node(paths::id_of(path))
    }

    /// The graph of a scope: of the whole for the empty path, else of a loop's body or a branch.
    pub fn scope(&self, path: &str) -> Option<&Graph> {
        let mut graph = &self.graph;
        let mut segments = path.split('/');
        while let Some(id) = segments.next().filter(|id| !id.is_empty()) {
            let number: usize = segments.next()?.parse().ok()?;
            graph = match &graph.node(id)?.config {
                NodeConfig::Loop(iteration) => iteration.body(),
                NodeConfig::Parallel(parallel) => parallel.branches().get(number)?,
                _ => return None,
            };
        }
        Some(graph)
    }
}

/// Index of nodes by id.
type NodeIndex = HashMap<String, usize>;
