//! After a takeover: finds what was in flight and goes on with it.
//!
//! Every attempt of a worker node has a deadline row among the wakeups, and every delay and back-off its timer
//! row. So the wakeups that lie ahead of unfinished streams name everything that must be picked up; nothing else
//! is kept for recovery. See `docs/adr/0004`.
//!
//! Timers, yields, the end of a grace and the renewal of waits for events are fired as commands, and their deciders say
//! whether anything is left to do. What waits for a signal, a child or a slot needs nothing here: the command that
//! brings it finds the state in the log. An execution that undoes its work has two sorts of attempts in flight: those
//! that were asked to stop, which are asked again and not handed out any more, and those that undo.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use uuid::Uuid;

use bus::tasks::Task;
use domain::aggregate::AggregateState;
use domain::decision::WakeupKind;
use domain::event::{Event, ExecutionEvent, RecordedEvent};
use domain::execution::event::NodeScheduled;
use domain::execution::{ExecutionState, FINAL_EVENT_TYPES, Phase};
use domain::ids::Partition;
use domain::time::Timestamp;
use event_store::log::WakeupCursor;
use event_store::{Log, StoreError};

use crate::aftermath::task;
use crate::dispatcher::{Dispatcher, Standing};
use crate::error::report;
use crate::folding::{LoadError, PAGE, load_watching};
use crate::timers::Timers;

/// Reads a partition's wakeups up to the horizon into the timers, and hands attempts in flight to the dispatcher.
/// A stream that cannot be read is left, loudly; the others go on. What is found after the tenure is dropped.
pub(crate) async fn recover(
    log: &Arc<dyn Log>,
    timers: &Timers,
    dispatcher: &Dispatcher,
    partition: Partition,
    epoch: u64,
) -> Result<usize, StoreError> {
    timers.load(&**log, partition).await?;
    // Attempts may have deadlines beyond the horizon; their rows are read, but stay in the store.
    let mut found = 0;
    for stream in with_attempts(&**log, partition).await? {
        match in_flight(&**log, stream).await {
            Ok(tasks) => {
                for Found { task, priority, standing } in tasks {
                    dispatcher.recovered(task, priority, standing, epoch);
                    found += 1;
                }
            }
            Err(error) => {
                tracing::error!(execution.id = %stream, error = %report(&error), "an execution cannot be picked up");
            }
        }
    }
    dispatcher.release().await;
    Ok(found)
}

/// An attempt that was in flight.
struct Found {
    task: Task,
    priority: u8,
    standing: Standing,
}

/// Streams with an attempt whose deadline row is still there.
async fn with_attempts(log: &dyn Log, partition: Partition) -> Result<BTreeSet<Uuid>, StoreError> {
    let mut streams = BTreeSet::new();
    let mut cursor = WakeupCursor::after_time(Timestamp::MIN);
    loop {
        let page = log.wakeups(partition, &cursor, Timestamp::MAX, &FINAL_EVENT_TYPES, PAGE).await?;
        let deadlines = page.iter().filter(|row| matches!(row.wakeup.kind, WakeupKind::AttemptDeadline(_)));
        streams.extend(deadlines.map(|row| row.stream));
        match page.last() {
            Some(last) if page.len() >= PAGE => cursor = WakeupCursor::after_row(last),
            _ => return Ok(streams),
        }
    }
}

/// The attempts of a stream that are with workers, or should be.
async fn in_flight(log: &dyn Log, stream: Uuid) -> Result<Vec<Found>, LoadError> {
    let mut scheduled: HashMap<String, (RecordedEvent, NodeScheduled)> = HashMap::new();
    // Only those of its own events: a fork schedules anew what was in flight in its origin.
    let aggregate = load_watching(log, stream, None, |recorded, event| match event {
        Event::Execution(ExecutionEvent::NodeScheduled(node)) => {
            scheduled.insert(node.node_id.clone(), (recorded, node));
        }
        // Not needed any more; an execution may have very many.
        Event::Execution(ExecutionEvent::NodeCompleted(node)) => {
            scheduled.remove(&node.node_id);
        }
        _ => {}
    })
    .await?;
    let AggregateState::Execution(state) = &aggregate.state else { return Ok(Vec::new()) };
    let priority = state.started.as_ref().map_or(0, |started| started.priority);
    let open = scheduled.into_values().filter_map(|(recorded, node)| {
        let standing = standing(state, &node)?;
        Some(Found { task: task(&recorded, node), priority, standing })
    });
    Ok(open.collect())
}

/// What the log says of an attempt that was scheduled; `None`: it is over.
fn standing(state: &ExecutionState, scheduled: &NodeScheduled) -> Option<Standing> {
    let node = state.nodes.get(&*scheduled.node_id)?;
    if !node.status.is_in_flight() || (node.run, node.attempt) != (scheduled.run, scheduled.attempt) {
        return None;
    }
    match state.phase {
        // Paused or not: what is with workers goes on.
        Phase::Running => Some(Standing::Wanted),
        Phase::Compensating => {
            let stopping = state.compensation.as_ref().map(|compensation| &compensation.stopping);
            let is_stopping = stopping.is_some_and(|stopping| stopping.contains(&*scheduled.node_id));
            Some(if is_stopping { Standing::Stopping } else { Standing::Compensates })
        }
        Phase::NotStarted | Phase::Queued | Phase::Finished(_) => None,
    }
}
