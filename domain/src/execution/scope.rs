//! What expressions of an execution see: nothing but its own state and facts.
//!
//! `nodes.x` is looked for in the graph that the expression stands in, then in those around it; `item`, `key` and
//! `index` are those of the innermost loop around it.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

use crate::blob::BlobRef;
use crate::decision::Need;
use crate::expression::{Binding, Object, Scope};
use crate::facts::{Fact, Facts};
use crate::ids::{Slot, derived_id};
use crate::node_type::NodeType;
use crate::time::Timestamp;
use crate::workflow::definition::Definition;

use super::paths::{container_of, join, scope_of};
use super::state::{ExecutionState, NodeState, StartedFacts};

/// Contents of claim checks by their SHA-256.
pub(super) type LargeValues = HashMap<String, Arc<Value>>;

/// The scope of one node's expressions.
#[derive(Clone, Copy)]
pub(super) struct ExecutionScope<'a> {
    pub(super) state: &'a ExecutionState,
    pub(super) started: &'a StartedFacts,
    pub(super) facts: &'a Facts,
    /// Large values of this very decision, which no store has yet.
    pub(super) made: &'a LargeValues,
    pub(super) definition: &'a Definition,
    /// The node whose expressions are evaluated: part of what `uuid()` is derived from.
    pub(super) path: &'a str,
    /// The scope whose names count.
    pub(super) scope: &'a str,
    /// The number of the iteration that `while` asks about, which has no scope yet.
    pub(super) next_iteration: Option<(&'a str, u32)>,
    /// The path and run of the node whose work is being undone: it is seen as it was then.
    pub(super) undoing: Option<(&'a str, u32)>,
    /// What a wait's filter looks at.
    pub(super) offered: Option<&'a Offered<'a>>,
}

/// What a wait's filter looks at.
pub(super) struct Offered<'a> {
    /// The signal's payload or the event's data.
    pub(super) payload: &'a Value,
    /// What is known of the event.
    pub(super) event: Value,
}

impl<'a> ExecutionScope<'a> {
    /// A value, through its claim check if it is one.
    fn value(&self, value: &'a Value) -> Binding<'a> {
        match BlobRef::from_value(value) {
            None => Binding::Value(value),
            Some(reference) => {
                let known =
                    self.made.get(&reference.sha256).or_else(|| self.facts.blobs.get(&reference.sha256));
                known.map_or(Binding::NeedsBlob(reference), |content| Binding::Value(content))
            }
        }
    }

    /// The innermost loop around the expression, and the iteration it is in.
    fn iteration(&self) -> Option<(&'a str, u32)> {
        if self.next_iteration.is_some() {
            return self.next_iteration;
        }
        let mut scope = self.scope;
        while let Some((container, index)) = container_of(scope) {
            if self.definition.node(container).is_some_and(|node| node.node_type == NodeType::Loop) {
                return Some((container, index));
            }
            scope = scope_of(container);
        }
        None
    }

    /// `item`: an item, or what the iteration before gave in a `while`.
    fn item(&self) -> Binding<'a> {
        let Some((container, index)) = self.iteration() else { return Binding::Missing };
        let iterations = self.state.nodes.get(container).and_then(|node| node.iterations.as_ref());
        let Some(items) = iterations.and_then(|iterations| iterations.items.as_deref()) else {
            let before = index.checked_sub(1).map(|before| super::paths::scope_at(container, before));
            let before = before.and_then(|scope| self.state.scopes.get(&*scope));
            return match before.and_then(|scope| scope.output.as_deref()) {
                Some(output) => self.value(output),
                None => Binding::Owned(Value::Null),
            };
        };
        match self.value(items) {
            Binding::Value(items) => items.get(index as usize).map_or(Binding::Missing, Binding::Value),
            other => other,
        }
    }

    /// `key`: the field's name where the loop goes over an object, else the number.
    fn key(&self) -> Binding<'a> {
        let Some((container, index)) = self.iteration() else { return Binding::Missing };
        let node = self.state.nodes.get(container);
        if !node.and_then(|node| node.iterations.as_ref()).is_some_and(|iterations| iterations.keyed) {
            return Binding::Owned(json!(index));
        }
        match self.item() {
            Binding::Value(item) => item.get("key").map_or(Binding::Missing, Binding::Value),
            other => other,
        }
    }

    /// A node of this graph or of one around it.
    fn node(&self, id: &str) -> Binding<'a> {
        let mut scope = self.scope;
        loop {
            if let Some(node) = self.definition.scope(scope).and_then(|graph| graph.node(id)) {
                let path = join(scope, id);
                return match self.state.nodes.get(&*path) {
                    Some(state) => {
                        let run = self.undoing.filter(|(undone, _)| **undone == *path).map(|(_, run)| run);
                        Binding::Object(Box::new(NodeObject { scope: *self, node: state, run }))
                    }
                    // The start has no event of its own; its output is the input, or the item.
                    None if node.node_type == NodeType::Start => {
                        Binding::Object(Box::new(StartObject { scope: *self, at: scope }))
                    }
                    None => Binding::Missing,
                };
            }
            match container_of(scope) {
                Some((container, _)) => scope = scope_of(container),
                None => return Binding::Missing,
            }
        }
    }

    /// What a start gives in a scope.
    fn start_output(&self, scope: &'a str) -> Binding<'a> {
        if scope.is_empty() {
            self.value(&self.started.input)
        } else {
            Self { scope, ..*self }.item_or_input()
        }
    }

    /// What the start of its own graph gives, as a value.
    pub(super) fn input_of_scope(&self) -> Result<Value, Vec<Need>> {
        match self.start_output(self.scope) {
            Binding::Value(value) => Ok(value.clone()),
            Binding::Owned(value) => Ok(value),
            Binding::NeedsBlob(reference) => Err(vec![Need::Blob(reference)]),
            Binding::Missing | Binding::Object(_) => Ok(Value::Null),
        }
    }

    fn item_or_input(&self) -> Binding<'a> {
        match self.item() {
            Binding::Missing => self.value(&self.started.input),
            item => item,
        }
    }

    /// Claim checks that expressions with these references may look into.
    pub(super) fn large_values(
        &self,
        references: &crate::expression::References,
    ) -> impl Iterator<Item = BlobRef> {
        let mut found = Vec::new();
        let mut take = |value: &Value| found.extend(BlobRef::from_value(value));
        if references.roots.contains("input") {
            take(&self.started.input);
        }
        let mut scope = self.scope;
        loop {
            for node in self.definition.scope(scope).into_iter().flat_map(|graph| graph.nodes()) {
                if (references.dynamic_nodes || references.nodes.contains(&node.id))
                    && let Some(state) = self.state.nodes.get(&*join(scope, &node.id))
                    && let Some(output) = &state.output
                {
                    take(output);
                }
            }
            match container_of(scope) {
                Some((container, _)) => {
                    let state = self.state.nodes.get(container);
                    if let Some(items) = state.and_then(|node| node.iterations.as_ref()?.items.as_ref()) {
                        take(items);
                    }
                    scope = scope_of(container);
                }
                None => break,
            }
        }
        let (made, facts) = (self.made, self.facts);
        found.into_iter().filter(move |reference| {
            !made.contains_key(&reference.sha256) && !facts.blobs.contains_key(&reference.sha256)
        })
    }
}

