//! What stops a projection, for a moment or for good.

use domain::ids::Partition;
use event_store::StoreError;
use read_models::ReadModelError;

/// The projection cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// The log could not be read.
    #[error("the log could not be read")]
    Log(#[from] StoreError),
    /// The read models could not be written.
    #[error("the read models could not be written")]
    Models(#[from] ReadModelError),
    /// A rebuild has exchanged the tables: what was cached is of the old ones.
    #[error(
        "the read models were rebuilt meanwhile (generation {found}, not {expected}); starting from their checkpoints"
    )]
    Exchanged {
        /// The generation that this writer knew.
        expected: u64,
        /// The one in the database.
        found: u64,
    },
    /// The read models have lost what was committed: their server crashed, and they are not made to survive that.
    #[error(
        "the read models have gone back in partition {partition}, from offset {projected} to {stored}, as after a crash of their server; starting from their checkpoints"
    )]
    WentBack {
        /// The partition.
        partition: Partition,
        /// The last offset that was committed.
        projected: u64,
        /// The last offset that is there.
        stored: u64,
    },
    /// Two rebuilds at once: the tables that this one has filled are no longer its own.
    #[error(
        "another rebuild of the read models has begun or ended meanwhile and this one has changed nothing; let one finish before the next is started"
    )]
    AnotherRebuild,
    /// The log skipped or repeated an offset.
    #[error(
        "the log gave offset {found} of partition {partition} where {expected} comes next; check the log with `everline audit verify`"
    )]
    Damaged {
        /// The partition.
        partition: Partition,
        /// The offset that comes next.
        expected: u64,
        /// The offset that came.
        found: u64,
    },
    /// The read models have events that the log does not have.
    #[error(
        "the read models are ahead of the log: partition {partition} is projected up to offset {projected}, but the log ends at {head}; the log was restored or created anew while the read models were kept: stop the server and run `everline projection rebuild`, or delete the read-model database"
    )]
    AheadOfLog {
        /// The partition.
        partition: Partition,
        /// The last offset in the read models.
        projected: u64,
        /// The last offset in the log; 0 also where the log has no such partition.
        head: u64,
    },
}

impl ProjectionError {
    /// Whether another writer of the same tables was faster, or the tables are not where they were. Nothing is wrong
    /// then: their checkpoints say what is to be done.
    pub fn is_lost_race(&self) -> bool {
        matches!(
            self,
            Self::Exchanged { .. } | Self::WentBack { .. } | Self::Models(ReadModelError::Conflict { .. })
        )
    }

    /// Whether a database cannot be worked with at present. That is waited out, however long it lasts.
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Log(StoreError::Unreachable { .. }) => true,
            Self::Log(StoreError::Database { source, .. }) => read_models::is_outage(source),
            Self::Models(error) => error.is_outage(),
            Self::Log(_)
            | Self::Exchanged { .. }
            | Self::WentBack { .. }
            | Self::AnotherRebuild
            | Self::Damaged { .. }
            | Self::AheadOfLog { .. } => false,
        }
    }

    /// Whether starting again from the checkpoints may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Log(
                StoreError::Database { .. }
                | StoreError::Unreachable { .. }
                | StoreError::Contended { .. }
                | StoreError::Io { .. },
            )
            | Self::Exchanged { .. }
            | Self::WentBack { .. } => true,
            Self::Log(_) | Self::AnotherRebuild | Self::Damaged { .. } | Self::AheadOfLog { .. } => false,
            Self::Models(error) => error.is_transient(),
        }
    }
}
