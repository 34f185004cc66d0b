//! One stream from a version on: history, then live, by version.
//!
//! A tail ends with an end of its execution after which nothing is known to follow. Should the execution be retried
//! later, whoever subscribes again after the version of that end is told the rest.

use event_store::log::{LogReader, StoreError};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

use super::event::LiveEvent;
use super::filter::EventFilter;
use super::history::{is_end, is_over_after};
use super::hub::{Hub, Subscribed};
use super::mailbox::Mail;
use super::{PAGE, Resume, Tail};

/// Follows an execution.
pub(crate) struct StreamTail {
    log: Arc<dyn LogReader>,
    stream: Uuid,
    /// What is told; all of it if there is none.
    filter: Option<EventFilter>,
    /// The version of the last event given.
    after: u64,
    pending: VecDeque<LiveEvent>,
    live: Subscribed<LiveEvent>,
    idle_reread: Duration,
    /// Whether the log may have events that the mailbox will not bring.
    behind: bool,
    announced: bool,
    told: bool,
    ended: bool,
}

impl StreamTail {
    /// Registers with the hub; the log is read from the first [`StreamTail::next`] on.
    pub(crate) fn new(hub: &Arc<Hub>, log: Arc<dyn LogReader>, stream: Uuid, after: u64) -> Self {
        let live = hub.subscribe_stream(stream);
        Self {
            log,
            stream,
            filter: None,
            after,
            pending: VecDeque::new(),
            live,
            idle_reread: hub.idle_reread(),
            behind: true,
            announced: false,
            told: false,
            ended: false,
        }
    }

    /// Tells only what matches.
    pub(crate) fn filtered(mut self, filter: Option<EventFilter>) -> Self {
        self.filter = filter;
        self
    }

    /// What comes next.
    pub(crate) async fn next(&mut self) -> Tail {
        loop {
            if let Some(event) = self.pending.pop_front() {
                match self.take(event) {
                    Some(tail) => return tail,
                    None => continue,
                }
            }
            if self.behind {
                match self.log.read_stream(self.stream, self.after, PAGE).await {
                    Ok(page) => {
                        self.behind = page.len() == PAGE;
                        self.pending.extend(page.into_iter().map(|event| LiveEvent::new(Arc::new(event))));
                    }
                    Err(error) => return Tail::Failed(error),
                }
                continue;
            }
            if !self.announced {
                self.announced = true;
                return match self.has_ended_before().await {
                    Ok(ended) => {
                        self.ended |= ended;
                        Tail::CaughtUp(Resume::Version(self.after))
                    }
                    Err(error) => Tail::Failed(error),
                };
            }
            if self.ended {
                return Tail::End;
            }
            match tokio::time::timeout(self.idle_reread, self.live.mailbox.next()).await {
                Ok(Mail::Item(event)) => self.pending.push_back(event),
                Ok(Mail::Lagged) | Err(_) => self.behind = true,
                Ok(Mail::Closed) => return Tail::End,
            }
        }
    }

    /// Whether the end is at or before the version from which a reader that was told nothing resumes.
    async fn has_ended_before(&self) -> Result<bool, StoreError> {
        if self.ended || self.told {
            return Ok(false);
        }
        is_over_after(self.log.as_ref(), self.stream, self.after).await
    }

    /// The event, if it is the next one and is to be told.
    fn take(&mut self, event: LiveEvent) -> Option<Tail> {
        let version = event.event().version;
        if version <= self.after {
            return None;
        }
        if version != self.after + 1 {
            // Something is missing; the log has it, and this event again.
            self.pending.clear();
            self.behind = true;
            return None;
        }
        self.after = version;
        self.told = true;
        // A retry that follows takes it back.
        self.ended = is_end(event.event());
        if self.filter.as_ref().is_some_and(|filter| !filter.matches(event.event())) {
            return None;
        }
        Some(Tail::Event { event, resume: Resume::Version(version) })
    }
}
