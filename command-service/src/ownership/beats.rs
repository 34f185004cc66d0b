//! Signs of life to the other processes, and what they bring back.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use event_store::Ownership;
use event_store::ownership::{Membership, NodeBeat};

use crate::error::report;
use crate::owned::Owned;

/// How long a beat that is on its way may take when there is no use for what it brings: a late one brings a node back
/// that is draining and has nothing, until its lease runs out.
const LAST_LIMIT: Duration = Duration::from_secs(2);

/// What a beat brought back.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) membership: Membership,
    /// Before it was asked.
    pub(super) asked_at: Instant,
}

/// Tells the others that this node lives.
pub(super) struct Beats {
    pub(super) ownership: Arc<dyn Ownership>,
    pub(super) beat: NodeBeat,
    pub(super) every: Duration,
    pub(super) owned: Arc<Owned>,
    pub(super) draining: CancellationToken,
    pub(super) seen: watch::Sender<Option<Arc<Seen>>>,
}

impl Beats {
    /// Beats until it is stopped. A beat that is on its way is finished: one that arrived later would bring a node back
    /// that has left.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let asked_at = Instant::now();
            self.beat.draining = self.draining.is_cancelled();
            // A beat that takes longer than the lease says nothing any more.
            let beat = tokio::time::timeout(self.beat.lease, self.ownership.beat(&self.beat));
            let beat = tokio::select! {
                beat = beat => beat,
                () = stopped_for(&stop, LAST_LIMIT) => return,
            };
            self.owned.note_beat(matches!(beat, Ok(Ok(_))));
            match beat {
                Ok(Ok(membership)) => {
                    self.seen.send_replace(Some(Arc::new(Seen { membership, asked_at })));
                }
                Ok(Err(error)) => {
                    tracing::warn!(error = %report(&error), "a sign of life did not reach the database; trying again");
                }
                Err(_) => tracing::warn!("a sign of life did not reach the database in time; trying again"),
            }
            tokio::select! {
                () = tokio::time::sleep_until(asked_at + self.every) => {}
                () = self.draining.cancelled(), if !self.beat.draining => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

/// Until a time after the stop.
async fn stopped_for(stop: &CancellationToken, time: Duration) {
    stop.cancelled().await;
    tokio::time::sleep(time).await;
}
