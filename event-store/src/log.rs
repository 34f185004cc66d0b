//! The port: what any log must do, in the words of architecture.md.

use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use uuid::Uuid;

use domain::blob::{Blob, BlobRef};
use domain::decision::{ClaimChange, Wakeup};
use domain::event::RecordedEvent;
use domain::ids::{Partition, Position, TenantId};
use domain::time::Timestamp;

/// The most events of one append.
pub const MAX_APPEND_EVENTS: usize = 2_000;
/// The most bytes of event data of one append.
pub const MAX_APPEND_BYTES: usize = 4 * 1024 * 1024;
/// The most bytes of a stored answer.
pub const MAX_ANSWER_BYTES: usize = 1024;
/// How long a command id is remembered at least, in milliseconds.
pub const COMMAND_RETENTION_MS: u64 = 24 * 60 * 60 * 1000;

/// Everything that one flush writes: appends of any partitions, in the order in which they were decided.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// What the owner believes of each partition that the batch touches, ascending.
    pub heads: Vec<PartitionHead>,
    /// One per command. Offsets follow this order within each partition.
    pub appends: Vec<Append>,
}

/// Where a partition ends, and under whose epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionHead {
    /// The partition.
    pub partition: Partition,
    /// The fencing token: an append under an older epoch than the store's is refused.
    pub epoch: u64,
    /// The last offset; 0 in an empty partition.
    pub offset: u64,
}

/// What one command appends, whole or not at all.
#[derive(Debug, Clone)]
pub struct Append {
    /// The partition of every stream in it.
    pub partition: Partition,
    /// The command's id; a second append with it is refused with the first answer.
    pub command_id: Uuid,
    /// Digest of the caller's request.
    pub digest: Option<[u8; 32]>,
    /// What the caller is told, JSON of at most [`MAX_ANSWER_BYTES`].
    pub answer: Bytes,
    /// When it was decided: `recorded_at` of its events; never goes back within a partition.
    pub decided_at: Timestamp,
    /// The tenant of the command.
    pub tenant: TenantId,
    /// The streams and their new events. `position` of the events is filled in by the store.
    pub streams: Vec<StreamAppend>,
    /// Names taken and given back by the stream named first.
    pub claims: Vec<ClaimChange>,
    /// Wakeups of the stream named first.
    pub wakeups: Vec<Wakeup>,
    /// Large values that the events refer to.
    pub blobs: Vec<Blob>,
}

/// New events of one stream.
#[derive(Debug, Clone)]
pub struct StreamAppend {
    /// The stream.
    pub stream: Uuid,
    /// Its version before these events; 0 for a new stream.
    pub expected_version: u64,
    /// The events; `version` counts on from `expected_version`, `position` is ignored.
    pub events: Vec<RecordedEvent>,
}

/// A batch that is durable.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The new heads, ascending by partition.
    pub heads: Vec<PartitionHead>,
    /// The events of every partition touched, with their positions, in order.
    pub events: Vec<RecordedEvent>,
    /// For each append of the batch, in its order: the position of its last event
    /// (the partition's head before it, for an append without events).
    pub positions: Vec<Position>,
}

/// What was answered when a command id was first used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppendAnswer {
    /// The stored answer.
    pub answer: Bytes,
    /// Digest of the first request.
    pub digest: Option<[u8; 32]>,
    /// Where its last event is.
    pub position: Position,
}

/// Why the store did not take an append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The command id was used before; this was its answer.
    Duplicate(AppendAnswer),
    /// The stream is at another version.
    WrongVersion {
        /// The stream.
        stream: Uuid,
        /// Its version in the log.
        actual: u64,
    },
    /// Another stream holds the name.
    ClaimTaken {
        /// Which claim of the append.
        claim: ClaimChange,
        /// Who holds it.
        holder: Uuid,
    },
}

/// An append that made its batch fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loser {
    /// Its index in [`Batch::appends`].
    pub index: usize,
    /// Why.
    pub refusal: Refusal,
}

/// A batch that left no trace.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// Some appends cannot be taken; drop them, decide again what followed, and retry.
    #[error("{} of the batch's appends are refused", .0.len())]
    Refused(Vec<Loser>),
    /// Somebody else owns the partition now.
    #[error(
        "partition {partition} is owned under epoch {current}, not {offered}; this process must stop writing to it"
    )]
    Fenced {
        /// The partition.
        partition: Partition,
        /// The epoch offered.
        offered: u64,
        /// The store's epoch.
        current: u64,
    },
    /// An append is larger than an append may be.
    #[error(
        "append {index} has {events} events and {bytes} bytes; an append may have {MAX_APPEND_EVENTS} events and {MAX_APPEND_BYTES} bytes"
    )]
    TooLarge {
        /// Its index in the batch.
        index: usize,
        /// Its events.
        events: usize,
        /// Its bytes of event data.
        bytes: usize,
    },
    /// An append is not well formed: a mistake of the caller, which a retry does not mend.
    #[error("append {index} of the batch is not well formed: {reason}")]
    Malformed {
        /// Its index in the batch.
        index: usize,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The store failed; nothing was written, or (on a lost connection) it is not known.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database said no.
    #[error("the log's database failed while it was to {operation}")]
    Database {
        /// What was being done.
        operation: &'static str,
        /// What the database said.
        #[source]
        source: sqlx::Error,
    },
    /// There is no connection to it.
    #[error("cannot reach the log's Postgres at {server}")]
    Unreachable {
        /// Host, port and database.
        server: String,
        /// Why.
        #[source]
        source: sqlx::Error,
    },
    /// What was to be appended to kept changing. Nothing was written; it may be tried again.
    #[error("others keep writing to partitions {partitions}; one process at a time must own a partition")]
    Contended {
        /// The partitions.
        partitions: String,
    },
    /// Migration failed.
    #[error("the log's database could not be migrated")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// Another process has the store open.
    #[error("{path} is in use by another process; stop it, or choose another data directory")]
    Locked {
        /// The lock file.
        path: String,
    },
    /// What was asked does not fit this store.
    #[error("{path} cannot be used as asked: {reason}")]
    Unfit {
        /// The store.
        path: String,
        /// What does not fit, and what to do.
        reason: String,
    },
    /// The file system said no.
    #[error("{path} cannot be used for the log")]
    Io {
        /// The path.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is stored is not what was written.
    #[error("the log is damaged: {0}")]
    Corrupt(String),
    /// Where large values are kept did not do what it was asked. It may be tried again.
    #[error("the blob store {place} failed while it was to {operation} {object}")]
    Objects {
        /// The folder or bucket.
        place: String,
        /// What was being done.
        operation: &'static str,
        /// With what.
        object: String,
        /// What was said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A large value is not what was stored.
    #[error(
        "the large value {sha256} of tenant {tenant} is damaged: {place} has {found}; restore it from a backup"
    )]
    DamagedBlob {
        /// Whose it is.
        tenant: TenantId,
        /// What was asked for.
        sha256: String,
        /// Where it lies.
        place: String,
        /// What is there instead.
        found: String,
    },
}

