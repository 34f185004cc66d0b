//! What happens when a node becomes ready: engine nodes give their result, waits begin, worker nodes are scheduled.

use serde_json::{Value, json};
use std::sync::Arc;

use crate::blob::{BlobRef, inline_bytes_bound, is_too_deep};
use crate::decision::{Need, NodeRun, WakeupKind};
use crate::expression::{Fuel, guard_data};
use crate::ids::{Slot, derived_id, event_id};
use crate::node_type::{NodeType, RunsIn};
use crate::nodes::{ChildRequest, Items, Step, StepError};
use crate::time::Timestamp;
use crate::workflow::definition::Node;

use super::MAX_CHILD_DEPTH;
use super::advance::Place;
use super::event::{
    ChildStarted, Effects, ErrorKind, EventEmitted, ExecutionResponded, NodeCompleted, NodeError, NodeFailed,
    NodeScheduled, NodeStarted, NodeWaiting, TimerPurpose, TimerStarted, WaitCondition, WaitFor, WaitMode,
};
use super::progress::{Progress, custom_error, too_deep_error};
use super::readiness::Way;

/// When the registry entry of a wait for events is renewed, in milliseconds.
pub(super) const EVENT_WAIT_RENEWAL_MS: u64 = 30 * 24 * 60 * 60 * 1000;

impl<'a> Progress<'a> {
    /// Begins an attempt.
    pub(super) fn begin(&mut self, place: &Place<'a>, run: u32, attempt: u32) -> Result<(), Vec<Need>> {
        self.begin_undoing(place, run, attempt, None)
    }

    /// Begins an attempt of a node that undoes what another did in a run.
    pub(super) fn begin_undoing(
        &mut self,
        place: &Place<'a>,
        run: u32,
        attempt: u32,
        undoing: Option<(&str, u32)>,
    ) -> Result<(), Vec<Need>> {
        let step = match self.state.node_inputs.get(&*place.path) {
            Some(config) if place.node.config.runs_in(place.node.node_type) == RunsIn::Worker => {
                // It is data of whoever asked for the retry: only the workflow can name a credential.
                Ok(Step::Schedule(guard_data(self.content(config)?)))
            }
            _ => {
                let (path, scope) = (place.path.clone(), place.scope().to_owned());
                self.step(place.node, &path, &scope, undoing, &mut Fuel::standard())?
            }
        };
        match step {
            Err(error) => self.fail_attempt(place, run, attempt, error),
            Ok(Step::Complete { output, handle }) => self.complete_node(place, run, attempt, output, handle),
            Ok(Step::WaitUntil(due_at)) => {
                if !self.state.nodes.get(&*place.path).is_some_and(|node| node.status.is_open()) {
                    self.wait(place, run, attempt, Vec::new(), WaitMode::One, None);
                }
                self.start_timer(place, run, attempt, TimerPurpose::Delay, due_at);
            }
            Ok(Step::Schedule(config)) => self.schedule(place, run, attempt, config)?,
            Ok(Step::Iterate(items)) => self.begin_iterations(place, run, attempt, items),
            Ok(Step::Merge) => self.merge(place, run, attempt)?,
            Ok(Step::Await { conditions, mode, timeout_ms }) => {
                let started_at = self.state.started.as_ref().map(|started| started.started_at);
                let begun_at = self.state.fork.as_ref().map(|fork| fork.begun_at).or(started_at);
                let mut conditions = conditions;
                for condition in &mut conditions {
                    if condition.since == Timestamp::default() {
                        condition.since = begun_at.unwrap_or_default();
                    }
                }
                let timeout_at = timeout_ms.map(|ms| self.facts.now.plus_ms(ms));
                self.wait(place, run, attempt, conditions, mode, timeout_at);
            }
            Ok(Step::StartChild(request)) => self.start_child(place, run, attempt, request)?,
            Ok(Step::Emit { event_type, data }) => self.emit(place, run, attempt, event_type, data),
            Ok(Step::Respond { status, headers, body }) => {
                if self.effects() == Effects::Live {
                    let body = self.check_in(body);
                    let node_id = place.path.to_string();
                    self.record(ExecutionResponded { node_id, run, status, headers, body });
                }
                self.complete_node(place, run, attempt, Value::Null, None);
            }
        }
        Ok(())
    }

