//! `given(…).when(…).then(…)`: runs commands on an aggregate with the facts that a shell would fetch.
//!
//! Every decision is checked on the way: the state that it leaves is the one that its events fold to.

use domain::aggregate::{Aggregate, AggregateState};
use domain::blob::Blob;
use domain::command::{Command, CommandEnvelope};
use domain::decision::{Decision, Need, NodeRun, Outcome, Wakeup, WakeupKind};
use domain::event::{Event, ExecutionEvent};
use domain::execution::command::{ExecutionCommand, ForkExecution, OfferedEvent, StartExecution};
use domain::execution::event::{Effects, ErrorKind, MatchedEvent, NodeError, ParentRef, Trigger};
use domain::execution::{ExecutionState, ExecutionStatus, NodeState, Phase, Recording};
use domain::facts::{Fact, Facts, Origin, Variables, WorkflowHead};
use domain::ids::{Actor, Slot, TenantId, new_id};
use domain::rejection::Rejection;
use domain::time::Timestamp;
use domain::workflow::definition::Definition;
use serde_json::{Map, Value};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

pub(crate) use crate::documents::graph;
use crate::transitions;

pub(crate) const COMPLETED: Phase = Phase::Finished(ExecutionStatus::Completed);
pub(crate) const FAILED: Phase = Phase::Finished(ExecutionStatus::Failed);
pub(crate) const CANCELLED: Phase = Phase::Finished(ExecutionStatus::Cancelled);
pub(crate) const TERMINATED: Phase = Phase::Finished(ExecutionStatus::Terminated);

/// An execution of one definition, driven by hand.
/// What was asked of an execution, when, and what came of it: events and wakeups, or the code of a refusal.
#[derive(Clone)]
pub(crate) struct Step {
    pub(crate) id: Uuid,
    pub(crate) at: Timestamp,
    pub(crate) command: ExecutionCommand,
    pub(crate) answer: Result<(Vec<Event>, Vec<Wakeup>), String>,
}

#[derive(Clone)]
pub(crate) struct Scenario {
    pub(crate) aggregate: Aggregate,
    pub(crate) log: Vec<Event>,
    /// When each event of the log was recorded.
    pub(crate) times: Vec<Timestamp>,
    pub(crate) wakeups: Vec<Wakeup>,
    /// Everything that was asked of it.
    pub(crate) steps: Vec<Step>,
    pub(crate) now: Timestamp,
    pub(crate) stream: Uuid,
    /// The last version of each child that a fork of it finds.
    pub(crate) children: HashMap<Uuid, u64>,
    definition: Arc<Definition>,
    pub(crate) variables: Map<String, Value>,
    commands: u64,
    /// Contents of claim checks, by their SHA-256.
    pub(crate) blobs: HashMap<String, Arc<Value>>,
    /// What it was forked from.
    origin: Option<Box<Scenario>>,
}

pub(crate) fn id(number: u64) -> Uuid {
    new_id(Timestamp::from_unix_ms(1_795_000_000_000), Slot::from_bits(7), number)
}

pub(crate) fn given(document: Value) -> Scenario {
    let definition = Definition::parse(&document).unwrap_or_else(|problems| panic!("{problems:#?}"));
    Scenario {
        aggregate: Aggregate::default(),
        log: Vec::new(),
        times: Vec::new(),
        wakeups: Vec::new(),
        steps: Vec::new(),
        now: Timestamp::from_unix_ms(1_795_000_000_000),
        stream: id(2),
        children: HashMap::new(),
        definition: Arc::new(definition),
        variables: Map::new(),
        commands: 0,
        blobs: HashMap::new(),
        origin: None,
    }
}

impl Scenario {
    pub(crate) fn with_variable(mut self, name: &str, value: Value) -> Self {
        self.variables.insert(name.to_owned(), value);
        self
    }

    /// Another version of its workflow.
    pub(crate) fn with_definition(&mut self, document: Value) {
        let definition = Definition::parse(&document).unwrap_or_else(|problems| panic!("{problems:#?}"));
        self.definition = Arc::new(definition);
    }

