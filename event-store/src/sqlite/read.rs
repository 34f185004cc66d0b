//! Reading through the pools of connections: what is read is `queries`' matter.

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::SqlitePool;
use sqlx::sqlite::SqliteRow;
use std::sync::Arc;
use uuid::Uuid;

use domain::blob::{Blob, BlobRef};
use domain::event::RecordedEvent;
use domain::ids::{Partition, TenantId};

use super::SqliteLog;
use crate::blobs::Blobs;
use crate::log::{AppendAnswer, ChainReport, Log, LogReader, PartitionHead, StoreError};
use crate::queries::{self, Queries, Value};
use crate::rows::failed;
use crate::verify;

/// What reads the log, with connections that it shares with nobody of another kind. All of them read alike.
pub trait Reads: Send + Sync {
    /// What is read.
    fn log(&self) -> &SqliteLog;

    /// The connections.
    fn pool(&self) -> &SqlitePool;
}

impl Reads for SqliteLog {
    fn log(&self) -> &SqliteLog {
        self
    }

    fn pool(&self) -> &SqlitePool {
        &self.own
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
    fn log(&self) -> &SqliteLog {
        &self.0
    }

    fn pool(&self) -> &SqlitePool {
        &self.0.readers
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

#[async_trait]
impl<T: Reads> LogReader for T {
    fn partitions(&self) -> u16 {
        self.log().partitions
    }

    async fn read_stream(
        &self,
        stream: Uuid,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        queries::stream(self.pool(), stream, after_version, limit).await
    }

    async fn read_partition(
        &self,
        partition: Partition,
        after_offset: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        queries::partition(self.pool(), partition, after_offset, limit).await
    }

    async fn heads(&self) -> Result<Vec<PartitionHead>, StoreError> {
        queries::heads(self.pool()).await
    }

    async fn claim_holder(
        &self,
        tenant: &TenantId,
        kind: &str,
        key: &str,
    ) -> Result<Option<Uuid>, StoreError> {
        queries::claim_holder(self.pool(), tenant, kind, key).await
    }

    async fn command_answer(
        &self,
        partition: Partition,
        command_id: Uuid,
    ) -> Result<Option<AppendAnswer>, StoreError> {
        queries::command_answer(self.pool(), partition, command_id).await
    }

    async fn read_blob(&self, tenant: &TenantId, reference: &BlobRef) -> Result<Option<Bytes>, StoreError> {
        queries::blob(self.pool(), tenant, reference).await
    }

    async fn verify_chain(&self, partition: Partition) -> Result<ChainReport, StoreError> {
        verify::chain(self.pool(), partition).await
    }
}
