//! Facts about the past of executions: what a fork comes from, and what it may replay.
//!
//! Both are folded from events up to a fixed version, so they never change. A recording is asked for by every decision
//! of a fork that replays, so the last ones are kept, up to [`MAX_BYTES`] of events together; one that is larger than
//! that is folded each time. An origin is asked for once per fork and not kept.
//!
//! Streams are read from the log, whoever owns their partition: only what is durable is forked.

use lru::LruCache;
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

use domain::aggregate::AggregateState;
use domain::event::{Event, RecordedEvent};
use domain::execution::{ExecutionState, NodeStatus, Recording};
use domain::facts::{Fact, Origin};
use domain::ids::{Position, TenantId};
use event_store::LogReader;

use crate::folding::{LoadError, PAGE, load_watching, steps_down};

/// The most bytes of event data that the kept recordings were folded from.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Recordings by execution and last version, the ones used last.
pub(super) struct Recordings {
    kept: LruCache<(Uuid, u64), Kept>,
    bytes: usize,
}

struct Kept {
    owner: TenantId,
    recording: Arc<Recording>,
    bytes: usize,
}

impl Default for Recordings {
    fn default() -> Self {
        // Bounded by bytes.
        Self { kept: LruCache::unbounded(), bytes: 0 }
    }
}

impl Recordings {
    /// What is kept of an execution; another tenant's looks like none.
    pub(super) fn get(&mut self, tenant: &TenantId, execution: Uuid, until: u64) -> Option<Fact<Recording>> {
        let kept = self.kept.get(&(execution, until))?;
        Some(if kept.owner == *tenant { Fact::Is(kept.recording.clone()) } else { Fact::Absent })
    }

    /// Keeps one that was folded from so many bytes, and drops what was not used for the longest time.
    pub(super) fn put(&mut self, execution: Uuid, until: u64, folded: Folded) {
        let Folded { owner, recording, bytes } = folded;
        // Events without data would be free.
        let bytes = bytes.max(1_024);
        if bytes > MAX_BYTES {
            return;
        }
        if let Some(old) = self.kept.put((execution, until), Kept { owner, recording, bytes }) {
            self.bytes -= old.bytes;
        }
        self.bytes += bytes;
        while self.bytes > MAX_BYTES
            && let Some((_, old)) = self.kept.pop_lru()
        {
            self.bytes -= old.bytes;
        }
    }
}

/// A recording, and what it was folded from.
pub(super) struct Folded {
    pub(super) owner: TenantId,
    pub(super) recording: Arc<Recording>,
    pub(super) bytes: usize,
}

/// What an execution of a tenant has on record up to a version; of a fork, after what its origin has. `None`: there is
/// no such execution.
pub(super) async fn record<L: LogReader + ?Sized>(
    log: &L,
    tenant: &TenantId,
    execution: Uuid,
    until: u64,
) -> Result<Option<Folded>, LoadError> {
    let first = log.read_stream(execution, 0, 1).await?.into_iter().next();
    let Some(first) = first.filter(|first| first.tenant == *tenant) else { return Ok(None) };
    let (mut recording, mut bytes) = (Recording::default(), 0);
    let steps = steps_down(log, execution, &first, Some(until)).await?;
    // An origin's records count as far as they did for the fork itself; what a fork has done counts more.
    for step in steps.iter().rev() {
        bytes += fold_records(log, &mut recording, step.event.origin, step.event.recorded_until).await?;
    }
    bytes += fold_records(log, &mut recording, execution, until).await?;
    Ok(Some(Folded { owner: first.tenant, recording: Arc::new(recording), bytes }))
}

/// Folds the events of one stream. Returns how many bytes of data they have.
async fn fold_records<L: LogReader + ?Sized>(
    log: &L,
    recording: &mut Recording,
    stream: Uuid,
    until: u64,
) -> Result<usize, LoadError> {
    let (mut version, mut bytes) = (0, 0);
    while version < until {
        let page = log.read_stream(stream, version, PAGE).await?;
        for recorded in page.iter().filter(|recorded| recorded.version <= until) {
            if let Event::Execution(event) = recorded.decode()? {
                recording.fold(&event);
            }
            bytes += recorded.data.len();
        }
        match page.last() {
            Some(last) if page.len() >= PAGE => version = last.version,
            _ => break,
        }
    }
    Ok(bytes)
}

