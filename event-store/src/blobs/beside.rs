//! A log whose large values lie beside its database, with all the ports that it has without.
//!
//! Values go to the objects; they are looked for there and then in the database, where they are if they were stored
//! before there was another place. An append is handed on without its values, once they are stored: if one cannot be,
//! nothing of the append is written, and the caller learns what it learns of any store that failed.

use async_trait::async_trait;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;
use uuid::Uuid;

use domain::blob::{Blob, BlobRef};
use domain::event::RecordedEvent;
use domain::ids::{Partition, TenantId};
use domain::time::Timestamp;

use super::{Blobs, Objects};
use crate::checkpoints::Checkpoints;
use crate::log::{
    AppendAnswer, AppendError, Batch, ChainReport, Committed, Log, LogReader, PartitionHead, StoreError,
    StoredWakeup, WakeupCursor,
};
use crate::transfer::{CheckedSink, CheckedSource, Transfer, TransferError, VerifiersToo};
use crate::verifiers::{Rotation, Verifier, VerifierKind, Verifiers};

/// A port of a log whose large values are objects.
#[derive(Debug)]
pub struct WithObjects<P: ?Sized> {
    inner: Arc<P>,
    objects: Arc<Objects>,
}

impl<P: ?Sized> WithObjects<P> {
    /// The port of a log with objects beside it.
    pub fn new(inner: Arc<P>, objects: Arc<Objects>) -> Self {
        Self { inner, objects }
    }

    /// The port without them.
    pub fn inner(&self) -> &Arc<P> {
        &self.inner
    }

    /// The content of a claim check, from where it is. `stored` asks the database.
    async fn find(
        &self,
        tenant: &TenantId,
        reference: &BlobRef,
        stored: impl Future<Output = Result<Option<Bytes>, StoreError>>,
    ) -> Result<Option<Bytes>, StoreError> {
        let sha256 = reference.sha256.as_str();
        let failure = match self.objects.get(tenant, sha256).await {
            Ok(Some(content)) => return Ok(Some(content)),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        match (stored.await?, failure) {
            (None, Some(error)) => Err(error),
            (None, None) => {
                tracing::warn!(
                    tenant.id = %tenant, blob.sha256 = sha256,
                    "a large value is neither in the log's database nor in {}; see whether blob_url was changed",
                    self.objects.name()
                );
                Ok(None)
            }
            (Some(content), Some(error)) => {
                // The content is the right one wherever it is: only somebody should look after the objects.
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a large value was read from the log's database instead"
                );
                Ok(Some(content))
            }
            (Some(content), None) => Ok(Some(content)),
        }
    }

    /// Stores the values of a batch, each once.
    async fn store_values(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut values = BTreeMap::new();
        for append in &batch.appends {
            for blob in &append.blobs {
                values.insert((append.tenant.clone(), blob.reference.sha256.clone()), blob.clone());
            }
        }
        let values = values.into_iter().map(|((tenant, _), blob)| (tenant, blob)).collect();
        self.objects.put_all(values).await
    }
}

#[async_trait]
impl<P: LogReader + ?Sized> LogReader for WithObjects<P> {
    fn partitions(&self) -> u16 {
        self.inner.partitions()
    }

    async fn read_stream(
        &self,
        stream: Uuid,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        self.inner.read_stream(stream, after_version, limit).await
    }

    async fn read_partition(
        &self,
        partition: Partition,
        after_offset: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        self.inner.read_partition(partition, after_offset, limit).await
    }

    async fn heads(&self) -> Result<Vec<PartitionHead>, StoreError> {
        self.inner.heads().await
    }

    async fn claim_holder(
        &self,
        tenant: &TenantId,
        kind: &str,
        key: &str,
    ) -> Result<Option<Uuid>, StoreError> {
        self.inner.claim_holder(tenant, kind, key).await
    }

    async fn installation_claim_holder(&self, kind: &str, key: &str) -> Result<Option<Uuid>, StoreError> {
        self.inner.installation_claim_holder(kind, key).await
    }

    async fn command_answer(
        &self,
        partition: Partition,
        command_id: Uuid,
    ) -> Result<Option<AppendAnswer>, StoreError> {
        self.inner.command_answer(partition, command_id).await
    }

    async fn read_blob(&self, tenant: &TenantId, reference: &BlobRef) -> Result<Option<Bytes>, StoreError> {
        self.find(tenant, reference, self.inner.read_blob(tenant, reference)).await
    }

    async fn verify_chain(&self, partition: Partition) -> Result<ChainReport, StoreError> {
        self.inner.verify_chain(partition).await
    }
}

#[async_trait]
impl<P: Log + ?Sized> Log for WithObjects<P> {
    async fn take_over(&self, partition: Partition, node: Uuid) -> Result<PartitionHead, StoreError> {
        self.inner.take_over(partition, node).await
    }

    async fn append(&self, batch: Arc<Batch>) -> Result<Committed, AppendError> {
        if batch.appends.iter().all(|append| append.blobs.is_empty()) {
            return self.inner.append(batch).await;
        }
        self.store_values(&batch).await?;
        let mut batch = Arc::unwrap_or_clone(batch);
        batch.appends.iter_mut().for_each(|append| append.blobs.clear());
        self.inner.append(Arc::new(batch)).await
    }

