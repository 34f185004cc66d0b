//! The open waits for events of the partitions that this process owns, and up to where events were held against them.
//!
//! One lock for both: a wait that comes in notes how far each partition was followed then. What comes later meets the
//! wait in the index; what came before is looked for. So nothing falls between.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use uuid::Uuid;

use domain::event::RecordedEvent;
use domain::execution::event::{WaitCondition, WaitFor};
use domain::ids::{Partition, TenantId};

use super::index::{Found, Index, Place, Wanted};

/// A path of a `wait` node.
pub(super) type Path = Arc<str>;

/// A wait.
#[derive(Debug, Clone)]
pub(super) struct Wait {
    pub(super) execution: Uuid,
    pub(super) path: Path,
    pub(super) run: u32,
    pub(super) tenant: TenantId,
    /// Its conditions that are for events and not met.
    pub(super) wanted: Vec<Wanted>,
    /// Up to where in each partition events must be looked for; `None`: nothing was followed when it came in.
    pub(super) until: Option<Arc<[u64]>>,
}

/// What is known of a partition whose open waits are being read from the log.
#[derive(Debug, Default)]
struct Loading {
    /// Which reading it is; an older one's finds are not taken in.
    number: u64,
    /// Waits that ended meanwhile; the log may have been read before.
    closed: HashSet<(Uuid, Path)>,
    ended: HashSet<Uuid>,
}

#[derive(Debug)]
pub(super) struct Registry {
    partitions: u16,
    limit: usize,
    waits: HashMap<u64, Wait>,
    of_execution: HashMap<Uuid, BTreeMap<Path, u64>>,
    index: Index,
    next: u64,
    /// Waits whose past was not looked at yet.
    fresh: BTreeSet<u64>,
    /// How far each partition was followed; `None`: nothing is followed.
    live: Option<Vec<u64>>,
    /// By number of each partition that is owned and not read yet.
    loading: BTreeMap<u16, Loading>,
    readings: u64,
    /// Partitions whose waits must be read, with the number of the reading.
    to_load: BTreeMap<u16, u64>,
    /// Executions whose own stream says which waits are open.
    to_look: BTreeSet<Uuid>,
    /// Those whose stream is being read, and whether a wait of theirs ended meanwhile.
    looking: BTreeMap<Uuid, bool>,
    /// Whether a wait found no room.
    pub(super) overflowed: bool,
}

/// The conditions for events among those of a wait.
pub(super) fn wanted_of(conditions: &[WaitCondition]) -> Vec<Wanted> {
    let of_events = conditions.iter().zip(0..).filter(|(condition, _)| condition.wait_for == WaitFor::Event);
    let wanted = of_events.filter_map(|(condition, number)| {
        let event_type = condition.event_type.clone()?;
        Some(Wanted { condition: number, event_type, key: condition.key.clone(), since: condition.since })
    });
    wanted.collect()
}

impl Registry {
    pub(super) fn new(partitions: u16, limit: usize) -> Self {
        Self {
            partitions,
            limit,
            waits: HashMap::new(),
            of_execution: HashMap::new(),
            index: Index::default(),
            next: 0,
            fresh: BTreeSet::new(),
            live: None,
            loading: BTreeMap::new(),
            readings: 0,
            to_load: BTreeMap::new(),
            to_look: BTreeSet::new(),
            looking: BTreeMap::new(),
            overflowed: false,
        }
    }

    /// Whether what ends is of any interest.
    pub(super) fn is_idle(&self) -> bool {
        self.waits.is_empty() && self.loading.is_empty() && self.to_look.is_empty() && self.looking.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waits.is_empty()
    }

    pub(super) fn get(&self, wait: u64) -> Option<&Wait> {
        self.waits.get(&wait)
    }

    /// A wait is open.
    pub(super) fn open(
        &mut self,
        tenant: &TenantId,
        execution: Uuid,
        path: &str,
        run: u32,
        wanted: Vec<Wanted>,
    ) {
        if let Some((_, number)) =
            self.of_execution.get(&execution).and_then(|paths| paths.get_key_value(path))
        {
            if self.waits.get(number).is_some_and(|wait| wait.run >= run) {
                return;
            }
            self.close(execution, path);
        }
        if wanted.is_empty() {
            return;
        }
        if self.waits.len() >= self.limit {
            self.overflowed = true;
            return;
        }
        let (number, path) = (self.next, Path::from(path));
        self.next += 1;
        for wanted in &wanted {
            self.index.insert(tenant, number, wanted);
        }
        let until = self.live.as_deref().map(Arc::from);
        let wait = Wait { execution, path: path.clone(), run, tenant: tenant.clone(), wanted, until };
        self.waits.insert(number, wait);
        self.of_execution.entry(execution).or_default().insert(path, number);
        self.fresh.insert(number);
    }

    /// One that was found in the log is open, unless it ended while the log was read.
    pub(super) fn found(&mut self, partition: Partition, reading: u64, wait: Wait) {
        let loading = self.loading.get(&partition.0);
        let Some(loading) = loading.filter(|loading| loading.number == reading) else { return };
        let place = (wait.execution, wait.path.clone());
        if !loading.ended.contains(&wait.execution) && !loading.closed.contains(&place) {
            self.open(&wait.tenant, wait.execution, &wait.path, wait.run, wait.wanted);
        }
    }

    /// What the stream of an execution says is open. If something ended while it was read, it is read again.
    pub(super) fn looked(&mut self, execution: Uuid, waits: Vec<Wait>) {
        match self.looking.remove(&execution) {
            Some(false) => {
                for wait in waits {
                    self.open(&wait.tenant, execution, &wait.path, wait.run, wait.wanted);
                }
            }
            Some(true) => self.look(execution),
            None => {}
        }
    }

