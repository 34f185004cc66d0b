//! A log that fails at chosen moments, over the real one.

use async_trait::async_trait;
use bytes::Bytes;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use domain::blob::{Blob, BlobRef};
use domain::event::RecordedEvent;
use domain::ids::{Partition, TenantId};
use domain::time::Timestamp;
use event_store::log::{ChainReport, StoredWakeup, WakeupCursor};
use event_store::sqlite::SqliteLog;
use event_store::{AppendAnswer, AppendError, Batch, Committed, Log, LogReader, PartitionHead, StoreError};

/// The real log, with faults.
pub(crate) struct FaultyLog {
    pub(crate) inner: Arc<SqliteLog>,
    pub(crate) wakeups_fail: AtomicBool,
    /// Held by a test while no page of wakeups that was read may arrive.
    pub(crate) wakeups_gate: RwLock<()>,
    /// Held by a test while no append may pass.
    pub(crate) gate: RwLock<()>,
    /// Counts appends down; the one that finds 0 fails.
    pub(crate) append_fails_in: AtomicI64,
    /// Whether the failing append is durable all the same.
    pub(crate) durable_but_failed: AtomicBool,
    /// Whether the failing append becomes durable some time after it has failed.
    pub(crate) durable_later: AtomicBool,
    pub(crate) unreadable: Mutex<Option<Uuid>>,
    /// Counts durable appends down; after the one that finds 1 the process is dead: nobody hears of it.
    pub(crate) dies_in: AtomicI64,
    pub(crate) died: CancellationToken,
    /// Batches that were durable.
    pub(crate) batches: AtomicU64,
}

impl FaultyLog {
    /// Without a fault so far.
    pub(crate) fn new(inner: Arc<SqliteLog>) -> Self {
        Self {
            inner,
            wakeups_fail: AtomicBool::new(false),
            wakeups_gate: RwLock::new(()),
            gate: RwLock::new(()),
            append_fails_in: AtomicI64::new(i64::MAX),
            durable_but_failed: AtomicBool::new(false),
            durable_later: AtomicBool::new(false),
            unreadable: Mutex::new(None),
            dies_in: AtomicI64::new(i64::MAX),
            died: CancellationToken::new(),
            batches: AtomicU64::new(0),
        }
    }
}

fn injected() -> StoreError {
    StoreError::Corrupt("a fault of the test".to_owned())
}

#[async_trait]
impl LogReader for FaultyLog {
    fn partitions(&self) -> u16 {
        self.inner.partitions()
    }
    async fn read_stream(
        &self,
        stream: Uuid,
        after: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        if *self.unreadable.lock().expect("no panic") == Some(stream) {
            return Err(injected());
        }
        self.inner.read_stream(stream, after, limit).await
    }
    async fn read_partition(
        &self,
        partition: Partition,
        after: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        self.inner.read_partition(partition, after, limit).await
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
        id: Uuid,
    ) -> Result<Option<AppendAnswer>, StoreError> {
        self.inner.command_answer(partition, id).await
    }
    async fn read_blob(&self, tenant: &TenantId, reference: &BlobRef) -> Result<Option<Bytes>, StoreError> {
        self.inner.read_blob(tenant, reference).await
    }
    async fn verify_chain(&self, partition: Partition) -> Result<ChainReport, StoreError> {
        self.inner.verify_chain(partition).await
    }
}

#[async_trait]
impl Log for FaultyLog {
    async fn take_over(&self, partition: Partition, node: uuid::Uuid) -> Result<PartitionHead, StoreError> {
        self.inner.take_over(partition, node).await
    }
    async fn append(&self, batch: Arc<Batch>) -> Result<Committed, AppendError> {
        let _open = self.gate.read().await;
        if self.append_fails_in.fetch_sub(1, Ordering::SeqCst) == 0 {
            if self.durable_but_failed.load(Ordering::SeqCst) {
                self.inner.append(batch).await?;
            } else if self.durable_later.load(Ordering::SeqCst) {
                let inner = self.inner.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(500)).await;
                    inner.append(batch).await
                });
            }
            return Err(AppendError::Store(injected()));
        }
        let result = self.inner.append(batch).await;
        if result.is_ok() {
            self.batches.fetch_add(1, Ordering::SeqCst);
            if self.dies_in.fetch_sub(1, Ordering::SeqCst) <= 1 {
                self.died.cancel();
                std::future::pending::<()>().await;
            }
        }
        result
    }
    async fn write_blob(&self, tenant: &TenantId, blob: &Blob) -> Result<(), StoreError> {
        self.inner.write_blob(tenant, blob).await
    }
    async fn wakeups(
        &self,
        partition: Partition,
        after: &WakeupCursor,
        until: Timestamp,
        final_types: &[&str],
        limit: usize,
    ) -> Result<Vec<StoredWakeup>, StoreError> {
        if self.wakeups_fail.load(Ordering::SeqCst) {
            return Err(injected());
        }
        let page = self.inner.wakeups(partition, after, until, final_types, limit).await;
        let _open = self.wakeups_gate.read().await;
        page
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
