//! How many failed logins one e-mail may have: a window of a minute, counted in memory.

use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long failures count.
const WINDOW: Duration = Duration::from_secs(60);
/// How many e-mails are watched.
const WATCHED: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// Counts failures by e-mail.
pub(super) struct Throttle {
    failures: Mutex<LruCache<String, (u32, Instant)>>,
    most: u32,
}

impl Throttle {
    pub(super) fn new(most: u32) -> Self {
        Self { failures: Mutex::new(LruCache::new(WATCHED)), most }
    }

    /// Notes that an attempt begins. `Err` with the seconds to wait if there were too many failures. Attempts
    /// are counted when they begin, so that many at once cannot all pass.
    pub(super) fn begin(&self, email: &str, now: Instant) -> Result<(), u64> {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = failures.get_or_insert_mut(email.to_owned(), || (0, now));
        if now.duration_since(entry.1) >= WINDOW {
            *entry = (0, now);
        }
        if entry.0 >= self.most {
            return Err((WINDOW.saturating_sub(now.duration_since(entry.1))).as_secs() + 1);
        }
        entry.0 += 1;
        Ok(())
    }

    /// A login that succeeded forgives those that failed.
    pub(super) fn succeeded(&self, email: &str) {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).pop(email);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_failures_wait_for_the_window_to_pass() {
        let throttle = Throttle::new(2);
        let start = Instant::now();
        assert!(throttle.begin("a@b", start).is_ok());
        assert!(throttle.begin("a@b", start).is_ok());
        assert!(throttle.begin("a@b", start).is_err());
        assert!(throttle.begin("c@d", start).is_ok(), "another e-mail is not concerned");
        assert!(throttle.begin("a@b", start + WINDOW).is_ok());
    }

    #[test]
    fn a_success_forgives() {
        let throttle = Throttle::new(1);
        let now = Instant::now();
        assert!(throttle.begin("a@b", now).is_ok());
        throttle.succeeded("a@b");
        assert!(throttle.begin("a@b", now).is_ok());
    }
}
