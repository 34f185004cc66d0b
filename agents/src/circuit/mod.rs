//! The circuit breaker: a target that fails again and again is left alone for a while.
//!
//! ```text
//!            failure, for the nth time in a row            cool-down over: one call goes through
//!   closed ────────────────────────────────────► open ────────────────────────────────────────► probing
//!     ▲                                            ▲                                              │  │
//!     │                                            └──── failure: the cool-down doubles ──────────┘  │
//!     └──────────────────────────────────────── success ─────────────────────────────────────────────┘
//! ```
//!
//! A target is a tenant's scheme, host and port. What fails it: no connection, no answer in time, a status of 500 or more.
//! Invariants: only targets that failed last are remembered, and not more than [`MAX_TARGETS`]; at most one probe of a target is
//! under way; a call that ends without having said anything about its target changes nothing. Absent: what other
//! workers know. Each process finds out by itself.

mod state;

use domain::execution::event::{ErrorKind, NodeError};
use domain::ids::TenantId;
use serde_json::json;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

use crate::config::AgentsConfig;
use state::{Admission, Change, State};

/// Targets that are remembered. When there are more, the one that has not changed for longest is forgotten, an open one last.
const MAX_TARGETS: usize = 4_096;

/// When a target is left alone, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rules {
    /// Failures in a row; 0: never.
    failures: u32,
    cool_down: Duration,
    max_cool_down: Duration,
}

impl Rules {
    pub(crate) fn of(config: &AgentsConfig) -> Self {
        let cool_down = Duration::from_millis(config.circuit_breaker_cool_down_ms.max(1));
        let max_cool_down = Duration::from_millis(config.circuit_breaker_max_cool_down_ms).max(cool_down);
        Self { failures: config.circuit_breaker_failures, cool_down, max_cool_down }
    }
}

/// The targets of all tenants. Clones share them.
#[derive(Clone)]
pub(crate) struct Circuits {
    shared: Arc<Shared>,
}

struct Shared {
    rules: Rules,
    targets: Mutex<HashMap<Target, State>>,
    counts: CircuitCounts,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Target {
    tenant: TenantId,
    /// As in `https://shop.example:8443`.
    origin: String,
}

/// What the breakers of a worker have done since it started. Clones share the numbers.
#[derive(Debug, Clone, Default)]
pub struct CircuitCounts {
    numbers: Arc<Numbers>,
}

#[derive(Debug, Default)]
struct Numbers {
    opened: AtomicU64,
    closed: AtomicU64,
    refused: AtomicU64,
}

impl CircuitCounts {
    /// How often a target began to be left alone.
    pub fn opened(&self) -> u64 {
        self.numbers.opened.load(Ordering::Relaxed)
    }

    /// How often one was called again.
    pub fn closed(&self) -> u64 {
        self.numbers.closed.load(Ordering::Relaxed)
    }

