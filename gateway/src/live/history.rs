//! Reading the log for feeds: all partitions of a tenant, merged by time, a page at a time.

use domain::event::{Event, ExecutionEvent, RecordedEvent};
use domain::execution::FINAL_EVENT_TYPES;
use domain::ids::{Position, TenantId};
use event_store::log::{LogReader, StoreError};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::sync::Arc;
use uuid::Uuid;

use crate::position::Offsets;

use super::PAGE;
use super::feed_tail::FeedFilter;
use super::filter::STEPS_PER_EVENT;

/// The most events that one page looks at to find those that fit its filter.
const MAX_SCANNED: usize = 10_000;
/// What the expression may cost over one page, a step for each 16 bytes of data parsed for it included: some 30 ms.
const MAX_STEPS: u64 = 100 * STEPS_PER_EVENT;
/// Events between two moments in which others get the thread.
const TURN: usize = 16;

/// Reads the log of a tenant over all partitions.
#[derive(Clone)]
pub(crate) struct FeedReader {
    pub(crate) log: Arc<dyn LogReader>,
    pub(crate) tenant: TenantId,
    pub(crate) filter: FeedFilter,
}

/// A page of a feed.
#[derive(Debug)]
pub(crate) struct FeedPage {
    /// The events, each with the offsets after it.
    pub(crate) events: Vec<(RecordedEvent, Offsets)>,
    /// How far the page has read, past events that the filter left out.
    pub(crate) after: Offsets,
    /// Whether the log may have more.
    pub(crate) more: bool,
}

impl FeedReader {
    /// Events after the offsets, at most `limit`, merged by time; within a partition in order.
    pub(crate) async fn page(&self, mut after: Offsets, limit: usize) -> Result<FeedPage, StoreError> {
        let mut events = Vec::new();
        let mut scanned = 0;
        let mut looks = Looks::default();
        let heads = self.log.heads().await?;
        let mut buffers: Vec<VecDeque<RecordedEvent>> = Vec::with_capacity(heads.len());
        // The earliest unread event of every partition that has one, and which buffer it is in.
        let mut earliest = BinaryHeap::new();
        for (index, head) in heads.iter().enumerate() {
            buffers.push(VecDeque::new());
            let seen = after.get(head.partition);
            if head.offset > seen {
                let page = self.log.read_partition(head.partition, seen, PAGE).await?;
                buffers[index].extend(page);
                earliest.extend(buffers[index].front().map(|event| Reverse((event.recorded_at, index))));
            }
        }
        while let Some(Reverse((_, index))) = earliest.pop() {
            let Some(event) = buffers[index].pop_front() else { continue };
            let position = event.position;
            if position.offset != after.get(position.partition) + 1 {
                // Offsets are dense; should one be missing, nothing after it may be told.
                return Err(StoreError::Corrupt(format!("after {position} comes a gap in the log")));
            }
            after.advance(position);
            scanned += 1;
            if looks.fits(&self.filter, &self.tenant, &event).await {
                events.push((event, after.clone()));
            }
            if buffers[index].is_empty() {
                let Position { partition, offset } = position;
                if heads[index].offset > offset {
                    buffers[index].extend(self.log.read_partition(partition, offset, PAGE).await?);
                }
            }
            earliest.extend(buffers[index].front().map(|event| Reverse((event.recorded_at, index))));
            if events.len() >= limit || scanned >= MAX_SCANNED || looks.spent >= MAX_STEPS {
                return Ok(FeedPage { events, more: !earliest.is_empty(), after });
            }
        }
        Ok(FeedPage { events, after, more: false })
    }
}

/// What a page has spent on its filter's expression.
#[derive(Default)]
struct Looks {
    count: usize,
    spent: u64,
}

impl Looks {
    async fn fits(&mut self, filter: &FeedFilter, tenant: &TenantId, event: &RecordedEvent) -> bool {
        if !filter.may_fit(tenant, event) {
            return false;
        }
        let Some(expression) = &filter.expression else { return true };
        self.count += 1;
        if self.count.is_multiple_of(TURN) {
            tokio::task::yield_now().await;
        }
        let (fits, steps) = expression.look(event);
        self.spent += steps + event.data.len() as u64 / 16;
        fits
    }
}

/// Whether an execution is over with this event, unless something follows: an execution that has ended may be retried,
/// or undo its work because its parent does.
pub(crate) fn is_end(event: &RecordedEvent) -> bool {
    if FINAL_EVENT_TYPES.contains(&event.event_type.as_ref()) {
        return true;
    }
    // It had completed before; with its work undone it is over again.
    event.event_type == COMPENSATION_FINISHED
        && matches!(
            event.decode(),
            Ok(Event::Execution(ExecutionEvent::CompensationFinished(end))) if end.parent.is_some()
        )
}

/// The type of the one event that is an end only sometimes.
const COMPENSATION_FINISHED: &str = "execution.compensation.finished";

/// The first event after a version with which an execution ended, whatever came later. Without one, `after` is where the
/// next look begins.
pub(crate) async fn find_first_end(
    log: &dyn LogReader,
    execution: Uuid,
    after: &mut u64,
) -> Result<Option<RecordedEvent>, StoreError> {
    loop {
        let page = log.read_stream(execution, *after, 1_000).await?;
        let is_last = page.len() < 1_000;
        for event in page {
            *after = event.version;
            if FINAL_EVENT_TYPES.contains(&event.event_type.as_ref()) {
                return Ok(Some(event));
            }
        }
        if is_last {
            return Ok(None);
        }
    }
}

/// Whether an execution is over for a reader that has seen it up to a version.
pub(crate) async fn is_over_after(
    log: &dyn LogReader,
    execution: Uuid,
    version: u64,
) -> Result<bool, StoreError> {
    let Some(before) = version.checked_sub(1) else { return Ok(false) };
    match log.read_stream(execution, before, 2).await?.as_slice() {
        [last] => Ok(is_end(last)),
        [_, ..] => Ok(false),
        // The reader claims to have seen what is not there yet.
        [] => Ok(last_event(log, execution).await?.is_some_and(|last| is_end(&last))),
    }
}

async fn last_event(log: &dyn LogReader, execution: Uuid) -> Result<Option<RecordedEvent>, StoreError> {
    let mut last: Option<RecordedEvent> = None;
    loop {
        let after = last.as_ref().map_or(0, |last| last.version);
        let page = log.read_stream(execution, after, 1_000).await?;
        let is_last = page.len() < 1_000;
        last = page.into_iter().next_back().or(last);
        if is_last {
            return Ok(last);
        }
    }
}
