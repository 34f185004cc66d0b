//! How many failed logins an account may have in a minute.
//!
//! An account is counted with each address by itself, so that a stranger who fails on purpose does not keep its user out:
//! those counters, and an address's over all accounts, are [`crate::limits::failures`], which gateways share. From all
//! addresses together an account may have [`ADDRESSES`] times as many (one password guessed from many addresses); that is
//! counted here, by each gateway for itself. Attempts count when they begin, so that many at once cannot all pass; an
//! attempt that is refused counts nothing, so trying on does not make the wait longer.

use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::app::App;
use crate::client::Client;
use crate::failure::Failure;
use crate::limits::failures;
use crate::status;

/// How long failures count.
const WINDOW: Duration = Duration::from_secs(60);
/// How many accounts are watched.
const WATCHED: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");
/// How many times what an account may have from one address it may have from all.
const ADDRESSES: u32 = 10;

/// Refuses logins of accounts and addresses with too many failures.
pub(super) struct Throttle {
    windows: Mutex<LruCache<String, (u32, Instant)>>,
    /// None: as many as anybody wants.
    most: Option<u32>,
}

/// An attempt that has begun.
#[must_use = "an attempt that succeeded is given back"]
pub(super) struct Attempt {
    account: String,
    from_address: failures::Attempt,
}

impl Throttle {
    pub(super) fn new(per_account: u32) -> Self {
        let most = (per_account > 0).then(|| per_account.saturating_mul(ADDRESSES));
        Self { windows: Mutex::new(LruCache::new(WATCHED)), most }
    }

    /// Notes that an attempt at an account begins.
    pub(super) fn begin(&self, app: &App, account: &str, client: &Client) -> Result<Attempt, Failure> {
        let from = client.network().map_or_else(|| "-".to_owned(), |network| network.to_string());
        let from_address = failures::begin(app, &format!("{account} {from}"), client)?;
        self.count(account, Instant::now()).map_err(|seconds| {
            let detail = "too many failed logins for this e-mail; wait and try again";
            Failure::new(status::TOO_MANY_ATTEMPTS, detail).retry_after(seconds)
        })?;
        Ok(Attempt { account: account.to_owned(), from_address })
    }

    /// Notes an attempt of an address at something that is no account.
    pub(super) fn begin_visit(&self, app: &App, client: &Client) -> Result<(), Failure> {
        let from = client.network().map_or_else(|| "-".to_owned(), |network| network.to_string());
        // No e-mail begins like this. Visits are not given back.
        failures::begin(app, &format!("visit {from}"), client).map(drop)
    }

    /// A login that succeeded forgives the account's failures.
    pub(super) fn succeeded(&self, app: &App, attempt: Attempt) {
        attempt.from_address.succeeded(app);
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).pop(&attempt.account);
    }

    /// `Err` with the seconds to wait if there were too many.
    fn count(&self, account: &str, now: Instant) -> Result<(), u64> {
        let Some(most) = self.most else { return Ok(()) };
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, began) = windows.get_or_insert_mut(account.to_owned(), || (0, now));
        if now.duration_since(*began) >= WINDOW {
            (*count, *began) = (0, now);
        }
        if *count >= most {
            return Err(WINDOW.saturating_sub(now.duration_since(*began)).as_secs() + 1);
        }
        *count += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_failures_wait_for_the_window_to_pass_and_trying_on_does_not_lengthen_it() {
        let throttle = Throttle::new(1);
        let start = Instant::now();
        for _ in 0..ADDRESSES {
            assert!(throttle.count("a@b", start).is_ok());
        }
        assert!(throttle.count("a@b", start + WINDOW / 2).is_err());
        assert!(throttle.count("c@d", start).is_ok(), "another account is not concerned");
        assert!(throttle.count("a@b", start + WINDOW).is_ok());
        assert!(Throttle::new(0).count("a@b", start).is_ok(), "0: no limit");
    }
}
