//! Folded streams, remembered: bounded in number, and in how long they are trusted.
//!
//! Nothing is folded twice: what is no longer trusted goes on from its last version, which costs one look into the
//! log.

use domain::aggregate::Aggregate;
use event_store::log::{LogReader, StoreError};
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// Events read at once.
const PAGE: usize = 500;

/// How much of what is remembered is believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trust {
    /// What is remembered, unless it is old or a change was heard.
    Remembered,
    /// The log is asked in any case.
    Nothing,
}

/// The memory.
pub(super) struct Folded {
    log: Arc<dyn LogReader>,
    memory: Mutex<Memory>,
    ttl: Duration,
}

struct Memory {
    streams: LruCache<Uuid, Remembered>,
    /// How often something was forgotten: what was read before that is not trusted afterwards.
    forgotten: u64,
}

#[derive(Clone)]
struct Remembered {
    aggregate: Arc<Aggregate>,
    /// Since when it is so; `None` if a change was heard since.
    since: Option<Instant>,
}

impl Folded {
    pub(super) fn new(log: Arc<dyn LogReader>, entries: u32, ttl: Duration) -> Self {
        let entries = NonZeroUsize::new(entries as usize).unwrap_or(NonZeroUsize::MIN);
        Self { log, memory: Mutex::new(Memory { streams: LruCache::new(entries), forgotten: 0 }), ttl }
    }

    /// A stream's aggregate; an empty one if it has no event.
    pub(super) async fn get(&self, stream: Uuid, trust: Trust) -> Result<Arc<Aggregate>, StoreError> {
        let (known, asked_at) = {
            let mut memory = self.lock();
            let known = memory.streams.get(&stream).cloned();
            (known, memory.forgotten)
        };
        if let Some(Remembered { aggregate, since: Some(since) }) = &known
            && trust == Trust::Remembered
            && since.elapsed() < self.ttl
        {
            return Ok(aggregate.clone());
        }
        let asked = Instant::now();
        let known = known.map(|known| known.aggregate).unwrap_or_default();
        let aggregate = self.go_on(stream, known).await?;
        let mut memory = self.lock();
        let since = (memory.forgotten == asked_at).then_some(asked);
        // Ids that callers make up must not push out what is there.
        let worth_it = aggregate.version > 0 || trust == Trust::Remembered;
        // Another request may have read further meanwhile.
        if worth_it
            && memory.streams.peek(&stream).is_none_or(|other| other.aggregate.version <= aggregate.version)
        {
            memory.streams.put(stream, Remembered { aggregate: aggregate.clone(), since });
        }
        Ok(aggregate)
    }

    /// A change of a stream was heard.
    pub(super) fn forget(&self, stream: Uuid) {
        let mut memory = self.lock();
        memory.forgotten += 1;
        if let Some(remembered) = memory.streams.peek_mut(&stream) {
            remembered.since = None;
        }
    }

    /// Changes may have been missed.
    pub(super) fn forget_all(&self) {
        let mut memory = self.lock();
        memory.forgotten += 1;
        for (_, remembered) in memory.streams.iter_mut() {
            remembered.since = None;
        }
    }

    async fn go_on(&self, stream: Uuid, known: Arc<Aggregate>) -> Result<Arc<Aggregate>, StoreError> {
        let mut folded = known;
        loop {
            let page = self.log.read_stream(stream, folded.version, PAGE).await?;
            if page.is_empty() {
                return Ok(folded);
            }
            let full = page.len() == PAGE;
            let mut next = Arc::unwrap_or_clone(folded);
            for event in &page {
                next.apply_recorded(event).map_err(|error| StoreError::Corrupt(error.to_string()))?;
            }
            folded = Arc::new(next);
            if !full {
                return Ok(folded);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
