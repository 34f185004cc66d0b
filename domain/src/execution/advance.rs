//! What follows from a state: the engine's rules, and nothing else.
//!
//! One sweep over the graph in topological order brings every node as far as it can go: each node comes
//! after all that lead to it, so its incoming edges are known when it is looked at. The sweep reads only the
//! state, never which command led to it; continuing from any prefix of a stream therefore gives the same end.

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::sync::Arc;

use crate::blob::{BlobRef, MAX_DEPTH, claim_check, inline_bytes_bound, is_too_deep};
use crate::decision::{Need, NodeRun, Outcome, Wakeup, WakeupKind};
use crate::event::{Event, ExecutionEvent};
use crate::expression::Fuel;
use crate::facts::Facts;
use crate::node_type::NodeType;
use crate::nodes::{Step, StepError};
use crate::workflow::definition::{Definition, Graph, Node, OnError};

use super::budget::Budget;
use super::event::{
    ErrorKind, ExecutionCompleted, ExecutionFailed, ExecutionWarning, NodeCancelled, NodeCompleted,
    NodeError, NodeFailed, NodeRetryScheduled, NodeScheduled, NodeSkipped, NodeWaiting, TimerCancelled,
    TimerFired, TimerPurpose, TimerStarted,
};
use super::evolve::evolve;
use super::scope::{ExecutionScope, LargeValues};
use super::state::{ExecutionState, NodeState, NodeStatus, Phase};
use super::{MAX_HISTORY_EVENTS, MAX_LOST_WORKERS};

/// Events kept free at the end of a history, so that an execution at its limit can still end properly.
const HISTORY_RESERVE: u64 = 2_100;

/// The most events of one decision that ends an execution: what one append may hold.
const MAX_DECISION_EVENTS: usize = 2_000;

/// A state on its way, with everything that was decided so far.
pub(super) struct Progress<'a> {
    pub(super) state: ExecutionState,
    pub(super) outcome: Outcome,
    definition: &'a Definition,
    facts: &'a Facts,
    /// The large values among `outcome`, for expressions of the same decision.
    made: LargeValues,
    budget: Budget,
    /// Whether the rest waits for the next decision.
    yielded: bool,
}

/// What an incoming edge can know of the node that it comes from.
#[derive(Clone, PartialEq)]
enum Way {
    /// The node is not done.
    Open,
    /// It is done and left by this handle.
    Left(Option<String>),
    /// It is done and left by none.
    Closed,
}

/// Whether a node without events can begin.
enum Readiness {
    NotYet,
    Ready,
    Never,
}

impl<'a> Progress<'a> {
    pub(super) fn new(state: ExecutionState, definition: &'a Definition, facts: &'a Facts) -> Self {
        Self {
            state,
            outcome: Outcome::default(),
            definition,
            facts,
            made: LargeValues::new(),
            budget: Budget::default(),
            yielded: false,
        }
    }

    /// Appends an event and folds it.
    pub(super) fn record(&mut self, event: impl Into<ExecutionEvent>) {
        let event = event.into();
        self.state = evolve(std::mem::take(&mut self.state), &event, self.facts.now);
        self.outcome.events.push(Event::Execution(event));
        if self.state.version == MAX_HISTORY_EVENTS / 2 {
            self.record(ExecutionWarning {
                code: "history_half_full".to_owned(),
                message: format!(
                    "half of the {MAX_HISTORY_EVENTS} events that an execution may have are written"
                ),
            });
        }
    }

    /// Brings every node as far as it can go, and the execution to its end if nothing is left.
    pub(super) fn advance(&mut self) -> Result<(), Vec<Need>> {
        if self.state.phase != Phase::Running {
            return Ok(());
        }
        if self.state.version + HISTORY_RESERVE >= MAX_HISTORY_EVENTS {
            let message = format!("the execution has reached its limit of {MAX_HISTORY_EVENTS} events");
            self.fail(None, custom_error(message));
            return Ok(());
        }
        let definition = self.definition;
        let graph = &definition.graph;
        let mut ways = vec![Way::Open; graph.nodes().len()];
        let mut ends = Vec::new();
        let mut busy = false;
        for &index in graph.order() {
            if self.budget.is_spent(self.outcome.events.len()) {
                self.yield_now();
            }
            if self.is_over() {
                return Ok(());
            }
            let node = &graph.nodes()[index];
            let way = match node.node_type {
                NodeType::Start => Way::Left(None),
                NodeType::End => {
                    if let Readiness::Ready = readiness(graph, index, &ways) {
                        ends.push(node);
                    }
                    Way::Closed
                }
                _ => self.bring_forward(node, readiness(graph, index, &ways))?,
            };
            busy |= way == Way::Open && self.state.nodes.contains_key(&node.id);
            ways[index] = way;
        }
        if !busy && !self.is_over() {
            self.complete(&ends)?;
        }
        Ok(())
    }

