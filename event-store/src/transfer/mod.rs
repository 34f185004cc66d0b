//! Moving a whole log from one store to another, of the same kind or not, with positions and chain kept.
//!
//! ```text
//!   Transfer::give ─► CheckedSink ─► FileSink ─► … ─► FileSource ─► CheckedSource ─► Transfer::take     export, import
//!   Transfer::give ─► CheckedSink ─────────► channel ─────────────► CheckedSource ─► Transfer::take     copy
//! ```
//!
//! Owns: what is moved ([`record`]), in which form it lies in a file ([`line`], [`write`], [`read`]), what is checked
//! on the way ([`check`], [`checked`]), and the port [`Transfer`] with the statements that all databases share ([`give`]).
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
mod checked;
pub(crate) mod give;
mod line;
mod read;
pub(crate) mod record;
mod write;

use async_trait::async_trait;
use domain::time::Timestamp;
use std::fmt;
use tokio::io::{AsyncBufRead, AsyncWrite};
use tokio::sync::mpsc;

pub use checked::{CheckedSink, CheckedSource};
pub use line::Header;
pub use read::FileSource;
pub use record::Counts;

use crate::log::StoreError;
use record::Record;
use write::FileSink;

/// Large values longer than this are cut into lines of their own.
const PIECE_BYTES: usize = 1024 * 1024;
/// How many records a copy holds between its ends.
const CHANNEL_RECORDS: usize = 64;

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
    Ok(*source.counts())
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
        Ok(*source.counts())
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
