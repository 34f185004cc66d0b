//! Waits: predicates over what has come, not registrations.
//!
//! A wait looks at the signals from the oldest on when it begins, so one that came first satisfies it. Each path uses
//! a signal at most once, over all its runs. Events of the log are offered from outside; the first that fits counts.

use serde_json::{Value, json};
use std::sync::Arc;

use crate::blob::{BlobRef, inline_bytes_bound};
use crate::decision::Need;
use crate::expression::Fuel;
use crate::nodes::{NodeConfig, StepError, Wait};
use crate::rejection::{Rejection, RejectionKind};
use crate::time::Timestamp;

use super::advance::Place;
use super::command::OfferedEvent;
use super::event::{NodeError, TimerCancelled, TimerPurpose, WaitFor, WaitMode, WaitSatisfied};
use super::progress::Progress;
use super::scope::Offered;
use super::state::{NodeState, NodeStatus, Signal, WaitState};

/// What looking through filters gives: needs, the failure of a filter, or the answer.
type Filtered<T> = Result<Result<T, NodeError>, Vec<Need>>;

/// How many further signals with large payloads are fetched at once for a filter.
const SIGNALS_AT_ONCE: usize = 20;
/// With so many large values a decision leaves the rest of the signals to the next one.
const MANY_PAYLOADS: usize = 200;

impl<'a> Progress<'a> {
    /// Takes the signals that a wait is for, and completes it when it has what it needs.
    pub(super) fn look_for_signals(
        &mut self,
        place: &Place<'a>,
        node: &NodeState,
        wait: &WaitState,
        has_timer: bool,
    ) -> Result<(), Vec<Need>> {
        if is_met(wait) {
            return self.complete_wait(place, node, wait, has_timer);
        }
        if self.take_signal(place, node, wait, self.facts.now)? {
            return Ok(());
        }
        if let Some(timeout_at) = wait.timeout_at
            && !has_timer
        {
            self.start_timer(place, node.run, node.attempt, TimerPurpose::Wait, timeout_at);
        }
        Ok(())
    }

    /// A wait whose time is over. What came before that counts, also if a pause kept it from being looked at.
    pub(super) fn wait_ran_out(
        &mut self,
        place: &Place<'a>,
        node: &NodeState,
        wait: &WaitState,
        at: Timestamp,
    ) -> Result<(), Vec<Need>> {
        if is_met(wait) {
            return self.complete_wait(place, node, wait, false);
        }
        if !self.take_signal(place, node, wait, at)? {
            self.wait_is_over(place, node.run, node.attempt);
        }
        Ok(())
    }

    /// Takes the oldest signal that came until a time and meets a condition. Whether there is more to do than to wait
    /// on.
    fn take_signal(
        &mut self,
        place: &Place<'a>,
        node: &NodeState,
        wait: &WaitState,
        until: Timestamp,
    ) -> Result<bool, Vec<Need>> {
        let mut oldest: Option<(u32, usize, Arc<Signal>)> = None;
        for (number, condition) in wait.conditions.iter().enumerate() {
            if wait.met.get(number).is_some_and(Option::is_some) || condition.wait_for == WaitFor::Event {
                continue;
            }
            match self.oldest_signal(place, node.run, wait, number, until)? {
                Ok(Some((at, signal))) => {
                    if oldest.as_ref().is_none_or(|(before, _, _)| at < *before) {
                        oldest = Some((at, number, signal));
                    }
                }
                // The rest of the list is looked at by the next decision.
                Ok(None) if self.has_yielded() => return Ok(true),
                Ok(None) => {}
                Err(error) => {
                    self.fail_attempt(place, node.run, node.attempt, error);
                    return Ok(true);
                }
            }
        }
        let Some((at, number, signal)) = oldest else { return Ok(false) };
        self.satisfy(place, node, number, &signal, at);
        Ok(true)
    }

    fn satisfy(
        &mut self,
        place: &Place<'a>,
        node: &NodeState,
        condition: usize,
        signal: &Signal,
        number: u32,
    ) {
        self.budget.made(inline_bytes_bound(&signal.payload));
        self.record(WaitSatisfied {
            node_id: place.path.to_string(),
            run: node.run,
            attempt: node.attempt,
            node_type: place.node.node_type,
            condition: condition as u32,
            signal_version: Some(signal.version),
            signal_number: Some(number),
            event: None,
            payload: signal.payload.clone(),
        });
        self.look_at(&place.path);
    }

