//! Telling other gateways what was counted here, and hearing what they have.

use std::convert::Infallible;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior};

use crate::config::ms;

use super::Limits;

/// How long an exchange may take; what it had is told by the next.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often full buckets are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(60);
/// How many at once.
const FORGOTTEN: usize = 10_000;

impl Limits {
    /// Exchanges for as long as it is polled. What is not told at the end is lost: less than a period's worth.
    pub(crate) async fn exchange_counts(&self) -> Infallible {
        let Some(counters) = &self.counters else { return std::future::pending().await };
        let period = ms(self.config.exchange_ms.max(10));
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut forgotten_at = Instant::now();
        loop {
            ticks.tick().await;
            // A page at a time, until all is told.
            while let Some(true) = self.exchange_once(&**counters).await {}
            if forgotten_at.elapsed() >= FORGET_EVERY {
                forgotten_at = Instant::now();
                if let Err(error) = counters.forget_full(FORGOTTEN).await {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "full buckets of rate limits could not be forgotten"
                    );
                }
            }
        }
    }

    /// One exchange: whether there may be more to tell; `None` if it failed.
    async fn exchange_once(&self, counters: &dyn event_store::RateCounters) -> Option<bool> {
        let asked_at = self.now();
        let untold = self.table.untold();
        if untold.spent.is_empty() {
            return Some(false);
        }
        let answered = tokio::time::timeout(PATIENCE, counters.exchange(&untold.spent)).await;
        match answered {
            Ok(Ok(debts)) => {
                self.table.told(&untold, &debts, asked_at);
                self.exchanges.fetch_add(1, Ordering::Relaxed);
                Some(untold.spent.len() == event_store::rate_counters::MAX_EXCHANGED)
            }
            failed => {
                if let Ok(Err(error)) = failed {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "rate limits could not be exchanged; this gateway counts for itself meanwhile"
                    );
                }
                // It may have been told after all; then it counts twice, which is soon paid back.
                self.table.not_told(untold);
                self.exchanges_failed.fetch_add(1, Ordering::Relaxed);
                None
            }
        }
    }
}