    pub(crate) fn started_with(mut self, input: Value) -> Self {
        self.when(start_with(input)).expect("a start");
        self
    }

    /// Starts it as the child of a node of another execution.
    pub(crate) fn started_by(mut self, parent: ParentRef, input: Value) -> Self {
        let ExecutionCommand::Start(mut start) = start_with(input) else { panic!("a start") };
        start.parent = Some(parent);
        self.when(ExecutionCommand::Start(start)).expect("a start");
        self
    }

    /// Decides a command and folds what follows; returns the event types, shortened.
    pub(crate) fn when(&mut self, command: ExecutionCommand) -> Result<Vec<String>, Rejection> {
        let id = self.next_command();
        self.when_as(id, command)
    }

    /// The same for a command that has an id.
    pub(crate) fn when_as(&mut self, id: Uuid, command: ExecutionCommand) -> Result<Vec<String>, Rejection> {
        let decided = self.decide_as(id, command.clone());
        let answer = match &decided {
            Ok(outcome) => Ok((outcome.events.clone(), outcome.wakeups.clone())),
            Err(rejection) => Err(rejection.code.to_string()),
        };
        self.steps.push(Step { id, at: self.now, command, answer });
        let outcome = decided?;
        let types = outcome.events.iter().map(shorten).collect();
        let bytes: usize = outcome.events.iter().map(|event| event.encode().len()).sum();
        assert!(
            outcome.events.len() <= 2_000 && bytes <= 4 * 1024 * 1024,
            "an append holds it: {bytes} bytes"
        );
        for blob in outcome.blobs {
            self.keep(blob);
        }
        for event in outcome.events {
            self.apply(event);
        }
        if let Some(after) = outcome.after {
            assert_eq!(*after, *self.state(), "what a decision leaves is what its events add up to");
            self.aggregate.state = AggregateState::Execution(after);
        }
        self.wakeups.extend(outcome.wakeups);
        Ok(types)
    }

    /// Stores a large value.
    pub(crate) fn keep(&mut self, blob: Blob) {
        let content = serde_json::from_slice(&blob.content).expect("JSON");
        self.blobs.insert(blob.reference.sha256, Arc::new(content));
    }

    /// Folds an event, as whoever reads the log does.
    pub(crate) fn apply(&mut self, event: Event) {
        let before = self.aggregate.state.clone();
        match (&event, &self.origin) {
            (Event::Execution(ExecutionEvent::Forked(fork)), Some(origin)) => {
                let state = origin.state_at(fork.at_version);
                let state = domain::execution::forked(&state, fork, self.now);
                self.aggregate.tenant = Some(TenantId::default_tenant());
                self.aggregate.version = 1;
                self.aggregate.state = AggregateState::Execution(Box::new(state));
            }
            _ => self.aggregate.apply(&TenantId::default_tenant(), &event, self.now),
        }
        transitions::check(&before, &event, &self.aggregate.state);
        self.log.push(event);
        self.times.push(self.now);
    }

    /// What its first events add up to.
    pub(crate) fn state_at(&self, version: u64) -> ExecutionState {
        let mut past = self.clone();
        past.aggregate = Aggregate::default();
        (past.log, past.times) = (Vec::new(), Vec::new());
        for (event, at) in self.log.iter().zip(&self.times).take(version as usize) {
            past.now = *at;
            past.apply(event.clone());
        }
        past.state().clone()
    }

    fn next_command(&mut self) -> Uuid {
        self.commands += 1;
        id(1_000 + self.commands)
    }

    pub(crate) fn decide(&mut self, command: ExecutionCommand) -> Result<Outcome, Rejection> {
        let id = self.next_command();
        self.decide_as(id, command)
    }

