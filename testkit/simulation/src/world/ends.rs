//! What must hold at the end.

use domain::aggregate::AggregateState;
use domain::blob::BlobRef;
use domain::event::{Event, ExecutionEvent};
use domain::execution::event::CompensationStatus;
use domain::execution::{ExecutionState, NodeStatus};
use domain::workflow::definition::Definition;
use serde_json::Value;
use std::sync::Arc;
use uuid::Uuid;

use crate::reference::{self, ANYTHING, Ending, NodeEnd, Status};

use super::World;

/// How much of an error is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errors {
    /// Its kind.
    Kind,
    /// That there is one: which of several failures came first depends on the order of events.
    Presence,
}

impl World {
    /// Checks everything that must hold when nothing happens any more.
    pub(super) fn check_end(&mut self) {
        if let Err(what) = self.end() {
            self.violate(what);
        }
    }

    fn end(&mut self) -> Result<(), String> {
        self.nothing_is_stuck()?;
        self.folds_are_equal()?;
        self.lanes_are_empty()?;
        let streams: Vec<Uuid> = self.labels.keys().copied().collect();
        for stream in streams {
            self.compensation_is_in_order(stream)
                .map_err(|what| format!("{}: {what}", self.label(stream)))?;
        }
        for number in 0..self.clients.len() {
            let label = self.clients[number].label.clone();
            self.compare(number).map_err(|what| format!("{label} differs from the reference: {what}"))?;
        }
        Ok(())
    }

    fn nothing_is_stuck(&self) -> Result<(), String> {
        for execution in self.labels.keys() {
            if self.checks.finished.contains_key(execution) {
                continue;
            }
            let open = match &self.log.fold(*execution)?.state {
                AggregateState::Execution(state) => state
                    .nodes
                    .iter()
                    .filter(|(_, node)| node.status.is_open())
                    .map(|(path, node)| format!("{path} {:?}", node.status))
                    .collect(),
                _ => vec!["it has no events".to_owned()],
            };
            return Err(format!("{} is stuck: {}", self.label(*execution), open.join(", ")));
        }
        Ok(())
    }

    /// What the owner remembers is what the log says.
    fn folds_are_equal(&self) -> Result<(), String> {
        for (stream, aggregate) in &self.owner.folded {
            let folded = self.log.fold(*stream)?;
            let equal = match (&aggregate.state, &folded.state) {
                (AggregateState::Execution(live), AggregateState::Execution(folded)) => live == folded,
                (AggregateState::Lane(live), AggregateState::Lane(folded)) => live == folded,
                (AggregateState::Empty, AggregateState::Empty) => true,
                _ => false,
            };
            if !equal {
                return Err(format!(
                    "{}: the log folds to another state than the live one",
                    self.label(*stream)
                ));
            }
        }
        Ok(())
    }

    fn lanes_are_empty(&self) -> Result<(), String> {
        for stream in self.log.streams.keys() {
            if let AggregateState::Lane(lane) = &self.log.fold(*stream)?.state
                && !(lane.holders.is_empty() && lane.waiting.is_empty())
            {
                let (held, waiting) = (lane.holders.len(), lane.waiting.len());
                return Err(format!("all have ended, and a lane has {held} holders and {waiting} that wait"));
            }
        }
        Ok(())
    }

    /// Newest completion first; all of it, if it succeeded; and some of it, if anything was to be undone.
    fn compensation_is_in_order(&self, stream: Uuid) -> Result<(), String> {
        let Some(definition) = self.definition_of(stream)? else { return Ok(()) };
        let (mut completed, mut undone, mut finished, mut failed) = (Vec::new(), Vec::new(), None, false);
        for recorded in self.log.streams.get(&stream).into_iter().flatten() {
            let Ok(Event::Execution(event)) = recorded.decode() else { continue };
            match event {
                ExecutionEvent::NodeCompleted(node) => {
                    let compensable =
                        definition.node(&node.node_id).is_some_and(|node| node.compensate.is_some());
                    completed.push((node.node_id, node.run, compensable));
                }
                ExecutionEvent::NodeCompensated(node) => undone.push((node.node_id, node.run)),
                ExecutionEvent::CompensationFinished(end) => finished = Some(end.status),
                ExecutionEvent::Failed(_) | ExecutionEvent::Cancelled(_) => failed = true,
                _ => {}
            }
        }
        let place = |(path, run): &(String, u32)| {
            completed.iter().position(|(known, of, _)| known == path && of == run)
        };
        let places: Vec<Option<usize>> = undone.iter().map(place).collect();
        if places.iter().any(Option::is_none) {
            return Err(format!("undone without having completed: {undone:?}"));
        }
        if !places.is_sorted_by(|newer, older| newer > older) {
            return Err(format!(
                "not undone in the reverse order of completion: {undone:?} of {completed:?}"
            ));
        }
        let missing: Vec<_> = completed
            .iter()
            .filter(|(path, run, compensable)| *compensable && !undone.contains(&(path.clone(), *run)))
            .collect();
        let should_be_all = match finished {
            Some(CompensationStatus::Completed) => true,
            Some(CompensationStatus::Running | CompensationStatus::Failed) => false,
            None => failed,
        };
        if should_be_all && !missing.is_empty() {
            return Err(format!("not undone: {missing:?}"));
        }
        Ok(())
    }

