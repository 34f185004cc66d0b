//! `given(…).when(…).then(…)`: runs commands on an aggregate with the facts that a shell would fetch.

use domain::aggregate::Aggregate;
use domain::command::{Command, CommandEnvelope};
use domain::decision::{Decision, Need, NodeRun, Outcome, Wakeup, WakeupKind};
use domain::execution::command::{ExecutionCommand, StartExecution};
use domain::execution::event::{ErrorKind, NodeError, Trigger};
use domain::execution::{ExecutionState, Phase};
use domain::facts::{Fact, Facts, Variables, WorkflowHead};
use domain::ids::{Actor, Slot, TenantId, new_id};
use domain::rejection::Rejection;
use domain::time::Timestamp;
use domain::workflow::definition::Definition;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use uuid::Uuid;

/// An execution of one definition, driven by hand.
pub(crate) struct Scenario {
    pub(crate) aggregate: Aggregate,
    pub(crate) log: Vec<domain::event::Event>,
    pub(crate) wakeups: Vec<Wakeup>,
    pub(crate) now: Timestamp,
    definition: Arc<Definition>,
    variables: Map<String, Value>,
    commands: u64,
}

pub(crate) fn id(number: u64) -> Uuid {
    new_id(Timestamp::from_unix_ms(1_795_000_000_000), Slot::from_bits(7), number)
}

/// A definition around these nodes and edges; `start` and `end` are there already.
pub(crate) fn graph(nodes: Value, edges: Value) -> Value {
    let mut all = vec![json!({"id": "start", "type": "start"})];
    all.extend(nodes.as_array().expect("a list of nodes").iter().cloned());
    if !all.iter().any(|node| node["type"] == "end") {
        all.push(json!({"id": "end", "type": "end"}));
    }
    let edges: Vec<Value> = edges
        .as_array()
        .expect("a list of edges")
        .iter()
        .map(|edge| {
            let text = edge.as_str().expect("source[.handle]>target");
            let (source, target) = text.split_once('>').expect("an edge");
            match source.split_once('.') {
                Some((source, handle)) => {
                    json!({"source": source, "source_handle": handle, "target": target})
                }
                None => json!({"source": source, "target": target}),
            }
        })
        .collect();
    json!({"name": "test", "nodes": all, "edges": edges})
}

pub(crate) fn given(document: Value) -> Scenario {
    let definition = Definition::parse(&document).unwrap_or_else(|problems| panic!("{problems:#?}"));
    Scenario {
        aggregate: Aggregate::default(),
        log: Vec::new(),
        wakeups: Vec::new(),
        now: Timestamp::from_unix_ms(1_795_000_000_000),
        definition: Arc::new(definition),
        variables: Map::new(),
        commands: 0,
    }
}

