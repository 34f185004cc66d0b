//! How far readers of the log are, for those that keep no tables of their own.
//!
//! A projection keeps its checkpoint in the transaction of its rows (read-models). A reader without rows, such
//! as a relay, keeps it here. It only ever moves from what the reader believes it to be.

use async_trait::async_trait;

use domain::ids::Partition;

use crate::log::StoreError;

/// Checkpoints by the reader's name and partition.
#[async_trait]
pub trait Checkpoints: Send + Sync {
    /// The last offset that the reader has dealt with; 0 if it never said so.
    async fn checkpoint(&self, reader: &str, partition: Partition) -> Result<u64, StoreError>;

    /// Moves a checkpoint, also backwards. False, and nothing is changed, where it is not at `from`: another
    /// instance of the reader has moved it.
    async fn move_checkpoint(
        &self,
        reader: &str,
        partition: Partition,
        from: u64,
        to: u64,
    ) -> Result<bool, StoreError>;
}
