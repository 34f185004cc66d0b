//! Folding a stream from the log.

use uuid::Uuid;

use domain::aggregate::Aggregate;
use domain::event::EventError;
use event_store::{LogReader, StoreError};

/// Events read from the log at a time.
pub(crate) const PAGE: usize = 1_000;

/// A stream could not be folded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An event does not decode.
    #[error(transparent)]
    Event(#[from] EventError),
}

/// Folds a stream from the log, up to a version if one is given.
pub(crate) async fn load<L: LogReader + ?Sized>(
    log: &L,
    stream: Uuid,
    until: Option<u64>,
) -> Result<Aggregate, LoadError> {
    let mut aggregate = Aggregate::default();
    loop {
        let page = log.read_stream(stream, aggregate.version, PAGE).await?;
        for event in &page {
            if until.is_some_and(|until| event.version > until) {
                return Ok(aggregate);
            }
            aggregate.apply_recorded(event)?;
        }
        if page.len() < PAGE {
            return Ok(aggregate);
        }
    }
}
