//! One graph under construction: nodes, edges, and for each node what is settled when it is ready.

use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

use super::Generator;
use super::expressions::Readable;

/// A way on that leads nowhere yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stub {
    pub(crate) source: String,
    pub(crate) handle: Option<String>,
}

/// What is known of a node that exists.
#[derive(Debug, Clone, Default)]
struct Known {
    /// Every node that leads to it.
    ancestors: BTreeSet<String>,
    /// Those that have certainly completed when it runs.
    dominators: BTreeSet<String>,
}

/// Where a block stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// How many blocks are around it.
    pub(crate) depth: u32,
    /// Whether everything begun must lead on: then nothing else runs when a back edge is taken.
    pub(crate) strict: bool,
    /// Whether further edges from elsewhere may join.
    pub(crate) joins: bool,
}

/// A graph under construction.
pub(crate) struct GraphBuilder<'g> {
    pub(crate) generator: &'g mut Generator,
    nodes: Vec<Value>,
    edges: Vec<Value>,
    known: BTreeMap<String, Known>,
    /// Nodes that can be read, by id; those of graphs around this one are there from the beginning.
    pub(crate) readable: BTreeMap<String, Readable>,
    /// What of the graphs around is settled here: `(id, certain)`.
    outer: Vec<(String, bool)>,
    /// Plain ways out of nodes that further edges may leave by, with the back edge's region that they are in.
    joinable: Vec<(Stub, u32)>,
    pub(crate) region: u32,
    pub(crate) nesting: u32,
    pub(crate) in_loop: bool,
    has_end: bool,
    last: Stub,
}

impl<'g> GraphBuilder<'g> {
    /// The graph of a whole document.
    pub(crate) fn top(generator: &'g mut Generator) -> Self {
        Self::new(generator, BTreeMap::new(), Vec::new(), 0, false)
    }

    fn new(
        generator: &'g mut Generator,
        readable: BTreeMap<String, Readable>,
        outer: Vec<(String, bool)>,
        nesting: u32,
        in_loop: bool,
    ) -> Self {
        let last = Stub { source: "start".to_owned(), handle: None };
        Self {
            generator,
            nodes: vec![json!({"id": "start", "type": "start"})],
            edges: Vec::new(),
            known: BTreeMap::from([("start".to_owned(), Known::default())]),
            readable,
            outer,
            joinable: Vec::new(),
            region: 0,
            nesting,
            in_loop,
            has_end: false,
            last,
        }
    }

    /// Makes the whole graph.
    pub(crate) fn build(mut self) -> (Vec<Value>, Vec<Value>) {
        let place = Place { depth: 0, strict: false, joins: true };
        let length = self.generator.random.between(1, 6);
        let stubs = self.sequence(vec![self.last.clone()], place, length);
        self.finish(stubs);
        (self.nodes, self.edges)
    }

    /// The graph of a body or branch of the node that `stubs` will lead to; also the weight of its output.
    pub(crate) fn inner(&mut self, stubs: &[Stub], in_loop: bool) -> Value {
        let outer = self.settled_at(stubs);
        let (nesting, in_loop) = (self.nesting + 1, self.in_loop || in_loop);
        let inner = GraphBuilder::new(self.generator, self.readable.clone(), outer, nesting, in_loop);
        let (nodes, edges) = inner.build();
        json!({"nodes": nodes, "edges": edges})
    }

    /// Leads what is open to one end or two.
    fn finish(&mut self, mut stubs: Vec<Stub>) {
        if stubs.is_empty() && !self.has_end {
            stubs.push(self.last.clone());
        }
        if stubs.len() > 1 && self.generator.random.chance(30) {
            let rest = stubs.split_off(1);
            self.end(&stubs);
            self.end(&rest);
        } else if !stubs.is_empty() {
            self.end(&stubs);
        }
    }

    /// An end.
    pub(crate) fn end(&mut self, stubs: &[Stub]) {
        let id = if self.has_end { self.fresh("end") } else { "end".to_owned() };
        self.has_end = true;
        let mut node = json!({"id": id, "type": "end"});
        if self.generator.random.chance(85) {
            let settled = self.settled_at(stubs);
            let (output, _) = self.any_value(&settled);
            node["config"] = json!({"output": output});
        }
        self.connect(node, stubs);
    }

    /// An id that no graph of the document has.
    pub(crate) fn fresh(&mut self, prefix: &str) -> String {
        self.generator.ids += 1;
        self.generator.budget = self.generator.budget.saturating_sub(1);
        format!("{prefix}_{}", self.generator.ids)
    }

    /// Adds a node that no edge joins.
    pub(crate) fn add_alone(&mut self, node: Value) {
        self.nodes.push(node);
    }

    /// Adds a node with edges from all stubs.
    pub(crate) fn connect(&mut self, node: Value, stubs: &[Stub]) {
        let id = node["id"].as_str().unwrap_or_default().to_owned();
        let mut known = Known::default();
        for (number, stub) in stubs.iter().enumerate() {
            let mut edge = json!({"source": stub.source, "target": id});
            if let Some(handle) = &stub.handle {
                edge["source_handle"] = json!(handle);
            }
            self.edges.push(edge);
            let source = self.known.get(&stub.source).cloned().unwrap_or_default();
            let mut dominators = source.dominators;
            dominators.insert(stub.source.clone());
            known.dominators = if number == 0 { dominators } else { &known.dominators & &dominators };
            known.ancestors.extend(source.ancestors);
            known.ancestors.insert(stub.source.clone());
        }
        self.known.insert(id, known);
        self.nodes.push(node);
    }

    /// An edge that leads back.
    pub(crate) fn back(&mut self, source: &str, handle: &str, target: &str) {
        self.edges.push(json!({"source": source, "source_handle": handle, "target": target, "back": true}));
    }

    /// Lets further edges leave a node by the plain handle.
    pub(crate) fn offer(&mut self, stub: &Stub) {
        self.joinable.push((stub.clone(), self.region));
        self.last = stub.clone();
    }

    /// A further edge for a node: from any earlier one of the same region.
    pub(crate) fn join(&mut self, stubs: &mut Vec<Stub>) {
        let region = self.region;
        let found: Vec<&Stub> = self
            .joinable
            .iter()
            .filter(|(stub, of)| *of == region && !stubs.contains(stub))
            .map(|(stub, _)| stub)
            .collect();
        if let Some(stub) = self.generator.random.pick(&found) {
            stubs.push((*stub).clone());
        }
    }

    /// What is settled when a node with these incoming edges is ready: `(id, certainly completed)`.
    pub(crate) fn settled_at(&self, stubs: &[Stub]) -> Vec<(String, bool)> {
        let mut ancestors = BTreeSet::new();
        let mut dominators: Option<BTreeSet<String>> = None;
        for stub in stubs {
            let known = self.known.get(&stub.source).cloned().unwrap_or_default();
            let mut of_stub = known.dominators;
            of_stub.insert(stub.source.clone());
            dominators = Some(match dominators {
                None => of_stub,
                Some(so_far) => &so_far & &of_stub,
            });
            ancestors.extend(known.ancestors);
            ancestors.insert(stub.source.clone());
        }
        let dominators = dominators.unwrap_or_default();
        let own = ancestors.into_iter().map(|id| {
            let certain = dominators.contains(&id);
            (id, certain)
        });
        self.outer.iter().cloned().chain(own).collect()
    }
}