    /// What the node's own file says; a failure of the node is not a failure here.
    pub(super) fn step(
        &mut self,
        node: &Node,
        path: &str,
        scope: &str,
        undoing: Option<(&str, u32)>,
        fuel: &mut Fuel,
    ) -> Result<Result<Step, NodeError>, Vec<Need>> {
        let Some(started) = self.state.started.clone() else {
            return Ok(Err(custom_error("the execution has no start".to_owned())));
        };
        let mut names = self.scope(&started, path, scope);
        names.undoing = undoing;
        let step = node.config.begin(&names, fuel);
        let needs = match &step {
            Err(StepError::NeedsBlob(first)) => {
                let mut needs = vec![Need::Blob(first.clone())];
                // All that its expressions may look into, so that they are fetched in one round.
                for reference in names.large_values(&node.config.references()) {
                    let need = Need::Blob(reference);
                    if !needs.contains(&need) {
                        needs.push(need);
                    }
                }
                needs
            }
            _ => Vec::new(),
        };
        self.budget.evaluated(fuel);
        match step {
            Ok(
                Step::Complete { output: value, .. }
                | Step::Emit { data: value, .. }
                | Step::Respond { body: value, .. }
                | Step::StartChild(ChildRequest { input: value, .. }),
            ) if BlobRef::from_value(&value).is_some() => {
                // Real claim checks were resolved by the scope: this one was put together from data.
                let message = "the value has the form of a claim check (`$blob`), which is reserved; wrap it in an object";
                Ok(Err(custom_error(message.to_owned())))
            }
            Ok(
                Step::Complete { output: value, .. }
                | Step::Schedule(value)
                | Step::Emit { data: value, .. }
                | Step::Respond { body: value, .. },
            ) if is_too_deep(&value) => Ok(Err(too_deep_error())),
            Ok(step) => Ok(Ok(step)),
            Err(StepError::NeedsBlob(_)) => Err(needs),
            Err(StepError::Failed(error)) => Ok(Err(error)),
        }
    }

    pub(super) fn complete_node(
        &mut self,
        place: &Place<'a>,
        run: u32,
        attempt: u32,
        output: Value,
        handle: Option<String>,
    ) {
        let output = self.check_in(output);
        self.complete_checked_in(place, run, attempt, output, handle);
    }

    /// Completes a node with an output that is a claim check already where it must be one.
    pub(super) fn complete_checked_in(
        &mut self,
        place: &Place<'a>,
        run: u32,
        attempt: u32,
        output: Value,
        handle: Option<String>,
    ) {
        let open = self.state.nodes.get(&*place.path).filter(|node| node.status.is_open());
        let since = open.map_or(self.facts.now, |node| node.since);
        self.record(NodeCompleted {
            node_id: place.path.to_string(),
            run,
            attempt,
            node_type: place.node.node_type,
            output,
            handle,
            duration_ms: self.facts.now.since_ms(since),
        });
        self.look_at(&place.path);
    }

    pub(super) fn fail_attempt(&mut self, place: &Place<'a>, run: u32, attempt: u32, error: NodeError) {
        let open = self.state.nodes.get(&*place.path).filter(|node| node.status.is_open());
        let since = open.map_or(self.facts.now, |node| node.since);
        self.record(NodeFailed {
            node_id: place.path.to_string(),
            run,
            attempt,
            node_type: place.node.node_type,
            error,
            duration_ms: self.facts.now.since_ms(since),
        });
        self.look_at(&place.path);
    }

    fn wait(
        &mut self,
        place: &Place<'a>,
        run: u32,
        attempt: u32,
        conditions: Vec<WaitCondition>,
        mode: WaitMode,
        timeout_at: Option<Timestamp>,
    ) {
        let (node_id, node_type) = (place.path.to_string(), place.node.node_type);
        if conditions.iter().any(|condition| condition.wait_for == WaitFor::Event) {
            let node = NodeRun { node_id: node_id.clone(), run, attempt };
            self.wake_at(self.facts.now.plus_ms(EVENT_WAIT_RENEWAL_MS), WakeupKind::EventWait(node));
        }
        self.record(NodeWaiting { node_id, run, attempt, node_type, conditions, mode, timeout_at });
        self.look_at(&place.path);
    }

    pub(super) fn start_timer(
        &mut self,
        place: &Place<'a>,
        run: u32,
        attempt: u32,
        purpose: TimerPurpose,
        due_at: Timestamp,
    ) {
        let node_id = place.path.to_string();
        self.wake_at(due_at, WakeupKind::Timer(NodeRun { node_id: node_id.clone(), run, attempt }));
        self.record(TimerStarted { node_id, run, attempt, purpose, due_at });
    }

