//! A tenant's whole log from a set of offsets on: history, then live, by offset.

use domain::event::RecordedEvent;
use domain::ids::{Position, TenantId};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::position::Offsets;

use super::event::LiveEvent;
use super::filter::EventFilter;
use super::history::FeedReader;
use super::hub::{Hub, LiveBatch, Subscribed};
use super::mailbox::Mail;
use super::{PAGE, Resume, Tail};

/// Which events of a tenant are told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FeedFilter {
    /// The first segment of the type.
    pub(crate) category: Option<String>,
    /// The whole type.
    pub(crate) event_type: Option<String>,
    /// What must be true of it.
    pub(crate) expression: Option<EventFilter>,
}

impl FeedFilter {
    /// Whether an event is told to this tenant.
    pub(crate) fn fits(&self, tenant: &TenantId, event: &RecordedEvent) -> bool {
        self.may_fit(tenant, event)
            && self.expression.as_ref().is_none_or(|expression| expression.matches(event))
    }

    /// Whether an event is worth a look by the expression, which costs more than the rest.
    pub(crate) fn may_fit(&self, tenant: &TenantId, event: &RecordedEvent) -> bool {
        event.tenant == *tenant
            && self.category.as_deref().is_none_or(|category| event.category() == category)
            && self.event_type.as_deref().is_none_or(|name| event.event_type == name)
    }
}

/// Follows a tenant's log.
pub(crate) struct FeedTail {
    hub: Arc<Hub>,
    idle_reread: Duration,
    reader: FeedReader,
    /// The offsets of the last events read, told or left out.
    after: Offsets,
    pending: VecDeque<(LiveEvent, Offsets)>,
    live: Subscribed<Arc<LiveBatch>>,
    /// Whether the log may have events that the mailbox will not bring.
    behind: bool,
    announced: bool,
    /// Since when the reader has no token for how far this is, if its filter has left something out.
    passing: Option<Instant>,
}

impl FeedTail {
    /// Registers with the hub; the log is read from the first [`FeedTail::next`] on.
    pub(crate) fn new(hub: &Arc<Hub>, reader: FeedReader, after: Offsets) -> Self {
        let live = hub.subscribe_feed();
        Self {
            hub: hub.clone(),
            idle_reread: hub.idle_reread(),
            reader,
            after,
            pending: VecDeque::new(),
            live,
            behind: true,
            announced: false,
            passing: None,
        }
    }

    /// What comes next.
    pub(crate) async fn next(&mut self) -> Tail {
        loop {
            if let Some((event, offsets)) = self.pending.pop_front() {
                self.passing = None;
                return Tail::Event { event, resume: Resume::Token(Arc::from(offsets.token())) };
            }
            if self.passing.is_some_and(|since| since.elapsed() >= self.idle_reread) {
                self.passing = None;
                return Tail::Passed(self.resume());
            }
            if self.behind {
                match self.reader.page(self.after.clone(), PAGE).await {
                    Ok(page) => {
                        self.behind = page.more;
                        self.after = page.after;
                        self.pass();
                        self.pending.extend(
                            page.events
                                .into_iter()
                                .map(|(event, offsets)| (LiveEvent::new(Arc::new(event)), offsets)),
                        );
                    }
                    Err(error) => return Tail::Failed(error),
                }
                continue;
            }
            if !self.announced {
                self.announced = true;
                self.passing = None;
                return Tail::CaughtUp(self.resume());
            }
            match tokio::time::timeout(self.idle_reread, self.live.mailbox.next()).await {
                Ok(Mail::Item(batch)) => {
                    self.take(&batch);
                    if self.reader.filter.expression.is_some() {
                        // Expressions take their time; others get the thread in between.
                        tokio::task::yield_now().await;
                    }
                }
                Ok(Mail::Lagged) => self.behind = true,
                Ok(Mail::Closed) => return Tail::End,
                Err(_) => match self.hub.recent_heads(self.reader.log.as_ref()).await {
                    Ok(heads) => {
                        let after = &self.after;
                        self.behind = heads.iter().any(|head| head.offset > after.get(head.partition));
                    }
                    Err(error) => return Tail::Failed(error),
                },
            }
        }
    }

    /// The token for what was read so far; nothing may be pending.
    fn resume(&self) -> Resume {
        Resume::Token(Arc::from(self.after.token()))
    }

    /// Notes that events may have been left out by the expression. What else leaves events out is quick to read again.
    fn pass(&mut self) {
        if self.reader.filter.expression.is_some() {
            self.passing.get_or_insert_with(Instant::now);
        }
    }

    fn take(&mut self, batch: &LiveBatch) {
        // Offsets come from clients too, so the next one may not exist.
        let next = self.after.get(batch.partition).saturating_add(1);
        if batch.first_offset > next {
            self.behind = true;
            return;
        }
        self.pass();
        let known = usize::try_from(next - batch.first_offset).unwrap_or(usize::MAX);
        for (index, event) in batch.events.iter().enumerate().skip(known) {
            let offset = batch.first_offset + index as u64;
            self.after.advance(Position { partition: batch.partition, offset });
            if self.reader.filter.fits(&self.reader.tenant, event.event()) {
                self.pending.push_back((event.clone(), self.after.clone()));
            }
        }
    }
}
