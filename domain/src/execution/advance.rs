//! What follows from a state: the engine's rules, and nothing else.
//!
//! A worklist of nodes and scopes: looking at one records what follows from its state, and whatever was changed is
//! looked at next. The list begins with everything after a fold, and with what the command touched after a decision;
//! which of the two it was makes no difference to what is recorded in the end, because looking at something that has
//! no consequences records nothing. Only the state counts, never which command led to it; continuing from any prefix
//! of a stream therefore gives the same end.

use serde_json::{Value, json};
use std::sync::Arc;

use crate::decision::Need;
use crate::expression::Fuel;
use crate::node_type::NodeType;
use crate::nodes::{OnTimeout, Step};
use crate::workflow::definition::{Graph, Node};

use super::MAX_HISTORY_EVENTS;
use super::event::{
    Ending, ErrorKind, ExecutionCompleted, NodeError, NodeSkipped, ScopeCompleted, TimerPurpose,
};
use super::paths::{container_of, id_of, join, scope_of};
use super::progress::{Progress, custom_error};
use super::readiness::Readiness;
use super::state::{NodeStatus, Phase};

/// Events kept free at the end of a history, so that an execution at its limit can still end properly.
const HISTORY_RESERVE: u64 = 2_100;

/// With so many contents of claim checks a decision that needs more yields, if it has come anywhere.
const MANY_CONTENTS: usize = 16;

/// A node and where it stands.
#[derive(Clone)]
pub(super) struct Place<'a> {
    pub(super) path: Arc<str>,
    pub(super) graph: &'a Graph,
    pub(super) index: usize,
    pub(super) node: &'a Node,
}

impl Place<'_> {
    /// The path of the scope it is in.
    pub(super) fn scope(&self) -> &str {
        scope_of(&self.path)
    }
}

impl<'a> Progress<'a> {
    /// Brings everything as far as it can go, and the execution to its end if nothing is left.
    pub(super) fn advance(&mut self) -> Result<(), Vec<Need>> {
        if self.is_over() || self.state.paused {
            return Ok(());
        }
        if self.state.phase == Phase::Running && self.state.version + HISTORY_RESERVE >= MAX_HISTORY_EVENTS {
            let message = format!("the execution has reached its limit of {MAX_HISTORY_EVENTS} events");
            self.end(Ending::Failed { node_id: None, error: custom_error(message) });
        }
        if std::mem::take(&mut self.everything) {
            self.list_everything();
        }
        while !self.is_over() && !self.must_yield() {
            if self.state.phase == Phase::Compensating {
                let undone = self.compensate();
                return self.or_later(undone);
            }
            if let Some(path) = self.next_node() {
                let looked = self.look_at_node(&path);
                self.or_later(looked)?;
                if self.has_yielded() {
                    self.put_back(path);
                }
            } else if let Some(scope) = self.next_scope() {
                let looked = self.look_into_scope(&scope);
                self.or_later(looked)?;
                if self.has_yielded() {
                    self.put_back_scope(scope);
                }
            } else {
                break;
            }
        }
        Ok(())
    }

    /// Leaves what needs further contents to the next decision, where this one has had many: each round of fetching
    /// decides all anew, and the shell gives up what takes too many.
    fn or_later(&mut self, looked: Result<(), Vec<Need>>) -> Result<(), Vec<Need>> {
        if looked.is_err() && self.facts.blobs.len() >= MANY_CONTENTS && !self.outcome.events.is_empty() {
            self.yield_now();
            return Ok(());
        }
        looked
    }

    /// After a fold: every node of every scope that is open, those first that stop others.
    fn list_everything(&mut self) {
        let failed: Vec<Arc<str>> = self
            .state
            .nodes
            .iter()
            .filter(|(_, node)| matches!(node.status, NodeStatus::Failed { .. }))
            .map(|(path, _)| path.clone())
            .collect();
        failed.iter().for_each(|path| self.look_at(path));
        let mut scopes: Vec<Arc<str>> = vec![Arc::from("")];
        for (path, node) in self.state.nodes.iter().filter(|(_, node)| node.status == NodeStatus::Iterating) {
            let begun = node.iterations.as_ref().map_or(0, |iterations| iterations.begun);
            scopes.extend((0..begun).map(|index| super::paths::scope_at(path, index)));
        }
        scopes.retain(|scope| self.is_live(scope));
        scopes.iter().for_each(|scope| self.list_scope(scope));
    }