    /// Hands a node to the workers; a fork that replays or is mute takes what is on record instead.
    fn schedule(
        &mut self,
        place: &Place<'a>,
        run: u32,
        attempt: u32,
        config: Value,
    ) -> Result<(), Vec<Need>> {
        let config = if BlobRef::from_value(&config).is_some() { config } else { self.check_in(config) };
        if self.effects() != Effects::Live {
            return self.take_recorded(place, run, attempt, &config);
        }
        let timeout_ms = place.node.timeout_ms.unwrap_or_else(|| place.node.config.default_timeout_ms());
        let deadline = self.facts.now.plus_ms(timeout_ms);
        let node_id = place.path.to_string();
        let node = NodeRun { node_id: node_id.clone(), run, attempt };
        self.wake_at(deadline, WakeupKind::AttemptDeadline(node));
        let (node_type, heartbeat_timeout_ms) = (place.node.node_type, place.node.heartbeat_timeout_ms);
        self.record(NodeScheduled {
            node_id,
            run,
            attempt,
            node_type,
            config,
            deadline,
            heartbeat_timeout_ms,
        });
        Ok(())
    }

    /// What a fork without live effects does in the place of an effect.
    fn take_recorded(
        &mut self,
        place: &Place<'a>,
        run: u32,
        attempt: u32,
        config: &Value,
    ) -> Result<(), Vec<Need>> {
        let recorded = self.recorded(&place.path, run)?;
        let is_equal = recorded.as_ref().is_some_and(|recorded| recorded.config.as_deref() == Some(config));
        let outcome = recorded.and_then(|recorded| recorded.outcome);
        let (output, error) = match (self.effects(), outcome) {
            (Effects::Mute, Some(Ok(output))) => (Some(Value::clone(&output)), None),
            (Effects::Mute, _) => (Some(Value::Null), None),
            (_, Some(Ok(output))) if is_equal => (Some(Value::clone(&output)), None),
            (_, Some(Err(error))) if is_equal => (None, Some(error)),
            (_, outcome) => {
                let why = if outcome.is_some() { "with another configuration" } else { "at all" };
                let message = format!("run {run} of `{}` is not on record {why}", place.path);
                let details = json!({ "code": "no_record" });
                (None, Some(NodeError { kind: ErrorKind::NoRecord, message, retryable: false, details }))
            }
        };
        if let Some(error) = error {
            self.fail_attempt(place, run, attempt, error);
        } else if let Some(output) = output {
            let handle = handle_of(place.node.node_type, &output);
            self.budget.made(inline_bytes_bound(&output));
            self.complete_checked_in(place, run, attempt, output, handle);
        }
        Ok(())
    }

    fn begin_iterations(&mut self, place: &Place<'a>, run: u32, attempt: u32, items: Items) {
        let (items, keyed, count) = match items {
            Items::List { items, keyed } => {
                let count = items.len() as u32;
                (Some(self.check_in(Value::Array(items))), keyed, Some(count))
            }
            Items::While => (None, false, None),
            Items::Branches(count) => (None, false, Some(count)),
        };
        let (node_id, node_type) = (place.path.to_string(), place.node.node_type);
        self.record(NodeStarted { node_id, run, attempt, node_type, worker: None, items, keyed, count });
        self.look_at(&place.path);
    }

    /// The outputs of a merge's taken inputs, in edge order.
    fn merge(&mut self, place: &Place<'a>, run: u32, attempt: u32) -> Result<(), Vec<Need>> {
        let (mut inputs, mut needs, mut bytes) = (Vec::new(), Vec::new(), 0_u64);
        for edge in place.graph.incoming(place.index) {
            if self.way(place.scope(), place.graph, edge) != Way::Taken {
                continue;
            }
            let source = &place.graph.nodes()[edge.source];
            let path = super::paths::join(place.scope(), &source.id);
            let given = self.state.nodes.get(&*path).and_then(|node| node.output.as_deref());
            bytes = bytes.saturating_add(given.map_or(0, bytes_of));
            let content = match (given, &self.state.started) {
                (Some(output), _) => self.content(output),
                // A start has no event of its own.
                (None, Some(started)) if source.node_type == NodeType::Start => {
                    self.scope(started, &place.path, place.scope()).input_of_scope()
                }
                (None, _) => Ok(Value::Null),
            };
            match content {
                Ok(output) => inputs.push(output),
                Err(more) => needs.extend(more),
            }
        }
        if bytes > MAX_COLLECTED_BYTES {
            self.fail_collected(place, run, attempt);
            return Ok(());
        }
        if !needs.is_empty() {
            return Err(needs);
        }
        self.complete_collected(place, run, attempt, inputs);
        Ok(())
    }

