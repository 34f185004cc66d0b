//! The port to large values: stored once per tenant, found by their hash.

use async_trait::async_trait;
use bytes::Bytes;

use domain::blob::{Blob, BlobRef};
use domain::ids::TenantId;

use crate::log::{Log, StoreError};

/// Where the contents of claim checks live. The log's database by default.
#[async_trait]
pub trait Blobs: Send + Sync {
    /// Stores a content. The same content twice is stored once.
    async fn put(&self, tenant: &TenantId, blob: &Blob) -> Result<(), StoreError>;

    /// The content of a claim check of this tenant.
    async fn get(&self, tenant: &TenantId, reference: &BlobRef) -> Result<Option<Bytes>, StoreError>;
}

#[async_trait]
impl<T: Log + ?Sized> Blobs for T {
    async fn put(&self, tenant: &TenantId, blob: &Blob) -> Result<(), StoreError> {
        self.write_blob(tenant, blob).await
    }

    async fn get(&self, tenant: &TenantId, reference: &BlobRef) -> Result<Option<Bytes>, StoreError> {
        self.read_blob(tenant, reference).await
    }
}
