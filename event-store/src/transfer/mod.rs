//! Moving a whole log from one store to another, of the same kind or not, with positions and chain kept.
//!
//! ```text
//!   Transfer::give ─► CheckedSink ─► FileSink ─► … ─► FileSource ─► CheckedSource ─► Transfer::take     export, import
//!   Transfer::give ─► CheckedSink ─────────► channel ─────────────► CheckedSource ─► Transfer::take     copy
//! ```
//!
//! Owns: what is moved ([`record`]), in which form it lies in a file ([`line`], [`write`], [`read`]), what is checked
//! on the way ([`check`]), and the port [`Transfer`] with the statements that all databases share ([`give`]).
//!
//! Invariants: an export is one moment of the log, read in one transaction; an import is one transaction into an
//! empty store, so whatever ends it early (a broken file, a full disk, `kill -9`) leaves the store as empty as it was,
//! and there is no half a log that a mark would have to warn of. Both databases bear a transaction of any size: what is
//! not committed is on their disk, not in memory. Large values that are kept as objects are the exception: those that
//! were stored stay, unreferenced. Leaf hashes, Merkle roots and the chain are recomputed at both ends.
//! Memory is bounded by some batches of rows, whatever the size of the log.
//!
//! Deliberately absent: read models, which are derived again; checkpoints of relays, because a new stream starts over;
//! ownership, which a takeover settles; signatures, so whoever writes a whole file anew is not found.

mod check;
pub(crate) mod give;
mod line;
mod read;
pub(crate) mod record;
mod write;

use async_trait::async_trait;
use domain::blob::Blob;
use domain::ids::TenantId;
use domain::time::Timestamp;
use futures::TryStreamExt;
use std::fmt;
use std::sync::Arc;
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::sync::mpsc;

pub use line::Header;
pub use read::FileSource;
pub use record::Counts;

use crate::blobs::Objects;
use crate::log::StoreError;
use check::Checker;
use record::{BlobRow, Record, Rows};
use write::FileSink;

/// Large values longer than this are cut into lines of their own.
const PIECE_BYTES: usize = 1024 * 1024;
/// How many rows are written together at most.
const BATCH_ROWS: usize = 512;
/// From how many bytes on no more are put to a batch.
const BATCH_BYTES: usize = 1024 * 1024;
/// How many records a copy holds between its ends.
const CHANNEL_RECORDS: usize = 64;
/// How often progress is told, in records.
const PROGRESS_EVERY: u64 = 4096;

/// Whether hashes of secrets (passwords, API keys, sessions) are moved with the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VerifiersToo {
    /// They are left behind.
    No,
    /// They come along: who has the file can try passwords against them.
    Yes,
}

/// Is told how far an export or import is.
pub type Progress<'p> = &'p (dyn Fn(&Counts) + Send + Sync);

/// A store whose whole contents can be read and written.
#[async_trait]
pub trait Transfer: Send + Sync {
    /// How many partitions it has.
    fn partition_count(&self) -> u16;

    /// Gives everything, as of one moment, in the order that [`CheckedSink`] expects.
    async fn give(&self, verifiers: VerifiersToo, sink: &mut CheckedSink<'_>) -> Result<(), TransferError>;

    /// Takes everything, in one transaction, if the store is empty.
    async fn take(&self, source: &mut CheckedSource<'_>) -> Result<(), TransferError>;
}

/// Where records go.
#[async_trait]
pub(crate) trait Sink: Send {
    async fn put(&mut self, record: Record) -> Result<(), TransferError>;
}

/// Where records come from.
#[async_trait]
pub(crate) trait Source: Send {
    /// Of the last record.
    fn place(&self) -> Place;

    /// The next record; `None` at an end that is the right one.
    async fn next(&mut self) -> Result<Option<Record>, TransferError>;
}

/// Where something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A line of a file, from 1.
    Line(u64),
    /// A record of a log, from 1.
    Record(u64),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line} of the export"),
            Self::Record(record) => write!(f, "record {record} of the log"),
        }
    }
}

/// The log was not moved. After a failed import the store is as it was.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// One of the stores failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store to import into holds something.
    #[error("the store to import into is not empty: it has {found}; import into a new one")]
    NotEmpty {
        /// What was found first.
        found: String,
    },
    /// Streams would live elsewhere.
    #[error(
        "the log has {exported} partitions and the store to import into {store}, which is fixed; import into a new one"
    )]
    Partitions {
        /// Of the log to be moved.
        exported: u16,
        /// Of the store.
        store: u16,
    },
    /// The input is something else.
    #[error("this is not an export of an Everline log: its first line does not say so")]
    Format,
    /// The file is of another release.
    #[error(
        "the export has version {found} of the format, and this release reads version {version}; use the release \
         that wrote it", version = line::VERSION
    )]
    Version {
        /// What its header says.
        found: String,
    },
    /// What is there cannot be part of a log, or is not what was written.
    #[error("{place} {reason}")]
    Refused {
        /// Where.
        place: Place,
        /// What is wrong with it; it reads on from the place.
        reason: String,
    },
    /// The last line is missing.
    #[error(
        "the export is cut off in line {line}: its last line, which begins with `{{\"end\":`, is missing"
    )]
    CutOff {
        /// The line that is not there, or not whole.
        line: u64,
    },
    /// The file system said no.
    #[error("the export could not be {operation}")]
    Io {
        /// `read` or `written`.
        operation: &'static str,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl TransferError {
    fn io(operation: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { operation, source }
    }
}

