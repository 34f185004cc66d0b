//! What can be set about a worker. Absent: where the values come from, which is the binary's.

use sandbox::SandboxConfig;
use serde::Deserialize;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use crate::egress::EgressConfig;

/// Attempts that a worker carries out at once if nothing else is said.
const DEFAULT_SLOTS: NonZeroUsize = NonZeroUsize::new(64).expect("64 is not zero");

/// The settings of a worker.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AgentsConfig {
    /// The worker's name in beats, events and the actor of its commands. Unique among running workers.
    pub worker: Arc<str>,
    /// Attempts carried out at the same time.
    pub slots: NonZeroUsize,
    /// Milliseconds between two signs of life of an attempt.
    pub beat_interval_ms: u64,
    /// Milliseconds after which an attempt is worth an event that says it is running.
    pub started_after_ms: u64,
    /// Milliseconds that running attempts are given at shutdown. What is not done then is delivered again.
    pub shutdown_grace_ms: u64,
    /// Milliseconds beyond an attempt's deadline for which its result is still sent again.
    pub report_grace_ms: u64,
    /// Failed calls in a row to one target (a tenant's scheme, host and port) after which it is not called for a while:
    /// no connection, no answer in time, or a status of 500 or more. 0: it is always called.
    pub circuit_breaker_failures: u32,
    /// Milliseconds for which such a target is not called; then one call finds out, and the time doubles if it fails.
    pub circuit_breaker_cool_down_ms: u64,
    /// The most that those milliseconds grow to.
    pub circuit_breaker_max_cool_down_ms: u64,
    /// Where requests may go. A section of its own, `egress`, because more than workers will need it.
    #[serde(skip)]
    pub egress: EgressConfig,
    /// How conditions in JavaScript are evaluated. A section of its own, `sandbox`, because the gateway needs it too.
    #[serde(skip)]
    pub sandbox: SandboxConfig,
}

impl Default for AgentsConfig {
    fn default() -> Self {
        Self {
            worker: Arc::from("local"),
            slots: DEFAULT_SLOTS,
            beat_interval_ms: 1_000,
            started_after_ms: 1_000,
            shutdown_grace_ms: 10_000,
            report_grace_ms: 10_000,
            circuit_breaker_failures: 10,
            circuit_breaker_cool_down_ms: 10_000,
            circuit_breaker_max_cool_down_ms: 120_000,
            egress: EgressConfig::default(),
            sandbox: SandboxConfig::default(),
        }
    }
}

impl AgentsConfig {
    pub(crate) fn beat_interval(&self) -> Duration {
        // An interval of nothing would spin.
        Duration::from_millis(self.beat_interval_ms.max(1))
    }

    pub(crate) fn started_after(&self) -> Duration {
        Duration::from_millis(self.started_after_ms)
    }

    pub(crate) fn shutdown_grace(&self) -> Duration {
        Duration::from_millis(self.shutdown_grace_ms)
    }

    pub(crate) fn report_grace(&self) -> Duration {
        Duration::from_millis(self.report_grace_ms)
    }
}
