//! Who in a tenant has a role, asked before a role or the last administrator would be lost.
//!
//! The log says who has what; the verifiers name those who have a password. Whoever comes in by a provider alone is found in the
//! read model, which is waited for.

use domain::access::ADMIN;
use domain::identity::user::UserStatus;
use domain::ids::TenantId;
use event_store::verifiers::VerifierKind;
use uuid::Uuid;

use crate::app::App;
use crate::failure::Failure;

use super::User;

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
    _role: &str,
    fits: impl Fn(&User) -> bool,
) -> Result<bool, Failure> {
    for verifier in app.verifiers.list(VerifierKind::Password, tenant).await? {
        let Ok(id) = Uuid::try_parse(&verifier.principal) else { continue };
        if let Some(user) = app.directory.user_now(id).await?
            && user.tenant == *tenant
            && fits(&user)
        {
            return Ok(true);
        }
    }
    Ok(false)
}
