//! A state on its way through a decision: what was recorded so far, and what is still to be looked at.

use serde_json::Value;
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use crate::blob::{BlobRef, MAX_DEPTH, claim_check, inline_bytes_bound};
use crate::decision::{Need, Outcome, Wakeup, WakeupKind};
use crate::event::{Event, ExecutionEvent};
use crate::facts::{Fact, Facts};
use crate::time::Timestamp;
use crate::workflow::definition::Definition;

use super::MAX_HISTORY_EVENTS;
use super::agenda::{Agenda, Item};
use super::budget::Budget;
use super::event::{Effects, EndNotice, ErrorKind, ExecutionWarning, NodeError};
use super::evolve::fold;
use super::recording::{Recorded, Recording};
use super::scope::{ExecutionScope, LargeValues};
use super::state::{ExecutionState, Phase, StartedFacts};

/// The most events of one decision that ends an execution: what one append may hold.
pub(super) const MAX_DECISION_EVENTS: usize = 2_000;

/// A state on its way, with everything that was decided so far.
pub(super) struct Progress<'a> {
    pub(super) state: ExecutionState,
    pub(super) outcome: Outcome,
    pub(super) definition: &'a Definition,
    pub(super) facts: &'a Facts,
    /// The large values among `outcome`, for expressions of the same decision.
    pub(super) made: LargeValues,
    pub(super) budget: Budget,
    /// Nodes to look at.
    pub(super) nodes: VecDeque<Arc<str>>,
    /// Scopes to look at when no node is left.
    pub(super) scopes: VecDeque<Arc<str>>,
    listed: HashSet<Item>,
    /// Whether everything must be looked at.
    pub(super) everything: bool,
    /// Whether the rest waits for the next decision.
    yielded: bool,
}

impl<'a> Progress<'a> {
    pub(super) fn new(mut state: ExecutionState, definition: &'a Definition, facts: &'a Facts) -> Self {
        let agenda = std::mem::take(&mut state.agenda);
        let mut progress = Self {
            state,
            outcome: Outcome::default(),
            definition,
            facts,
            made: LargeValues::new(),
            budget: Budget::default(),
            nodes: VecDeque::new(),
            scopes: VecDeque::new(),
            listed: HashSet::new(),
            everything: false,
            yielded: false,
        };
        match agenda {
            Agenda::Everything => progress.everything = true,
            Agenda::Items(items) => items.into_iter().for_each(|item| progress.list(item)),
        }
        progress
    }

    /// What was decided, with the state that it leaves.
    pub(super) fn into_outcome(mut self) -> Outcome {
        self.state.agenda = if self.everything {
            Agenda::Everything
        } else {
            let nodes = self.nodes.into_iter().map(Item::Node);
            Agenda::Items(nodes.chain(self.scopes.into_iter().map(Item::Scope)).collect())
        };
        self.outcome.after = Some(Box::new(self.state));
        self.outcome
    }

    /// Appends an event and folds it.
    pub(super) fn record(&mut self, event: impl Into<ExecutionEvent>) {
        let event = event.into();
        self.state = fold(std::mem::take(&mut self.state), &event, self.facts.now);
        self.note(event);
    }