    /// Whether this decision has nothing more to do.
    fn is_over(&self) -> bool {
        self.yielded || self.state.phase != Phase::Running
    }

    /// Leaves the rest to the next decision.
    fn yield_now(&mut self) {
        let kind = WakeupKind::Yield(self.state.version);
        self.outcome.wakeups.push(Wakeup { due_at: self.facts.now, kind });
        self.yielded = true;
    }

    /// Takes a node through all steps that follow from its state, until it waits for something or is done.
    fn bring_forward(&mut self, node: &Node, readiness: Readiness) -> Result<Way, Vec<Need>> {
        loop {
            if self.is_over() {
                return Ok(Way::Closed);
            }
            let Some(state) = self.state.nodes.get(&node.id) else {
                match readiness {
                    Readiness::NotYet => return Ok(Way::Open),
                    Readiness::Never => {
                        let (node_id, node_type) = (node.id.clone(), node.node_type);
                        self.record(NodeSkipped { node_id, run: 1, attempt: 0, node_type });
                    }
                    Readiness::Ready => self.begin(node, 1, 1)?,
                }
                continue;
            };
            let (run, attempt) = (state.run, state.attempt);
            match &state.status {
                NodeStatus::Completed { handle } => return Ok(Way::Left(handle.clone())),
                NodeStatus::Skipped | NodeStatus::Cancelled => return Ok(Way::Closed),
                NodeStatus::Scheduled { .. }
                | NodeStatus::Running { .. }
                | NodeStatus::Waiting { due_at: Some(_) }
                | NodeStatus::BackingOff { timer_started: true, .. } => return Ok(Way::Open),
                NodeStatus::Waiting { due_at: None } => self.begin(node, run, attempt)?,
                NodeStatus::BackingOff { due_at, timer_started: false } => {
                    let due_at = *due_at;
                    self.start_timer(node, run, attempt, TimerPurpose::Backoff, due_at);
                }
                NodeStatus::Due { purpose: TimerPurpose::Backoff, .. } => self.begin(node, run, attempt)?,
                NodeStatus::Due { purpose: TimerPurpose::Delay, at } => {
                    let output = json!(at);
                    self.complete_node(node, run, attempt, output, None);
                }
                NodeStatus::Failed { .. } => {
                    let state = state.clone();
                    self.after_failure(node, &state)?;
                }
            }
        }
    }

    /// Begins an attempt: engine nodes give their result, delays start a timer, worker nodes are scheduled.
    fn begin(&mut self, node: &Node, run: u32, attempt: u32) -> Result<(), Vec<Need>> {
        let (node_id, node_type) = (node.id.clone(), node.node_type);
        match self.step(node, &mut Fuel::standard())? {
            Err(error) => self.record(NodeFailed { node_id, run, attempt, node_type, error, duration_ms: 0 }),
            Ok(Step::Complete { output, handle }) => self.complete_node(node, run, attempt, output, handle),
            Ok(Step::WaitUntil(due_at)) => {
                if !self.state.nodes.contains_key(&node_id) {
                    self.record(NodeWaiting { node_id, run, attempt, node_type });
                }
                self.start_timer(node, run, attempt, TimerPurpose::Delay, due_at);
            }
            Ok(Step::Schedule(config)) => {
                let config = self.check_in(config);
                let timeout_ms = node.timeout_ms.unwrap_or_else(|| node.config.default_timeout_ms());
                let deadline = self.facts.now.plus_ms(timeout_ms);
                let kind = WakeupKind::AttemptDeadline(NodeRun { node_id: node_id.clone(), run, attempt });
                self.outcome.wakeups.push(Wakeup { due_at: deadline, kind });
                self.record(NodeScheduled { node_id, run, attempt, node_type, config, deadline });
            }
        }
        Ok(())
    }

    /// What the node's own file says; a failure of the node is not a failure here.
    fn step(&mut self, node: &Node, fuel: &mut Fuel) -> Result<Result<Step, NodeError>, Vec<Need>> {
        let Some(started) = &self.state.started else {
            return Ok(Err(custom_error("the execution has no start".to_owned())));
        };
        let scope =
            ExecutionScope::new(&self.state, started, self.facts, &self.made, self.definition, &node.id);
        let step = node.config.begin(&scope, fuel);
        self.budget.evaluated(fuel);
        match step {
            Ok(Step::Complete { output, .. }) if BlobRef::from_value(&output).is_some() => {
                // Real claim checks were resolved by the scope: this one was put together from data.
                let message = "the output has the form of a claim check (`$blob`), which is reserved; wrap it in an object";
                Ok(Err(custom_error(message.to_owned())))
            }
            Ok(Step::Complete { output: value, .. } | Step::Schedule(value)) if is_too_deep(&value) => {
                Ok(Err(too_deep_error()))
            }
            Ok(step) => Ok(Ok(step)),
            Err(StepError::NeedsBlob(first)) => Err(self.large_values_of(node, first)),
            Err(StepError::Failed(error)) => Ok(Err(error)),
        }
    }

