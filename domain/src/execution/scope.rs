//! What expressions of an execution see: nothing but its own state and facts.

use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

use crate::blob::BlobRef;
use crate::expression::{Binding, Object, Scope};
use crate::facts::{Fact, Facts};
use crate::ids::{Slot, derived_id};
use crate::node_type::NodeType;
use crate::time::Timestamp;
use crate::workflow::definition::Definition;

use super::state::{ExecutionState, NodeState, StartedFacts};

/// Contents of claim checks by their SHA-256.
pub(super) type LargeValues = HashMap<String, Arc<Value>>;

/// The scope of one node's expressions.
pub(super) struct ExecutionScope<'a> {
    state: &'a ExecutionState,
    started: &'a StartedFacts,
    facts: &'a Facts,
    /// Large values of this very decision, which no store has yet.
    made: &'a LargeValues,
    definition: &'a Definition,
    /// The node whose expressions are evaluated: part of what `uuid()` is derived from.
    path: &'a str,
}

impl<'a> ExecutionScope<'a> {
    pub(super) fn new(
        state: &'a ExecutionState,
        started: &'a StartedFacts,
        facts: &'a Facts,
        made: &'a LargeValues,
        definition: &'a Definition,
        path: &'a str,
    ) -> Self {
        Self { state, started, facts, made, definition, path }
    }

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
}

impl Scope for ExecutionScope<'_> {
    fn name<'s>(&'s self, name: &str) -> Binding<'s> {
        match name {
            "input" => self.value(&self.started.input),
            "nodes" => Binding::Object(Box::new(Nodes { scope: self })),
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
    scope: &'a ExecutionScope<'a>,
}

impl<'a> Object<'a> for Nodes<'a> {
    fn get(&self, key: &str) -> Binding<'a> {
        match self.scope.state.nodes.get(key) {
            Some(node) => Binding::Object(Box::new(NodeObject { scope: self.scope, node })),
            // The start has no event of its own; its output is the input.
            None if self.scope.definition.node(key).is_some_and(|node| node.node_type == NodeType::Start) => {
                Binding::Object(Box::new(StartObject { scope: self.scope }))
            }
            None => Binding::Missing,
        }
    }

    fn keys(&self) -> Vec<String> {
        self.scope.state.nodes.keys().cloned().collect()
    }
}

struct StartObject<'a> {
    scope: &'a ExecutionScope<'a>,
}

impl<'a> Object<'a> for StartObject<'a> {
    fn get(&self, key: &str) -> Binding<'a> {
        if key == "output" { self.scope.value(&self.scope.started.input) } else { Binding::Missing }
    }

    fn keys(&self) -> Vec<String> {
        vec!["output".to_owned()]
    }
}

struct NodeObject<'a> {
    scope: &'a ExecutionScope<'a>,
    node: &'a NodeState,
}

impl<'a> Object<'a> for NodeObject<'a> {
    fn get(&self, key: &str) -> Binding<'a> {
        match key {
            "output" => match &self.node.output {
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
        let output = self.node.output.is_some().then(|| "output".to_owned());
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
