//! The contract as it is kept through a pooler: the same statements, each in a transaction of its own. A real pooler is
//! in [`crate::pgbouncer`].

use async_trait::async_trait;

use domain::ids::TenantId;
use event_store::postgres::PostgresLog;

use crate::contract::contract;
use crate::postgres::PostgresStore;
use crate::support::{PARTITIONS, Store};

/// A database that is used as if through a pooler.
pub(crate) struct PooledStore(pub(crate) PostgresStore);

#[async_trait]
impl Store for PooledStore {
    type Log = PostgresLog;

    async fn create() -> Self {
        Self(PostgresStore { pooled: true, ..PostgresStore::create().await })
    }

    async fn open(&self) -> PostgresLog {
        self.0.try_open(Some(PARTITIONS)).await.unwrap()
    }

    async fn damage_value(&self, tenant: &TenantId, sha256: &str) {
        self.0.damage_value(tenant, sha256).await;
    }
}

contract!(PooledStore);
