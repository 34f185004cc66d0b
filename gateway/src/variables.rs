//! A tenant's variables, folded from the log: always what was last written.

use domain::event::Event;
use domain::ids::TenantId;
use domain::variables::{self, VariablesState};
use event_store::log::{LogReader, StoreError};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::Arc;
use tokio::sync::Mutex;

/// How many tenants' variables are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(64).expect("not zero");
/// Events read at once.
const PAGE: usize = 500;

/// Folds variables and goes on from what it has folded.
pub(crate) struct VariablesReader {
    folded: Mutex<LruCache<TenantId, Arc<VariablesState>>>,
}

impl VariablesReader {
    pub(crate) fn new() -> Self {
        Self { folded: Mutex::new(LruCache::new(REMEMBERED)) }
    }

    /// The variables as they are now.
    pub(crate) async fn read(
        &self,
        log: &dyn LogReader,
        tenant: &TenantId,
    ) -> Result<Arc<VariablesState>, StoreError> {
        let known = self.folded.lock().await.get(tenant).cloned().unwrap_or_default();
        let stream = variables::stream_of(tenant);
        let mut state = Arc::clone(&known);
        loop {
            let page = log.read_stream(stream, state.version, PAGE).await?;
            let full = page.len() == PAGE;
            for recorded in &page {
                let event = recorded.decode().map_err(|error| StoreError::Corrupt(error.to_string()))?;
                if let Event::Variables(event) = event {
                    state = Arc::new(variables::evolve(Arc::unwrap_or_clone(state), &event));
                }
            }
            if !full {
                break;
            }
        }
        let mut folded = self.folded.lock().await;
        // Another request may have folded further meanwhile.
        if folded.get(tenant).is_none_or(|other| other.version < state.version) {
            folded.put(tenant.clone(), state.clone());
        }
        Ok(state)
    }
}
