//! Tenants.

use domain::event::{Event, RecordedEvent, TenantEvent};
use domain::identity::tenant::event::TenantSettings;
use domain::ids::TenantId;
use read_models::{ReadModelError, TenantRow, WriteTx};
use uuid::Uuid;

use super::reason_of;
use super::small::{SmallRow, no_beginning};

impl SmallRow for TenantRow {
    async fn load(tx: &mut WriteTx, tenant: &TenantId, _: Uuid) -> Result<Option<Self>, ReadModelError> {
        tx.tenant(tenant).await
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn fold(row: Option<Self>, recorded: &RecordedEvent) -> Result<Self, String> {
        let event = match recorded.decode() {
            Ok(Event::Tenant(event)) => event,
            Ok(_) => unreachable!("the catalogue gives the category by the first segment of the type"),
            Err(error) => return Err(reason_of(&error)),
        };
        let mut row = match (row, &event) {
            (Some(row), _) => row,
            (None, TenantEvent::Created(_)) => empty(recorded),
            (None, _) => return Err(no_beginning(recorded)),
        };
        row.version = recorded.version;
        row.updated_at = recorded.recorded_at;
        match event {
            TenantEvent::Created(created) => {
                row.name = created.name;
                row.settings = created.settings;
            }
            TenantEvent::Updated(updated) => {
                row.name = updated.name;
                row.settings = updated.settings;
            }
            TenantEvent::Suspended(_) => row.suspended = true,
            TenantEvent::Resumed(_) => row.suspended = false,
        }
        Ok(row)
    }

    async fn store(&self, tx: &mut WriteTx) -> Result<(), ReadModelError> {
        tx.put_tenant(self).await
    }
}

fn empty(recorded: &RecordedEvent) -> TenantRow {
    TenantRow {
        tenant: recorded.tenant.clone(),
        stream: recorded.stream,
        name: String::new(),
        settings: TenantSettings::default(),
        suspended: false,
        version: 0,
        created_at: recorded.recorded_at,
        updated_at: recorded.recorded_at,
    }
}
