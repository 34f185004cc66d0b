//! What long connections follow, judged again whenever rights may have changed.

use domain::access::Permission;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

use crate::app::App;
use crate::auth::Credential;
use crate::auth::Principal;
use crate::config::ms;
use crate::failure::Failure;
use crate::status;

use super::judging::{may, may_execution};
use super::rights::{Changes, RightsChange};

/// What a stream or a subscription tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Followed {
    /// One execution.
    Execution(Uuid),
    /// The tenant's log.
    Events,
}

impl Followed {
    /// Whether a caller may follow it.
    ///
    /// # Errors
    /// They may not, or there is no such thing.
    pub(crate) async fn check(self, app: &App, principal: &Principal) -> Result<(), Failure> {
        match self {
            Self::Execution(id) => {
                let authority = super::authority(principal, Permission::ExecutionRead)?;
                may_execution(app, &principal.tenant, &authority, id).await
            }
            Self::Events => {
                let authority = super::authority(principal, Permission::EventRead)?;
                may(&authority, &domain::access::Resource { kind: "event", ..Default::default() })
            }
        }
    }

    /// Whether a change may concern it.
    pub(crate) fn may_be_concerned(self, change: &RightsChange) -> bool {
        self != Self::Events || !matches!(change, RightsChange::Workflow(_))
    }
}

/// Waits until a caller may not follow a thing any more, or is not recognised; gives the reason. A store that does not
/// answer for a moment withdraws nothing.
pub(crate) async fn withdrawn(
    app: &App,
    mut principal: Arc<Principal>,
    token: &Credential,
    followed: Followed,
    mut changes: Changes,
) -> Failure {
    loop {
        // The first look is for what changed before anybody listened.
        match app.auth.recognise(token).await {
            Ok(found) => {
                if let Err(failure) = followed.check(app, &found).await
                    && failure.status.is_client_error()
                {
                    return failure;
                }
                principal = found;
            }
            Err(failure) if failure.code == status::UNAUTHENTICATED.code => return failure,
            Err(_) => {}
        }
        let heartbeat = ms(app.config.heartbeat_ms.max(100));
        tokio::select! {
            () = concerning(&mut changes, &principal, followed) => {}
            () = expired(app, &principal) => {}
            () = tokio::time::sleep(heartbeat) => {}
        }
    }
}

async fn concerning(changes: &mut Changes, principal: &Principal, followed: Followed) {
    loop {
        let change = changes.next().await;
        if change.concerns(principal) && followed.may_be_concerned(&change) {
            return;
        }
    }
}

/// Waits until a caller's token has expired; for ever if it never does. Cancel-safe.
async fn expired(app: &App, principal: &Principal) {
    let Some(expiry) = principal.expires_at else {
        let never: Infallible = std::future::pending().await;
        match never {}
    };
    let left = expiry.unix_ms().saturating_sub(app.clock.now().unix_ms());
    // What is over by now is looked at again in a moment, not in a busy loop.
    tokio::time::sleep(Duration::from_millis(u64::try_from(left).unwrap_or(0).max(1))).await;
}
