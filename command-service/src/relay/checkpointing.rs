//! Moving checkpoints beside the publishing: at most about once a second per partition, never back.

use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

use domain::ids::Partition;
use event_store::{Checkpoints, StoreError};

use crate::error::report;

use super::lane::Lane;
use super::{READER, Relay};

/// The least time between two moves of a checkpoint.
const MOVE_EVERY: Duration = Duration::from_secs(1);
/// How long a move may take.
const MOVE_LIMIT: Duration = Duration::from_secs(5);

/// Checkpoints that are being moved.
#[derive(Default)]
pub(super) struct Moves(FuturesUnordered<BoxFuture<'static, Moved>>);

/// How a move went.
pub(super) struct Moved {
    partition: Partition,
    epoch: u64,
    to: u64,
    /// `None`: not in time.
    result: Option<Result<bool, StoreError>>,
}

impl Moves {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) async fn next(&mut self) -> Option<Moved> {
        self.0.next().await
    }

    /// Moves the checkpoint of a lane that ends as far as it got, then tells that.
    pub(super) fn finish(
        &mut self,
        lane: Lane,
        checkpoints: Arc<dyn Checkpoints>,
        done: oneshot::Sender<()>,
    ) {
        // One that is being moved stays where that move leaves it: at most a second is published again.
        let Some((from, to)) = ahead(&lane).filter(|_| !lane.moving) else { return };
        let moving = shift(checkpoints, lane.partition, lane.epoch, from, to);
        self.0.push(Box::pin(async move {
            let moved = moving.await;
            // Nobody waiting any more is not an error.
            let _ = done.send(());
            moved
        }));
    }
}

/// From where to where a lane's checkpoint can be moved.
fn ahead(lane: &Lane) -> Option<(u64, u64)> {
    let (from, to) = (lane.checkpoint?, lane.position?);
    (to > from).then_some((from, to))
}

async fn shift(
    checkpoints: Arc<dyn Checkpoints>,
    partition: Partition,
    epoch: u64,
    from: u64,
    to: u64,
) -> Moved {
    let moving = checkpoints.move_checkpoint(READER, partition, from, to);
    let result = tokio::time::timeout(MOVE_LIMIT, moving).await.ok();
    Moved { partition, epoch, to, result }
}

impl Relay {
    /// Starts to move what is due.
    pub(super) fn start_moves(&mut self) {
        let now = Instant::now();
        for lane in self.lanes.values_mut() {
            if lane.moving || now.duration_since(lane.moved_at) < MOVE_EVERY {
                continue;
            }
            if let Some((from, to)) = ahead(lane) {
                lane.moving = true;
                let moving = shift(self.checkpoints.clone(), lane.partition, lane.epoch, from, to);
                self.moves.0.push(Box::pin(moving));
            }
        }
    }

    /// Notes how a move went.
    pub(super) fn moved(&mut self, moved: Moved) {
        let Moved { partition, epoch, to, result } = moved;
        let lane = self.lanes.get_mut(&partition.0).filter(|lane| lane.epoch == epoch);
        let Some(lane) = lane else { return };
        lane.moving = false;
        lane.moved_at = Instant::now();
        match result {
            Some(Ok(true)) => lane.checkpoint = Some(to),
            Some(Ok(false)) => {
                tracing::info!(partition = %partition, "another owner publishes a partition's events; this process stops doing so");
                lane.stop_for_a_while();
            }
            Some(Err(error)) => {
                tracing::warn!(partition = %partition, error = %report(&error), "how far events are published cannot be stored; trying again");
                self.forget_checkpoint(partition);
            }
            None => self.forget_checkpoint(partition),
        }
    }

    /// Whether the move took effect is not known: it is read anew when the lane is next compared.
    fn forget_checkpoint(&mut self, partition: Partition) {
        if let Some(lane) = self.lanes.get_mut(&partition.0) {
            lane.checkpoint = None;
            lane.compare_at = Instant::now();
        }
    }

    /// Moves every checkpoint as far as its lane got.
    pub(super) async fn move_all(&mut self) {
        while let Some(moved) = self.moves.next().await {
            self.moved(moved);
        }
        for lane in self.lanes.values() {
            if let Some((from, to)) = ahead(lane) {
                let moving = shift(self.checkpoints.clone(), lane.partition, lane.epoch, from, to);
                self.moves.0.push(Box::pin(moving));
            }
        }
        while let Some(moved) = self.moves.next().await {
            self.moved(moved);
        }
    }
}
