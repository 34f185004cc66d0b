//! What can be set.

use serde::Deserialize;

/// Settings of the command-service.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CommandServiceConfig {
    /// Commands that may wait per partition; further ones are answered `overloaded`.
    pub queue_capacity: usize,
    /// Folded streams kept per partition.
    pub cached_streams: usize,
    /// The most events of one flush, unless a single append has more.
    pub batch_events: usize,
    /// The most bytes of event data of one flush, unless a single append has more.
    pub batch_bytes: usize,
    /// How many tasks are with workers at a time; the rest wait here, by priority.
    pub release_window: usize,
    /// A leased task whose worker is silent for this long is handed out again, in milliseconds.
    pub redeliver_after_ms: u64,
    /// A leased task whose worker is silent for this long is lost, in milliseconds.
    pub worker_lost_after_ms: u64,
    /// How far ahead wakeups are held in memory, in milliseconds.
    pub timer_horizon_ms: u64,
}

impl Default for CommandServiceConfig {
    fn default() -> Self {
        Self {
            queue_capacity: 1_024,
            cached_streams: 1_024,
            batch_events: 500,
            batch_bytes: 256 * 1024,
            release_window: 256,
            redeliver_after_ms: 3_000,
            worker_lost_after_ms: 30_000,
            timer_horizon_ms: 60_000,
        }
    }
}