    /// All claim checks that a node's expressions may look into, so that they are fetched in one round.
    fn large_values_of(&self, node: &Node, first: BlobRef) -> Vec<Need> {
        let references = node.config.references();
        let input = self.state.started.as_ref().map(|started| &started.input);
        let input = input.filter(|_| references.roots.contains("input"));
        let outputs = self
            .state
            .nodes
            .iter()
            .filter(|(id, _)| references.dynamic_nodes || references.nodes.contains(*id))
            .filter_map(|(_, state)| state.output.as_deref());
        let known = |sha256: &str| self.made.contains_key(sha256) || self.facts.blobs.contains_key(sha256);
        let mut needs = vec![Need::Blob(first)];
        for reference in input.into_iter().chain(outputs).filter_map(BlobRef::from_value) {
            let need = Need::Blob(reference.clone());
            if !known(&reference.sha256) && !needs.contains(&need) {
                needs.push(need);
            }
        }
        needs
    }

    fn complete_node(&mut self, node: &Node, run: u32, attempt: u32, output: Value, handle: Option<String>) {
        let since = self.state.nodes.get(&node.id).map_or(self.facts.now, |state| state.since);
        let output = self.check_in(output);
        self.record(NodeCompleted {
            node_id: node.id.clone(),
            run,
            attempt,
            node_type: node.node_type,
            output,
            handle,
            duration_ms: self.facts.now.since_ms(since),
        });
    }

    fn start_timer(
        &mut self,
        node: &Node,
        run: u32,
        attempt: u32,
        purpose: TimerPurpose,
        due_at: crate::time::Timestamp,
    ) {
        let node_id = node.id.clone();
        let kind = WakeupKind::Timer(NodeRun { node_id: node_id.clone(), run, attempt });
        // Not in the past, where wakeups count as dealt with.
        self.outcome.wakeups.push(Wakeup { due_at: due_at.max(self.facts.now), kind });
        self.record(TimerStarted { node_id, run, attempt, purpose, due_at });
    }

    /// Another attempt, another way on, or the end of the execution.
    fn after_failure(&mut self, node: &Node, state: &NodeState) -> Result<(), Vec<Need>> {
        let (run, attempt) = (state.run, state.attempt);
        let error = state.error.clone().unwrap_or_else(|| custom_error("the attempt failed".to_owned()));
        if error.kind == ErrorKind::WorkerLost && state.lost_workers <= MAX_LOST_WORKERS {
            return self.begin(node, run, attempt + 1);
        }
        let failed_attempts = attempt.saturating_sub(state.lost_workers.min(MAX_LOST_WORKERS));
        if let Some(retry) = &node.retry
            && retry.retry_on.contains(&error.kind)
            && failed_attempts < retry.max_attempts
        {
            // From the failure's own time, not from now: continuing from a prefix gives the same time.
            let NodeStatus::Failed { at } = state.status else { return Ok(()) };
            let due_at = at.plus_ms(retry.pause_ms(failed_attempts, self.random(node, run, attempt)));
            self.record(NodeRetryScheduled {
                node_id: node.id.clone(),
                run,
                attempt: attempt + 1,
                node_type: node.node_type,
                due_at,
            });
            return Ok(());
        }
        let handle = match node.on_error {
            OnError::Fail => {
                if self.has_room_to_end() {
                    self.fail(Some(node.id.clone()), error);
                } else {
                    // The failure is recorded; the next decision begins with it.
                    self.yield_now();
                }
                return Ok(());
            }
            OnError::Continue => None,
            OnError::Route => Some("error".to_owned()),
        };
        self.complete_node(node, run, attempt, json!({ "error": error }), handle);
        Ok(())
    }