    /// Every node of a scope, and the scope itself. Merges that have fired come first: they stop others.
    pub(super) fn list_scope(&mut self, scope: &Arc<str>) {
        let definition = self.definition;
        let Some(graph) = definition.scope(scope) else { return };
        let has_fired = |progress: &Self, node: &Node, path: &str| {
            let state = progress.state.nodes.get(path);
            node.node_type == NodeType::Merge
                && state.is_some_and(|state| matches!(state.status, NodeStatus::Completed { .. }))
        };
        let paths: Vec<(Arc<str>, &Node)> = graph
            .order()
            .iter()
            .map(|index| &graph.nodes()[*index])
            .map(|node| (join(scope, &node.id), node))
            .collect();
        for (path, node) in &paths {
            if has_fired(self, node, path) {
                self.look_at(path);
            }
        }
        paths.iter().for_each(|(path, _)| self.look_at(path));
        self.look_at_scope(scope);
    }

    /// The node at a path; `None` if the definition has none, as after a fork to another version.
    pub(super) fn place(&self, path: &Arc<str>) -> Option<Place<'a>> {
        let graph = self.definition.scope(scope_of(path))?;
        let index = graph.index_of(id_of(path))?;
        Some(Place { path: path.clone(), graph, index, node: &graph.nodes()[index] })
    }

    /// Whether nodes of a scope may begin.
    pub(super) fn is_live(&self, scope: &str) -> bool {
        let Some((container, _)) = container_of(scope) else { return true };
        let is_done = self.state.scopes.get(scope).is_some_and(|scope| scope.output.is_some());
        let iterates =
            self.state.nodes.get(container).is_some_and(|node| node.status == NodeStatus::Iterating);
        iterates && !is_done
    }

    /// Takes a node through all steps that follow from its state, until it waits for something or is done.
    fn look_at_node(&mut self, path: &Arc<str>) -> Result<(), Vec<Need>> {
        let Some(place) = self.place(path) else { return Ok(()) };
        if place.graph.is_compensator(place.index) || !self.is_live(place.scope()) {
            return Ok(());
        }
        match place.node.node_type {
            NodeType::Start => {
                self.look_behind(&place);
                return Ok(());
            }
            NodeType::End => return Ok(()),
            _ => {}
        }
        // A failure may have ended what is around the node, or begun the end of all.
        while self.state.phase == Phase::Running && !self.has_yielded() && self.is_live(place.scope()) {
            let events = self.outcome.events.len();
            if !self.step_node(&place)? || events == self.outcome.events.len() {
                break;
            }
        }
        Ok(())
    }

    /// One step of a node. Whether another may follow.
    fn step_node(&mut self, place: &Place<'a>) -> Result<bool, Vec<Need>> {
        let Some(state) = self.state.nodes.get(&*place.path).cloned() else {
            return self.step_pending(place, 1, 1);
        };
        let (run, attempt) = (state.run, state.attempt);
        match &state.status {
            NodeStatus::Pending => return self.step_pending(place, run, attempt + 1),
            NodeStatus::Completed { handle } => {
                if !self.take_back_edges(place, handle.as_deref(), run) {
                    self.cancel_beaten(place);
                    self.look_behind(place);
                }
                return Ok(false);
            }
            NodeStatus::Skipped | NodeStatus::Cancelled => {
                self.look_behind(place);
                return Ok(false);
            }
            NodeStatus::Scheduled { .. }
            | NodeStatus::Running { .. }
            | NodeStatus::BackingOff { timer_started: true, .. } => return Ok(false),
            NodeStatus::Iterating => self.iterate(place)?,
            NodeStatus::Waiting { .. } if state.child.is_some() => return Ok(false),
            NodeStatus::Waiting { due_at } => match &state.wait {
                // It may have been one in the version that a fork comes from.
                Some(wait) if place.node.node_type == NodeType::Wait => {
                    self.look_for_signals(place, &state, wait, due_at.is_some())?
                }
                _ if due_at.is_some() => return Ok(false),
                _ => self.begin(place, run, attempt)?,
            },
            NodeStatus::BackingOff { due_at, timer_started: false } => {
                self.start_timer(place, run, attempt, TimerPurpose::Backoff, *due_at);
            }
            NodeStatus::Due { purpose: TimerPurpose::Backoff, .. } => self.begin(place, run, attempt)?,
            NodeStatus::Due { purpose: TimerPurpose::Delay, at } => {
                self.complete_node(place, run, attempt, json!(at), None);
            }
            NodeStatus::Due { purpose: TimerPurpose::Wait, at } => match &state.wait {
                Some(wait) => self.wait_ran_out(place, &state, wait, *at)?,
                None => self.wait_is_over(place, run, attempt),
            },
            NodeStatus::Failed { .. } => self.after_failure(place, &state)?,
        }
        Ok(true)
    }

    /// A node that has not begun in this run.
    fn step_pending(&mut self, place: &Place<'a>, run: u32, attempt: u32) -> Result<bool, Vec<Need>> {
        match self.readiness(place.scope(), place.graph, place.index) {
            Readiness::NotYet => return Ok(false),
            Readiness::Ready => self.begin(place, run, attempt)?,
            Readiness::Never if place.graph.has_back_edges() => {
                // Whether a back edge could still lead here is seen when nothing else is left to look at.
                // What comes behind it need not wait for that.
                self.look_behind(place);
                return Ok(false);
            }
            Readiness::Never => self.skip(place, run),
        }
        Ok(true)
    }

    pub(super) fn skip(&mut self, place: &Place<'a>, run: u32) {
        let (node_id, node_type) = (place.path.to_string(), place.node.node_type);
        self.record(NodeSkipped { node_id, run, attempt: 0, node_type });
        self.look_at(&place.path);
    }

    /// What may follow from a node that is done.
    fn look_behind(&mut self, place: &Place<'a>) {
        let scope = place.scope();
        for edge in place.graph.outgoing(place.index) {
            let target = &place.graph.nodes()[edge.target];
            if target.node_type != NodeType::End {
                self.look_at(&join(scope, &target.id));
            }
        }
        self.look_at_scope(&Arc::from(scope));
    }

    /// A wait has lasted too long.
    pub(super) fn wait_is_over(&mut self, place: &Place<'a>, run: u32, attempt: u32) {
        let goes_on = match &place.node.config {
            crate::nodes::NodeConfig::Wait(wait) => wait.on_timeout() == OnTimeout::Continue,
            _ => true,
        };
        if goes_on {
            return self.complete_node(place, run, attempt, Value::Null, None);
        }
        let error = NodeError {
            kind: ErrorKind::Timeout,
            message: "nothing came that the wait was for, in its time".to_owned(),
            retryable: false,
            details: Value::Null,
        };
        self.fail_attempt(place, run, attempt, error);
    }

    /// Whether a scope is done, when nothing of it is left to look at.
    fn look_into_scope(&mut self, scope: &Arc<str>) -> Result<(), Vec<Need>> {
        let definition = self.definition;
        let Some(graph) = definition.scope(scope) else { return Ok(()) };
        if !self.is_live(scope) || (graph.has_back_edges() && self.skip_out_of_reach(scope, graph)) {
            return Ok(());
        }
        if self.state.scopes.get(&**scope).is_some_and(|state| state.open > 0) {
            return Ok(());
        }
        let mut outputs = Vec::new();
        // One budget for all ends: they are one event, which cannot be spread over decisions.
        let mut fuel = Fuel::standard();
        for (index, end) in graph.nodes().iter().enumerate() {
            if end.node_type != NodeType::End || self.readiness(scope, graph, index) != Readiness::Ready {
                continue;
            }
            let path = join(scope, &end.id);
            match self.step(end, &path, scope, None, &mut fuel)? {
                Ok(Step::Complete { output, .. }) => outputs.push((end.id.clone(), output)),
                Ok(_) => outputs.push((end.id.clone(), Value::Null)),
                Err(error) => {
                    self.fail_up(&path, error);
                    return Ok(());
                }
            }
        }
        let ends: Vec<String> = outputs.iter().map(|(id, _)| id.clone()).collect();
        let output = if outputs.len() > 1 {
            Value::Object(outputs.into_iter().collect())
        } else {
            outputs.pop().map_or(Value::Null, |(_, output)| output)
        };
        let output = self.check_in(output);
        let Some((container, _)) = container_of(scope) else {
            let (duration_ms, notice) = (self.age_ms(), self.notice());
            self.record(ExecutionCompleted { output, ends, duration_ms, notice });
            return Ok(());
        };
        let run = self.state.nodes.get(container).map_or(1, |node| node.run);
        self.record(ScopeCompleted { node_id: scope.to_string(), run, output, ends });
        self.look_at(&Arc::from(container));
        Ok(())
    }
}
