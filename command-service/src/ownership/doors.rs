//! Opening and closing the doors of the bus. Of one partition only one of these goes on at a time, so that a door whose
//! opening takes long is never left open behind a closing.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;

use bus::{CommandDoors, CommandHandler};
use domain::ids::Partition;

use crate::error::report;
use crate::owned::Owned;

/// How long the bus may take for one door.
const LIMIT: Duration = Duration::from_secs(2);

pub(super) struct Doors {
    port: Arc<dyn CommandDoors>,
    handler: Arc<dyn CommandHandler>,
    owned: Arc<Owned>,
    /// By partition number.
    turns: Vec<Mutex<()>>,
}

impl Doors {
    pub(super) fn new(
        port: Arc<dyn CommandDoors>,
        handler: Arc<dyn CommandHandler>,
        owned: Arc<Owned>,
        partitions: u16,
    ) -> Self {
        let turns = (0..partitions).map(|_| Mutex::new(())).collect();
        Self { port, handler, owned, turns }
    }

    /// Takes a partition's commands over the bus. False: it could not, or they are not wanted any more.
    pub(super) async fn open(&self, partition: Partition, epoch: u64) -> bool {
        let Some(turn) = self.turns.get(usize::from(partition.0)) else { return false };
        let _turn = turn.lock().await;
        if !self.owned.accepts(partition, epoch) {
            return false;
        }
        let opened = tokio::time::timeout(LIMIT, self.port.open(partition, self.handler.clone())).await;
        match opened {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => {
                tracing::warn!(partition = %partition, error = %report(&error), "no commands can be taken over the bus; trying again");
            }
            Err(_) => {
                tracing::warn!(partition = %partition, "no commands can be taken over the bus yet; trying again");
            }
        }
        false
    }

    /// Takes no more commands of a partition over the bus.
    pub(super) async fn close(&self, partition: Partition) {
        let Some(turn) = self.turns.get(usize::from(partition.0)) else { return };
        let _turn = turn.lock().await;
        if tokio::time::timeout(LIMIT, self.port.close(partition)).await.is_err() {
            // Commands that come in all the same are answered `NotOwner`.
            tracing::debug!(partition = %partition, "the bus did not close a door in time");
        }
    }
}