    /// The oldest signal until a time that meets a condition and that this path has not used. None also if the decision
    /// has yielded before the end of the list: the next one goes on where this one stopped.
    fn oldest_signal(
        &mut self,
        place: &Place<'a>,
        run: u32,
        wait: &WaitState,
        number: usize,
        until: Timestamp,
    ) -> Filtered<Option<(u32, Arc<Signal>)>> {
        let signals = self.state.signals.clone();
        let condition = &wait.conditions[number];
        let fits = |(at, signal): &(usize, &Arc<Signal>)| {
            Some(&signal.name) == condition.signal.as_ref()
                && (condition.since..=until).contains(&signal.received_at)
                && !wait.used_signals.contains(&(*at as u32))
        };
        let scan = (place.path.clone(), run, number);
        let from = self.state.scans.remove(&scan).unwrap_or(0);
        let mut fitting = signals.iter().enumerate().skip(from).filter(fits);
        while let Some((at, signal)) = fitting.next() {
            let event = json!({ "type": "signal", "name": signal.name, "recorded_at": signal.received_at });
            let passed = self.filter(place, number, &signal.payload, event).map_err(|mut needs| {
                // In few rounds: the filter may turn down many.
                let others = fitting.by_ref().take(SIGNALS_AT_ONCE);
                let others = others.filter_map(|(_, signal)| BlobRef::from_value(&signal.payload));
                let unknown = others.filter(|reference| !self.facts.blobs.contains_key(&reference.sha256));
                needs.extend(unknown.map(Need::Blob));
                needs
            })?;
            match passed {
                Ok(true) => return Ok(Ok(Some((at as u32, signal.clone())))),
                Ok(false) => {}
                Err(error) => return Ok(Err(error)),
            }
            if self.must_yield() || self.facts.blobs.len() >= MANY_PAYLOADS {
                self.yield_now();
                self.state.scans.insert(scan, at + 1);
                break;
            }
        }
        Ok(Ok(None))
    }

    /// Whether the filter of a condition lets something through.
    fn filter(
        &mut self,
        place: &Place<'a>,
        condition: usize,
        payload: &Value,
        event: Value,
    ) -> Filtered<bool> {
        let NodeConfig::Wait(config) = &place.node.config else { return Ok(Ok(false)) };
        let Some(started) = self.state.started.clone() else { return Ok(Ok(false)) };
        let offered = Offered { payload, event };
        let mut names = self.scope(&started, &place.path, place.scope());
        names.offered = Some(&offered);
        let mut fuel = Fuel::standard();
        let passed = Wait::lets_through(config, condition, &names, &mut fuel);
        self.budget.evaluated(&fuel);
        match passed {
            Ok(passed) => Ok(Ok(passed)),
            Err(StepError::NeedsBlob(reference)) => Err(vec![Need::Blob(reference)]),
            Err(StepError::Failed(error)) => Ok(Err(error)),
        }
    }

    fn complete_wait(
        &mut self,
        place: &Place<'a>,
        node: &NodeState,
        wait: &WaitState,
        has_timer: bool,
    ) -> Result<(), Vec<Need>> {
        let payload = |number: u32| {
            let met = wait.met.get(number as usize).and_then(Option::as_deref);
            self.content(met.unwrap_or(&Value::Null))
        };
        let output = match wait.mode {
            WaitMode::One | WaitMode::Any => payload(wait.order.first().copied().unwrap_or(0))?,
            WaitMode::All => {
                let all: Result<Vec<Value>, _> = (0..wait.conditions.len() as u32).map(payload).collect();
                Value::Array(all?)
            }
        };
        let (run, attempt) = (node.run, node.attempt);
        if has_timer {
            let node_id = place.path.to_string();
            self.record(TimerCancelled { node_id, run, attempt, purpose: TimerPurpose::Wait });
        }
        self.complete_node(place, run, attempt, output, None);
        Ok(())
    }

    /// Takes an event that was offered to a wait, if the wait is still for it.
    pub(super) fn take_event(&mut self, offered: &OfferedEvent) -> Result<Result<(), Rejection>, Vec<Need>> {
        let unwanted = || {
            let detail = format!("`{}` does not wait for event {}", offered.node_id, offered.event.id);
            Ok(Err(Rejection::new(RejectionKind::Conflict, "event_not_wanted", detail)))
        };
        let path: Arc<str> = Arc::from(offered.node_id.as_str());
        let (Some(place), Some(node)) = (self.place(&path), self.state.nodes.get(&*path).cloned()) else {
            return unwanted();
        };
        let number = offered.condition as usize;
        let Some(wait) = node.wait.clone().filter(|wait| {
            node.run == offered.run
                && matches!(node.status, NodeStatus::Waiting { .. })
                && !is_met(wait)
                && wait.met.get(number).is_some_and(Option::is_none)
                && !wait.used_events.contains(&offered.event.id)
        }) else {
            return unwanted();
        };
        let condition = &wait.conditions[number];
        if condition.wait_for != WaitFor::Event
            || condition.event_type.as_deref() != Some(&offered.event.event_type)
            || offered.event.recorded_at < condition.since
        {
            return unwanted();
        }
        let data = self.content(&offered.data)?;
        if condition.key.as_ref().is_some_and(|key| data.get("key") != Some(key)) {
            return unwanted();
        }
        let event = json!(offered.event);
        match self.filter(&place, number, &data, event)? {
            Ok(false) => return unwanted(),
            Err(error) => self.fail_attempt(&place, node.run, node.attempt, error),
            Ok(true) => {
                self.record(WaitSatisfied {
                    node_id: place.path.to_string(),
                    run: node.run,
                    attempt: node.attempt,
                    node_type: place.node.node_type,
                    condition: offered.condition,
                    signal_version: None,
                    signal_number: None,
                    event: Some(offered.event.clone()),
                    payload: offered.data.clone(),
                });
                self.look_at(&place.path);
            }
        }
        Ok(Ok(()))
    }
}

/// Whether a wait has what it needs.
fn is_met(wait: &WaitState) -> bool {
    match wait.mode {
        WaitMode::One | WaitMode::Any => wait.met.iter().any(Option::is_some),
        WaitMode::All => wait.met.iter().all(Option::is_some),
    }
}
