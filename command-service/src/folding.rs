//! Folding a stream from the log.
//!
//! A fork begins where its origin was: its first event is folded on the origin's state at a version, which is read from
//! the origin's stream, and that one's origin before it. The way down is a loop, not a recursion, and has an end:
//! [`MAX_DEPTH`]. Nothing of an origin is kept here; its events never change, so it always folds to the same.

use uuid::Uuid;

use domain::aggregate::{Aggregate, AggregateState};
use domain::event::{Event, EventError, ExecutionEvent, RecordedEvent};
use domain::execution::event::ExecutionForked;
use domain::execution::{ExecutionState, forked};
use domain::ids::TenantId;
use domain::time::Timestamp;
use event_store::{LogReader, StoreError};

/// Events read from the log at a time.
pub(crate) const PAGE: usize = 1_000;
/// The most forks that may lead from an execution to its first origin. The engine refuses to make more.
pub(crate) const MAX_DEPTH: usize = 32;

/// The type of the event that begins a fork.
const FORKED: &str = "execution.forked";

/// A stream could not be folded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An event does not decode.
    #[error(transparent)]
    Event(#[from] EventError),
    /// What a fork begins with is not there.
    #[error("execution {fork} is a fork of {origin} at version {at_version}, which this log does not have")]
    Origin {
        /// The fork.
        fork: Uuid,
        /// Where it comes from.
        origin: Uuid,
        /// The version that it begins with.
        at_version: u64,
    },
    /// Forks lead to forks without end.
    #[error("more than {MAX_DEPTH} forks lead to execution {0}")]
    Depth(Uuid),
}

/// The first event of a fork, and up to which of its own versions it is folded.
pub(crate) struct ForkStep {
    pub(crate) fork: Uuid,
    pub(crate) tenant: TenantId,
    pub(crate) event: ExecutionForked,
    pub(crate) at: Timestamp,
    pub(crate) until: Option<u64>,
}

/// Folds a stream from the log, up to a version if one is given.
pub(crate) async fn load<L: LogReader + ?Sized>(
    log: &L,
    stream: Uuid,
    until: Option<u64>,
) -> Result<Aggregate, LoadError> {
    load_watching(log, stream, until, |_, _| {}).await
}

/// Folds a stream from the log and shows every event of its own, in order; not those of its origin.
pub(crate) async fn load_watching<L: LogReader + ?Sized>(
    log: &L,
    stream: Uuid,
    until: Option<u64>,
    mut watch: impl FnMut(RecordedEvent, Event),
) -> Result<Aggregate, LoadError> {
    let head = log.read_stream(stream, 0, PAGE).await?;
    let mut aggregate = Aggregate::default();
    if until != Some(0)
        && let Some(first) = head.first()
        && first.event_type == FORKED
    {
        aggregate = begin_fork(log, stream, first, until).await?;
        watch(first.clone(), first.decode()?);
    }
    fold(log, stream, until, aggregate, Some(head), watch).await
}

/// A fork's state after its first event.
async fn begin_fork<L: LogReader + ?Sized>(
    log: &L,
    stream: Uuid,
    first: &RecordedEvent,
    until: Option<u64>,
) -> Result<Aggregate, LoadError> {
    let steps = steps_down(log, stream, first, until).await?;
    let Some(last) = steps.last() else { return Ok(Aggregate::default()) };
    let origin = (last.event.origin, Some(last.event.at_version));
    let mut aggregate = fold(log, origin.0, origin.1, Aggregate::default(), None, |_, _| {}).await?;
    // From the first origin up to the fork that was asked for, whose own events come later.
    for (index, step) in steps.iter().enumerate().rev() {
        aggregate = on_origin(&aggregate, step)?;
        if index > 0 {
            aggregate = fold(log, step.fork, step.until, aggregate, None, |_, _| {}).await?;
        }
    }
    Ok(aggregate)
}