/// An execution of a tenant as of one of its versions.
pub(super) async fn origin<L: LogReader + ?Sized>(
    log: &L,
    tenant: &TenantId,
    execution: Uuid,
    at_version: u64,
) -> Result<Fact<Origin>, LoadError> {
    if at_version == 0 {
        return Ok(Fact::Absent);
    }
    let mut position = None;
    let aggregate = load_watching(log, execution, Some(at_version), |recorded, _| {
        position = Some(recorded.position);
    })
    .await?;
    let (AggregateState::Execution(state), Some(position)) = (aggregate.state, position) else {
        return Ok(Fact::Absent);
    };
    if aggregate.version != at_version || aggregate.tenant.as_ref() != Some(tenant) {
        return Ok(Fact::Absent);
    }
    let latest_version = last_version(log, execution, at_version, |_| true).await?;
    let children = children(log, &state, position).await?;
    let depth = state.fork.as_ref().map_or(0, |fork| fork.depth);
    Ok(Fact::Is(Arc::new(Origin { state: *state, latest_version, depth, children })))
}

/// The last version before a position of each child that an execution waits for. Children live in the partition of
/// their parent, so positions say what came first; one without an event before that is left out.
async fn children<L: LogReader + ?Sized>(
    log: &L,
    state: &ExecutionState,
    position: Position,
) -> Result<HashMap<Uuid, u64>, LoadError> {
    let mut children = HashMap::new();
    let waiting = state.nodes.values().filter(|node| matches!(node.status, NodeStatus::Waiting { .. }));
    for child in waiting.filter_map(|node| node.child) {
        let is_before = |event: &RecordedEvent| {
            event.position.partition == position.partition && event.position.offset < position.offset
        };
        let version = last_version(log, child, 0, is_before).await?;
        if version > 0 {
            children.insert(child, version);
        }
    }
    Ok(children)
}

/// The last version of a stream for which something holds that holds up to a version and not behind it; `known` is one
/// for which it does, or 0. Single events are looked at, about twice the logarithm of how many there are.
async fn last_version<L: LogReader + ?Sized>(
    log: &L,
    stream: Uuid,
    known: u64,
    holds: impl Fn(&RecordedEvent) -> bool,
) -> Result<u64, LoadError> {
    let (mut low, mut step) = (known, 1);
    let mut high = loop {
        let probe = low + step;
        if !at(log, stream, probe).await?.is_some_and(|event| holds(&event)) {
            break probe;
        }
        (low, step) = (probe, step * 2);
    };
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if at(log, stream, middle).await?.is_some_and(|event| holds(&event)) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

/// The event of a stream with a version.
async fn at<L: LogReader + ?Sized>(
    log: &L,
    stream: Uuid,
    version: u64,
) -> Result<Option<RecordedEvent>, LoadError> {
    let event = log.read_stream(stream, version - 1, 1).await?.into_iter().next();
    Ok(event.filter(|event| event.version == version))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(bytes: usize) -> Folded {
        Folded { owner: TenantId::default_tenant(), recording: Arc::default(), bytes }
    }

    #[test]
    fn recordings_are_kept_up_to_a_weight_and_shown_to_their_tenant_alone() {
        let (mine, theirs) = (TenantId::default_tenant(), TenantId::try_from("other".to_owned()));
        let theirs = theirs.expect("a tenant");
        let mut recordings = Recordings::default();
        let id = Uuid::from_u128;
        recordings.put(id(1), 7, folded(MAX_BYTES / 2));
        recordings.put(id(2), 7, folded(MAX_BYTES / 2));
        assert!(matches!(recordings.get(&mine, id(1), 7), Some(Fact::Is(_))));
        assert!(matches!(recordings.get(&theirs, id(1), 7), Some(Fact::Absent)));
        assert!(recordings.get(&mine, id(1), 8).is_none(), "another version");
        // The one that was not used last makes room.
        recordings.put(id(3), 7, folded(1));
        assert!(recordings.get(&mine, id(2), 7).is_none());
        assert!(recordings.get(&mine, id(1), 7).is_some() && recordings.get(&mine, id(3), 7).is_some());
        recordings.put(id(4), 7, folded(MAX_BYTES + 1));
        assert!(recordings.get(&mine, id(4), 7).is_none(), "too large to be kept");
        recordings.put(id(3), 7, folded(MAX_BYTES));
        assert_eq!(recordings.bytes, MAX_BYTES);
        assert_eq!(recordings.kept.len(), 1);
    }
}
