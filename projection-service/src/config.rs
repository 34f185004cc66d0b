//! What can be set, with the bounds of everything that could grow.

use std::time::Duration;

/// Settings of the projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProjectionConfig {
    /// Events after which a batch is full. One commit of the log may exceed it by its own size.
    pub batch_events: usize,
    /// Bytes of event data after which a batch is full.
    pub batch_bytes: usize,
    /// Events of one page when the log is read.
    pub page_events: usize,
    /// The shortest time between two transactions. The first event after a pause does not wait for it.
    pub commit_interval: Duration,
    /// How often the log's heads are compared with what was projected, in case the feed is silent.
    pub silence: Duration,
    /// Bytes of JSON that cached views of unfinished executions may have together. In memory they take several
    /// times as much.
    pub cache_bytes: usize,
    /// The first pause after a failure; it doubles up to `max_backoff`.
    pub min_backoff: Duration,
    /// The longest pause after a failure.
    pub max_backoff: Duration,
    /// Failures in a row after which the service gives up. Those of a database that is away for a while do not count.
    pub max_failures: u32,
}

impl Default for ProjectionConfig {
    fn default() -> Self {
        Self {
            batch_events: 2_000,
            batch_bytes: 8 * 1024 * 1024,
            page_events: 500,
            commit_interval: Duration::from_millis(20),
            silence: Duration::from_secs(1),
            cache_bytes: 32 * 1024 * 1024,
            min_backoff: Duration::from_millis(50),
            max_backoff: Duration::from_secs(5),
            max_failures: 30,
        }
    }
}
