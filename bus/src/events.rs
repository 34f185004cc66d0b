//! The stream of published events, for subscribers outside Everline. Written by the relay of a partition's owner.

use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

use domain::event::RecordedEvent;
use domain::ids::{Partition, Position};

use crate::error::BusError;

/// Whether a stream still has what it was known to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Continuity {
    /// As far as this process knows.
    Kept,
    /// It was made anew or has lost its end since this process last published: it may lack anything.
    Broken,
}

/// Publishes events where others subscribe. At least once; in order within a partition while nothing fails.
#[async_trait]
pub trait EventPublisher: Send + Sync {
    /// Makes ready to publish after a start or a failure: connects anew, creates the stream if it is not there, checks
    /// its configuration. What was sent before and is not acknowledged is stored before this returns, or never.
    async fn reset(&self) -> Result<Continuity, BusError>;

    /// Where the last event of a partition that the stream holds is; `None` if it holds none.
    async fn last_published(&self, partition: Partition) -> Result<Option<Position>, BusError>;

    /// Publishes events of one or several partitions, those of a partition in order, and waits until all of them are
    /// stored. An error leaves open which of them are; after it, [`EventPublisher::reset`] comes first.
    async fn publish(&self, events: &[Arc<RecordedEvent>]) -> Result<(), BusError>;

    /// How long the stream keeps an event at most.
    fn max_age(&self) -> Duration;
}