    async fn write_blob(&self, tenant: &TenantId, blob: &Blob) -> Result<(), StoreError> {
        self.objects.put(tenant, blob).await
    }

    async fn wakeups(
        &self,
        partition: Partition,
        after: &WakeupCursor,
        until: Timestamp,
        final_types: &[&str],
        limit: usize,
    ) -> Result<Vec<StoredWakeup>, StoreError> {
        self.inner.wakeups(partition, after, until, final_types, limit).await
    }

    async fn forget_past(
        &self,
        partition: Partition,
        until: Timestamp,
        now: Timestamp,
        limit: usize,
    ) -> Result<bool, StoreError> {
        self.inner.forget_past(partition, until, now, limit).await
    }
}

/// For those who have the values alone: what reads is not a log.
#[derive(Debug)]
pub(crate) struct ObjectBlobs<P: ?Sized>(pub(crate) WithObjects<P>);

#[async_trait]
impl Blobs for ObjectBlobs<dyn Blobs> {
    async fn put(&self, tenant: &TenantId, blob: &Blob) -> Result<(), StoreError> {
        self.0.objects.put(tenant, blob).await
    }

    async fn get(&self, tenant: &TenantId, reference: &BlobRef) -> Result<Option<Bytes>, StoreError> {
        self.0.find(tenant, reference, self.0.inner.get(tenant, reference)).await
    }
}

#[async_trait]
impl<P: Transfer + ?Sized> Transfer for WithObjects<P> {
    fn partition_count(&self) -> u16 {
        self.inner.partition_count()
    }

    async fn give(&self, verifiers: VerifiersToo, sink: &mut CheckedSink<'_>) -> Result<(), TransferError> {
        sink.give_objects(Arc::clone(&self.objects));
        self.inner.give(verifiers, sink).await
    }

    async fn take(&self, source: &mut CheckedSource<'_>) -> Result<(), TransferError> {
        source.keep_values_in(Arc::clone(&self.objects));
        self.inner.take(source).await
    }
}

#[async_trait]
impl<P: Checkpoints + ?Sized> Checkpoints for WithObjects<P> {
    async fn checkpoint(&self, reader: &str, partition: Partition) -> Result<u64, StoreError> {
        self.inner.checkpoint(reader, partition).await
    }

    async fn move_checkpoint(
        &self,
        reader: &str,
        partition: Partition,
        from: u64,
        to: u64,
    ) -> Result<bool, StoreError> {
        self.inner.move_checkpoint(reader, partition, from, to).await
    }
}

#[async_trait]
impl<P: Verifiers + ?Sized> Verifiers for WithObjects<P> {
    async fn put(&self, verifier: &Verifier) -> Result<(), StoreError> {
        self.inner.put(verifier).await
    }

    async fn put_new(&self, verifiers: &[Verifier]) -> Result<bool, StoreError> {
        self.inner.put_new(verifiers).await
    }

    async fn find(&self, kind: VerifierKind, lookup: &str) -> Result<Option<Verifier>, StoreError> {
        self.inner.find(kind, lookup).await
    }

    async fn rotate(&self, lookup: &str, next: &[Verifier], now: Timestamp) -> Result<Rotation, StoreError> {
        self.inner.rotate(lookup, next, now).await
    }

    async fn delete_family(&self, family: Uuid) -> Result<u64, StoreError> {
        self.inner.delete_family(family).await
    }

    async fn delete(&self, kind: VerifierKind, lookup: &str) -> Result<bool, StoreError> {
        self.inner.delete(kind, lookup).await
    }

    async fn take(
        &self,
        kind: VerifierKind,
        lookup: &str,
        now: Timestamp,
    ) -> Result<Option<Verifier>, StoreError> {
        self.inner.take(kind, lookup, now).await
    }

    async fn mark_used(&self, kind: VerifierKind, lookup: &str, at: Timestamp) -> Result<bool, StoreError> {
        self.inner.mark_used(kind, lookup, at).await
    }

    async fn swap_hash(
        &self,
        kind: VerifierKind,
        lookup: &str,
        from: &str,
        to: &str,
    ) -> Result<bool, StoreError> {
        self.inner.swap_hash(kind, lookup, from, to).await
    }

    async fn of_principal(&self, kind: VerifierKind, principal: &str) -> Result<Vec<Verifier>, StoreError> {
        self.inner.of_principal(kind, principal).await
    }

    async fn delete_of_principal(&self, kind: VerifierKind, principal: &str) -> Result<u64, StoreError> {
        self.inner.delete_of_principal(kind, principal).await
    }

    async fn note_uses(&self, uses: &[(Uuid, Timestamp)]) -> Result<(), StoreError> {
        self.inner.note_uses(uses).await
    }

    async fn uses(&self, ids: &[Uuid]) -> Result<Vec<(Uuid, Timestamp)>, StoreError> {
        self.inner.uses(ids).await
    }

    async fn list(&self, kind: VerifierKind, tenant: &TenantId) -> Result<Vec<Verifier>, StoreError> {
        self.inner.list(kind, tenant).await
    }

    async fn forget_expired(&self, now: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.inner.forget_expired(now, limit).await
    }
}
