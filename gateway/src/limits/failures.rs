//! Failed logins: so many per minute of one account, and ten times as many from one address, across all gateways.
//!
//! Attempts count when they begin, so that many at once cannot all pass; one that succeeds is given back.

use std::net::IpAddr;
use std::sync::Arc;

use crate::app::App;
use crate::client::Client;
use crate::failure::Failure;
use crate::status;

use super::bucket::{Rate, seconds};
use super::table::Counted;

/// How many times as many failures an address may have as an account: offices share one.
const PER_ADDRESS: u32 = 10;

/// An attempt that has begun.
#[must_use = "an attempt that succeeded is given back"]
#[derive(Debug)]
pub(crate) struct Attempt {
    account: Arc<str>,
    address: Option<IpAddr>,
}

/// Counts an attempt to log in as `account` (its normal form).
///
/// # Errors
/// `too_many_attempts` if the account or the address had too many failures.
pub(crate) fn begin(app: &App, account: &str, client: &Client) -> Result<Attempt, Failure> {
    let attempt = Attempt { account: account.into(), address: client.network() };
    let (limits, now) = (&app.limits, app.limits.now());
    let taken = attempt.counted(app);
    for (place, (counted, rate)) in taken.iter().enumerate() {
        let Err(wait_us) = limits.table.take(counted, *rate, now) else { continue };
        for (counted, rate) in &taken[..place] {
            limits.table.give_back(counted, *rate);
        }
        limits.note_refusal(counted.policy());
        let detail = "too many failed logins; wait for the seconds in Retry-After and try again";
        return Err(Failure::new(status::TOO_MANY_ATTEMPTS, detail).retry_after(seconds(wait_us).max(1)));
    }
    Ok(attempt)
}

impl Attempt {
    /// The login succeeded: the account's failures are forgiven, and the address did not fail this time. What else
    /// failed from there stays, or an account of one's own would be a way to try on others for ever.
    pub(crate) fn succeeded(self, app: &App) {
        for (counted, rate) in self.counted(app) {
            match counted {
                Counted::Account(_) => app.limits.table.fill(&counted, rate),
                _ => app.limits.table.give_back(&counted, rate),
            }
        }
    }

    fn counted(&self, app: &App) -> Vec<(Counted, Rate)> {
        let failures = app.limits.failures_per_minute;
        let of_account = Rate::new(failures, 0).map(|rate| (Counted::Account(self.account.clone()), rate));
        let of_address = self.address.zip(Rate::new(failures.saturating_mul(PER_ADDRESS), 0));
        let of_address = of_address.map(|(ip, rate)| (Counted::LoginAddress(ip), rate));
        of_account.into_iter().chain(of_address).collect()
    }
}
