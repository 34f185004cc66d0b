//! What tenants have set for themselves, remembered for a while.

use domain::ids::TenantId;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Mutex, PoisonError};
use tokio::time::Instant;

use crate::app::App;
use crate::config::ms;

/// How many tenants are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(10_000).expect("not zero");

/// A tenant's own limit, and when it was read.
type Known = (Option<u32>, Instant);

pub(super) struct Tenants(Mutex<LruCache<TenantId, Known>>);

impl Tenants {
    pub(super) fn new() -> Self {
        Self(Mutex::new(LruCache::new(REMEMBERED)))
    }

    /// The tenant's own limit, as old as a recognised caller may be. A log that does not answer changes nothing.
    pub(super) async fn requests_per_minute(&self, app: &App, tenant: &TenantId) -> Option<u32> {
        let fresh = ms(app.config.auth_cache_ms);
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(tenant).copied();
        if let Some((limit, read_at)) = known
            && read_at.elapsed() < fresh
        {
            return limit;
        }
        let limit = match app.directory.tenant(tenant).await {
            Ok(found) => found.and_then(|tenant| tenant.settings.requests_per_minute),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a tenant's rate limit could not be read; the last one known counts on"
                );
                known.and_then(|(limit, _)| limit)
            }
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.push(tenant.clone(), (limit, Instant::now()));
        limit
    }
}
