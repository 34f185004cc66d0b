//! What a running command-service shows of itself, for metrics and readiness.

use std::sync::Arc;

use domain::ids::Partition;

use crate::owned::Owned;

/// A look into a running command-service. Cheap to clone and to ask.
#[derive(Clone)]
pub struct CommandServiceHandle {
    pub(crate) owned: Arc<Owned>,
}

/// A partition that this process owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnedPartition {
    /// Which.
    pub partition: Partition,
    /// Under which epoch.
    pub epoch: u64,
    /// Its last offset.
    pub head: u64,
    /// The last offset that is known to be published for subscribers outside; `None` without a relay, and until the
    /// relay has found out. `head - relayed` is its lag.
    pub relayed: Option<u64>,
}

impl CommandServiceHandle {
    /// The partitions that this process owns, ascending.
    pub fn owned(&self) -> Vec<OwnedPartition> {
        self.owned.list()
    }

    /// Commands that were taken in and are not answered yet.
    pub fn commands_in_flight(&self) -> usize {
        self.owned.commands_in_flight()
    }

    /// Whether the last sign of life reached the database. Always true for a process that shares nothing.
    pub fn last_beat_succeeded(&self) -> bool {
        self.owned.beat_succeeded()
    }
}
