//! Rate limits per address, user, key and tenant, that hold across gateways.
//!
//! ```text
//!   gate ─► admit_address ─► (who calls?) ─► admit_principal | admit_anonymous ─► Standing ─► RateLimit headers
//!   ws   ─► admit_message                            │ take
//!                                                  table ◄── exchange ──► RateCounters (Postgres), every 250 ms
//! ```
//!
//! Owns: buckets ([`bucket`], pure), their table, and telling other gateways. Invariants: a request takes from every
//! bucket that it counts in, or from none; memory is bounded whoever calls; nobody waits for the database. What that
//! costs: gateways that share a limit may together admit more than it by what each admits between two exchanges, at most
//! its own burst; the excess is a debt that all of them wait for, so over minutes the limit holds. With one process, it
//! is exact. If the database does not answer, each gateway counts for itself. Deliberately absent: health, which is
//! never limited; limits of size and time, which are the routes' own.

mod bucket;
pub(crate) mod config;
mod exchange;
pub(crate) mod failures;
mod standing;
mod table;
mod tenants;

use event_store::rate_counters::RateCounters;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::time::Instant;

use crate::app::App;
use crate::auth::Principal;
use crate::client::Client;
use crate::failure::Failure;
use crate::status;

use bucket::{Rate, seconds};
use config::LimitsConfig;
use table::{Counted, POLICIES, Sharing, Table};
use tenants::Tenants;

pub(crate) use standing::Standing;

/// The limits of a process.
pub(crate) struct Limits {
    config: LimitsConfig,
    failures_per_minute: u32,
    table: Table,
    tenants: Tenants,
    counters: Option<Arc<dyn RateCounters>>,
    begun: Instant,
    /// Refused, by the policy that refused.
    refused: [AtomicU64; POLICIES.len()],
    exchanges: AtomicU64,
    exchanges_failed: AtomicU64,
}

impl Limits {
    /// Buckets that are full, shared through `counters` if there are any.
    pub(crate) fn new(
        config: LimitsConfig,
        failures_per_minute: u32,
        counters: Option<Arc<dyn RateCounters>>,
    ) -> Self {
        let sharing = if counters.is_some() { Sharing::Shared } else { Sharing::Alone };
        Self {
            config,
            failures_per_minute,
            table: Table::new(sharing),
            tenants: Tenants::new(),
            counters,
            begun: Instant::now(),
            refused: Default::default(),
            exchanges: AtomicU64::new(0),
            exchanges_failed: AtomicU64::new(0),
        }
    }

    /// Microseconds since the process began: buckets know no other time.
    fn now(&self) -> i64 {
        i64::try_from(self.begun.elapsed().as_micros()).unwrap_or(i64::MAX)
    }

    fn rate(&self, per_minute: u32) -> Option<Rate> {
        Rate::new(per_minute, self.config.burst)
    }

    /// Takes one of each, or none: the tightest of them, or the policy that refused.
    fn take(&self, wanted: &[(Counted, Rate)]) -> Result<Standing, Failure> {
        let now = self.now();
        let mut standing = Standing::default();
        for (place, (counted, rate)) in wanted.iter().enumerate() {
            match self.table.take(counted, *rate, now) {
                Ok(left) => standing.add(counted.policy(), *rate, left),
                Err(wait_us) => {
                    for (counted, rate) in &wanted[..place] {
                        self.table.give_back(counted, *rate);
                    }
                    return Err(self.refuse(counted, *rate, wait_us));
                }
            }
        }
        Ok(standing)
    }

    fn refuse(&self, counted: &Counted, rate: Rate, wait_us: i64) -> Failure {
        let policy = counted.policy();
        self.note_refusal(policy);
        let detail = format!(
            "too many requests: the limit `{policy}` is {} per minute; wait for the seconds in Retry-After",
            rate.per_minute
        );
        let wait_s = seconds(wait_us).max(1);
        Failure::new(status::RATE_LIMITED, detail)
            .retry_after(wait_s)
            .with_standing(Standing::exhausted(policy, rate, wait_s))
    }

    fn note_refusal(&self, policy: &str) {
        if let Some(place) = POLICIES.iter().position(|known| *known == policy) {
            self.refused[place].fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Counters as Prometheus text.
    pub(crate) fn metrics(&self) -> String {
        use std::fmt::Write;
        let mut out = String::from(
            "# HELP everline_rate_limited_total Requests and logins refused by a rate limit.\n\
             # TYPE everline_rate_limited_total counter\n",
        );
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        for (policy, refused) in POLICIES.iter().zip(&self.refused) {
            let refused = load(refused);
            writeln!(out, "everline_rate_limited_total{{policy=\"{policy}\"}} {refused}")
                .expect("writing to a String cannot fail");
        }
        write!(
            out,
            "# HELP everline_rate_limit_buckets Buckets of rate limits in memory.\n\
             # TYPE everline_rate_limit_buckets gauge\n\
             everline_rate_limit_buckets {}\n\
             # HELP everline_rate_limit_exchanges_total Exchanges of counts with other gateways.\n\
             # TYPE everline_rate_limit_exchanges_total counter\n\
             everline_rate_limit_exchanges_total{{result=\"ok\"}} {}\n\
             everline_rate_limit_exchanges_total{{result=\"failed\"}} {}\n",
            self.table.len(),
            load(&self.exchanges),
            load(&self.exchanges_failed)
        )
        .expect("writing to a String cannot fail");
        out
    }
}

/// Counts a request of an address, before anybody is recognised.
pub(crate) fn admit_address(app: &App, client: &Client) -> Result<Standing, Failure> {
    let limits = &app.limits;
    let wanted = client.network().zip(limits.rate(limits.config.per_ip));
    match wanted {
        Some((ip, rate)) => limits.take(&[(Counted::Address(ip), rate)]),
        None => Ok(Standing::default()),
    }
}

/// Counts a request without a recognised caller.
pub(crate) fn admit_anonymous(app: &App, client: &Client) -> Result<Standing, Failure> {
    let limits = &app.limits;
    let wanted = client.network().zip(limits.rate(limits.config.anonymous_per_ip));
    match wanted {
        Some((ip, rate)) => limits.take(&[(Counted::Anonymous(ip), rate)]),
        None => Ok(Standing::default()),
    }
}

/// Counts a request of a recognised caller.
pub(crate) async fn admit_principal(app: &App, principal: &Principal) -> Result<Standing, Failure> {
    let limits = &app.limits;
    let config = &limits.config;
    let of_tenant = limits.tenants.requests_per_minute(app, &principal.tenant).await;
    let wanted = [
        (config.per_user > 0).then_some(Counted::User(principal.user)).zip(limits.rate(config.per_user)),
        (config.per_key > 0 && principal.actor.as_str().starts_with("key:"))
            .then(|| Counted::Key(principal.actor.clone()))
            .zip(limits.rate(config.per_key)),
        limits
            .rate(of_tenant.unwrap_or(config.per_tenant))
            .map(|rate| (Counted::Tenant(principal.tenant.clone()), rate)),
    ];
    let wanted: Vec<_> = wanted.into_iter().flatten().collect();
    if wanted.is_empty() { Ok(Standing::default()) } else { limits.take(&wanted) }
}

/// Counts a message over a WebSocket: as much as a request.
pub(crate) async fn admit_message(app: &App, principal: &Principal, client: &Client) -> Result<(), Failure> {
    admit_address(app, client)?;
    admit_principal(app, principal).await.map(|_| ())
}
