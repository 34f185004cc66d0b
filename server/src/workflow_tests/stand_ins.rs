//! Events that have happened, and the waits that may be for them: the stand-in of the matcher.

use domain::event::ExecutionEvent;
use domain::execution::command::{ExecutionCommand, OfferedEvent};
use domain::execution::event::{MatchedEvent, WaitCondition, WaitFor};
use domain::time::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::world::{Outside, World};

/// An event that a wait may be for.
pub(super) struct Happened {
    id: Uuid,
    stream: Uuid,
    at: Timestamp,
    what: What,
}

enum What {
    /// Of the engine; written as JSON only when a wait is for its type.
    Stored(Box<ExecutionEvent>),
    /// Of an author, or of another part of a server.
    Said { event_type: String, data: Value },
}

/// An offer that was made: execution, path, run and condition of the wait, and the event.
pub(super) type Offered = (usize, std::sync::Arc<str>, u32, u32, Uuid);

impl Happened {
    pub(super) fn stored(id: Uuid, stream: Uuid, at: Timestamp, event: &ExecutionEvent) -> Self {
        let what = match event {
            ExecutionEvent::EventEmitted(e) => {
                What::Said { event_type: e.event_type.clone(), data: e.data.clone() }
            }
            other => What::Stored(Box::new(other.clone())),
        };
        Self { id, stream, at, what }
    }

    fn event_type(&self) -> &str {
        match &self.what {
            What::Stored(event) => event.event_type(),
            What::Said { event_type, .. } => event_type,
        }
    }

    fn data(&self) -> Value {
        match &self.what {
            What::Stored(event) => serde_json::from_slice(&event.encode()).unwrap_or_default(),
            What::Said { data, .. } => data.clone(),
        }
    }
}

impl World<'_> {
    /// Lets in what comes from outside.
    pub(super) fn let_in(&mut self, outside: Outside<'_>) {
        match outside {
            Outside::Signal(signal) => {
                let payload = self.stored(signal.payload.clone());
                self.inbox.push_back((0, ExecutionCommand::Signal { name: signal.name.clone(), payload }));
            }
            Outside::Event(event) => {
                let (id, stream) = (self.fresh_id(), self.fresh_id());
                let what = What::Said { event_type: event.event_type.clone(), data: event.data.clone() };
                self.happened.push(Happened { id, stream, at: self.now, what });
            }
        }
    }

    /// Offers one event to one wait, the oldest first; `false` if there is none to offer.
    pub(super) fn offer_an_event(&mut self) -> bool {
        let Some((offered, command)) = self.find_offer() else { return false };
        self.inbox.push_back((offered.0, command));
        self.offered.insert(offered);
        true
    }

    fn find_offer(&self) -> Option<(Offered, ExecutionCommand)> {
        for (index, run) in self.runs.iter().enumerate().filter(|(_, run)| !run.is_finished()) {
            for path in &run.state.waits {
                let Some(node) = run.state.nodes.get(path) else { continue };
                let Some(wait) = &node.wait else { continue };
                for (number, condition) in (0u32..).zip(&wait.conditions) {
                    if wait.met.get(number as usize).is_some_and(Option::is_some) {
                        continue;
                    }
                    let found = self.happened.iter().find(|event| {
                        let offered = (index, path.clone(), node.run, number, event.id);
                        self.wants(condition, event) && !self.offered.contains(&offered)
                    });
                    let Some(event) = found else { continue };
                    let command = ExecutionCommand::OfferEvent(OfferedEvent {
                        node_id: path.to_string(),
                        run: node.run,
                        condition: number,
                        event: MatchedEvent {
                            id: event.id,
                            event_type: event.event_type().to_owned(),
                            stream: event.stream,
                            recorded_at: event.at,
                        },
                        data: event.data(),
                    });
                    return Some(((index, path.clone(), node.run, number, event.id), command));
                }
            }
        }
        None
    }

    /// Whether a condition may be for an event; the decider looks again.
    fn wants(&self, condition: &WaitCondition, event: &Happened) -> bool {
        condition.wait_for == WaitFor::Event
            && condition.event_type.as_deref() == Some(event.event_type())
            && event.at >= condition.since
            && condition
                .key
                .as_ref()
                .is_none_or(|key| self.resolved(&event.data()).get("key").is_some_and(|value| value == key))
    }
}
