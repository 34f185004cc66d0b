//! Buckets in memory, and what of them is not shared yet.
//!
//! Invariants: there are at most [`MOST`] buckets of each kind, so that many addresses cannot push out a tenant's;
//! what was taken here and not yet told is kept with its bucket until an exchange has it, and comes back if that
//! exchange fails. A bucket that is pushed out is full when it comes back, and what it had not told is lost.

use event_store::rate_counters::{MAX_EXCHANGED, Spent};
use lru::LruCache;
use sha2::{Digest, Sha256};
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

use domain::ids::{Actor, TenantId};

use super::bucket::{Left, Rate};

/// The most buckets of one kind.
const MOST: NonZeroUsize = NonZeroUsize::new(20_000).expect("not zero");

/// What is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Counted {
    /// Everything from an address.
    Address(IpAddr),
    /// What comes from an address without a caller.
    Anonymous(IpAddr),
    /// A user.
    User(Uuid),
    /// A key.
    Key(Actor),
    /// A tenant.
    Tenant(TenantId),
    /// Failed logins of an account.
    Account(Arc<str>),
    /// Failed logins from an address.
    LoginAddress(IpAddr),
}

/// How many kinds there are.
const KINDS: usize = 7;

impl Counted {
    /// The name of its policy, in headers and metrics.
    pub(crate) fn policy(&self) -> &'static str {
        POLICIES[self.kind()]
    }

    fn kind(&self) -> usize {
        match self {
            Self::Address(_) => 0,
            Self::Anonymous(_) => 1,
            Self::User(_) => 2,
            Self::Key(_) => 3,
            Self::Tenant(_) => 4,
            Self::Account(_) => 5,
            Self::LoginAddress(_) => 6,
        }
    }

    /// Its name among all gateways: a hash, so that nobody reads addresses and e-mails out of the table.
    fn shared_key(&self) -> Uuid {
        let mut hasher = Sha256::new();
        hasher.update(self.policy().as_bytes());
        hasher.update([0]);
        match self {
            Self::Address(ip) | Self::Anonymous(ip) | Self::LoginAddress(ip) => {
                hasher.update(ip.to_string().as_bytes());
            }
            Self::User(id) => hasher.update(id.as_bytes()),
            Self::Key(actor) => hasher.update(actor.as_str().as_bytes()),
            Self::Tenant(tenant) => hasher.update(tenant.as_str().as_bytes()),
            Self::Account(email) => hasher.update(email.as_bytes()),
        }
        let hash: [u8; 32] = hasher.finalize().into();
        Uuid::from_bytes(std::array::from_fn(|at| hash[at]))
    }
}

/// Names of policies, by kind.
pub(crate) const POLICIES: [&str; KINDS] =
    ["ip", "anonymous", "user", "key", "tenant", "login_account", "login_ip"];

#[derive(Debug, Default)]
struct Bucket {
    /// When it is full, in microseconds of this process.
    full_at: i64,
    /// What was taken and not told yet.
    untold: i64,
    /// It is among those that the next exchange asks about.
    listed: bool,
}

struct Kind {
    buckets: LruCache<Counted, Bucket>,
    /// Used since the last exchange; only kept where there are exchanges.
    used: Vec<Counted>,
}

/// All buckets of a process.
pub(crate) struct Table {
    kinds: [Mutex<Kind>; KINDS],
    shared: Sharing,
}

/// Whether other gateways count the same things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    /// They may.
    Shared,
    /// There is this process only.
    Alone,
}

/// What an exchange takes along.
pub(crate) struct Untold {
    pub(crate) counted: Vec<Counted>,
    pub(crate) spent: Vec<Spent>,
}

impl Table {
    pub(crate) fn new(shared: Sharing) -> Self {
        let kind = || Mutex::new(Kind { buckets: LruCache::new(MOST), used: Vec::new() });
        Self { kinds: std::array::from_fn(|_| kind()), shared }
    }

    /// Takes one: what is left then, or for how many microseconds none can be taken.
    pub(crate) fn take(&self, counted: &Counted, rate: Rate, now: i64) -> Result<Left, i64> {
        self.with(counted, |bucket| {
            bucket.full_at = rate.take(bucket.full_at, now)?;
            bucket.untold += rate.cost_us();
            Ok(rate.left(bucket.full_at, now))
        })
    }

    /// Gives one back.
    pub(crate) fn give_back(&self, counted: &Counted, rate: Rate) {
        self.with(counted, |bucket| {
            bucket.full_at -= rate.cost_us();
            bucket.untold -= rate.cost_us();
        });
    }

    /// Fills a bucket up.
    pub(crate) fn fill(&self, counted: &Counted, rate: Rate) {
        self.with(counted, |bucket| {
            bucket.full_at = 0;
            // However much others have taken of it meanwhile; one that is more than full is full.
            bucket.untold = -1_000 * rate.cost_us() * i64::from(rate.burst);
        });
    }

    /// How many buckets there are.
    pub(crate) fn len(&self) -> usize {
        (0..KINDS).map(|kind| self.lock(kind).buckets.len()).sum()
    }

    /// What was used since the last exchange, as much as one takes.
    pub(crate) fn untold(&self) -> Untold {
        let mut untold = Untold { counted: Vec::new(), spent: Vec::new() };
        for kind in 0..KINDS {
            let mut kind = self.lock(kind);
            while untold.spent.len() < MAX_EXCHANGED
                && let Some(counted) = kind.used.pop()
            {
                let Some(bucket) = kind.buckets.peek_mut(&counted) else { continue };
                bucket.listed = false;
                let cost_us = std::mem::take(&mut bucket.untold);
                untold.spent.push(Spent { key: counted.shared_key(), cost_us });
                untold.counted.push(counted);
            }
        }
        untold
    }