impl Scenario {
    pub(crate) fn with_variable(mut self, name: &str, value: Value) -> Self {
        self.variables.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn started_with(mut self, input: Value) -> Self {
        self.when(start_with(input)).expect("a start");
        self
    }

    /// Decides a command and folds what follows; returns the event types, shortened.
    pub(crate) fn when(&mut self, command: ExecutionCommand) -> Result<Vec<String>, Rejection> {
        let outcome = self.decide(command)?;
        let tenant = TenantId::default_tenant();
        let types = outcome.events.iter().map(shorten).collect();
        let before = self.aggregate.clone();
        for event in outcome.events {
            self.aggregate.apply(&tenant, &event, self.now);
            self.log.push(event);
        }
        if let Some(after) = outcome.after {
            let folded = self.state();
            assert_eq!(*after, *folded, "what a decision leaves is what its events add up to; before: {before:?}");
            self.aggregate.state = domain::aggregate::AggregateState::Execution(after);
        }
        self.wakeups.extend(outcome.wakeups);
        Ok(types)
    }

    pub(crate) fn decide(&mut self, command: ExecutionCommand) -> Result<Outcome, Rejection> {
        self.commands += 1;
        let envelope = CommandEnvelope {
            id: id(1_000 + self.commands),
            tenant: TenantId::default_tenant(),
            actor: Actor::system("test"),
            stream: id(2),
            correlation_id: id(2),
            causation_id: id(2),
            traceparent: None,
            digest: None,
            command: Command::Execution(command),
        };
        let mut facts = Facts::new(self.now, envelope.id, envelope.stream, envelope.tenant.clone());
        loop {
            match self.aggregate.decide(&envelope, &facts)? {
                Decision::Events(outcome) => return Ok(outcome),
                Decision::Needs(needs) => needs.into_iter().for_each(|need| self.fetch(need, &mut facts)),
            }
        }
    }

    fn fetch(&self, need: Need, facts: &mut Facts) {
        match need {
            Need::Workflow(_) => {
                facts.workflow = Fact::Is(Arc::new(WorkflowHead {
                    name: "test".to_owned(),
                    published_version: Some(1),
                    latest_version: 1,
                    enabled: true,
                    deleted: false,
                }));
            }
            Need::Definition { .. } => facts.definition = Fact::Is(self.definition.clone()),
            Need::Variables(_) => {
                facts.variables =
                    Fact::Is(Arc::new(Variables { version: 1, values: self.variables.clone() }));
            }
            Need::Origin { .. } | Need::Recording { .. } => panic!("no forks in this scenario"),
            Need::Blob(reference) => panic!("no blob {reference:?} in this scenario"),
        }
    }

    pub(crate) fn completes(
        &mut self,
        node: &str,
        attempt: u32,
        output: Value,
    ) -> Result<Vec<String>, Rejection> {
        self.when(ExecutionCommand::CompleteNode { node: run(node, attempt), result: Ok(output) })
    }

    pub(crate) fn fails(
        &mut self,
        node: &str,
        attempt: u32,
        kind: ErrorKind,
    ) -> Result<Vec<String>, Rejection> {
        let error = NodeError { kind, message: "no".to_owned(), retryable: true, details: Value::Null };
        self.when(ExecutionCommand::CompleteNode { node: run(node, attempt), result: Err(error) })
    }

    /// Lets the latest wakeup of a kind come due.
    pub(crate) fn wakes(&mut self, pick: fn(&WakeupKind) -> bool) -> Result<Vec<String>, Rejection> {
        let wakeup =
            self.wakeups.iter().rev().find(|wakeup| pick(&wakeup.kind)).cloned().expect("such a wakeup");
        self.now = self.now.max(wakeup.due_at);
        self.when(ExecutionCommand::Wake(wakeup))
    }

    pub(crate) fn state(&self) -> &ExecutionState {
        match &self.aggregate.state {
            domain::aggregate::AggregateState::Execution(state) => state,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn phase(&self) -> Phase {
        self.state().phase
    }

    /// All event types so far, shortened.
    pub(crate) fn types(&self) -> Vec<String> {
        self.log.iter().map(shorten).collect()
    }

    /// The data of the latest event of a type.
    pub(crate) fn latest(&self, event_type: &str) -> Value {
        let event = self.log.iter().rev().find(|event| event.event_type() == event_type);
        let event = event.unwrap_or_else(|| panic!("no {event_type} in {:?}", self.types()));
        serde_json::from_slice(&event.encode()).expect("JSON")
    }

    pub(crate) fn output(&self) -> Value {
        self.latest("execution.completed")["output"].clone()
    }
}

/// A start with an input.
pub(crate) fn start_with(input: Value) -> ExecutionCommand {
    ExecutionCommand::Start(StartExecution {
        workflow_id: id(1),
        workflow_version: None,
        input,
        trigger: Trigger { kind: "api".to_owned() },
        priority: None,
        attributes: Map::new(),
        parent: None,
    })
}

pub(crate) fn run(node: &str, attempt: u32) -> NodeRun {
    NodeRun { node_id: node.to_owned(), run: 1, attempt }
}

/// `execution.node.completed` of `fetch` as `completed fetch`.
fn shorten(event: &domain::event::Event) -> String {
    let data: Value = serde_json::from_slice(&event.encode()).expect("JSON");
    let name = event.event_type().trim_start_matches("execution.");
    match data["node_id"].as_str() {
        Some(node) if name.starts_with("node.") => format!("{} {node}", name.trim_start_matches("node.")),
        Some(node) if name.starts_with("timer.") => format!("{name} {node}"),
        _ => name.to_owned(),
    }
}