    /// Appends an event that is folded already.
    pub(super) fn note(&mut self, event: ExecutionEvent) {
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

    /// Has a node looked at.
    pub(super) fn look_at(&mut self, path: &Arc<str>) {
        self.list(Item::Node(path.clone()));
    }

    /// Has a scope looked at, when its nodes are.
    pub(super) fn look_at_scope(&mut self, path: &Arc<str>) {
        self.list(Item::Scope(path.clone()));
    }

    fn list(&mut self, item: Item) {
        if !self.listed.insert(item.clone()) {
            return;
        }
        match item {
            Item::Node(path) => self.nodes.push_back(path),
            Item::Scope(path) => self.scopes.push_back(path),
        }
    }

    /// The next node to look at.
    pub(super) fn next_node(&mut self) -> Option<Arc<str>> {
        let path = self.nodes.pop_front()?;
        self.listed.remove(&Item::Node(path.clone()));
        Some(path)
    }

    /// The next scope to look at.
    pub(super) fn next_scope(&mut self) -> Option<Arc<str>> {
        let path = self.scopes.pop_front()?;
        self.listed.remove(&Item::Scope(path.clone()));
        Some(path)
    }

    /// Puts a node back, to be looked at first.
    pub(super) fn put_back(&mut self, path: Arc<str>) {
        if self.listed.insert(Item::Node(path.clone())) {
            self.nodes.push_front(path);
        }
    }

    /// Puts a scope back, to be looked at first.
    pub(super) fn put_back_scope(&mut self, path: Arc<str>) {
        if self.listed.insert(Item::Scope(path.clone())) {
            self.scopes.push_front(path);
        }
    }

    /// Asks for another decision at once.
    pub(super) fn yield_now(&mut self) {
        if !self.yielded {
            let kind = WakeupKind::Yield(self.state.version);
            // Without an event the version is that of the yield before, so the time must be another.
            let pause_ms = u64::from(self.outcome.events.is_empty());
            self.outcome.wakeups.push(Wakeup { due_at: self.facts.now.plus_ms(pause_ms), kind });
            self.yielded = true;
        }
    }

    /// Whether the budget of this decision is used up; then the rest is left to the next one.
    pub(super) fn must_yield(&mut self) -> bool {
        if self.budget.is_spent(self.outcome.events.len()) {
            self.yield_now();
        }
        self.yielded
    }

    /// Whether this decision has nothing more to do.
    pub(super) fn is_over(&self) -> bool {
        self.yielded || !matches!(self.state.phase, Phase::Running | Phase::Compensating)
    }

    pub(super) fn has_yielded(&self) -> bool {
        self.yielded
    }

    /// Whether so many more events fit into this append.
    pub(super) fn has_room_for(&self, events: usize) -> bool {
        self.outcome.events.len() + events <= MAX_DECISION_EVENTS
    }

    /// What the expressions of a node see.
    pub(super) fn scope<'s>(
        &'s self,
        started: &'s StartedFacts,
        path: &'s str,
        scope: &'s str,
    ) -> ExecutionScope<'s> {
        ExecutionScope {
            state: &self.state,
            started,
            facts: self.facts,
            made: &self.made,
            definition: self.definition,
            path,
            scope,
            next_iteration: None,
            undoing: None,
            offered: None,
        }
    }

    /// How long the execution has run, in milliseconds.
    pub(super) fn age_ms(&self) -> u64 {
        self.state.started.as_ref().map_or(0, |started| self.facts.now.since_ms(started.started_at))
    }

    /// Who must hear of the end.
    pub(super) fn notice(&self) -> EndNotice {
        let parent = self.state.started.as_ref().and_then(|started| started.parent.clone());
        let parent = parent.filter(|parent| !parent.detached);
        EndNotice { lane: self.state.lane, parent }
    }

    /// What a fork does with effects.
    pub(super) fn effects(&self) -> Effects {
        self.state.fork.as_ref().map_or(Effects::Live, |fork| fork.effects)
    }

    /// What a fork's origin has on record of a run of a node.
    pub(super) fn recorded(&self, path: &str, run: u32) -> Result<Option<Recorded>, Vec<Need>> {
        let Some(fork) = &self.state.fork else { return Ok(None) };
        match &self.facts.recording {
            Fact::Unknown => {
                Err(vec![Need::Recording { execution: fork.origin, until: fork.recorded_until }])
            }
            Fact::Absent => Ok(None),
            Fact::Is(recording) => Ok(Recording::get(recording, path, run).cloned()),
        }
    }

    /// A claim check in place of a value too large for an event.
    pub(super) fn check_in(&mut self, value: Value) -> Value {
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

    /// The value itself, or the content of its claim check.
    pub(super) fn content(&self, value: &Value) -> Result<Value, Vec<Need>> {
        match BlobRef::from_value(value) {
            None => Ok(value.clone()),
            Some(reference) => {
                let known =
                    self.made.get(&reference.sha256).or_else(|| self.facts.blobs.get(&reference.sha256));
                known.map(|content| Value::clone(content)).ok_or_else(|| vec![Need::Blob(reference)])
            }
        }
    }

    /// Asks to be woken; never in the past, where wakeups count as dealt with.
    pub(super) fn wake_at(&mut self, due_at: Timestamp, kind: WakeupKind) {
        self.outcome.wakeups.push(Wakeup { due_at: due_at.max(self.facts.now), kind });
    }
}

/// A value that no reader of the log could take in again.
pub(super) fn too_deep_error() -> NodeError {
    let message = format!("the value is nested more than {MAX_DEPTH} levels deep; make it flatter");
    NodeError { kind: ErrorKind::ExpressionError, message, retryable: false, details: Value::Null }
}

/// An error of the engine itself.
pub(super) fn custom_error(message: String) -> NodeError {
    NodeError { kind: ErrorKind::Custom, message, retryable: false, details: Value::Null }
}
