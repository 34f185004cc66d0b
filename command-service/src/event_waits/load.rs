//! Finding the open waits in the log: of a partition after a takeover, or of one execution.
//!
//! Every open wait for an event has a wakeup row. So the rows of unfinished streams name all executions that must be
//! folded, and their states say which waits are open.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

use domain::aggregate::AggregateState;
use domain::decision::WakeupKind;
use domain::execution::{FINAL_EVENT_TYPES, NodeStatus, Phase};
use domain::ids::Partition;
use domain::time::Timestamp;
use event_store::log::WakeupCursor;
use event_store::{Log, StoreError};

use crate::error::report;
use crate::folding::{LoadError, PAGE, load};

use super::EventWaits;
use super::registry::{Path, Wait, wanted_of};

/// Pause after the log could not be read; doubled each time.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Puts a partition's open waits into the registry, as long as they are wanted.
pub(super) async fn load_partition(
    log: Arc<dyn Log>,
    waits: Arc<EventWaits>,
    partition: Partition,
    reading: u64,
) {
    let mut pause = PAUSE;
    while waits.registry().is_loading(partition, reading) {
        let Err(error) = try_load(&*log, &waits, partition, reading).await else {
            return waits.change(|registry| registry.loaded(partition, reading));
        };
        tracing::error!(partition = %partition, error = %report(&error), "open waits for events could not be picked up; trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn try_load(
    log: &dyn Log,
    waits: &EventWaits,
    partition: Partition,
    reading: u64,
) -> Result<(), StoreError> {
    for execution in executions(log, partition).await? {
        match open_waits(log, execution).await {
            Ok(found) => waits.change(|registry| {
                found.into_iter().for_each(|wait| registry.found(partition, reading, wait));
            }),
            Err(LoadError::Store(error)) => return Err(error),
            Err(error) => {
                tracing::error!(execution.id = %execution, error = %report(&error), "an execution that waits for an event cannot be picked up");
            }
        }
        waits.changed.notify_one();
    }
    Ok(())
}

/// Puts the open waits of one execution into the registry.
pub(super) async fn look_at(log: Arc<dyn Log>, waits: Arc<EventWaits>, execution: Uuid) {
    let mut pause = PAUSE;
    loop {
        match open_waits(&*log, execution).await {
            Ok(found) => {
                waits.change(|registry| registry.looked(execution, found));
                return waits.changed.notify_one();
            }
            Err(error) => {
                tracing::error!(execution.id = %execution, error = %report(&error), "what an execution waits for cannot be read; trying again");
            }
        }
        if !matches!(pause.checked_mul(2), Some(next) if next <= LONGEST_PAUSE) {
            // Its wakeup looks again.
            return waits.change(|registry| registry.looked(execution, Vec::new()));
        }
        tokio::time::sleep(pause).await;
        pause *= 2;
    }
}

/// Executions with an open wait for an event, as far as the wakeups tell.
async fn executions(log: &dyn Log, partition: Partition) -> Result<BTreeSet<Uuid>, StoreError> {
    let mut executions = BTreeSet::new();
    let mut cursor = WakeupCursor::after_time(Timestamp::MIN);
    loop {
        let page = log.wakeups(partition, &cursor, Timestamp::MAX, &FINAL_EVENT_TYPES, PAGE).await?;
        let waits = page.iter().filter(|row| matches!(row.wakeup.kind, WakeupKind::EventWait(_)));
        executions.extend(waits.map(|row| row.stream));
        match page.last() {
            Some(last) if page.len() >= PAGE => cursor = WakeupCursor::after_row(last),
            _ => return Ok(executions),
        }
    }
}

/// The open waits for events of an execution.
async fn open_waits(log: &dyn Log, execution: Uuid) -> Result<Vec<Wait>, LoadError> {
    let aggregate = load(log, execution, None).await?;
    let (Some(tenant), AggregateState::Execution(state)) = (aggregate.tenant, aggregate.state) else {
        return Ok(Vec::new());
    };
    if matches!(state.phase, Phase::Finished(_)) {
        return Ok(Vec::new());
    }
    let mut open = Vec::new();
    for path in &state.waits {
        let Some(node) = state.nodes.get(path) else { continue };
        let (NodeStatus::Waiting { .. }, Some(wait)) = (&node.status, &node.wait) else { continue };
        let mut wanted = wanted_of(&wait.conditions);
        wanted.retain(|wanted| wait.met.get(wanted.condition as usize).is_none_or(Option::is_none));
        if !wanted.is_empty() {
            let (path, tenant) = (Path::clone(path), tenant.clone());
            open.push(Wait { execution, path, run: node.run, tenant, wanted, until: None });
        }
    }
    Ok(open)
}
