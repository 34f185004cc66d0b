//! Who there is: users, roles, tenants and keys as the log has them now.
//!
//! Folded from their streams and remembered. Whatever changes them is heard in the commit feed, or was sent from
//! here ([`crate::access::Rights`]), and what is remembered of it goes on from the log. Invariants: what was folded
//! before a change was heard is not remembered after it; without a feed nothing is trusted for longer than half of
//! `auth_cache_ms`, the other half being that of recognised callers. Deliberately absent: secrets ([`crate::auth`]) and
//! lists (read models).

mod admins;
mod bootstrap;
mod folded;
mod secrets;

use domain::access::{Grant, Permission, Reach};
use domain::aggregate::{Aggregate, AggregateState};
use domain::identity::api_key::ApiKeyState;
use domain::identity::role::{self, RolesState};
use domain::identity::tenant::{self, TenantState};
use domain::identity::user::{UserState, UserStatus};
use domain::ids::TenantId;
use event_store::log::{LogReader, StoreError};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;

pub(crate) use admins::{another_admin, has_role};
pub(crate) use bootstrap::bootstrap;
use folded::Folded;
pub(crate) use folded::Trust;
pub(crate) use secrets::{
    OneTime, Secret, check_password, forget_secrets, imported_hash, one_time, put_password,
};

/// A user as the gateway needs them.
#[derive(Debug, Clone)]
pub(crate) struct User {
    pub(crate) id: Uuid,
    pub(crate) tenant: TenantId,
    pub(crate) state: UserState,
}

/// Reads who there is.
pub(crate) struct Directory {
    folded: Folded,
}

impl Directory {
    /// A directory that remembers `entries` streams, and trusts what it remembers for `ttl`.
    pub(crate) fn new(log: Arc<dyn LogReader>, entries: u32, ttl: Duration) -> Self {
        Self { folded: Folded::new(log, entries, ttl) }
    }

    /// A user, whatever their status; `None` if there never was one.
    pub(crate) async fn user(&self, id: Uuid) -> Result<Option<User>, StoreError> {
        Ok(user_of(id, &*self.folded.get(id, Trust::Remembered).await?))
    }

    /// A user as the log has them at this moment.
    pub(crate) async fn user_now(&self, id: Uuid) -> Result<Option<User>, StoreError> {
        Ok(user_of(id, &*self.folded.get(id, Trust::Nothing).await?))
    }

    /// A key, also a revoked one.
    pub(crate) async fn api_key(&self, id: Uuid) -> Result<Option<(TenantId, ApiKeyState)>, StoreError> {
        Ok(key_of(&*self.folded.get(id, Trust::Remembered).await?))
    }

    /// A key as the log has it at this moment.
    pub(crate) async fn api_key_now(&self, id: Uuid) -> Result<Option<(TenantId, ApiKeyState)>, StoreError> {
        Ok(key_of(&*self.folded.get(id, Trust::Nothing).await?))
    }

    /// A tenant; `None` if there is none. `default` is there even before its first event.
    pub(crate) async fn tenant(&self, id: &TenantId) -> Result<Option<TenantState>, StoreError> {
        self.tenant_as(id, Trust::Remembered).await
    }

    /// A tenant as [`Directory::tenant`] gives it, trusting so much.
    pub(crate) async fn tenant_as(
        &self,
        id: &TenantId,
        trust: Trust,
    ) -> Result<Option<TenantState>, StoreError> {
        Ok(match &self.folded.get(tenant::stream_of(id), trust).await?.state {
            AggregateState::Tenant(state) => Some((**state).clone()),
            _ if *id == TenantId::default_tenant() => Some(TenantState::default()),
            _ => None,
        })
    }

    /// The roles that a tenant has defined itself.
    pub(crate) async fn roles(&self, tenant: &TenantId) -> Result<RolesState, StoreError> {
        self.roles_as(tenant, Trust::Remembered).await
    }

    /// The roles that a tenant has defined itself, trusting so much.
    pub(crate) async fn roles_as(&self, tenant: &TenantId, trust: Trust) -> Result<RolesState, StoreError> {
        Ok(match &self.folded.get(role::stream_of(tenant), trust).await?.state {
            AggregateState::Role(state) => (**state).clone(),
            _ => RolesState::default(),
        })
    }

    /// Trusts nothing that is remembered of a stream.
    pub(crate) fn forget(&self, stream: Uuid) {
        self.folded.forget(stream);
    }

    /// Trusts nothing that is remembered.
    pub(crate) fn forget_all(&self) {
        self.folded.forget_all();
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
        self.grants_of_role(user).await
    }

    /// What a user may do once they are active: the grants of the role, and those of an operator.
    pub(crate) async fn grants_of_role(&self, user: &User) -> Result<Vec<Grant>, StoreError> {
        let role = self.roles(&user.tenant).await?.find(&user.state.role);
        let mut grants = role.map(|role| role.grants).unwrap_or_default();
        if user.state.operator {
            grants.push(Grant { permission: Permission::TenantManage, reach: Reach::Any, condition: None });
        }
        Ok(grants)
    }
}

fn user_of(id: Uuid, folded: &Aggregate) -> Option<User> {
    match (&folded.tenant, &folded.state) {
        (Some(tenant), AggregateState::User(state)) => {
            Some(User { id, tenant: tenant.clone(), state: (**state).clone() })
        }
        _ => None,
    }
}

fn key_of(folded: &Aggregate) -> Option<(TenantId, ApiKeyState)> {
    match (&folded.tenant, &folded.state) {
        (Some(tenant), AggregateState::ApiKey(state)) => Some((tenant.clone(), (**state).clone())),
        _ => None,
    }
}

/// The grants that a key has: those of its owner, as far as its scopes go. A scope is a permission, `workflow:*`, or
/// `*`.
pub(crate) fn within_scopes(grants: Vec<Grant>, scopes: &[String]) -> Vec<Grant> {
    let within = |grant: &Grant| scopes.iter().any(|scope| covers(scope, grant.permission.as_str()));
    grants.into_iter().filter(within).collect()
}

/// Whether a scope covers a permission, or all of another scope.
pub(crate) fn covers(scope: &str, other: &str) -> bool {
    scope == "*"
        || scope == other
        || scope.strip_suffix('*').is_some_and(|kind| kind.ends_with(':') && other.starts_with(kind))
}
