//! How far a lane is, in the store: moved now and then, never back, never over what is open.

use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

use domain::ids::Partition;
use event_store::{Checkpoints, StoreError};

use crate::error::report;

use super::READER;

/// The least time between two moves where commands were sent: what they did is not repeated after that.
const MOVE_EVERY: Duration = Duration::from_secs(1);
/// The same where nothing concerned the reactor: a move is a write, and reading again is cheap.
const IDLE_MOVE_EVERY: Duration = Duration::from_secs(15);
/// Events after which a checkpoint is moved though nothing concerned the reactor.
const IDLE_EVENTS: u64 = 10_000;
/// How long the store may take.
const LIMIT: Duration = Duration::from_secs(5);

pub(super) struct Checkpoint {
    port: Arc<dyn Checkpoints>,
    partition: Partition,
    /// What the store has; `None`: that is not known.
    stored: Option<u64>,
    moved_at: Instant,
    /// Whether commands were sent since it was moved.
    reacted: bool,
}

/// What became of a move.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// It stands where the lane thinks, or there was nothing to do.
    Fine,
    /// Another owner has gone on to there.
    Elsewhere(u64),
}

impl Checkpoint {
    pub(super) fn new(port: Arc<dyn Checkpoints>, partition: Partition) -> Self {
        Self { port, partition, stored: None, moved_at: Instant::now(), reacted: false }
    }

    /// What the store has.
    pub(super) async fn read(&mut self) -> Result<u64, StoreError> {
        let stored = self.port.checkpoint(READER, self.partition).await?;
        self.stored = Some(stored);
        Ok(stored)
    }

    /// Commands were sent for something.
    pub(super) fn reacted(&mut self) {
        self.reacted = true;
    }

    /// Moves it as far as everything is done, if it is time for that.
    pub(super) async fn move_if_due(&mut self, done: u64) -> Moved {
        let waited = self.moved_at.elapsed();
        let behind = self.stored.map_or(u64::MAX, |stored| done.saturating_sub(stored));
        let due =
            waited >= IDLE_MOVE_EVERY || (waited >= MOVE_EVERY && (self.reacted || behind >= IDLE_EVENTS));
        if due && behind > 0 { self.move_to(done).await } else { Moved::Fine }
    }

    /// Moves it as far as everything is done.
    pub(super) async fn move_to(&mut self, done: u64) -> Moved {
        self.moved_at = Instant::now();
        match tokio::time::timeout(LIMIT, self.try_move(done)).await {
            Ok(Ok(moved)) => return moved,
            Ok(Err(error)) => {
                tracing::warn!(partition = %self.partition, error = %report(&error), "how far events were followed cannot be stored; trying again");
            }
            Err(_) => {
                tracing::warn!(partition = %self.partition, "how far events were followed is not stored in time; trying again");
            }
        }
        // Whether the move took effect is not known.
        self.stored = None;
        Moved::Fine
    }

    async fn try_move(&mut self, done: u64) -> Result<Moved, StoreError> {
        for _ in 0..2 {
            let from = match self.stored {
                Some(stored) => stored,
                None => self.read().await?,
            };
            if from > done {
                return Ok(Moved::Elsewhere(from));
            }
            if from == done || self.port.move_checkpoint(READER, self.partition, from, done).await? {
                self.stored = Some(done);
                self.reacted = false;
                return Ok(Moved::Fine);
            }
            self.stored = None;
        }
        Ok(Moved::Fine)
    }
}