    /// Calls that were not made.
    pub fn refused(&self) -> u64 {
        self.numbers.refused.load(Ordering::Relaxed)
    }
}

impl Circuits {
    pub(crate) fn new(rules: Rules) -> Self {
        let shared = Shared { rules, targets: Mutex::default(), counts: CircuitCounts::default() };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn counts(&self) -> CircuitCounts {
        self.shared.counts.clone()
    }

    /// Lets a call through, or says why not.
    pub(crate) fn admit(
        &self,
        tenant: &TenantId,
        origin: &str,
        deadline: Instant,
    ) -> Result<Called, NodeError> {
        let target = Target { tenant: tenant.clone(), origin: origin.to_owned() };
        let is_probe = match self.shared.lock().get_mut(&target) {
            None => false,
            Some(state) => match state.admit(Instant::now()) {
                Admission::Call => false,
                Admission::Probe => true,
                Admission::Refused { failures, retry_after } => {
                    self.shared.counts.numbers.refused.fetch_add(1, Ordering::Relaxed);
                    return Err(refusal(origin, failures, retry_after));
                }
            },
        };
        Ok(Called { shared: Arc::clone(&self.shared), target, is_probe, deadline, ended: false })
    }
}

fn refusal(origin: &str, failures: u32, retry_after: Duration) -> NodeError {
    let seconds = retry_after.as_secs_f64();
    NodeError {
        kind: ErrorKind::Connection,
        message: format!(
            "{origin} was not called: its last {failures} calls failed; it is tried again in {seconds:.1} s"
        ),
        retryable: true,
        details: json!({
            "code": "circuit_open",
            "target": origin,
            "retry_after_ms": u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX),
        }),
    }
}

/// A call that was let through.
///
/// The runtime drops it with its attempt: at the deadline, which is a timeout of the target, or earlier because it was asked
/// to stop, which says nothing about it.
#[must_use]
pub(crate) struct Called {
    shared: Arc<Shared>,
    target: Target,
    is_probe: bool,
    deadline: Instant,
    ended: bool,
}

impl Called {
    /// Judges the target by how the call ended.
    pub(crate) fn ended(self, result: Result<(), &NodeError>) {
        match result.map_err(|error| error.kind) {
            Err(ErrorKind::Connection | ErrorKind::Timeout | ErrorKind::Http5xx) => {
                self.end(Outcome::Failure)
            }
            // It answered, whatever was made of that.
            Ok(()) | Err(ErrorKind::Http4xx | ErrorKind::Http429 | ErrorKind::Custom) => {
                self.end(Outcome::Success);
            }
            // Refused before anything was sent, or not about the target.
            Err(
                ErrorKind::InvalidConfig
                | ErrorKind::ExpressionError
                | ErrorKind::SandboxLimit
                | ErrorKind::Cancelled
                | ErrorKind::WorkerLost
                | ErrorKind::NoRecord,
            ) => {}
        }
    }

    fn end(mut self, outcome: Outcome) {
        self.ended = true;
        self.shared.note(&self.target, self.is_probe, Some(outcome));
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        if self.deadline <= Instant::now() {
            self.shared.note(&self.target, self.is_probe, Some(Outcome::Failure));
        } else if self.is_probe {
            self.shared.note(&self.target, true, None);
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Success,
    Failure,
}

impl Shared {
    /// Moves a target on; `None` is a probe that found nothing out.
    fn note(&self, target: &Target, is_probe: bool, outcome: Option<Outcome>) {
        if self.rules.failures == 0 {
            return;
        }
        let now = Instant::now();
        let mut targets = self.lock();
        let change = match (targets.get_mut(target), outcome) {
            (Some(state), Some(Outcome::Failure)) => state.failed(is_probe, &self.rules, now),
            (Some(state), Some(Outcome::Success)) => state.succeeded(is_probe),
            (Some(state), None) => state.gave_up(now),
            (None, Some(Outcome::Failure)) => {
                make_room(&mut targets);
                let (state, change) = State::first_failure(&self.rules, now);
                targets.insert(target.clone(), state);
                change
            }
            (None, Some(Outcome::Success) | None) => Change::None,
        };
        if matches!(change, Change::Forget | Change::Closed) {
            targets.remove(target);
        }
        drop(targets);
        self.tell(target, change);
    }

    fn tell(&self, target: &Target, change: Change) {
        let (tenant, origin) = (target.tenant.as_str(), target.origin.as_str());
        match change {
            Change::None | Change::Forget => {}
            Change::Opened { failures, cool_down } => {
                self.counts.numbers.opened.fetch_add(1, Ordering::Relaxed);
                let cool_down_ms = u64::try_from(cool_down.as_millis()).unwrap_or(u64::MAX);
                tracing::warn!(
                    tenant,
                    target = origin,
                    failures,
                    cool_down_ms,
                    "a target failed again and again and is not called for a while"
                );
            }
            Change::Closed => {
                self.counts.numbers.closed.fetch_add(1, Ordering::Relaxed);
                tracing::info!(
                    tenant,
                    target = origin,
                    "a target that had failed answers and is called again"
                );
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Target, State>> {
        // States are changed by assignments that cannot panic half-way.
        self.targets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Forgets one target where there are as many as there may be.
fn make_room(targets: &mut HashMap<Target, State>) {
    if targets.len() < MAX_TARGETS {
        return;
    }
    let oldest = targets.iter().min_by_key(|(_, state)| state.worth()).map(|(target, _)| target.clone());
    if let Some(oldest) = oldest {
        targets.remove(&oldest);
    }
}

#[cfg(test)]
mod tests;
