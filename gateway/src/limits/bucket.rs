//! One bucket: GCRA, the leaky bucket as a meter (ITU-T I.371), in microseconds.
//!
//! A bucket is the time at which it will be full. Taking one moves that time on by what one costs; it may lie as far
//! ahead as the bucket holds. Pure: the caller says what time it is.

const MINUTE_US: i64 = 60_000_000;

/// How fast a bucket fills and how much it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rate {
    /// How many in a minute; not 0.
    pub(crate) per_minute: u32,
    /// How many at once.
    pub(crate) burst: u32,
}

/// How much is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Left {
    /// How many may follow at once.
    pub(crate) remaining: u32,
    /// Seconds until the bucket is full.
    pub(crate) full_after_s: u64,
}

impl Rate {
    /// The rate of a setting; `None` for no limit. A burst of 0 is a minute's worth, and no burst is more.
    pub(crate) fn new(per_minute: u32, burst: u32) -> Option<Self> {
        let burst = if burst == 0 { per_minute } else { burst.min(per_minute) };
        (per_minute > 0).then_some(Self { per_minute, burst })
    }

    /// What one costs.
    pub(crate) fn cost_us(self) -> i64 {
        // More than a million in a second are not told apart.
        (MINUTE_US / i64::from(self.per_minute)).max(1)
    }

    fn holds_us(self) -> i64 {
        self.cost_us() * i64::from(self.burst)
    }

    /// Takes one from a bucket that is full at `full_at`: when it is full then, or for how long none can be taken.
    pub(crate) fn take(self, full_at: i64, now: i64) -> Result<i64, i64> {
        let after = full_at.max(now) + self.cost_us();
        let excess = after - now - self.holds_us();
        if excess > 0 { Err(excess) } else { Ok(after) }
    }

    /// What is left in a bucket that is full at `full_at`.
    pub(crate) fn left(self, full_at: i64, now: i64) -> Left {
        let ahead = (full_at - now).max(0);
        let remaining = (self.holds_us() - ahead).max(0) / self.cost_us();
        Left { remaining: u32::try_from(remaining).unwrap_or(u32::MAX), full_after_s: seconds(ahead) }
    }
}

/// Whole seconds, never too few.
pub(crate) fn seconds(us: i64) -> u64 {
    u64::try_from(us.max(0)).unwrap_or(0).div_ceil(1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_at_once_and_then_its_rate() {
        let rate = Rate::new(60, 3).expect("a rate");
        let mut full_at = 0;
        for left in [2, 1, 0] {
            full_at = rate.take(full_at, 0).expect("one more");
            assert_eq!(rate.left(full_at, 0).remaining, left);
        }
        assert_eq!(rate.take(full_at, 0), Err(1_000_000));
        assert_eq!(rate.take(full_at, 600_000), Err(400_000));
        full_at = rate.take(full_at, 1_000_000).expect("a second brings one");
        assert!(rate.take(full_at, 1_000_000).is_err());
        assert_eq!(rate.left(full_at, 1_000_000), Left { remaining: 0, full_after_s: 3 });
        assert_eq!(rate.left(full_at, 60_000_000), Left { remaining: 3, full_after_s: 0 });
    }

    #[test]
    fn a_minute_never_gives_more_than_its_rate_and_a_burst() {
        let rate = Rate::new(100, 10).expect("a rate");
        let (mut full_at, mut taken) = (0, 0);
        for now in (0..60_000_000).step_by(1_000) {
            if let Ok(after) = rate.take(full_at, now) {
                (full_at, taken) = (after, taken + 1);
            }
        }
        assert!((100..=110).contains(&taken), "{taken}");
    }

    #[test]
    fn settings_become_rates() {
        assert_eq!(Rate::new(0, 5), None);
        assert_eq!(Rate::new(10, 0), Some(Rate { per_minute: 10, burst: 10 }));
        assert_eq!(Rate::new(10, 50), Some(Rate { per_minute: 10, burst: 10 }));
        assert_eq!(Rate::new(u32::MAX, 0).map(Rate::cost_us), Some(1));
    }
}