    /// A condition is met.
    pub(super) fn met(&mut self, execution: Uuid, path: &str, condition: u32) {
        let Some(number) = self.of_execution.get(&execution).and_then(|paths| paths.get(path)) else {
            return;
        };
        let Some(wait) = self.waits.get_mut(number) else { return };
        let Some(at) = wait.wanted.iter().position(|wanted| wanted.condition == condition) else { return };
        let wanted = wait.wanted.remove(at);
        self.index.remove(&wait.tenant, *number, &wanted);
    }

    /// A wait is over.
    pub(super) fn close(&mut self, execution: Uuid, path: &str) {
        if let Some(loading) = self.loading_of(execution) {
            loading.closed.insert((execution, Path::from(path)));
        }
        if let Some(changed) = self.looking.get_mut(&execution) {
            *changed = true;
        }
        let Some(paths) = self.of_execution.get_mut(&execution) else { return };
        let number = paths.remove(path);
        if paths.is_empty() {
            self.of_execution.remove(&execution);
        }
        if let Some(number) = number {
            self.forget(number);
        }
    }

    /// An execution is over.
    pub(super) fn end(&mut self, execution: Uuid) {
        self.to_look.remove(&execution);
        self.looking.remove(&execution);
        if let Some(loading) = self.loading_of(execution) {
            loading.ended.insert(execution);
        }
        for number in self.of_execution.remove(&execution).unwrap_or_default().into_values() {
            self.forget(number);
        }
    }

    fn loading_of(&mut self, execution: Uuid) -> Option<&mut Loading> {
        self.loading.get_mut(&Partition::of(execution, self.partitions).0)
    }

    fn forget(&mut self, number: u64) {
        self.fresh.remove(&number);
        let Some(wait) = self.waits.remove(&number) else { return };
        for wanted in &wait.wanted {
            self.index.remove(&wait.tenant, number, wanted);
        }
    }

    /// The open waits of a partition must be read from the log, once more if they were read before.
    pub(super) fn load(&mut self, partition: Partition) {
        self.readings += 1;
        let loading = self.loading.entry(partition.0).or_default();
        loading.number = self.readings;
        self.to_load.insert(partition.0, self.readings);
    }

    /// A partition is not owned any more.
    pub(super) fn drop_partition(&mut self, partition: Partition) {
        self.loading.remove(&partition.0);
        self.to_load.remove(&partition.0);
        let partitions = self.partitions;
        let theirs = |execution: &Uuid| Partition::of(*execution, partitions) == partition;
        self.to_look.retain(|execution| !theirs(execution));
        self.looking.retain(|execution, _| !theirs(execution));
        let executions: Vec<Uuid> = self.of_execution.keys().filter(|id| theirs(id)).copied().collect();
        for execution in executions {
            self.end(execution);
        }
    }

    /// The stream of an execution says which waits are open.
    pub(super) fn look(&mut self, execution: Uuid) {
        self.to_look.insert(execution);
    }

    /// The next partition to read, with the number of the reading.
    pub(super) fn next_to_load(&mut self) -> Option<(Partition, u64)> {
        self.to_load.pop_first().map(|(partition, number)| (Partition(partition), number))
    }

    /// The next execution to look at.
    pub(super) fn next_to_look(&mut self) -> Option<Uuid> {
        let execution = self.to_look.pop_first()?;
        self.looking.insert(execution, false);
        Some(execution)
    }

    /// A reading has come to its end.
    pub(super) fn loaded(&mut self, partition: Partition, reading: u64) {
        if self.loading.get(&partition.0).is_some_and(|loading| loading.number == reading) {
            self.loading.remove(&partition.0);
        }
    }

    /// Whether a reading is still wanted.
    pub(super) fn is_loading(&self, partition: Partition, reading: u64) -> bool {
        self.loading.get(&partition.0).is_some_and(|loading| loading.number == reading)
    }

    /// Follows from these offsets on. Waits that came in while nothing was followed look for what came before.
    pub(super) fn activate(&mut self, heads: Vec<u64>) {
        let until: Arc<[u64]> = heads.as_slice().into();
        for wait in self.waits.values_mut() {
            wait.until.get_or_insert_with(|| until.clone());
        }
        self.live = Some(heads);
    }

    /// Follows nothing any more, unless there are waits again.
    pub(super) fn deactivate(&mut self) -> bool {
        if self.waits.is_empty() {
            self.live = None;
        }
        self.live.is_none()
    }

    /// How far a partition was followed.
    pub(super) fn followed(&self, partition: Partition) -> Option<u64> {
        self.live.as_ref().and_then(|live| live.get(usize::from(partition.0))).copied()
    }

    /// Follows a partition over its next event. `None`: it is not the next one.
    pub(super) fn follow(&mut self, event: &RecordedEvent) -> Option<Vec<(Place, Arc<Found>)>> {
        let followed = self.live.as_mut()?.get_mut(usize::from(event.position.partition.0))?;
        if event.position.offset != *followed + 1 {
            return None;
        }
        *followed += 1;
        Some(self.index.candidates(event))
    }

    /// Waits whose past must be looked at, at most `limit`; none before something is followed.
    pub(super) fn take_fresh(&mut self, limit: usize) -> Vec<(u64, Wait)> {
        let mut taken = Vec::new();
        while taken.len() < limit
            && self.live.is_some()
            && let Some(number) = self.fresh.pop_first()
        {
            if let Some(wait) = self.waits.get(&number) {
                taken.push((number, wait.clone()));
            }
        }
        taken
    }

    /// Whether there is room again for waits that found none.
    pub(super) fn has_room_again(&self) -> bool {
        self.overflowed && self.waits.len() < self.limit / 2
    }
}

#[cfg(test)]
mod tests;
