//! What stands at both ends of a move: checking, batching, telling how far it is, and where large values come from and go.

use domain::blob::Blob;
use domain::ids::TenantId;
use futures::TryStreamExt;
use std::sync::Arc;

use super::check::Checker;
use super::record::{BlobRow, Counts, Record, Rows};
use super::{Place, Progress, Sink, Source, TransferError, VerifiersToo};
use crate::blobs::Objects;

/// How many rows are written together at most.
const BATCH_ROWS: usize = 512;
/// From how many bytes on no more are put to a batch.
const BATCH_BYTES: usize = 1024 * 1024;
/// How often progress is told, in records.
const PROGRESS_EVERY: u64 = 4096;

/// A sink that lets nothing through that could not be imported.
pub struct CheckedSink<'s> {
    sink: &'s mut dyn Sink,
    checker: Checker,
    progress: Progress<'s>,
    /// Where large values lie besides.
    objects: Option<Arc<Objects>>,
}

impl<'s> CheckedSink<'s> {
    pub(super) fn new(sink: &'s mut dyn Sink, partitions: u16, progress: Progress<'s>) -> Self {
        Self { sink, checker: Checker::new(partitions), progress, objects: None }
    }

    /// Gives the objects as well, when it is the turn of large values.
    pub(crate) fn give_objects(&mut self, objects: Arc<Objects>) {
        self.objects = Some(objects);
    }

    /// All objects. Listed after the log's moment, so that what it refers to is among them.
    pub(crate) async fn put_objects(&mut self) -> Result<(), TransferError> {
        let Some(objects) = self.objects.clone() else { return Ok(()) };
        for folder in objects.folders().await? {
            let mut values = objects.read_all(objects.names(&folder).await?);
            while let Some((tenant, blob)) = values.try_next().await? {
                self.pass(Record::Blob(BlobRow { tenant: tenant.as_str().to_owned(), blob })).await?;
            }
        }
        Ok(())
    }

    pub(crate) async fn put(&mut self, record: Record) -> Result<(), TransferError> {
        if let (Some(objects), Record::Blob(row)) = (&self.objects, &record)
            && let Ok(tenant) = TenantId::try_from(row.tenant.clone())
            && objects.has(&tenant, &row.blob.reference.sha256).await?
        {
            // It comes from there.
            return Ok(());
        }
        self.pass(record).await
    }

    async fn pass(&mut self, record: Record) -> Result<(), TransferError> {
        self.checker.see(&record).map_err(|reason| self.refuse(reason))?;
        self.sink.put(record).await?;
        if self.checker.counts().records().is_multiple_of(PROGRESS_EVERY) {
            (self.progress)(self.checker.counts());
        }
        Ok(())
    }

    pub(super) fn finish(mut self) -> Result<Counts, TransferError> {
        self.checker.finish().map_err(|reason| self.refuse(reason))?;
        (self.progress)(self.checker.counts());
        Ok(*self.checker.counts())
    }

    fn refuse(&self, reason: String) -> TransferError {
        TransferError::Refused { place: Place::Record(self.checker.counts().records() + 1), reason }
    }
}

/// A source that hands out nothing that does not belong to a log.
pub struct CheckedSource<'s> {
    source: &'s mut dyn Source,
    checker: Checker,
    verifiers: VerifiersToo,
    progress: Progress<'s>,
    /// Where large values go, if not into the database.
    objects: Option<Arc<Objects>>,
}

impl<'s> CheckedSource<'s> {
    pub(super) fn new(
        source: &'s mut dyn Source,
        partitions: u16,
        verifiers: VerifiersToo,
        progress: Progress<'s>,
    ) -> Self {
        Self { source, checker: Checker::new(partitions), verifiers, progress, objects: None }
    }

    /// Stores large values there instead of handing them out.
    pub(crate) fn keep_values_in(&mut self, objects: Arc<Objects>) {
        self.objects = Some(objects);
    }

    /// Refuses a store of another number of partitions.
    pub(crate) fn check_partitions(&self, store: u16) -> Result<(), TransferError> {
        let exported = self.checker.partitions();
        if exported == store { Ok(()) } else { Err(TransferError::Partitions { exported, store }) }
    }

    /// The rows to be written next; `None` when all has come and may be committed.
    pub(crate) async fn next_rows(&mut self) -> Result<Option<Rows>, TransferError> {
        let mut rows = Rows::default();
        let (mut count, mut bytes) = (0, 0);
        while count < BATCH_ROWS && bytes < BATCH_BYTES {
            let Some(record) = self.source.next().await? else {
                if count > 0 {
                    break;
                }
                self.checker.finish().map_err(|reason| self.refuse(reason))?;
                return Ok(None);
            };
            self.checker.see(&record).map_err(|reason| self.refuse(reason))?;
            if self.verifiers == VerifiersToo::No && matches!(record, Record::Verifier(_)) {
                continue;
            }
            count += 1;
            bytes += record.bytes();
            rows.push(record);
        }
        if let Some(objects) = self.objects.clone() {
            // Before anything that refers to them is committed.
            objects.put_all(self.values(std::mem::take(&mut rows.blobs))?).await?;
        }
        (self.progress)(self.checker.counts());
        Ok(Some(rows))
    }

    /// Large values with their tenants.
    fn values(&self, rows: Vec<BlobRow>) -> Result<Vec<(TenantId, Blob)>, TransferError> {
        let value = |BlobRow { tenant, blob }| match TenantId::try_from(tenant) {
            Ok(tenant) => Ok((tenant, blob)),
            Err(error) => Err(self.refuse(error.to_string())),
        };
        rows.into_iter().map(value).collect()
    }

    /// What has come so far.
    pub(super) fn counts(&self) -> &Counts {
        self.checker.counts()
    }

    fn refuse(&self, reason: String) -> TransferError {
        TransferError::Refused { place: self.source.place(), reason }
    }
}
