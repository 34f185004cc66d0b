//! After a takeover: finds what was in flight and goes on with it.
//!
//! Every attempt of a worker node has a deadline row among the wakeups, and every delay and back-off its timer
//! row. So the wakeups that lie ahead of unfinished streams name everything that must be picked up; nothing else
//! is kept for recovery. See `docs/adr/0004`.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use uuid::Uuid;

use bus::tasks::{Task, TaskRef};
use domain::aggregate::{Aggregate, AggregateState};
use domain::decision::{NodeRun, WakeupKind};
use domain::event::{Event, ExecutionEvent, RecordedEvent};
use domain::execution::event::NodeScheduled;
use domain::execution::{ExecutionState, FINAL_EVENT_TYPES, NodeStatus, Phase};
use domain::ids::Partition;
use domain::time::Timestamp;
use event_store::log::WakeupCursor;
use event_store::{Log, StoreError};

use crate::dispatcher::Dispatcher;
use crate::error::report;
use crate::folding::{LoadError, PAGE};
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
                for (task, priority) in tasks {
                    dispatcher.recovered(task, priority, epoch);
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

/// The attempts of a stream that wait for a worker's result.
async fn in_flight(log: &dyn Log, stream: Uuid) -> Result<Vec<(Task, u8)>, LoadError> {
    let mut aggregate = Aggregate::default();
    let mut scheduled: HashMap<String, (RecordedEvent, NodeScheduled)> = HashMap::new();
    loop {
        let page = log.read_stream(stream, aggregate.version, PAGE).await?;
        let full = page.len() >= PAGE;
        for recorded in page {
            let event = recorded.decode()?;
            aggregate.apply(&recorded.tenant, &event, recorded.recorded_at);
            if let Event::Execution(ExecutionEvent::NodeScheduled(node)) = event {
                scheduled.insert(node.node_id.clone(), (recorded, node));
            }
        }
        if !full {
            break;
        }
    }
    let AggregateState::Execution(state) = &aggregate.state else { return Ok(Vec::new()) };
    if state.phase != Phase::Running {
        return Ok(Vec::new());
    }
    let priority = state.started.as_ref().map_or(0, |started| started.priority);
    let waiting = scheduled.into_values().filter(|(_, node)| is_in_flight(state, node));
    Ok(waiting.map(|(recorded, node)| (task(&recorded, node), priority)).collect())
}

fn is_in_flight(state: &ExecutionState, scheduled: &NodeScheduled) -> bool {
    state.nodes.get(&scheduled.node_id).is_some_and(|node| {
        matches!(node.status, NodeStatus::Scheduled { .. } | NodeStatus::Running { .. })
            && (node.run, node.attempt) == (scheduled.run, scheduled.attempt)
    })
}

fn task(recorded: &RecordedEvent, node: NodeScheduled) -> Task {
    Task {
        task: TaskRef {
            execution: recorded.stream,
            node: NodeRun { node_id: node.node_id, run: node.run, attempt: node.attempt },
        },
        tenant: recorded.tenant.clone(),
        node_type: node.node_type,
        config: node.config,
        deadline: node.deadline,
        correlation_id: recorded.correlation_id,
        causation_id: recorded.id,
        traceparent: recorded.traceparent.clone(),
    }
}