/// A wakeup row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredWakeup {
    /// When and why.
    pub wakeup: Wakeup,
    /// Of which stream.
    pub stream: Uuid,
    /// Whose stream it is.
    pub tenant: TenantId,
}

/// A place in a partition's wakeups, which are ordered by due time, stream and kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WakeupCursor {
    /// Due time of the row before.
    pub due_at: Timestamp,
    /// Its stream.
    pub stream: Uuid,
    /// Its kind, as text.
    pub kind: String,
}

impl WakeupCursor {
    /// Behind everything that is due at a time.
    pub fn after_time(due_at: Timestamp) -> Self {
        Self { due_at, stream: Uuid::max(), kind: String::new() }
    }

    /// Behind a row.
    pub fn after_row(row: &StoredWakeup) -> Self {
        Self { due_at: row.wakeup.due_at, stream: row.stream, kind: row.wakeup.kind.to_string() }
    }
}

/// The read-only face of the log.
#[async_trait]
pub trait LogReader: Send + Sync {
    /// How many partitions this store has; fixed when it was created.
    fn partitions(&self) -> u16;

    /// Events of a stream after `after_version`, in order, at most `limit`.
    async fn read_stream(
        &self,
        stream: Uuid,
        after_version: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError>;

    /// Events of a partition after `after_offset`, in order and without a gap, at most `limit`.
    async fn read_partition(
        &self,
        partition: Partition,
        after_offset: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError>;

    /// The last offset of every partition, ascending; 0 where nothing was written.
    async fn heads(&self) -> Result<Vec<PartitionHead>, StoreError>;

    /// The stream that holds a name in a tenant.
    async fn claim_holder(
        &self,
        tenant: &TenantId,
        kind: &str,
        key: &str,
    ) -> Result<Option<Uuid>, StoreError>;

    /// The stream that holds a name of which there is one in the installation, such as a user's e-mail.
    async fn installation_claim_holder(&self, kind: &str, key: &str) -> Result<Option<Uuid>, StoreError>;

    /// The answer to a command, if its id was used in this partition.
    async fn command_answer(
        &self,
        partition: Partition,
        command_id: Uuid,
    ) -> Result<Option<AppendAnswer>, StoreError>;

    /// The content of a claim check of this tenant.
    async fn read_blob(&self, tenant: &TenantId, reference: &BlobRef) -> Result<Option<Bytes>, StoreError>;

    /// Recomputes the hash chain of a partition from its first commit. Returns how many commits and events were
    /// checked; what does not match is [`StoreError::Corrupt`], naming the first position concerned.
    async fn verify_chain(&self, partition: Partition) -> Result<ChainReport, StoreError>;
}

/// What a verification has read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ChainReport {
    /// Commits checked.
    pub commits: u64,
    /// Events checked.
    pub events: u64,
}

/// The log: the reader's face, appends, and the owner's tables.
#[async_trait]
pub trait Log: LogReader {
    /// Takes a partition over for a node: raises its epoch and returns the head. The previous owner is fenced from
    /// now on.
    async fn take_over(&self, partition: Partition, node: Uuid) -> Result<PartitionHead, StoreError>;

    /// Writes a batch durably, whole, or refuses it whole naming every loser.
    ///
    /// Where `heads` match the store's, the expected versions of streams are trusted; elsewhere each is probed.
    async fn append(&self, batch: Arc<Batch>) -> Result<Committed, AppendError>;

    /// Stores the content of a claim check for a tenant. The same content twice is stored once.
    async fn write_blob(&self, tenant: &TenantId, blob: &Blob) -> Result<(), StoreError>;

    /// Wakeups of a partition behind a cursor and due up to `until` (inclusive), ordered by due time, stream and
    /// kind, leaving out those of streams whose last event has one of `final_types`. At most `limit`: after a full
    /// page, go on behind its last row.
    async fn wakeups(
        &self,
        partition: Partition,
        after: &WakeupCursor,
        until: Timestamp,
        final_types: &[&str],
        limit: usize,
    ) -> Result<Vec<StoredWakeup>, StoreError>;

    /// Forgets wakeups due at or before `until`, and command ids older than [`COMMAND_RETENTION_MS`], at most `limit` rows of each.
    /// Returns whether rows may be left.
    async fn forget_past(
        &self,
        partition: Partition,
        until: Timestamp,
        now: Timestamp,
        limit: usize,
    ) -> Result<bool, StoreError>;
}
