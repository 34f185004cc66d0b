//! Views of executions that are still running, so that their next events need no read.
//!
//! Bounded by the weight of the views' JSON, not by their number: one view may be thousands of times as large
//! as another. Never the truth: it is dropped whole whenever a transaction did not commit.

use lru::LruCache;
use uuid::Uuid;

use domain::execution::view::ExecutionView;

struct Weighed {
    view: ExecutionView,
    bytes: usize,
}

/// The least recently used views go first.
pub(crate) struct ViewCache {
    views: LruCache<Uuid, Weighed>,
    bytes: usize,
    limit: usize,
}

impl ViewCache {
    pub(crate) fn new(limit: usize) -> Self {
        Self { views: LruCache::unbounded(), bytes: 0, limit }
    }

    /// Takes a view out; it comes back with [`ViewCache::put`] when it has been folded further.
    pub(crate) fn take(&mut self, id: Uuid) -> Option<ExecutionView> {
        let weighed = self.views.pop(&id)?;
        self.bytes -= weighed.bytes;
        Some(weighed.view)
    }

    /// Keeps a view whose JSON has `bytes` bytes.
    pub(crate) fn put(&mut self, view: ExecutionView, bytes: usize) {
        self.bytes += bytes;
        if let Some(old) = self.views.put(view.id, Weighed { view, bytes }) {
            self.bytes -= old.bytes;
        }
        while self.bytes > self.limit {
            let Some((_, oldest)) = self.views.pop_lru() else { break };
            self.bytes -= oldest.bytes;
        }
    }

    pub(crate) fn clear(&mut self) {
        self.views.clear();
        self.bytes = 0;
    }
}
