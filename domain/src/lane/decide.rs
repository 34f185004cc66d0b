//! What follows from a command to a lane. A repeated request or release changes nothing.

use serde_json::json;
use uuid::Uuid;

use crate::decision::{Decision, Outcome};
use crate::event::{Event, LaneEvent};
use crate::execution::event::OnLimit;
use crate::facts::Facts;
use crate::rejection::{Rejection, RejectionKind};

use super::command::LaneCommand;
use super::event::{LaneEvictionRequested, LaneGranted, LaneRefused, LaneReleased, LaneRequested};
use super::evolve::evolve;
use super::state::LaneState;

/// The most executions that may wait in one lane.
const MAX_WAITING: usize = 100_000;
/// The most slots that one decision gives, where a limit was raised by many: each of those who have one will end, and
/// their ends give the rest.
const MAX_GRANTS: usize = 250;

/// Decides a command on folded state.
pub fn decide(state: &LaneState, command: &LaneCommand, facts: &Facts) -> Result<Decision, Rejection> {
    let mut progress = Progress { state: state.clone(), events: Vec::new() };
    match command {
        LaneCommand::Request { execution, workflow_id, key, limit, on_limit, priority } => {
            if !state.holders.contains_key(execution) && !state.places.contains_key(execution) {
                if state.waiting.len() >= MAX_WAITING {
                    let detail = format!("{MAX_WAITING} executions wait for a slot of key `{key}` already");
                    return Err(Rejection::new(RejectionKind::TooLarge, "lane_full", detail));
                }
                progress.record(LaneRequested {
                    execution_id: *execution,
                    workflow_id: *workflow_id,
                    key: key.clone(),
                    limit: (*limit).max(1),
                    on_limit: *on_limit,
                    priority: *priority,
                });
                progress.grant();
                progress.without_a_slot(*execution, *on_limit);
            }
        }
        LaneCommand::Release { execution } => {
            // Its request came before this: both are told in the order of its stream.
            if state.holders.contains_key(execution) || state.places.contains_key(execution) {
                progress.record(LaneReleased { execution_id: *execution });
                progress.grant();
            }
        }
    }
    let answer = json!({ "lane": facts.stream, "waiting": progress.state.waiting.len() });
    let events = progress.events.into_iter().map(Event::Lane).collect();
    Ok(Decision::Events(Outcome { events, answer, ..Outcome::default() }))
}

struct Progress {
    state: LaneState,
    events: Vec<LaneEvent>,
}

impl Progress {
    fn record(&mut self, event: impl Into<LaneEvent>) {
        let event = event.into();
        self.state = evolve(std::mem::take(&mut self.state), &event);
        self.events.push(event);
    }

    /// Gives free slots to those who wait.
    fn grant(&mut self) {
        for _ in 0..MAX_GRANTS {
            if self.state.holders.len() >= self.state.limit as usize {
                return;
            }
            let Some((_, next)) = self.state.waiting.get_min() else { return };
            let execution_id = next.execution;
            self.record(LaneGranted { execution_id });
        }
    }

    /// What the new one's own rule says if it has no slot.
    fn without_a_slot(&mut self, execution: Uuid, on_limit: OnLimit) {
        if !self.state.places.contains_key(&execution) {
            return;
        }
        match on_limit {
            OnLimit::Queue => {}
            OnLimit::Drop => self.record(LaneRefused { execution_id: execution }),
            OnLimit::CancelRunning => {
                if let Some(execution_id) = self.oldest_beside(execution) {
                    self.record(LaneEvictionRequested { execution_id, for_execution_id: execution });
                }
            }
        }
    }

    /// Who makes room: the oldest that runs; where all of them are on their way out, the oldest that waits, so that the
    /// latest come last to stay.
    fn oldest_beside(&self, execution: Uuid) -> Option<Uuid> {
        let staying = self.state.holders.iter().filter(|(_, holder)| !holder.leaving);
        let oldest = staying.min_by_key(|(_, holder)| holder.since).map(|(id, _)| *id);
        oldest.or_else(|| {
            let waiting = self.state.waiting.iter().filter(|(_, waiter)| waiter.execution != execution);
            waiting.min_by_key(|((_, since), _)| *since).map(|(_, waiter)| waiter.execution)
        })
    }
}
