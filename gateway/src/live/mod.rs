//! Live events: one task follows the commit feed and routes events to whoever waits for them.
//!
//! ```text
//!   CommitFeed ─► Hub ─┬─ waiters for the end of an execution   (execute with wait_ms)
//!                      ├─ mailboxes by stream  ─► StreamTail ─┐
//!                      └─ mailboxes of feeds   ─► FeedTail   ─┴─► WebSocket, SSE
//!                                    log ─────────────▲
//! ```
//!
//! Invariants: the hub never waits for a reader: mailboxes are bounded, and one that overflows only remembers that
//! it did. A tail registers first, then reads history from the log, then goes on with its mailbox, by version or
//! offset; whenever something is missing it reads the log again. So there is no gap and no duplicate, and
//! losing the feed costs nothing but latency: an idle tail looks into the log from time to time.

mod event;
mod feed_tail;
mod filter;
mod history;
mod hub;
mod mailbox;
mod stream_tail;
#[cfg(test)]
mod tests;

pub(crate) use event::LiveEvent;
pub(crate) use feed_tail::{FeedFilter, FeedTail};
pub(crate) use filter::EventFilter;
pub(crate) use history::{FeedReader, find_first_end, is_over_after};
pub(crate) use hub::{Hub, Listener, News, Waiter};
pub(crate) use stream_tail::StreamTail;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use event_store::log::StoreError;

/// How long a tail trusts the silence of the feed.
pub(crate) const IDLE_REREAD: Duration = Duration::from_secs(5);
/// Events read from the log at once.
pub(crate) const PAGE: usize = 200;
/// Messages that a mailbox holds.
const MAILBOX: usize = 256;

/// What a tail gives.
#[derive(Debug)]
pub(crate) enum Tail {
    /// The next event, and the token with which a reader goes on after it.
    Event {
        /// The event.
        event: LiveEvent,
        /// Where to resume.
        resume: Resume,
    },
    /// The history is told up to here; from here on events come as they are committed.
    CaughtUp(Resume),
    /// Nothing to tell, but a reader may resume from here: what lies before was left out.
    Passed(Resume),
    /// Nothing can follow.
    End,
    /// The log could not be read; the tail is over.
    Failed(StoreError),
}

/// Where a reader goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resume {
    /// After a version of one stream.
    Version(u64),
    /// After the offsets in a token.
    Token(Arc<str>),
}

impl fmt::Display for Resume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => write!(f, "{version}"),
            Self::Token(token) => f.write_str(token),
        }
    }
}