    fn definition_of(&self, stream: Uuid) -> Result<Option<Arc<Definition>>, String> {
        let aggregate = self.log.fold(stream)?;
        let AggregateState::Execution(state) = &aggregate.state else { return Ok(None) };
        let workflow = state.started.as_ref().map(|started| started.workflow_id);
        Ok(workflow.and_then(|workflow| self.definitions.get(&workflow).cloned()))
    }

    /// Compares an execution with what the reference says, where it can say it.
    fn compare(&mut self, number: usize) -> Result<(), String> {
        let client = &self.clients[number];
        let status = self.checks.finished.get(&client.execution).copied().unwrap_or_default();
        let others = self.checks.evicted.contains(&client.execution);
        if self.jumped || client.disturbed || (others && status == "cancelled") {
            return Ok(());
        }
        let expected = if self.chaos {
            reference::ending_with_early_signals(&self.case, &client.label)
        } else {
            reference::ending(&self.case, &client.label)
        };
        if expected.ambiguous.is_some() && !self.chaos {
            return Ok(());
        }
        self.checks.compared += 1;
        let errors = if self.chaos { Errors::Presence } else { Errors::Kind };
        let execution = self.clients[number].execution;
        let aggregate = self.log.fold(execution)?;
        let AggregateState::Execution(state) = &aggregate.state else {
            return Err("it has no events".to_owned());
        };
        self.same_end(execution, status, &expected, errors)?;
        if expected.status == Status::Completed { self.same_nodes(state, &expected, errors) } else { Ok(()) }
    }

    fn same_end(
        &self,
        execution: Uuid,
        status: &str,
        expected: &Ending,
        errors: Errors,
    ) -> Result<(), String> {
        let wanted = match expected.status {
            Status::Completed => "completed",
            Status::Failed => "failed",
        };
        let last = self.log.streams[&execution].iter().rev().find_map(|recorded| match recorded.decode() {
            Ok(Event::Execution(ExecutionEvent::Completed(end))) => Some((end.output, None)),
            Ok(Event::Execution(ExecutionEvent::Failed(end))) => {
                Some((Value::Null, Some((end.node_id, end.error))))
            }
            _ => None,
        });
        let Some((output, error)) = last else { return Err(format!("it {status}, not {wanted}")) };
        if status != wanted {
            return Err(format!("it {status}, not {wanted}: {error:?}; expected {expected:#?}"));
        }
        let output = self.resolved(&output);
        if !matches(&expected.output, &output, errors) {
            return Err(format!("its output is {output}, not {}", expected.output));
        }
        if let (Errors::Kind, Some((node, error)), Some(fault)) = (errors, error, &expected.fault) {
            let kind = serde_json::to_value(error.kind).unwrap_or_default();
            let wanted = fault.inner.as_ref().or(expected.failed_node.as_ref());
            if node.as_ref() != wanted || kind != fault.kind.as_str() {
                return Err(format!("{node:?} failed it with {error:?}, not {wanted:?} with {fault:?}"));
            }
        }
        Ok(())
    }

    fn same_nodes(&self, state: &ExecutionState, expected: &Ending, errors: Errors) -> Result<(), String> {
        let inside = |path: &str, outer: &str| {
            path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        for (path, wanted) in &expected.nodes {
            if errors == Errors::Kind && expected.either_way.iter().any(|outer| inside(path, outer)) {
                continue;
            }
            let node = state.nodes.get(path.as_str());
            let completed = node.is_some_and(|node| matches!(node.status, NodeStatus::Completed { .. }));
            if completed != (wanted.end == NodeEnd::Completed) {
                return Err(format!("{path} is {:?}, not {:?}", node.map(|node| &node.status), wanted.end));
            }
            let Some(node) = node.filter(|_| completed) else { continue };
            let output = node.output.as_ref().map(|output| self.resolved(output)).unwrap_or_default();
            let wanted_output = wanted.output.clone().unwrap_or_default();
            if !matches(&wanted_output, &output, errors) {
                return Err(format!("{path} gave {output}, not {wanted_output}"));
            }
            if wanted.run.is_some_and(|run| run != node.run) {
                return Err(format!("{path} is at run {}, not {:?}", node.run, wanted.run));
            }
        }
        Ok(())
    }

    /// A value in the place of its claim check.
    fn resolved(&self, value: &Value) -> Value {
        let content = BlobRef::from_value(value).and_then(|reference| self.log.blobs.get(&reference.sha256));
        content.map_or_else(|| value.clone(), |content| (**content).clone())
    }
}

/// Whether a value is what is expected, but for what cannot be known.
fn matches(expected: &Value, actual: &Value, errors: Errors) -> bool {
    match (expected, actual) {
        (Value::String(text), _) if text == ANYTHING => true,
        (Value::Object(wanted), Value::Object(found)) => {
            let is_error = wanted.contains_key("kind") && wanted.contains_key("message");
            if is_error {
                return errors == Errors::Presence && found.contains_key("kind")
                    || found.get("kind") == wanted.get("kind");
            }
            wanted.len() == found.len()
                && wanted
                    .iter()
                    .all(|(key, value)| found.get(key).is_some_and(|found| matches(value, found, errors)))
        }
        (Value::Array(wanted), Value::Array(found)) => {
            wanted.len() == found.len()
                && wanted.iter().zip(found).all(|(wanted, found)| matches(wanted, found, errors))
        }
        _ => expected == actual,
    }
}
