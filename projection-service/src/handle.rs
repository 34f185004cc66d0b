//! Looking at a projection: from inside its process while it runs, or from any other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use domain::ids::Partition;
use event_store::LogReader;
use read_models::{MAIN_PROJECTION, ReadModels};

use crate::error::ProjectionError;
use crate::intake::head_of;

/// How far a projection is in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionLag {
    /// The partition.
    pub partition: Partition,
    /// The last offset in the read models.
    pub projected: u64,
    /// The last offset known of the log; at most a second old.
    pub head: u64,
}

impl PartitionLag {
    /// Events that are not projected yet.
    pub fn events(&self) -> u64 {
        self.head.saturating_sub(self.projected)
    }
}

/// The lag of every partition, ascending, of whatever service keeps these read models.
///
/// Partitions that only the checkpoints have are among them, with no events in the log.
pub async fn lag(log: &dyn LogReader, models: &ReadModels) -> Result<Vec<PartitionLag>, ProjectionError> {
    // The checkpoints first: read the other way round, a projection that keeps up could seem to be ahead.
    let checkpoints: BTreeMap<Partition, u64> =
        models.checkpoints(MAIN_PROJECTION).await?.into_iter().collect();
    let heads = log.heads().await?;
    let mut partitions: BTreeSet<Partition> = (0..log.partitions()).map(Partition).collect();
    partitions.extend(checkpoints.keys());
    let lag_of = |partition| PartitionLag {
        partition,
        projected: checkpoints.get(&partition).copied().unwrap_or(0),
        head: head_of(&heads, partition),
    };
    Ok(partitions.into_iter().map(lag_of).collect())
}

/// Sees how a projection gets on. Cheap to clone.
#[derive(Debug, Clone)]
pub struct ProjectionHandle {
    pub(crate) progress: Arc<Progress>,
}

impl ProjectionHandle {
    /// The lag of every partition, ascending.
    pub fn lag(&self) -> Vec<PartitionLag> {
        let progress = &self.progress;
        (0..).zip(progress.projected.iter().zip(&progress.heads)).map(lag_of).collect()
    }

    /// Whether everything known of the log is projected.
    pub fn is_caught_up(&self) -> bool {
        self.lag().iter().all(|lag| lag.events() == 0)
    }

    /// Events projected since the start, those skipped included.
    pub fn events(&self) -> u64 {
        self.progress.events.load(Ordering::Relaxed)
    }

    /// Transactions since the start.
    pub fn batches(&self) -> u64 {
        self.progress.batches.load(Ordering::Relaxed)
    }

    /// Streams parked since the start.
    pub fn parked(&self) -> u64 {
        self.progress.parked.load(Ordering::Relaxed)
    }

    /// Events of parked streams that were passed over since the start.
    pub fn skipped(&self) -> u64 {
        self.progress.skipped.load(Ordering::Relaxed)
    }

    /// Failures in a row; 0 when all is well.
    pub fn failures(&self) -> u64 {
        self.progress.failures.load(Ordering::Relaxed)
    }
}

fn lag_of((partition, (projected, head)): (u16, (&AtomicU64, &AtomicU64))) -> PartitionLag {
    let projected = projected.load(Ordering::Relaxed);
    let head = head.load(Ordering::Relaxed).max(projected);
    PartitionLag { partition: Partition(partition), projected, head }
}

/// The numbers behind a handle.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    pub(crate) projected: Vec<AtomicU64>,
    pub(crate) heads: Vec<AtomicU64>,
    pub(crate) events: AtomicU64,
    pub(crate) batches: AtomicU64,
    pub(crate) parked: AtomicU64,
    pub(crate) skipped: AtomicU64,
    pub(crate) failures: AtomicU64,
}

impl Progress {
    pub(crate) fn new(partitions: u16) -> Self {
        let zeroes = || (0..partitions).map(|_| AtomicU64::new(0)).collect();
        Self { projected: zeroes(), heads: zeroes(), ..Self::default() }
    }

    pub(crate) fn set_projected(&self, partition: Partition, offset: u64) {
        if let Some(cell) = self.projected.get(usize::from(partition.0)) {
            cell.store(offset, Ordering::Relaxed);
        }
    }

    pub(crate) fn raise_head(&self, partition: Partition, offset: u64) {
        if let Some(cell) = self.heads.get(usize::from(partition.0)) {
            cell.fetch_max(offset, Ordering::Relaxed);
        }
    }
}
