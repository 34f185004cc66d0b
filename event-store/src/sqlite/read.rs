//! Reading through the pools of connections: what is read is `queries`' matter.

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;
use std::sync::Arc;

use domain::blob::{Blob, BlobRef};
use domain::ids::TenantId;

use super::SqliteLog;
use crate::blobs::Blobs;
use crate::log::{Log, LogReader, StoreError};
use crate::queries::{Queries, Reads, Value};
use crate::rows::failed;

impl Reads for SqliteLog {
    type Connections = SqlitePool;

    fn connections(&self) -> &SqlitePool {
        &self.own
    }

    fn partition_count(&self) -> u16 {
        self.partitions
    }
}

/// The log for those who do not own it. However much they read, the owner's connections stay free.
#[derive(Debug, Clone)]
pub struct SqliteReader(Arc<SqliteLog>);

impl SqliteLog {
    /// A reader with connections apart from the owner's; all readers share them. It keeps the log open.
    pub fn reader(self: &Arc<Self>) -> SqliteReader {
        SqliteReader(Arc::clone(self))
    }
}

impl Reads for SqliteReader {
    type Connections = SqlitePool;

    fn connections(&self) -> &SqlitePool {
        &self.0.readers
    }

    fn partition_count(&self) -> u16 {
        self.0.partitions
    }
}

/// Large values are read with the reader's connections and stored, as everything is, by the log's only writer.
#[async_trait]
impl Blobs for SqliteReader {
    async fn put(&self, tenant: &TenantId, blob: &Blob) -> Result<(), StoreError> {
        self.0.write_blob(tenant, blob).await
    }

    async fn get(&self, tenant: &TenantId, reference: &BlobRef) -> Result<Option<Bytes>, StoreError> {
        self.read_blob(tenant, reference).await
    }
}

impl Queries for SqlitePool {
    type Row = SqliteRow;

    async fn rows(
        &self,
        operation: &'static str,
        text: &'static str,
        values: &[Value<'_>],
    ) -> Result<Vec<SqliteRow>, StoreError> {
        let mut query = sqlx::query(text);
        for value in values {
            query = match *value {
                Value::Number(number) => query.bind(number),
                Value::Text(text) => query.bind(text),
                Value::Id(id) => query.bind(id),
            };
        }
        query.fetch_all(self).await.map_err(failed(operation))
    }
}
