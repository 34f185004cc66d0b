//! Jobs over many executions, as domain folds them.

use domain::bulk::event::BulkStarted;
use domain::bulk::state::{BulkState, BulkStatus};
use domain::event::{BulkEvent, Event, RecordedEvent};
use domain::ids::TenantId;
use read_models::{BulkJobRow, ReadModelError, WriteTx};
use uuid::Uuid;

use super::reason_of;
use super::small::{SmallRow, no_beginning};

impl SmallRow for BulkJobRow {
    async fn load(tx: &mut WriteTx, tenant: &TenantId, stream: Uuid) -> Result<Option<Self>, ReadModelError> {
        tx.bulk_job(tenant, stream).await
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn fold(row: Option<Self>, recorded: &RecordedEvent) -> Result<Self, String> {
        let event = match recorded.decode() {
            Ok(Event::Bulk(event)) => event,
            Ok(_) => unreachable!("the catalogue gives the category by the first segment of the type"),
            Err(error) => return Err(reason_of(&error)),
        };
        let mut row = match (row, &event) {
            (Some(row), _) => row,
            (None, BulkEvent::Started(started)) => begun(recorded, started.clone()),
            (None, _) => return Err(no_beginning(recorded)),
        };
        let state = domain::bulk::evolve(state_of(&mut row), &event);
        row.version = recorded.version;
        row.updated_at = recorded.recorded_at;
        if matches!(state.status, BulkStatus::Completed | BulkStatus::Cancelled) {
            row.finished_at = row.finished_at.or(Some(recorded.recorded_at));
        }
        row.status = state.status;
        row.lease = state.lease;
        row.cursor = state.cursor;
        row.done = state.done;
        row.failed = state.failed;
        row.failures = state.failures;
        Ok(row)
    }

    async fn store(&self, tx: &mut WriteTx) -> Result<(), ReadModelError> {
        tx.put_bulk_job(self).await
    }
}

/// What domain goes on from. What the job was started with changes no more.
fn state_of(row: &mut BulkJobRow) -> BulkState {
    BulkState {
        version: row.version,
        status: row.status,
        started: None,
        lease: row.lease,
        cursor: row.cursor,
        done: row.done,
        failed: row.failed,
        failures: std::mem::take(&mut row.failures),
    }
}

fn begun(recorded: &RecordedEvent, started: BulkStarted) -> BulkJobRow {
    BulkJobRow {
        tenant: recorded.tenant.clone(),
        id: recorded.stream,
        status: BulkStatus::None,
        action: started.action,
        filter: started.filter,
        reason: started.reason,
        per_second: started.per_second,
        found: started.found,
        upper: started.upper,
        acting: started.acting,
        lease: None,
        cursor: None,
        done: 0,
        failed: 0,
        failures: Vec::new(),
        version: 0,
        created_at: recorded.recorded_at,
        updated_at: recorded.recorded_at,
        finished_at: None,
        created_by: recorded.actor.as_str().to_owned(),
    }
}
