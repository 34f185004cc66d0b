//! When sessions and keys were last used: noted in memory, written together at most once a minute for each.

use domain::time::Timestamp;
use event_store::log::StoreError;
use event_store::verifiers::Verifiers;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use uuid::Uuid;

/// How long a use stands for those after it, in milliseconds.
const GRAIN_MS: i64 = 60_000;
/// The most that is noted between two writes; what is beyond is noted the next time.
const MOST: usize = 100_000;

/// The last use of one session or key that is known to have been noted. Part of a remembered caller.
#[derive(Debug, Default)]
pub(crate) struct LastNoted(AtomicI64);

/// Uses that are not written yet.
#[derive(Default)]
pub(super) struct Uses {
    noted: Mutex<HashMap<Uuid, Timestamp>>,
}

impl Uses {
    /// Notes a use, unless one was noted less than a minute ago: then it costs one look.
    pub(super) fn note(&self, id: Uuid, last: &LastNoted, now: Timestamp) {
        let before = last.0.load(Ordering::Relaxed);
        if now.unix_ms().saturating_sub(before) < GRAIN_MS {
            return;
        }
        last.0.store(now.unix_ms(), Ordering::Relaxed);
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if noted.len() < MOST {
            noted.insert(id, now);
        }
    }

    /// When something was last used, as far as it is not written yet.
    pub(super) fn of(&self, id: Uuid) -> Option<Timestamp> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }

    /// Writes what was noted. What cannot be written is forgotten: the next use is noted again.
    pub(super) async fn write(&self, verifiers: &dyn Verifiers) -> Result<(), StoreError> {
        let noted = std::mem::take(&mut *self.noted.lock().unwrap_or_else(PoisonError::into_inner));
        let noted: Vec<_> = noted.into_iter().collect();
        verifiers.note_uses(&noted).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_use_is_noted_once_a_minute() {
        let (uses, last, id) = (Uses::default(), LastNoted::default(), Uuid::from_u128(1));
        let start = Timestamp::from_unix_ms(1_000_000);
        uses.note(id, &last, start);
        uses.note(id, &last, start.plus_ms(59_999));
        assert_eq!(uses.of(id), Some(start));
        uses.note(id, &last, start.plus_ms(60_000));
        assert_eq!(uses.of(id), Some(start.plus_ms(60_000)));
    }
}
