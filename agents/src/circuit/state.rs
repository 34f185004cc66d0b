//! One target's state, and how it moves on. Pure: the time comes in.

use std::time::Duration;
use tokio::time::Instant;

use super::Rules;

/// When somebody may ask again while a probe is under way.
const WHILE_PROBING: Duration = Duration::from_secs(1);

/// What is known of a target that failed last.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    failures: u32,
    changed: Instant,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// Called, and counted.
    Closed,
    /// Not called.
    Open { until: Instant, cool_down: Duration },
    /// One call is on its way to find out.
    Probing { cool_down: Duration },
}

/// Whether a call may be made.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    Call,
    Probe,
    Refused { failures: u32, retry_after: Duration },
}

/// What came of an outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    None,
    Opened {
        failures: u32,
        cool_down: Duration,
    },
    /// It works again.
    Closed,
    /// It works, and nobody had noticed otherwise.
    Forget,
}

impl State {
    /// Of a target that has just failed for the first time.
    pub(super) fn first_failure(rules: &Rules, now: Instant) -> (Self, Change) {
        let mut state = Self { failures: 0, changed: now, phase: Phase::Closed };
        let change = state.failed(false, rules, now);
        (state, change)
    }

    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        match self.phase {
            Phase::Closed => Admission::Call,
            Phase::Open { until, cool_down } if until <= now => {
                self.phase = Phase::Probing { cool_down };
                Admission::Probe
            }
            Phase::Open { until, .. } => {
                Admission::Refused { failures: self.failures, retry_after: until - now }
            }
            Phase::Probing { .. } => {
                Admission::Refused { failures: self.failures, retry_after: WHILE_PROBING }
            }
        }
    }

    pub(super) fn failed(&mut self, is_probe: bool, rules: &Rules, now: Instant) -> Change {
        let cool_down = match self.phase {
            Phase::Closed => {
                self.failures = self.failures.saturating_add(1);
                self.changed = now;
                if self.failures < rules.failures {
                    return Change::None;
                }
                rules.cool_down
            }
            Phase::Probing { cool_down } if is_probe => {
                self.failures = self.failures.saturating_add(1);
                cool_down.saturating_mul(2).min(rules.max_cool_down)
            }
            // It was let through before, and says what is known.
            Phase::Open { .. } | Phase::Probing { .. } => return Change::None,
        };
        self.changed = now;
        self.phase = Phase::Open { until: now + cool_down, cool_down };
        Change::Opened { failures: self.failures, cool_down }
    }

    pub(super) fn succeeded(&mut self, is_probe: bool) -> Change {
        match self.phase {
            Phase::Closed => Change::Forget,
            Phase::Probing { .. } if is_probe => Change::Closed,
            // An answer to a call from before: perhaps the last one for a while.
            Phase::Open { .. } | Phase::Probing { .. } => Change::None,
        }
    }

    /// The probe ended without a result: the next call is one.
    pub(super) fn gave_up(&mut self, now: Instant) -> Change {
        if let Phase::Probing { cool_down } = self.phase {
            self.phase = Phase::Open { until: now, cool_down };
        }
        Change::None
    }

    /// What is worth least is forgotten first.
    pub(super) fn worth(&self) -> (bool, Instant) {
        (!matches!(self.phase, Phase::Closed), self.changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules =
        Rules { failures: 2, cool_down: Duration::from_secs(10), max_cool_down: Duration::from_secs(120) };

    #[test]
    fn the_cool_down_doubles_up_to_its_end() {
        let mut now = Instant::now();
        let (mut state, change) = State::first_failure(&RULES, now);
        assert_eq!(change, Change::None);
        assert_eq!(state.admit(now), Admission::Call);
        let mut change = state.failed(false, &RULES, now);
        for (failures, seconds) in [(2, 10), (3, 20), (4, 40), (5, 80), (6, 120), (7, 120)] {
            let cool_down = Duration::from_secs(seconds);
            assert_eq!(change, Change::Opened { failures, cool_down });
            assert_eq!(state.admit(now), Admission::Refused { failures, retry_after: cool_down });
            now += cool_down;
            assert_eq!(state.admit(now), Admission::Probe);
            change = state.failed(true, &RULES, now);
        }
    }

    #[test]
    fn calls_from_before_neither_close_nor_prolong() {
        let now = Instant::now();
        let (mut state, _) = State::first_failure(&RULES, now);
        state.failed(false, &RULES, now);
        let later = now + Duration::from_secs(9);
        assert_eq!(state.failed(false, &RULES, later), Change::None);
        assert_eq!(state.succeeded(false), Change::None);
        let retry_after = Duration::from_secs(1);
        assert_eq!(state.admit(later), Admission::Refused { failures: 2, retry_after });
        assert_eq!(state.admit(later + retry_after), Admission::Probe);
        assert_eq!(state.succeeded(false), Change::None, "the probe is still under way");
        assert_eq!(state.succeeded(true), Change::Closed);
    }
}