    /// A number that is the same for the same attempt, and differs between executions.
    fn random(&self, node: &Node, run: u32, attempt: u32) -> u64 {
        let digest = Sha256::new()
            .chain_update(self.facts.stream.as_bytes())
            .chain_update(node.id.as_bytes())
            .chain_update(run.to_be_bytes())
            .chain_update(attempt.to_be_bytes())
            .finalize();
        digest.iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Nothing is left to run: renders the outputs of the ends that were reached.
    fn complete(&mut self, ends: &[&Node]) -> Result<(), Vec<Need>> {
        let mut outputs = Vec::with_capacity(ends.len());
        // One budget for all ends: they are one event, which cannot be spread over decisions.
        let mut fuel = Fuel::standard();
        for end in ends {
            match self.step(end, &mut fuel)? {
                Ok(Step::Complete { output, .. }) => outputs.push((end.id.clone(), output)),
                Ok(Step::WaitUntil(_) | Step::Schedule(_)) => outputs.push((end.id.clone(), Value::Null)),
                Err(error) => {
                    self.fail(Some(end.id.clone()), error);
                    return Ok(());
                }
            }
        }
        let ends = outputs.iter().map(|(id, _)| id.clone()).collect();
        let output = if outputs.len() > 1 {
            Value::Object(outputs.into_iter().collect())
        } else {
            outputs.pop().map_or(Value::Null, |(_, output)| output)
        };
        let output = self.check_in(output);
        let duration_ms = self.age_ms();
        self.record(ExecutionCompleted { output, ends, duration_ms });
        Ok(())
    }

    /// Ends the execution with an error: what runs is stopped first.
    pub(super) fn fail(&mut self, node_id: Option<String>, error: NodeError) {
        self.stop_nodes("the execution failed", node_id.as_deref());
        let duration_ms = self.age_ms();
        self.record(ExecutionFailed { node_id, error, duration_ms });
    }

    /// Whether stopping all that runs fits into this append beside what it holds already.
    fn has_room_to_end(&self) -> bool {
        let open = self.state.nodes.values().filter(|state| !state.status.is_settled()).count();
        self.outcome.events.is_empty() || self.outcome.events.len() + 2 * open + 2 <= MAX_DECISION_EVENTS
    }

    /// Cancels every node that is not done, and its timer.
    pub(super) fn stop_nodes(&mut self, reason: &str, except: Option<&str>) {
        let open: Vec<(String, NodeState)> = self
            .state
            .nodes
            .iter()
            .filter(|(id, state)| !state.status.is_settled() && Some(id.as_str()) != except)
            .map(|(id, state)| (id.clone(), state.clone()))
            .collect();
        for (node_id, state) in open {
            let (run, attempt) = (state.run, state.attempt);
            let purpose = match state.status {
                NodeStatus::Waiting { due_at: Some(_) } => Some(TimerPurpose::Delay),
                NodeStatus::BackingOff { timer_started: true, .. } => Some(TimerPurpose::Backoff),
                _ => None,
            };
            if let Some(purpose) = purpose {
                self.record(TimerCancelled { node_id: node_id.clone(), run, attempt, purpose });
            }
            // A node of another definition cannot be here; its type is only for readers of the log.
            let node_type = self.definition.node(&node_id).map_or(NodeType::Transform, |node| node.node_type);
            self.record(NodeCancelled { node_id, run, attempt, node_type, reason: reason.to_owned() });
        }
    }

    /// Records that a timer fired.
    pub(super) fn fire_timer(&mut self, node: &NodeRun, purpose: TimerPurpose) {
        let (node_id, run, attempt) = (node.node_id.clone(), node.run, node.attempt);
        self.record(TimerFired { node_id, run, attempt, purpose });
    }

    /// How long the execution has run, in milliseconds.
    pub(super) fn age_ms(&self) -> u64 {
        self.state.started.as_ref().map_or(0, |started| self.facts.now.since_ms(started.started_at))
    }

    /// A claim check in place of a value too large for an event.
    fn check_in(&mut self, value: Value) -> Value {
        self.budget.made(inline_bytes_bound(&value));
        let (value, blob) = claim_check(value);
        if let Some(blob) = blob {
            self.budget.made(blob.content.len());
            // Read back rather than cloned before: large values are rare, and cloning every value is not free.
            if let Ok(content) = serde_json::from_slice(&blob.content) {
                self.made.insert(blob.reference.sha256.clone(), Arc::new(content));
            }
            self.outcome.blobs.push(blob);
        }
        value
    }
}

/// Whether all edges that lead to a node are settled, and whether one was taken.
fn readiness(graph: &Graph, index: usize, ways: &[Way]) -> Readiness {
    let mut taken = false;
    for edge in graph.incoming(index) {
        match &ways[edge.source] {
            Way::Open => return Readiness::NotYet,
            Way::Left(handle) => taken |= *handle == edge.handle,
            Way::Closed => {}
        }
    }
    if taken { Readiness::Ready } else { Readiness::Never }
}

/// A value that no reader of the log could take in again.
pub(super) fn too_deep_error() -> NodeError {
    let message = format!("the value is nested more than {MAX_DEPTH} levels deep; make it flatter");
    NodeError { kind: ErrorKind::ExpressionError, message, retryable: false, details: Value::Null }
}

/// An error of the engine itself.
fn custom_error(message: String) -> NodeError {
    NodeError { kind: ErrorKind::Custom, message, retryable: false, details: Value::Null }
}
