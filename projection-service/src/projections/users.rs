//! Users. Their state is domain's own fold: what is kept in the row is enough to go on from.

use domain::event::{Event, RecordedEvent, UserEvent};
use domain::identity::user::UserStatus;
use domain::ids::TenantId;
use read_models::{ReadModelError, UserRow, WriteTx};
use uuid::Uuid;

use super::reason_of;
use super::small::{SmallRow, no_beginning};

impl SmallRow for UserRow {
    async fn load(tx: &mut WriteTx, tenant: &TenantId, stream: Uuid) -> Result<Option<Self>, ReadModelError> {
        tx.user(tenant, stream).await
    }

    fn version(&self) -> u64 {
        self.version
    }

    fn fold(row: Option<Self>, recorded: &RecordedEvent) -> Result<Self, String> {
        let event = match recorded.decode() {
            Ok(Event::User(event)) => event,
            Ok(_) => unreachable!("the catalogue gives the category by the first segment of the type"),
            Err(error) => return Err(reason_of(&error)),
        };
        let mut row = match (row, &event) {
            (Some(row), _) => row,
            (None, UserEvent::Created(_)) => empty(recorded),
            (None, _) => return Err(no_beginning(recorded)),
        };
        row.version = recorded.version;
        row.updated_at = recorded.recorded_at;
        match event {
            UserEvent::Created(created) => {
                row.email = created.email;
                row.name = created.name;
                row.role = created.role;
                row.operator = created.operator;
                row.status = if created.invited { UserStatus::Invited } else { UserStatus::Active };
            }
            UserEvent::Renamed(renamed) => row.name = renamed.name,
            UserEvent::RoleChanged(changed) => row.role = changed.role,
            UserEvent::Activated(_) | UserEvent::Enabled(_) => row.status = UserStatus::Active,
            UserEvent::EmailVerified(_) => row.email_verified = true,
            UserEvent::Disabled(_) => row.status = UserStatus::Disabled,
            UserEvent::Deleted(_) => row.status = UserStatus::Deleted,
            UserEvent::PasswordChanged(_) => {}
            UserEvent::TotpEnabled(_) => row.totp = true,
            UserEvent::TotpDisabled(_) => row.totp = false,
            UserEvent::IdentityLinked(linked) => {
                row.providers.push(linked.provider);
                row.providers.sort_unstable();
                row.providers.dedup();
            }
        }
        Ok(row)
    }

    async fn store(&self, tx: &mut WriteTx) -> Result<(), ReadModelError> {
        tx.put_user(self).await
    }
}

fn empty(recorded: &RecordedEvent) -> UserRow {
    UserRow {
        tenant: recorded.tenant.clone(),
        id: recorded.stream,
        email: String::new(),
        name: None,
        role: String::new(),
        status: UserStatus::None,
        operator: false,
        email_verified: false,
        totp: false,
        providers: Vec::new(),
        version: 0,
        created_at: recorded.recorded_at,
        updated_at: recorded.recorded_at,
        created_by: recorded.actor.as_str().to_owned(),
    }
}