/// The forks from an execution down to its first origin, which is none: each with its first event.
pub(crate) async fn steps_down<L: LogReader + ?Sized>(
    log: &L,
    stream: Uuid,
    first: &RecordedEvent,
    until: Option<u64>,
) -> Result<Vec<ForkStep>, LoadError> {
    let mut steps: Vec<ForkStep> = Vec::new();
    let mut next = Some((stream, until, first.clone()));
    while let Some((fork, until, first)) = next.take() {
        let Event::Execution(ExecutionEvent::Forked(event)) = first.decode()? else { break };
        if steps.len() >= MAX_DEPTH {
            return Err(LoadError::Depth(stream));
        }
        let (origin, at_version) = (event.origin, event.at_version);
        let (tenant, at) = (first.tenant, first.recorded_at);
        steps.push(ForkStep { fork, tenant, event, at, until });
        let first = log.read_stream(origin, 0, 1).await?.into_iter().next();
        next =
            first.filter(|first| first.event_type == FORKED).map(|first| (origin, Some(at_version), first));
    }
    Ok(steps)
}

/// The first event of a fork on the state of its origin.
fn on_origin(origin: &Aggregate, step: &ForkStep) -> Result<Aggregate, LoadError> {
    let state: Option<&ExecutionState> = match &origin.state {
        AggregateState::Execution(state) => Some(state),
        _ => None,
    };
    let is_there = origin.version == step.event.at_version && origin.tenant.as_ref() == Some(&step.tenant);
    let state = state.filter(|_| is_there).ok_or(LoadError::Origin {
        fork: step.fork,
        origin: step.event.origin,
        at_version: step.event.at_version,
    })?;
    let state = forked(state, &step.event, step.at);
    let state = AggregateState::Execution(Box::new(state));
    Ok(Aggregate { tenant: Some(step.tenant.clone()), version: 1, state })
}

/// Moves an aggregate behind the events of an outcome: to the state that the decider has left, or else by folding them.
/// A decider's state says what it has looked at already; a folded one does not.
pub(crate) fn follow(
    aggregate: &mut Aggregate,
    tenant: &TenantId,
    events: &[Event],
    after: Option<Box<ExecutionState>>,
    now: Timestamp,
) {
    let Some(after) = after else {
        for event in events {
            debug_assert!(
                !matches!(event, Event::Execution(ExecutionEvent::Forked(_))),
                "a fork is folded on its origin, which only its decider has"
            );
            aggregate.apply(tenant, event, now);
        }
        return;
    };
    debug_assert!(
        folds_to(aggregate.clone(), tenant, events, &after, now),
        "the decider's state is another than its events add up to"
    );
    if events.is_empty() && matches!(aggregate.state, AggregateState::Empty) {
        return;
    }
    aggregate.tenant.get_or_insert_with(|| tenant.clone());
    aggregate.version += events.len() as u64;
    aggregate.state = AggregateState::Execution(after);
}

/// Whether the events add up to a state. The first event of a fork cannot be folded without its origin.
fn folds_to(
    mut aggregate: Aggregate,
    tenant: &TenantId,
    events: &[Event],
    after: &ExecutionState,
    now: Timestamp,
) -> bool {
    if matches!(events.first(), Some(Event::Execution(ExecutionEvent::Forked(_)))) {
        return true;
    }
    for event in events {
        aggregate.apply(tenant, event, now);
    }
    match &aggregate.state {
        AggregateState::Execution(folded) => **folded == *after,
        AggregateState::Empty => events.is_empty(),
        _ => false,
    }
}

/// Goes on folding a stream from where the aggregate is. `head` is its first page, if that was read already.
async fn fold<L: LogReader + ?Sized>(
    log: &L,
    stream: Uuid,
    until: Option<u64>,
    mut aggregate: Aggregate,
    mut head: Option<Vec<RecordedEvent>>,
    mut watch: impl FnMut(RecordedEvent, Event),
) -> Result<Aggregate, LoadError> {
    loop {
        let page = match head.take() {
            Some(page) => page,
            None => log.read_stream(stream, aggregate.version, PAGE).await?,
        };
        let full = page.len() >= PAGE;
        for recorded in page {
            if until.is_some_and(|until| recorded.version > until) {
                return Ok(aggregate);
            }
            // The first event of a fork has been folded with its origin.
            if recorded.version <= aggregate.version {
                continue;
            }
            let event = recorded.decode()?;
            aggregate.apply(&recorded.tenant, &event, recorded.recorded_at);
            watch(recorded, event);
        }
        if !full {
            return Ok(aggregate);
        }
    }
}
