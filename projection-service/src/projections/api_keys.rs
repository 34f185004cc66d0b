//! API keys: made once, revoked at most once.

use domain::event::{ApiKeyEvent, Event, RecordedEvent};
use domain::ids::TenantId;
use read_models::{ApiKeyRow, ReadModelError, WriteTx};
use uuid::Uuid;

use super::reason_of;
use super::small::{SmallRow, no_beginning};

impl SmallRow for ApiKeyRow {
    async fn load(tx: &mut WriteTx, tenant: &TenantId, stream: Uuid) -> Result<Option<Self>, ReadModelError> {
        tx.api_key(tenant, stream).await
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn fold(row: Option<Self>, recorded: &RecordedEvent) -> Result<Self, String> {
        let event = match recorded.decode() {
            Ok(Event::ApiKey(event)) => event,
            Ok(_) => unreachable!("the catalogue gives the category by the first segment of the type"),
            Err(error) => return Err(reason_of(&error)),
        };
        match (row, event) {
            (_, ApiKeyEvent::Created(created)) => Ok(Self {
                tenant: recorded.tenant.clone(),
                id: recorded.stream,
                name: created.name,
                owner: created.owner,
                fingerprint: created.fingerprint,
                scopes: created.scopes,
                expires_at: created.expires_at,
                revoked_at: None,
                version: recorded.version,
                created_at: recorded.recorded_at,
                created_by: recorded.actor.as_str().to_owned(),
            }),
            (Some(row), ApiKeyEvent::Revoked(_)) => {
                let revoked_at = row.revoked_at.or(Some(recorded.recorded_at));
                Ok(Self { revoked_at, version: recorded.version, ..row })
            }
            (None, ApiKeyEvent::Revoked(_)) => Err(no_beginning(recorded)),
        }
    }

    async fn store(&self, tx: &mut WriteTx) -> Result<(), ReadModelError> {
        tx.put_api_key(self).await
    }
}
