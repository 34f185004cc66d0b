//! Who there is: users, roles, tenants and keys as the log has them now.
//!
//! Folded from their streams, so that a change holds for the request after it. Deliberately absent: secrets
//! ([`crate::auth`]) and lists (read models).

use domain::access::{Grant, Permission, Reach};
use domain::aggregate::{Aggregate, AggregateState};
use domain::identity::api_key::ApiKeyState;
use domain::identity::role::{self, RolesState};
use domain::identity::tenant::{self, TenantState};
use domain::identity::user::{UserState, UserStatus};
use domain::ids::TenantId;
use event_store::log::{LogReader, StoreError};
use std::sync::Arc;
use uuid::Uuid;

/// Events read at once.
const PAGE: usize = 500;

/// A user as the gateway needs them.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: Uuid,
    pub(crate) tenant: TenantId,
    pub(crate) state: UserState,
}

/// Reads who there is.
pub(crate) struct Directory {
    log: Arc<dyn LogReader>,
}

impl Directory {
    pub(crate) fn new(log: Arc<dyn LogReader>) -> Self {
        Self { log }
    }

    /// A user, whatever their status; `None` if there never was one.
    pub(crate) async fn user(&self, id: Uuid) -> Result<Option<User>, StoreError> {
        let folded = self.fold(id).await?;
        Ok(match (folded.tenant, folded.state) {
            (Some(tenant), AggregateState::User(state)) => Some(User { id, tenant, state: *state }),
            _ => None,
        })
    }

    /// A key, also a revoked one.
    pub(crate) async fn api_key(&self, id: Uuid) -> Result<Option<(TenantId, ApiKeyState)>, StoreError> {
        let folded = self.fold(id).await?;
        Ok(match (folded.tenant, folded.state) {
            (Some(tenant), AggregateState::ApiKey(state)) => Some((tenant, *state)),
            _ => None,
        })
    }

    /// A tenant; `None` if there is none. `default` is there even before its first event.
    pub(crate) async fn tenant(&self, id: &TenantId) -> Result<Option<TenantState>, StoreError> {
        Ok(match self.fold(tenant::stream_of(id)).await?.state {
            AggregateState::Tenant(state) => Some(*state),
            _ if *id == TenantId::default_tenant() => Some(TenantState::default()),
            _ => None,
        })
    }

    /// The roles that a tenant has defined itself.
    pub(crate) async fn roles(&self, tenant: &TenantId) -> Result<RolesState, StoreError> {
        Ok(match self.fold(role::stream_of(tenant)).await?.state {
            AggregateState::Role(state) => *state,
            _ => RolesState::default(),
        })
    }

    /// What a user may do: the grants of the role, and those of an operator. Nothing if they are not active, or their
    /// tenant is suspended.
    pub(crate) async fn grants(&self, user: &User) -> Result<Vec<Grant>, StoreError> {
        if user.state.status != UserStatus::Active {
            return Ok(Vec::new());
        }
        if self.tenant(&user.tenant).await?.is_none_or(|tenant| tenant.suspended) {
            return Ok(Vec::new());
        }
        let role = self.roles(&user.tenant).await?.find(&user.state.role);
        let mut grants = role.map(|role| role.grants).unwrap_or_default();
        if user.state.operator {
            grants.push(Grant { permission: Permission::TenantManage, reach: Reach::Any, condition: None });
        }
        Ok(grants)
    }

    async fn fold(&self, stream: Uuid) -> Result<Aggregate, StoreError> {
        let mut folded = Aggregate::default();
        loop {
            let page = self.log.read_stream(stream, folded.version, PAGE).await?;
            for event in &page {
                folded.apply_recorded(event).map_err(|error| StoreError::Corrupt(error.to_string()))?;
            }
            if page.len() < PAGE {
                return Ok(folded);
            }
        }
    }
}

/// The grants that a key has: those of its owner, as far as its scopes go. A scope is a permission, `workflow:*`, or
/// `*`.
pub(crate) fn within_scopes(grants: Vec<Grant>, scopes: &[String]) -> Vec<Grant> {
    let covers = |scope: &str, permission: &str| {
        scope == "*"
            || scope == permission
            || scope.strip_suffix('*').is_some_and(|kind| kind.ends_with(':') && permission.starts_with(kind))
    };
    let within = |grant: &Grant| scopes.iter().any(|scope| covers(scope, grant.permission.as_str()));
    grants.into_iter().filter(within).collect()
}