    /// What an exchange answered: how far each bucket is from full for all gateways together. `now` is the time at
    /// which it was asked, since a bucket cannot have become fuller on the way than by waiting.
    pub(crate) fn told(&self, untold: &Untold, debts: &[i64], now: i64) {
        for (counted, debt) in untold.counted.iter().zip(debts) {
            if let Some(bucket) = self.lock(counted.kind()).buckets.peek_mut(counted) {
                // What was taken while the exchange was under way is not in its answer.
                bucket.full_at = now + debt.max(&0) + bucket.untold;
            }
        }
    }

    /// An exchange that failed: the next one tells it.
    pub(crate) fn not_told(&self, untold: Untold) {
        for (counted, spent) in untold.counted.into_iter().zip(untold.spent) {
            let kind = &mut *self.lock(counted.kind());
            if let Some(bucket) = kind.buckets.peek_mut(&counted) {
                bucket.untold += spent.cost_us;
                if !std::mem::replace(&mut bucket.listed, true) {
                    kind.used.push(counted);
                }
            }
        }
    }

    fn with<T>(&self, counted: &Counted, change: impl FnOnce(&mut Bucket) -> T) -> T {
        let kind = &mut *self.lock(counted.kind());
        if kind.buckets.get_mut(counted).is_none() {
            kind.buckets.push(counted.clone(), Bucket::default());
        }
        let bucket = kind.buckets.get_mut(counted).expect("it was just put there");
        let changed = change(bucket);
        // As many as there can be buckets, so this is bounded by them.
        if self.shared == Sharing::Shared && !bucket.listed && kind.used.len() < MOST.get() {
            bucket.listed = true;
            kind.used.push(counted.clone());
        }
        changed
    }

    fn lock(&self, kind: usize) -> MutexGuard<'_, Kind> {
        self.kinds[kind].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate() -> Rate {
        Rate::new(60, 10).expect("a rate")
    }

    fn user() -> Counted {
        Counted::User(Uuid::from_u128(1))
    }

    /// A store of one bucket, as two gateways see it.
    fn exchange(table: &Table, debt: &mut i64, now: i64) {
        let untold = table.untold();
        *debt += untold.spent.iter().map(|spent| spent.cost_us).sum::<i64>();
        let answers = vec![*debt; untold.spent.len()];
        table.told(&untold, &answers, now);
    }

    #[test]
    fn two_gateways_that_exchange_give_as_much_as_one_and_what_was_not_told_yet() {
        let tables = [Table::new(Sharing::Shared), Table::new(Sharing::Shared)];
        let (mut debt, mut taken) = (0, 0);
        for _ in 0..20 {
            for table in &tables {
                taken += usize::from(table.take(&user(), rate(), 0).is_ok());
                exchange(table, &mut debt, 0);
            }
        }
        // The first to ask after the burst has not heard of the other's last.
        assert_eq!(taken, 10 + 1);
    }

    #[test]
    fn without_an_exchange_each_gives_its_own_and_the_debt_is_paid_back() {
        let tables = [Table::new(Sharing::Shared), Table::new(Sharing::Shared)];
        let mut debt = 0;
        for table in &tables {
            assert_eq!((0..20).filter(|_| table.take(&user(), rate(), 0).is_ok()).count(), 10);
        }
        for table in tables.iter().chain(&tables) {
            table.take(&user(), rate(), 0).expect_err("empty");
            exchange(table, &mut debt, 0);
        }
        assert_eq!(debt, 20 * rate().cost_us());
        assert!(
            tables[0].take(&user(), rate(), 10_500_000).is_err(),
            "ten seconds pay back what was too much"
        );
        assert!(tables[0].take(&user(), rate(), 11_000_000).is_ok());
    }

    #[test]
    fn what_a_failed_exchange_had_is_told_by_the_next() {
        let table = Table::new(Sharing::Shared);
        table.take(&user(), rate(), 0).expect("one");
        let untold = table.untold();
        table.take(&user(), rate(), 0).expect("another");
        table.not_told(untold);
        let again = table.untold();
        assert_eq!(again.spent.len(), 1);
        assert_eq!(again.spent[0].cost_us, 2 * rate().cost_us());
        assert!(table.untold().spent.is_empty());
    }

    #[test]
    fn what_is_taken_during_an_exchange_counts_after_it() {
        let table = Table::new(Sharing::Shared);
        table.take(&user(), rate(), 0).expect("one");
        let untold = table.untold();
        table.take(&user(), rate(), 0).expect("another");
        table.told(&untold, &[9 * rate().cost_us()], 0);
        assert!(table.take(&user(), rate(), 0).is_err());
    }

    #[test]
    fn one_kind_does_not_push_out_another_and_alone_nothing_is_listed() {
        let table = Table::new(Sharing::Alone);
        let tenant = Counted::Tenant(TenantId::default_tenant());
        while table.take(&tenant, rate(), 0).is_ok() {}
        for number in 0..2 * MOST.get() as u32 {
            let _ = table.take(&Counted::Address(IpAddr::from(number.to_be_bytes())), rate(), 0);
        }
        assert!(table.take(&tenant, rate(), 0).is_err());
        assert_eq!(table.len(), MOST.get() + 1);
        assert!(table.untold().spent.is_empty());
    }

    #[test]
    fn giving_back_and_filling_up_are_told_too() {
        let table = Table::new(Sharing::Shared);
        table.take(&user(), rate(), 0).expect("one");
        table.give_back(&user(), rate());
        assert_eq!(table.untold().spent[0].cost_us, 0);
        while table.take(&user(), rate(), 0).is_ok() {}
        table.fill(&user(), rate());
        assert!(table.take(&user(), rate(), 0).is_ok());
    }
}
