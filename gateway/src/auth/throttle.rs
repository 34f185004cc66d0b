//! How many failed logins an account and an address may have in a minute.
//!
//! Attempts are counted when they begin, so that many at once cannot all pass; a success gives the account's back. An
//! attempt that is refused counts nothing, so whoever keeps trying cannot lock anybody out for longer than the window.
//! An account is counted with each address by itself, so that a stranger who fails on purpose does not keep its user out;
//! from all addresses together it may have [`ADDRESSES`] times as many (one password guessed from many addresses). An
//! address is counted over all accounts (one password tried on many).

use async_trait::async_trait;
use lru::LruCache;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::failure::Failure;
use crate::status;

/// How long failures count.
const WINDOW: Duration = Duration::from_secs(60);
/// How many accounts and addresses are watched by [`LocalAttempts`].
const WATCHED: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");

/// How many times what an account may have from one address it may have from all.
const ADDRESSES: u32 = 10;

/// Counts attempts in windows of a minute, by whatever name. One process counts for itself ([`LocalAttempts`]); counters
/// that gateways share are another implementation.
#[async_trait]
pub(crate) trait Attempts: Send + Sync {
    /// Counts one, unless there were `most` in the window already: then the seconds until it ends.
    async fn count(&self, name: &str, most: u32) -> Result<(), u64>;

    /// Counts from nothing again.
    async fn forgive(&self, name: &str);
}

/// Attempts of this process.
pub(crate) struct LocalAttempts {
    windows: Mutex<LruCache<String, (u32, Instant)>>,
}

/// Refuses logins of accounts and addresses with too many failures.
pub(super) struct Throttle {
    attempts: Arc<dyn Attempts>,
    per_account: u32,
    per_address: u32,
}

impl LocalAttempts {
    pub(crate) fn new() -> Self {
        Self { windows: Mutex::new(LruCache::new(WATCHED)) }
    }

    fn count_at(&self, name: &str, most: u32, now: Instant) -> Result<(), u64> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let (count, began) = windows.get_or_insert_mut(name.to_owned(), || (0, now));
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

#[async_trait]
impl Attempts for LocalAttempts {
    async fn count(&self, name: &str, most: u32) -> Result<(), u64> {
        self.count_at(name, most, Instant::now())
    }

    async fn forgive(&self, name: &str) {
        self.windows.lock().unwrap_or_else(PoisonError::into_inner).pop(name);
    }
}

impl Throttle {
    pub(super) fn new(attempts: Arc<dyn Attempts>, per_account: u32, per_address: u32) -> Self {
        Self { attempts, per_account, per_address }
    }

    /// Notes that an attempt begins, at an account or none yet.
    pub(super) async fn begin(&self, account: Option<&str>, address: Option<IpAddr>) -> Result<(), Failure> {
        if let Some(address) = address {
            let name = format!("login:ip:{}", network(address));
            let counted = self.attempts.count(&name, self.per_address).await;
            counted.map_err(|seconds| refuse("from this address", seconds))?;
        }
        if let Some(account) = account {
            let counted = self.attempts.count(&pair(account, address), self.per_account).await;
            counted.map_err(|seconds| refuse("for this e-mail", seconds))?;
            let most = self.per_account.saturating_mul(ADDRESSES);
            let counted = self.attempts.count(&format!("login:account:{account}"), most).await;
            counted.map_err(|seconds| refuse("for this e-mail", seconds))?;
        }
        Ok(())
    }

    /// A login that succeeded forgives the account's that failed. The address's stay: one good account must not buy
    /// guesses at others.
    pub(super) async fn succeeded(&self, account: &str, address: Option<IpAddr>) {
        self.attempts.forgive(&pair(account, address)).await;
        self.attempts.forgive(&format!("login:account:{account}")).await;
    }
}

fn pair(account: &str, address: Option<IpAddr>) -> String {
    let from = address.map_or_else(|| "-".to_owned(), |address| network(address).to_string());
    format!("login:account:{account}:{from}")
}

/// An address as it is counted: whoever has one IPv6 address mostly has the 2^64 beside it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let kept = address.to_bits() >> 64 << 64;
            IpAddr::V6(kept.into())
        }
        address @ IpAddr::V4(_) => address,
    }
}

fn refuse(whose: &str, seconds: u64) -> Failure {
    let detail = format!("too many failed logins {whose}; wait and try again");
    Failure::new(status::TOO_MANY_ATTEMPTS, detail).retry_after(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_failures_wait_for_the_window_to_pass_and_trying_on_does_not_lengthen_it() {
        let attempts = LocalAttempts::new();
        let start = Instant::now();
        assert!(attempts.count_at("a", 2, start).is_ok());
        assert!(attempts.count_at("a", 2, start).is_ok());
        assert!(attempts.count_at("a", 2, start + WINDOW / 2).is_err());
        assert!(attempts.count_at("b", 2, start).is_ok(), "another name is not concerned");
        assert!(attempts.count_at("a", 2, start + WINDOW).is_ok());
    }

    #[tokio::test]
    async fn a_success_forgives_the_account_and_not_the_address() {
        let throttle = Throttle::new(Arc::new(LocalAttempts::new()), 1, 2);
        let address = Some(IpAddr::from([192, 0, 2, 1]));
        assert!(throttle.begin(Some("a@b"), address).await.is_ok());
        throttle.succeeded("a@b", address).await;
        assert!(throttle.begin(Some("a@b"), address).await.is_ok());
        throttle.succeeded("a@b", address).await;
        assert!(throttle.begin(Some("a@b"), address).await.is_err());
        assert!(throttle.begin(Some("a@b"), Some(IpAddr::from([192, 0, 2, 2]))).await.is_ok());
    }

    #[tokio::test]
    async fn a_stranger_who_fails_on_purpose_does_not_keep_the_user_out() {
        let throttle = Throttle::new(Arc::new(LocalAttempts::new()), 2, 100);
        let [stranger, user] = [1, 2].map(|last| Some(IpAddr::from([192, 0, 2, last])));
        for _ in 0..50 {
            let _ = throttle.begin(Some("a@b"), stranger).await;
        }
        assert!(throttle.begin(Some("a@b"), stranger).await.is_err());
        assert!(throttle.begin(Some("a@b"), user).await.is_ok());
    }

    #[test]
    fn neighbours_in_a_network_count_together() {
        let address = |text: &str| network(text.parse().expect("an address"));
        assert_eq!(address("2001:db8::1"), address("2001:db8::ffff"));
        assert_ne!(address("2001:db8::1"), address("2001:db8:0:1::1"));
        assert_eq!(address("::ffff:192.0.2.1"), address("192.0.2.1"));
        assert_ne!(address("192.0.2.1"), address("192.0.2.2"));
    }
}