/// A sink that lets nothing through that could not be imported.
pub struct CheckedSink<'s> {
    sink: &'s mut dyn Sink,
    checker: Checker,
    progress: Progress<'s>,
    /// Where large values lie besides.
    objects: Option<Arc<Objects>>,
}

impl<'s> CheckedSink<'s> {
    fn new(sink: &'s mut dyn Sink, partitions: u16, progress: Progress<'s>) -> Self {
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

    fn finish(mut self) -> Result<Counts, TransferError> {
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
    fn new(
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

    fn refuse(&self, reason: String) -> TransferError {
        TransferError::Refused { place: self.source.place(), reason }
    }
}

/// Writes everything of a log to `out`. Returns what it was.
///
/// # Errors
/// The store failed or is damaged, or nothing more can be written; what was written is then no export.
pub async fn export(
    from: &dyn Transfer,
    out: impl AsyncWrite + Unpin + Send,
    exported_at: Timestamp,
    verifiers: VerifiersToo,
    progress: Progress<'_>,
) -> Result<Counts, TransferError> {
    let mut file = FileSink::begin(out, from.partition_count(), exported_at).await?;
    let mut sink = CheckedSink::new(&mut file, from.partition_count(), progress);
    from.give(verifiers, &mut sink).await?;
    let counts = sink.finish()?;
    file.end(&counts).await?;
    Ok(counts)
}

/// Fills an empty store with an export. Returns what was in the export.
///
/// # Errors
/// The store is not empty or failed, or the export is not whole; the store is then as it was.
pub async fn import(
    to: &dyn Transfer,
    export: &mut FileSource<impl AsyncBufRead + Unpin + Send>,
    verifiers: VerifiersToo,
    progress: Progress<'_>,
) -> Result<Counts, TransferError> {
    let partitions = export.header().partitions;
    let mut source = CheckedSource::new(export, partitions, verifiers, progress);
    to.take(&mut source).await?;
    Ok(*source.checker.counts())
}

/// Fills an empty store with another's log, without a file in between. Returns what was moved.
///
/// # Errors
/// As those of [`export`] and [`import`].
pub async fn copy(
    from: &dyn Transfer,
    to: &dyn Transfer,
    verifiers: VerifiersToo,
    progress: Progress<'_>,
) -> Result<Counts, TransferError> {
    let partitions = from.partition_count();
    let (sender, receiver) = mpsc::channel(CHANNEL_RECORDS);
    let giving = async move {
        let mut channel = ChannelSink(sender);
        let mut sink = CheckedSink::new(&mut channel, partitions, &|_| ());
        from.give(verifiers, &mut sink).await?;
        sink.finish()?;
        channel.send(None).await
    };
    let taking = async move {
        let mut channel = ChannelSource { receiver, taken: 0, ended: false };
        let mut source = CheckedSource::new(&mut channel, partitions, verifiers, progress);
        to.take(&mut source).await?;
        Ok(*source.checker.counts())
    };
    let ((), counts) = tokio::try_join!(giving, taking)?;
    Ok(counts)
}

/// Records, and `None` at the end: a channel that just closes is no end.
struct ChannelSink(mpsc::Sender<Option<Record>>);

impl ChannelSink {
    async fn send(&self, record: Option<Record>) -> Result<(), TransferError> {
        self.0.send(record).await.map_err(|_| {
            let source = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
            TransferError::Io { operation: "written", source }
        })
    }
}

#[async_trait]
impl Sink for ChannelSink {
    async fn put(&mut self, record: Record) -> Result<(), TransferError> {
        self.send(Some(record)).await
    }
}

struct ChannelSource {
    receiver: mpsc::Receiver<Option<Record>>,
    taken: u64,
    ended: bool,
}

#[async_trait]
impl Source for ChannelSource {
    fn place(&self) -> Place {
        Place::Record(self.taken)
    }

    async fn next(&mut self) -> Result<Option<Record>, TransferError> {
        if self.ended {
            return Ok(None);
        }
        self.taken += 1;
        let record = self.receiver.recv().await.ok_or_else(|| {
            let source = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            TransferError::Io { operation: "read", source }
        })?;
        self.ended = record.is_none();
        Ok(record)
    }
}
