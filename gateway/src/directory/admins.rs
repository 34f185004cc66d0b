//! Who in a tenant has a role, asked before a role or the last administrator would be lost.
//!
//! The log says who has what; the verifiers name those who have a password. Whoever comes in by a provider alone is found in the
//! read model, which is waited for.

use domain::access::ADMIN;
use domain::identity::user::UserStatus;
use domain::identity::users_slot;
use domain::ids::TenantId;
use event_store::verifiers::VerifierKind;
use read_models::{UserFilter, Viewer};
use uuid::Uuid;

use crate::app::App;
use crate::config::ms;
use crate::failure::Failure;
use crate::reading::read_error;
use crate::status;

use super::User;

/// Users read at once.
const PAGE: usize = 200;

/// Whether a tenant has an active ADMIN besides one user.
pub(crate) async fn another_admin(app: &App, tenant: &TenantId, but: Uuid) -> Result<bool, Failure> {
    let is_other =
        |user: &User| user.id != but && user.state.status == UserStatus::Active && user.state.role == ADMIN;
    any(app, tenant, ADMIN, is_other).await
}

/// Whether a user of a tenant, active or not, has a role.
pub(crate) async fn has_role(app: &App, tenant: &TenantId, role: &str) -> Result<bool, Failure> {
    any(app, tenant, role, |user| user.state.status != UserStatus::Deleted && user.state.role == role).await
}

async fn any(
    app: &App,
    tenant: &TenantId,
    role: &str,
    fits: impl Fn(&User) -> bool,
) -> Result<bool, Failure> {
    for verifier in app.verifiers.list(VerifierKind::Password, tenant).await? {
        let Ok(id) = Uuid::try_parse(&verifier.principal) else { continue };
        if is_one(app, tenant, id, &fits).await? {
            return Ok(true);
        }
    }
    // Nobody who has a password; what the log has by now, the read model must show.
    let partition = users_slot().partition(app.log.partitions());
    let heads = app.log.heads().await?;
    let head = heads.iter().find(|head| head.partition == partition).map_or(0, |head| head.offset);
    if head > 0 && !app.models.wait_for(&[(partition, head)], ms(app.config.read_wait_ms)).await {
        let detail = "the read model does not show all users yet; try again shortly";
        return Err(Failure::new(status::READ_MODEL_BEHIND, detail));
    }
    let filter = UserFilter { role: Some(role.to_owned()), ..UserFilter::default() };
    let (viewer, mut cursor) = (Viewer::any(tenant), None);
    loop {
        let page = app.models.users(&viewer, &filter, cursor, PAGE).await.map_err(read_error)?;
        for row in page.items {
            if is_one(app, tenant, row.id, &fits).await? {
                return Ok(true);
            }
        }
        cursor = page.next;
        if cursor.is_none() {
            return Ok(false);
        }
    }
}

/// Whether a user of the tenant is one of those asked for, as the log has them.
async fn is_one(
    app: &App,
    tenant: &TenantId,
    id: Uuid,
    fits: &impl Fn(&User) -> bool,
) -> Result<bool, Failure> {
    let user = app.directory.user_now(id).await?;
    Ok(user.is_some_and(|user| user.tenant == *tenant && fits(&user)))
}