    /// Decides a command that has an id; nothing is folded.
    pub(crate) fn decide_as(&self, id: Uuid, command: ExecutionCommand) -> Result<Outcome, Rejection> {
        let envelope = CommandEnvelope {
            id,
            tenant: TenantId::default_tenant(),
            actor: Actor::system("test"),
            stream: self.stream,
            correlation_id: self.stream,
            causation_id: self.stream,
            traceparent: None,
            digest: None,
            command: Command::Execution(command),
            authority: None,
        };
        let mut facts = Facts::new(self.now, envelope.id, envelope.stream, envelope.tenant.clone());
        for _ in 0..64 {
            match self.aggregate.decide(&envelope, &facts)? {
                Decision::Events(outcome) => return Ok(outcome),
                Decision::Needs(needs) => needs.into_iter().for_each(|need| self.fetch(need, &mut facts)),
            }
        }
        panic!("more rounds of fetching than the shell makes");
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
                    owner: None,
                    shared: domain::workflow::event::WorkflowShared::default(),
                }));
            }
            Need::Definition { .. } => facts.definition = Fact::Is(self.definition.clone()),
            Need::Variables(_) => {
                facts.variables =
                    Fact::Is(Arc::new(Variables { version: 1, values: self.variables.clone() }));
            }
            Need::Blob(reference) => {
                let content = self.blobs.get(&reference.sha256).expect("a blob of this scenario").clone();
                facts.blobs.insert(reference.sha256, content);
            }
            Need::Origin { at_version, .. } => facts.origin = self.origin_at(at_version),
            Need::Recording { until, .. } => {
                let origin = self.origin.as_ref().expect("a fork");
                facts.recording = Fact::Is(Arc::new(origin.recording(until)));
            }
        }
    }

    fn origin_at(&self, version: u64) -> Fact<Origin> {
        let origin = self.origin.as_ref().expect("a fork");
        let latest_version = origin.log.len() as u64;
        if version == 0 || version > latest_version {
            return Fact::Absent;
        }
        let state = origin.state_at(version);
        let depth = state.fork.as_ref().map_or(0, |fork| fork.depth);
        Fact::Is(Arc::new(Origin { state, latest_version, depth, children: origin.children.clone() }))
    }

    fn recording(&self, until: u64) -> Recording {
        let mut recording = Recording::default();
        for event in self.log.iter().take(until as usize) {
            if let Event::Execution(event) = event {
                recording.fold(event);
            }
        }
        recording
    }

    /// A fork of it, not decided yet.
    pub(crate) fn forked(&self, at_version: u64, effects: Effects) -> (Self, ForkExecution) {
        let mut fork = self.clone();
        fork.aggregate = Aggregate::default();
        (fork.log, fork.times, fork.wakeups) = (Vec::new(), Vec::new(), Vec::new());
        fork.steps = Vec::new();
        fork.stream = id(500 + self.commands);
        fork.origin = Some(Box::new(self.clone()));
        let wanted = ForkExecution {
            origin: self.stream,
            at_version,
            input: None,
            node_outputs: Map::new(),
            workflow_version: None,
            effects,
            parent: None,
            owner: None,
        };
        (fork, wanted)
    }

    /// The version of the latest event that is shortened to a text.
    pub(crate) fn version_of(&self, short: &str) -> u64 {
        let at = self.types().iter().rposition(|found| found == short);
        at.unwrap_or_else(|| panic!("no `{short}` in {:#?}", self.types())) as u64 + 1
    }

    /// Gives the attempt that is in flight at a path its output.
    pub(crate) fn done(&mut self, path: &str, output: Value) -> Vec<String> {
        let node = self.in_flight(path);
        self.when(ExecutionCommand::CompleteNode { node, result: Ok(output) }).expect("accepted")
    }

    /// Lets the attempt that is in flight at a path fail.
    pub(crate) fn broken(&mut self, path: &str, kind: ErrorKind) -> Vec<String> {
        let node = self.in_flight(path);
        self.when(ExecutionCommand::CompleteNode { node, result: Err(failure(kind)) }).expect("accepted")
    }

    /// The run and attempt that a node is in.
    pub(crate) fn in_flight(&self, path: &str) -> NodeRun {
        let node = self.at(path);
        NodeRun { node_id: path.to_owned(), run: node.run, attempt: node.attempt }
    }

    pub(crate) fn signal(&mut self, name: &str, payload: Value) -> Vec<String> {
        self.when(ExecutionCommand::Signal { name: name.to_owned(), payload }).expect("accepted")
    }

    /// Offers an event, recorded now, to a condition of a wait.
    pub(crate) fn offer(
        &mut self,
        path: &str,
        condition: u32,
        event: (u64, &str),
        data: Value,
    ) -> Result<Vec<String>, Rejection> {
        let run = self.at(path).run;
        let (number, event_type) = event;
        let event = MatchedEvent {
            id: id(number),
            event_type: event_type.to_owned(),
            stream: id(9),
            recorded_at: self.now,
        };
        self.when(ExecutionCommand::OfferEvent(OfferedEvent {
            node_id: path.to_owned(),
            run,
            condition,
            event,
            data,
        }))
    }

    /// Ends the child of a node.
    pub(crate) fn child_ends(&mut self, path: &str, result: Result<Value, ExecutionStatus>) -> Vec<String> {
        let (node, child) = (self.in_flight(path), self.at(path).child.expect("a child"));
        let (status, output, error) = match result {
            Ok(output) => (ExecutionStatus::Completed, output, None),
            Err(status) => (status, Value::Null, Some(failure(ErrorKind::Custom))),
        };
        self.when(ExecutionCommand::FinishChild { node, child, status, output, error }).expect("accepted")
    }

    pub(crate) fn cancel(&mut self) -> Vec<String> {
        self.when(ExecutionCommand::Cancel { reason: None }).expect("accepted")
    }

    pub(crate) fn pause(&mut self) -> Vec<String> {
        self.when(ExecutionCommand::Pause { reason: None }).expect("accepted")
    }

    pub(crate) fn resume(&mut self) -> Vec<String> {
        self.when(ExecutionCommand::Resume { reason: None }).expect("accepted")
    }

    pub(crate) fn retry(&mut self) -> Result<Vec<String>, Rejection> {
        self.when(ExecutionCommand::Retry { reason: None, node_inputs: Map::new(), dead_letter: None })
    }

    /// Lets time pass; what comes due is dealt with in its order. Wakeups that nobody needs any more are refused, as
    /// they may be. Returns the events.
    pub(crate) fn passes(&mut self, ms: u64) -> Vec<String> {
        let until = self.now.plus_ms(ms);
        let mut all = Vec::new();
        while let Some(at) = self.next_due().filter(|at| self.wakeups[*at].due_at <= until) {
            let wakeup = self.wakeups.remove(at);
            self.now = self.now.max(wakeup.due_at);
            all.extend(self.when(ExecutionCommand::Wake(wakeup)).unwrap_or_default());
        }
        self.now = until;
        all
    }

    /// Which wakeup comes first.
    pub(crate) fn next_due(&self) -> Option<usize> {
        (0..self.wakeups.len()).min_by_key(|at| self.wakeups[*at].due_at)
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
        self.when(ExecutionCommand::CompleteNode { node: run(node, attempt), result: Err(failure(kind)) })
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
            AggregateState::Execution(state) => state,
            other => panic!("{other:?}"),
        }
    }

    /// The state of a node that has an event.
    pub(crate) fn at(&self, path: &str) -> &NodeState {
        self.state().nodes.get(path).unwrap_or_else(|| panic!("no event of `{path}` in {:#?}", self.types()))
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

    /// How many events of the log are shortened to a text.
    pub(crate) fn count(&self, short: &str) -> usize {
        self.types().iter().filter(|found| *found == short).count()
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
        owner: None,
    })
}

/// An error of a worker.
pub(crate) fn failure(kind: ErrorKind) -> NodeError {
    NodeError { kind, message: "no".to_owned(), retryable: true, details: Value::Null }
}

pub(crate) fn run(node: &str, attempt: u32) -> NodeRun {
    NodeRun { node_id: node.to_owned(), run: 1, attempt }
}

/// `execution.node.completed` of `fetch` as `completed fetch`; what else has a path as `timer.fired fetch`.
pub(crate) fn shorten(event: &Event) -> String {
    let data: Value = serde_json::from_slice(&event.encode()).expect("JSON");
    let name = event.event_type().trim_start_matches("execution.");
    match data["node_id"].as_str() {
        Some(node) if name != "failed" => format!("{} {node}", name.trim_start_matches("node.")),
        _ => name.to_owned(),
    }
}
