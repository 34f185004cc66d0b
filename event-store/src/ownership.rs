//! Who owns which partition, by the database's clock.
//!
//! The store's fencing is the safety: an append under an old epoch is refused, whatever anybody believes. What is
//! here serves availability and speed only: command-services tell the store that they live, see who else does, and
//! learn which partitions nobody looks after. Deliberately absent: the choice of who takes which partition.

use async_trait::async_trait;
use std::time::Duration;
use uuid::Uuid;

use domain::ids::Partition;

use crate::log::StoreError;

/// What a command-service says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeBeat {
    /// New for every start of a process.
    pub node: Uuid,
    /// For people: host name and process id.
    pub name: String,
    /// It is shutting down and takes no more partitions.
    pub draining: bool,
    /// How long it counts as alive without another beat.
    pub lease: Duration,
}

/// A node that was alive at the last beat, by the database's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveNode {
    /// Its id.
    pub node: Uuid,
    /// Its name.
    pub name: String,
    /// Whether it is shutting down.
    pub draining: bool,
}

/// Who took a partition over last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOwner {
    /// The partition.
    pub partition: Partition,
    /// The epoch of the last takeover.
    pub epoch: u64,
    /// Who it was; `None` if it has given the partition up since, or nobody ever took it.
    pub node: Option<Uuid>,
}

/// Who lives and who owns what, read in one statement.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Membership {
    /// Live nodes, by id.
    pub nodes: Vec<LiveNode>,
    /// Every partition, ascending.
    pub owners: Vec<PartitionOwner>,
}

/// The tables of nodes and owners.
#[async_trait]
pub trait Ownership: Send + Sync {
    /// Says that a node lives, and answers who else does. Nodes that were silent for long are forgotten.
    async fn beat(&self, beat: &NodeBeat) -> Result<Membership, StoreError>;

    /// Who lives and who owns what, without a beat: for people who look.
    async fn membership(&self) -> Result<Membership, StoreError>;

    /// Gives a partition up, if it is still held under this epoch; another may take it at once.
    async fn release(&self, partition: Partition, epoch: u64) -> Result<(), StoreError>;

    /// Forgets a node that ends.
    async fn leave(&self, node: Uuid) -> Result<(), StoreError>;
}
