//! The contract run against Postgres, and what is its own.

use async_trait::async_trait;
use sqlx::Connection;
use sqlx::postgres::PgConnection;

use event_store::StoreError;
use event_store::postgres::{PostgresLog, PostgresOptions};

use crate::contract::contract;
use crate::support::{PARTITIONS, Store};

/// A database of its own.
pub(crate) struct PostgresStore {
    pub(crate) url: String,
    pub(crate) pooled: bool,
}

impl PostgresStore {
    pub(crate) fn at(url: String) -> Self {
        Self { url, pooled: false }
    }

    pub(crate) fn options(&self) -> PostgresOptions {
        PostgresOptions {
            partitions: Some(PARTITIONS),
            pooled: self.pooled,
            ..PostgresOptions::new(self.url.clone())
        }
    }

    pub(crate) async fn try_open(&self, partitions: Option<u16>) -> Result<PostgresLog, StoreError> {
        PostgresLog::open(PostgresOptions { partitions, ..self.options() }).await
    }

    /// A connection past the log, as somebody with access to the database has it.
    pub(crate) async fn raw(&self) -> PgConnection {
        let mut raw = PgConnection::connect(&self.url).await.unwrap();
        sqlx::query("set search_path = everline_log").execute(&mut raw).await.unwrap();
        raw
    }
}

#[async_trait]
impl Store for PostgresStore {
    type Log = PostgresLog;

    async fn create() -> Self {
        Self::at(test_services::database().await.unwrap())
    }

    async fn open(&self) -> PostgresLog {
        self.try_open(Some(PARTITIONS)).await.unwrap()
    }
}

contract!(PostgresStore);
