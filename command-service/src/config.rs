//! What can be set.

use serde::Deserialize;
use std::time::Duration;

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
    /// A published task that no worker has and that the queue does not know either for this long is published again,
    /// in milliseconds.
    pub lost_after_ms: u64,
    /// How far ahead wakeups are held in memory, in milliseconds.
    pub timer_horizon_ms: u64,
    /// Milliseconds between two signs of life to the other processes that share the partitions.
    pub beat_every_ms: u64,
    /// How long this process counts as alive without a further sign of life, in milliseconds; then others take its
    /// partitions over. At least three times `beat_every_ms`.
    pub lease_ms: u64,
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
            lost_after_ms: 5_000,
            timer_horizon_ms: 60_000,
            beat_every_ms: 500,
            lease_ms: 3_000,
        }
    }
}

impl CommandServiceConfig {
    /// What is wrong with it, in words for whoever has written it.
    ///
    /// # Errors
    /// A value is out of its range, or two do not go together.
    pub fn check(&self) -> Result<(), String> {
        if !(10..=60_000).contains(&self.beat_every_ms) {
            return Err(format!("beat_every_ms is {}; use 10 to 60000", self.beat_every_ms));
        }
        if self.lease_ms > 600_000 || self.lease_ms / 3 < self.beat_every_ms {
            return Err(format!(
                "lease_ms is {}; use at least three times beat_every_ms ({}), so that two lost beats give no partition away, and at most 600000",
                self.lease_ms, self.beat_every_ms
            ));
        }
        if self.lost_after_ms < 100 {
            return Err(format!("lost_after_ms is {}; use at least 100", self.lost_after_ms));
        }
        Ok(())
    }

    /// The pause between two beats.
    pub(crate) fn beat_every(&self) -> Duration {
        Duration::from_millis(self.beat_every_ms.max(10))
    }

    /// The lease, never shorter than what its beats can keep alive.
    pub(crate) fn lease(&self) -> Duration {
        Duration::from_millis(self.lease_ms).max(self.beat_every() * 3)
    }

    /// How long a worker may be silent before its task goes out again.
    pub(crate) fn redeliver_after(&self) -> Duration {
        Duration::from_millis(self.redeliver_after_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_that_its_beats_cannot_keep_alive_is_refused() {
        let with = |beat_every_ms, lease_ms| CommandServiceConfig {
            beat_every_ms,
            lease_ms,
            ..CommandServiceConfig::default()
        };
        assert_eq!(CommandServiceConfig::default().check(), Ok(()));
        assert!(with(500, 1_400).check().is_err_and(|text| text.contains("lease_ms")));
        assert!(with(0, 3_000).check().is_err_and(|text| text.contains("beat_every_ms")));
        assert!(with(500, u64::MAX).check().is_err());
        assert_eq!(with(500, 0).lease(), Duration::from_millis(1_500));
    }
}
