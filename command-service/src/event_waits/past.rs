//! What came before a wait: rounds over the log, each for a number of waits, from the earliest `since` among them up to
//! where events were followed when they came in.
//!
//! Times never go back within a partition, so the first event of a time is found by search. Most waits begin to look at
//! the start of their execution, which is close to the end of the log: the search begins there.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

use domain::ids::Partition;
use domain::time::Timestamp;
use event_store::{Log, StoreError};

use crate::error::report;

use super::EventWaits;
use super::index::Index;
use super::offering::Candidate;
use super::registry::Wait;

/// Events read from the log at a time.
const PAGE: usize = 500;
/// Pause after the log could not be read; doubled each time.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Some waits whose past is looked at together.
pub(super) struct Round {
    pub(super) log: Arc<dyn Log>,
    pub(super) waits: Arc<EventWaits>,
    pub(super) found: mpsc::Sender<Candidate>,
    index: Index,
    members: HashMap<u64, Wait>,
    since: Timestamp,
}

impl Round {
    pub(super) fn new(
        log: Arc<dyn Log>,
        waits: Arc<EventWaits>,
        found: mpsc::Sender<Candidate>,
        fresh: Vec<(u64, Wait)>,
    ) -> Self {
        let mut index = Index::default();
        for (number, wait) in &fresh {
            wait.wanted.iter().for_each(|wanted| index.insert(&wait.tenant, *number, wanted));
        }
        let all = fresh.iter().flat_map(|(_, wait)| &wait.wanted);
        let since = all.map(|wanted| wanted.since).min().unwrap_or_default();
        Self { log, waits, found, index, members: fresh.into_iter().collect(), since }
    }

    /// Looks at every partition until no member is left that waits.
    pub(super) async fn run(mut self) {
        for number in 0..self.log.partitions() {
            let partition = Partition(number);
            let mut next = None;
            let mut pause = PAUSE;
            while let Err(error) = self.partition(partition, &mut next).await {
                tracing::warn!(partition = %partition, error = %report(&error), "events that came before a wait cannot be read; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            if self.members.is_empty() {
                return;
            }
        }
    }

    /// One partition, from `next` if part of it was read already.
    async fn partition(&mut self, partition: Partition, next: &mut Option<u64>) -> Result<(), StoreError> {
        let until = self.until(partition);
        let mut after = match *next {
            Some(after) => after,
            None => before(&*self.log, partition, self.since, until).await?,
        };
        while after < until {
            self.forget_those_gone();
            if self.members.is_empty() {
                return Ok(());
            }
            let page = self.log.read_partition(partition, after, PAGE).await?;
            let Some(last) = page.last().map(|event| event.position.offset) else { return Ok(()) };
            for event in page.iter().take_while(|event| event.position.offset <= until) {
                for (place, found) in self.index.candidates(event) {
                    // Later ones meet the wait where events are followed.
                    let wait = self.members.get(&place.0);
                    let is_past = wait.is_some_and(|wait| event.position.offset <= until_of(wait, partition));
                    if is_past && self.found.send(Candidate { place, found }).await.is_err() {
                        return Ok(());
                    }
                }
            }
            after = last;
            *next = Some(last);
        }
        Ok(())
    }

    fn until(&self, partition: Partition) -> u64 {
        self.members.values().map(|wait| until_of(wait, partition)).max().unwrap_or(0)
    }

    fn forget_those_gone(&mut self) {
        let registry = self.waits.registry();
        self.members.retain(|number, _| registry.get(*number).is_some());
    }
}

fn until_of(wait: &Wait, partition: Partition) -> u64 {
    let until = wait.until.as_ref().and_then(|until| until.get(usize::from(partition.0)));
    until.copied().unwrap_or(0)
}

/// The offset before the first event that was recorded at or after a time, looked for from `until` backwards; `until`
/// if there is none up to it.
pub(super) async fn before(
    log: &dyn Log,
    partition: Partition,
    since: Timestamp,
    until: u64,
) -> Result<u64, StoreError> {
    let is_late = async |offset: u64| -> Result<bool, StoreError> {
        let event = log.read_partition(partition, offset - 1, 1).await?;
        Ok(event.first().is_none_or(|event| event.recorded_at >= since))
    };
    // The event at `late` is late, or `late` is behind the last; the one at `early` is not, or `early` is 0.
    let (mut early, mut late) = (until, until + 1);
    let mut step = 1;
    while early > 0 && is_late(early).await? {
        late = early;
        early = early.saturating_sub(step);
        step *= 4;
    }
    while late - early > 1 {
        let middle = early + (late - early) / 2;
        if is_late(middle).await? { late = middle } else { early = middle }
    }
    Ok(early)
}