    /// Fails a node that collects more than a value may have.
    pub(super) fn fail_collected(&mut self, place: &Place<'a>, run: u32, attempt: u32) {
        let message = format!(
            "the outputs together have more than {MAX_COLLECTED_BYTES} bytes; give less from each, or keep the large parts elsewhere"
        );
        let details = json!({ "code": "too_large" });
        let error = NodeError { kind: ErrorKind::Custom, message, retryable: false, details };
        self.fail_attempt(place, run, attempt, error);
    }

    /// Completes a node with a list of what others gave, if it is not too deep for one value.
    pub(super) fn complete_collected(
        &mut self,
        place: &Place<'a>,
        run: u32,
        attempt: u32,
        outputs: Vec<Value>,
    ) {
        let output = Value::Array(outputs);
        if is_too_deep(&output) {
            return self.fail_attempt(place, run, attempt, too_deep_error());
        }
        self.complete_node(place, run, attempt, output, None);
    }

    fn start_child(
        &mut self,
        place: &Place<'a>,
        run: u32,
        attempt: u32,
        request: ChildRequest,
    ) -> Result<(), Vec<Need>> {
        if is_too_deep(&request.input) {
            self.fail_attempt(place, run, attempt, too_deep_error());
            return Ok(());
        }
        let input = self.check_in(request.input);
        if self.effects() != Effects::Live {
            return self.take_recorded(place, run, attempt, &input);
        }
        let (depth, priority) = self.state.started.as_ref().map_or((0, 5), |started| {
            (started.parent.as_ref().map_or(0, |parent| parent.depth), started.priority)
        });
        if depth >= MAX_CHILD_DEPTH {
            let message = format!("sub-workflows may go {MAX_CHILD_DEPTH} deep; this one would go deeper");
            let details = json!({ "code": "children_too_deep" });
            let error = NodeError { kind: ErrorKind::InvalidConfig, message, retryable: false, details };
            self.fail_attempt(place, run, attempt, error);
            return Ok(());
        }
        let (node_id, wait) = (place.path.to_string(), request.wait);
        let child_id = self.child_id(&place.path, run, attempt);
        self.record(ChildStarted {
            node_id,
            run,
            attempt,
            child_id,
            workflow: request.workflow,
            workflow_version: request.version,
            input,
            wait,
            depth: depth + 1,
            priority,
            owner: self.state.owner(),
        });
        if !wait {
            self.complete_node(place, run, attempt, json!({ "execution_id": child_id }), None);
        }
        Ok(())
    }

    /// The id of a node's child: the same whoever decides, in the slot of this execution.
    pub(super) fn child_id(&self, path: &Arc<str>, run: u32, attempt: u32) -> uuid::Uuid {
        let stream = self.facts.stream;
        let (run, attempt) = (run.to_be_bytes(), attempt.to_be_bytes());
        let parts: [&[u8]; 5] = [b"child", stream.as_bytes(), path.as_bytes(), &run, &attempt];
        derived_id(self.facts.now, Slot::of(stream), &parts)
    }

    fn emit(&mut self, place: &Place<'a>, run: u32, attempt: u32, event_type: String, data: Value) {
        let mut output = Value::Null;
        if self.effects() == Effects::Live {
            let (facts, data) = (self.facts, self.check_in(data));
            let version = self.state.version + 1;
            output = json!(event_id(facts.now, facts.stream, facts.command_id, version));
            self.record(EventEmitted { node_id: place.path.to_string(), run, event_type, data });
        }
        self.complete_node(place, run, attempt, output, None);
    }
}

/// The most bytes of what a loop, a parallel or a merge collects: what a value may have that travels by reference.
pub(super) const MAX_COLLECTED_BYTES: u64 = 64 * 1024 * 1024;

/// How many bytes a value adds to what is collected, known before its content is.
pub(super) fn bytes_of(value: &Value) -> u64 {
    BlobRef::from_value(value)
        .map_or_else(|| inline_bytes_bound(value) as u64 / 6, |reference| reference.bytes)
}

/// The handle by which a node leaves that a worker has completed.
pub(super) fn handle_of(node_type: NodeType, output: &Value) -> Option<String> {
    match (node_type, output) {
        (NodeType::Condition, Value::Bool(taken)) => Some(taken.to_string()),
        (NodeType::Switch, Value::String(case)) => Some(case.clone()),
        _ => None,
    }
}
