//! Reading through sessions: what is read is `queries`' matter.

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::postgres::PgArguments;
use std::sync::Arc;

use domain::blob::{Blob, BlobRef};
use domain::ids::TenantId;

use super::PostgresLog;
use super::arguments::blob_arguments;
use super::session::Session;
use crate::blobs::Blobs;
use crate::log::{Log, LogReader, StoreError};
use crate::queries::Reads;
use crate::rows::failed;

/// The log for those who do not own it. However much they read, the owner's connections stay free.
#[derive(Debug, Clone)]
pub struct PostgresReader(Arc<PostgresLog>);

impl PostgresLog {
    /// A reader with connections apart from the owner's; all readers share them. It keeps the log open.
    pub fn reader(self: &Arc<Self>) -> PostgresReader {
        PostgresReader(Arc::clone(self))
    }
}

impl Session {
    /// Stores a large value, once.
    pub(super) async fn write_blob(&self, tenant: &TenantId, blob: &Blob) -> Result<(), StoreError> {
        let operation = "store a large value";
        let text = "
            insert into blobs (tenant, sha256, media_type, bytes, content)
            select b.tenant, b.sha256, b.media_type, length(b.content), b.content
            from unnest($1, $2, $3, $4) as b (tenant, sha256, media_type, content)
            on conflict do nothing";
        let mut arguments = PgArguments::default();
        blob_arguments(&mut arguments, &[(tenant, blob)])
            .map_err(|error| failed(operation)(sqlx::Error::Encode(error)))?;
        self.run(text, arguments).await.map_err(failed(operation))?;
        Ok(())
    }
}

impl Reads for PostgresLog {
    type Connections = Session;

    fn connections(&self) -> &Session {
        &self.own
    }

    fn partition_count(&self) -> u16 {
        self.partitions
    }
}

impl Reads for PostgresReader {
    type Connections = Session;

    fn connections(&self) -> &Session {
        &self.0.readers
    }

    fn partition_count(&self) -> u16 {
        self.0.partitions
    }
}

#[async_trait]
impl Blobs for PostgresReader {
    async fn put(&self, tenant: &TenantId, blob: &Blob) -> Result<(), StoreError> {
        self.0.write_blob(tenant, blob).await
    }

    async fn get(&self, tenant: &TenantId, reference: &BlobRef) -> Result<Option<Bytes>, StoreError> {
        self.read_blob(tenant, reference).await
    }
}