impl Scope for ExecutionScope<'_> {
    fn name<'s>(&'s self, name: &str) -> Binding<'s> {
        match name {
            "input" => self.value(&self.started.input),
            "nodes" => Binding::Object(Box::new(Nodes { scope: *self })),
            "item" => self.item(),
            "key" => self.key(),
            "index" => match self.iteration() {
                Some((_, index)) => Binding::Owned(json!(index)),
                None => Binding::Missing,
            },
            "vars" => match &self.facts.variables {
                Fact::Is(variables) => Binding::Object(Box::new(Variables(&variables.values))),
                Fact::Unknown | Fact::Absent => Binding::Owned(json!({})),
            },
            "execution" => Binding::Owned(json!({
                "id": self.facts.stream,
                "workflow": self.started.workflow_name,
                "started_at": self.started.started_at,
            })),
            "trigger" => Binding::Owned(json!({ "kind": self.started.trigger.kind })),
            "payload" => match self.offered {
                Some(offered) => self.value(offered.payload),
                None => Binding::Missing,
            },
            "event" => match self.offered {
                Some(offered) => Binding::Value(&offered.event),
                None => Binding::Missing,
            },
            _ => Binding::Missing,
        }
    }

    fn now(&self) -> Timestamp {
        self.facts.now
    }

    fn uuid(&self, n: u32) -> Uuid {
        let parts: [&[u8]; 3] = [self.facts.command_id.as_bytes(), self.path.as_bytes(), &n.to_be_bytes()];
        derived_id(self.facts.now, Slot::hashed(&parts), &parts)
    }
}

struct Nodes<'a> {
    scope: ExecutionScope<'a>,
}

impl<'a> Object<'a> for Nodes<'a> {
    fn get(&self, key: &str) -> Binding<'a> {
        self.scope.node(key)
    }

    /// Nodes of the own graph that have an event.
    fn keys(&self) -> Vec<String> {
        let graph = self.scope.definition.scope(self.scope.scope);
        let nodes = graph.into_iter().flat_map(|graph| graph.nodes());
        let known =
            nodes.filter(|node| self.scope.state.nodes.contains_key(&*join(self.scope.scope, &node.id)));
        known.map(|node| node.id.clone()).collect()
    }
}

struct StartObject<'a> {
    scope: ExecutionScope<'a>,
    /// The scope that it starts.
    at: &'a str,
}

impl<'a> Object<'a> for StartObject<'a> {
    fn get(&self, key: &str) -> Binding<'a> {
        if key == "output" { self.scope.start_output(self.at) } else { Binding::Missing }
    }

    fn keys(&self) -> Vec<String> {
        vec!["output".to_owned()]
    }
}

struct NodeObject<'a> {
    scope: ExecutionScope<'a>,
    node: &'a NodeState,
    /// Another run than the latest.
    run: Option<u32>,
}

impl<'a> NodeObject<'a> {
    fn output(&self) -> Option<&'a Value> {
        match self.run {
            Some(run) => self.node.output_of(run).map(|output| &**output),
            None => self.node.output.as_deref(),
        }
    }
}

impl<'a> Object<'a> for NodeObject<'a> {
    fn get(&self, key: &str) -> Binding<'a> {
        match key {
            "output" => match self.output() {
                Some(output) => self.scope.value(output),
                None => Binding::Missing,
            },
            "error" => match &self.node.error {
                Some(error) => Binding::Owned(json!(error)),
                None => Binding::Missing,
            },
            _ => Binding::Missing,
        }
    }

    fn keys(&self) -> Vec<String> {
        let output = self.output().is_some().then(|| "output".to_owned());
        output.into_iter().chain(self.node.error.is_some().then(|| "error".to_owned())).collect()
    }
}

struct Variables<'a>(&'a serde_json::Map<String, Value>);

impl<'a> Object<'a> for Variables<'a> {
    fn get(&self, key: &str) -> Binding<'a> {
        self.0.get(key).map_or(Binding::Missing, Binding::Value)
    }

    fn keys(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
}
