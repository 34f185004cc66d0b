//! What is remembered of recognised callers, bounded in number and time.

use domain::ids::{Actor, TenantId};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::cache::Counted;
use crate::position::Watermarks;

use super::Principal;
use super::token::TokenHash;

/// Recognised secrets. Wrong ones are not remembered, so that they cannot push good ones out.
pub(super) struct PrincipalCache {
    entries: Mutex<Principals>,
    ttl: Duration,
    /// How often it was of use.
    pub(super) counted: Counted,
}

struct Principals {
    by_hash: LruCache<TokenHash, (Arc<Principal>, Instant)>,
    /// How often sessions were forgotten.
    forgotten: u64,
}

impl PrincipalCache {
    pub(super) fn new(entries: u32, ttl: Duration) -> Self {
        Self {
            entries: Mutex::new(Principals { by_hash: LruCache::new(capacity(entries)), forgotten: 0 }),
            ttl,
            counted: Counted::default(),
        }
    }

    /// Whom the secret stands for; if that is not known, what [`PrincipalCache::put`] wants to hear of this moment.
    pub(super) fn get(&self, hash: &TokenHash) -> Result<Arc<Principal>, u64> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.by_hash.get(hash) {
            Some((principal, seen)) if seen.elapsed() < self.ttl => {
                self.counted.count(true);
                return Ok(principal.clone());
            }
            Some(_) => {
                entries.by_hash.pop(hash);
            }
            None => {}
        }
        self.counted.count(false);
        Err(entries.forgotten)
    }

    /// Remembers what the store said, unless a session was forgotten since `asked_at`: it may be this one.
    pub(super) fn put(&self, hash: TokenHash, principal: Arc<Principal>, asked_at: u64) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.forgotten == asked_at {
            entries.by_hash.put(hash, (principal, Instant::now()));
        }
    }

    /// Forgets whoever fits.
    pub(super) fn forget(&self, fits: impl Fn(&Principal) -> bool) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.forgotten += 1;
        let gone: Vec<TokenHash> = entries
            .by_hash
            .iter()
            .filter(|(_, (principal, _))| fits(principal))
            .map(|(hash, _)| hash.clone())
            .collect();
        for hash in gone {
            entries.by_hash.pop(&hash);
        }
    }
}

/// The positions answered to each caller; those of whoever was silent longest are forgotten first.
pub(super) struct WatermarkCache {
    entries: Mutex<LruCache<(TenantId, Actor), Arc<Watermarks>>>,
    partitions: u16,
}

impl WatermarkCache {
    pub(super) fn new(entries: u32, partitions: u16) -> Self {
        Self { entries: Mutex::new(LruCache::new(capacity(entries))), partitions }
    }

    pub(super) fn of(&self, tenant: &TenantId, actor: &Actor) -> Arc<Watermarks> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant.clone(), actor.clone());
        entries.get_or_insert(key, || Arc::new(Watermarks::new(self.partitions))).clone()
    }
}

/// A cache has at least one place.
pub(super) fn capacity(entries: u32) -> NonZeroUsize {
    NonZeroUsize::new(entries as usize).unwrap_or(NonZeroUsize::MIN)
}
