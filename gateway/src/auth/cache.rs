//! What is remembered of recognised callers, bounded in number and time.

use domain::ids::{Actor, TenantId};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

use crate::position::Watermarks;

use super::Principal;
use super::token::TokenHash;

/// Recognised secrets. Wrong ones are not remembered, so that they cannot push good ones out.
pub(super) struct PrincipalCache {
    entries: Mutex<LruCache<TokenHash, (Arc<Principal>, Instant)>>,
    ttl: Duration,
}

impl PrincipalCache {
    pub(super) fn new(entries: u32, ttl: Duration) -> Self {
        Self { entries: Mutex::new(LruCache::new(capacity(entries))), ttl }
    }

    pub(super) fn get(&self, hash: &TokenHash) -> Option<Arc<Principal>> {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        match entries.get(hash) {
            Some((principal, seen)) if seen.elapsed() < self.ttl => Some(principal.clone()),
            Some(_) => {
                entries.pop(hash);
                None
            }
            None => None,
        }
    }

    pub(super) fn put(&self, hash: TokenHash, principal: Arc<Principal>) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.put(hash, (principal, Instant::now()));
    }

    pub(super) fn forget_family(&self, family: Uuid) {
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        let gone: Vec<TokenHash> = entries
            .iter()
            .filter(|(_, (principal, _))| principal.family == Some(family))
            .map(|(hash, _)| hash.clone())
            .collect();
        for hash in gone {
            entries.pop(&hash);
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
