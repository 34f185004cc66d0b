//! Which events to read for a [`History`]: an execution's own, and for a fork those of its origins before them.
//!
//! The plan is pure; the caller reads:
//!
//! ```ignore
//! let mut replay = Replay::of(execution, u64::MAX);
//! while let Some(page) = replay.wants() {
//!     replay.give(&log.read_stream(page.stream, page.after, page.limit).await?)?;
//! }
//! ```

use uuid::Uuid;

use crate::event::{Event, ExecutionEvent, RecordedEvent};

use super::history::{History, HistoryError};

/// Events of one page.
const PAGE: usize = 1_000;
/// How many origins are followed: more than the engine lets forks be made of forks.
const MAX_LEGS: usize = 64;

/// An execution that is folded from the log.
#[derive(Debug)]
pub struct Replay {
    history: History,
    /// The execution, its origin, the origin's own…; the last one is read first.
    legs: Vec<Leg>,
}

#[derive(Debug)]
struct Leg {
    stream: Uuid,
    /// The last version folded.
    after: u64,
    /// The last version that counts.
    until: u64,
    /// Whether the origin of the fork that it is was folded.
    is_based: bool,
}

/// A page of a stream that is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WantedPage {
    /// The stream.
    pub stream: Uuid,
    /// The version after which it begins.
    pub after: u64,
    /// The most events that it has.
    pub limit: usize,
}

impl Replay {
    /// An execution up to a version.
    pub fn of(execution: Uuid, until: u64) -> Self {
        let leg = Leg { stream: execution, after: 0, until, is_based: false };
        Self { history: History::default(), legs: Vec::from_iter((until > 0).then_some(leg)) }
    }

    /// What to read next; `None` when all is folded.
    pub fn wants(&self) -> Option<WantedPage> {
        let leg = self.legs.last()?;
        let left = usize::try_from(leg.until - leg.after).unwrap_or(usize::MAX);
        Some(WantedPage { stream: leg.stream, after: leg.after, limit: left.min(PAGE) })
    }

    /// Folds the page that was wanted.
    pub fn give(&mut self, page: &[RecordedEvent]) -> Result<(), HistoryError> {
        let (Some(wanted), Some(leg)) = (self.wants(), self.legs.last_mut()) else { return Ok(()) };
        if leg.after == 0
            && !leg.is_based
            && let Some(first) = page.first()
            && let Event::Execution(ExecutionEvent::Forked(forked)) = first.decode()?
        {
            leg.is_based = true;
            if self.legs.len() >= MAX_LEGS || forked.at_version == 0 {
                return Err(HistoryError::NoOrigin);
            }
            let origin = Leg { stream: forked.origin, after: 0, until: forked.at_version, is_based: false };
            self.legs.push(origin);
            return Ok(());
        }
        for recorded in page {
            self.history.take(recorded)?;
            leg.after = recorded.version;
        }
        let is_short = leg.after < leg.until;
        if page.len() < wanted.limit || !is_short {
            self.legs.pop();
            if is_short && !self.legs.is_empty() {
                return Err(HistoryError::NoOrigin);
            }
        }
        Ok(())
    }

    /// What was folded.
    pub fn history(self) -> History {
        self.history
    }
}
