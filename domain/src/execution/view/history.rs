//! Folding a whole history, a fork's origins first.

use crate::event::{Event, EventError, ExecutionEvent, RecordedEvent};

use super::{Bodies, ExecutionView};

/// An execution folded from its events, with the nodes of its bodies.
///
/// For a fork the events of its origin come first, up to the version that `execution.forked` names; of an origin that is
/// a fork itself, those of its own origin before them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// The view; `None` before the first event.
    pub view: Option<ExecutionView>,
    /// Nodes of bodies: all, or those that were put in before the events that touch them.
    pub bodies: Bodies,
}

/// An event cannot be folded.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// It does not decode.
    #[error("the event does not decode")]
    Decode(#[from] EventError),
    /// It does not follow what came before.
    #[error("event version {found} does not follow version {known}")]
    OutOfTurn {
        /// The version of the last event.
        known: u64,
        /// The version that came.
        found: u64,
    },
    /// It is of another aggregate, or an execution cannot begin with it.
    #[error("the stream of an execution begins with `{0}`")]
    NoStart(String),
    /// A fork's origin was not folded before it.
    #[error("the origin of the fork is not there, or shorter than the version that the fork names")]
    NoOrigin,
}

impl History {
    /// An execution as it was left by the events before, without nodes of bodies.
    pub fn of(view: Option<ExecutionView>) -> Self {
        Self { view, bodies: Bodies::default() }
    }

    /// Takes in one more event. After an error nothing has changed.
    pub fn take(&mut self, recorded: &RecordedEvent) -> Result<(), HistoryError> {
        self.take_decoded(recorded, recorded.decode()?)
    }

    /// Takes in one more event that was decoded already.
    pub fn take_decoded(&mut self, recorded: &RecordedEvent, event: Event) -> Result<(), HistoryError> {
        let Event::Execution(event) = event else {
            return Err(HistoryError::NoStart(recorded.event_type.to_string()));
        };
        let view = match (self.view.take(), event) {
            (None, ExecutionEvent::Started(started)) if recorded.version == 1 => {
                ExecutionView::started(recorded, started)
            }
            (origin, ExecutionEvent::Forked(forked)) if recorded.version == 1 => {
                let fits =
                    |view: &ExecutionView| view.id == forked.origin && view.version == forked.at_version;
                if !origin.as_ref().is_some_and(fits) {
                    self.view = origin;
                    return Err(HistoryError::NoOrigin);
                }
                origin.ok_or(HistoryError::NoOrigin)?.forked(&mut self.bodies, recorded, forked)
            }
            (None, _) => return Err(HistoryError::NoStart(recorded.event_type.to_string())),
            (Some(view), _) if view.id != recorded.stream || view.version + 1 != recorded.version => {
                let known = view.version;
                self.view = Some(view);
                return Err(HistoryError::OutOfTurn { known, found: recorded.version });
            }
            (Some(mut view), event) => {
                view.apply(&mut self.bodies, event, recorded.recorded_at);
                view.version = recorded.version;
                view
            }
        };
        self.view = Some(view);
        Ok(())
    }
}
