//! A stream of events that fails, forgets and goes away as a test likes.

use async_trait::async_trait;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use uuid::Uuid;

use bus::{BusError, EventPublisher};
use domain::event::RecordedEvent;
use domain::ids::{Partition, Position};

/// The stream, as one JetStream would hold it.
#[derive(Default)]
pub(crate) struct FakeStream(Mutex<State>);

#[derive(Default)]
struct State {
    stored: Vec<Position>,
    /// By partition: offsets in the order in which a subscriber first saw them.
    first_seen: BTreeMap<u16, Vec<u64>>,
    ids: HashMap<Uuid, Position>,
    away: bool,
    /// Fails after this many more events.
    fails_in: Option<usize>,
    needs_reset: bool,
    /// Whether the next reset says that the stream is not the one it was.
    is_broken: bool,
    /// Whether calls never end.
    is_stuck: bool,
    largest_call: usize,
    calls: usize,
    max_age: Option<Duration>,
}

fn failed() -> BusError {
    BusError { operation: "publish".to_owned(), source: "a fault of the test".into() }
}

impl FakeStream {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }

    pub(crate) fn go_away(&self) {
        self.state().away = true;
        self.state().needs_reset = true;
    }

    pub(crate) fn come_back(&self) {
        self.state().away = false;
    }

    /// Fails in the middle of a call, after this many more events were stored.
    pub(crate) fn fail_in(&self, events: usize) {
        self.state().fails_in = Some(events);
    }

    /// Loses its last events, or all; as after a restart, whoever publishes must begin anew.
    pub(crate) fn keep(&self, events: usize) {
        let mut state = self.state();
        state.stored.truncate(events);
        state.needs_reset = true;
    }

    /// Is made anew and has only the last event of each partition, as if another had published it since.
    pub(crate) fn keep_only_ends(&self) {
        let mut state = self.state();
        let ends: BTreeMap<u16, Position> = state.stored.iter().map(|at| (at.partition.0, *at)).collect();
        state.stored = ends.into_values().collect();
        (state.needs_reset, state.is_broken) = (true, true);
    }

    /// Publishing does not come to an end from now on.
    pub(crate) fn get_stuck(&self) {
        self.state().is_stuck = true;
    }

    pub(crate) fn keep_events_for(&self, age: Duration) {
        self.state().max_age = Some(age);
    }

    /// Holds an event that the log does not have.
    pub(crate) fn is_ahead(&self, position: Position) {
        self.state().stored.push(position);
    }

    pub(crate) fn stored(&self) -> usize {
        self.state().stored.len()
    }

    pub(crate) fn calls(&self) -> usize {
        self.state().calls
    }

    /// Every offset up to the heads was seen, and for the first time in its order.
    pub(crate) fn has_all(&self, heads: &[(Partition, u64)]) -> bool {
        let state = self.state();
        assert!(state.largest_call <= 500);
        heads.iter().all(|(partition, head)| {
            let seen = state.first_seen.get(&partition.0).map_or(&[][..], Vec::as_slice);
            let dense: Vec<u64> = (1..=seen.len() as u64).collect();
            assert_eq!(seen, dense, "partition {partition}");
            seen.len() as u64 >= *head
        })
    }

    /// Whether the stream holds every offset up to the heads now.
    pub(crate) fn holds_all(&self, heads: &[(Partition, u64)]) -> bool {
        let held: std::collections::HashSet<Position> = self.state().stored.iter().copied().collect();
        heads.iter().all(|(partition, head)| {
            (1..=*head).all(|offset| held.contains(&Position { partition: *partition, offset }))
        })
    }
}

#[async_trait]
impl EventPublisher for FakeStream {
    async fn reset(&self) -> Result<bus::Continuity, BusError> {
        let mut state = self.state();
        if state.away {
            return Err(failed());
        }
        state.needs_reset = false;
        let is_broken = std::mem::take(&mut state.is_broken);
        Ok(if is_broken { bus::Continuity::Broken } else { bus::Continuity::Kept })
    }

    async fn last_published(&self, partition: Partition) -> Result<Option<Position>, BusError> {
        let state = self.state();
        if state.needs_reset {
            return Err(failed());
        }
        Ok(state.stored.iter().rev().find(|position| position.partition == partition).copied())
    }

    async fn publish(&self, events: &[Arc<RecordedEvent>]) -> Result<(), BusError> {
        tokio::task::yield_now().await;
        let is_stuck = self.state().is_stuck;
        if is_stuck {
            self.state().calls += 1;
            std::future::pending::<()>().await;
        }
        let mut state = self.state();
        state.calls += 1;
        state.largest_call = state.largest_call.max(events.len());
        for event in events {
            if state.needs_reset {
                return Err(failed());
            }
            if state.fails_in == Some(0) {
                state.fails_in = None;
                state.needs_reset = true;
                return Err(failed());
            }
            state.fails_in = state.fails_in.map(|left| left - 1);
            state.stored.push(event.position);
            if state.ids.insert(event.id, event.position).is_none() {
                let seen = state.first_seen.entry(event.position.partition.0).or_default();
                seen.push(event.position.offset);
            }
        }
        Ok(())
    }

    fn max_age(&self) -> Duration {
        self.state().max_age.unwrap_or(Duration::from_secs(7 * 24 * 60 * 60))
    }
}
