//! Wakeups: fires what is due, as commands whose ids are derived, so that firing twice has one effect.
//!
//! Rows in the store are the truth. In memory are those due within the horizon: put in as they are committed,
//! and read from the store as the horizon moves. A partition whose rows could not be read is read again from where
//! it was; until then none of its rows are forgotten. A row is forgotten once it is past and everything before it
//! in its partition has been fired. Partitions come and go; one that is given up takes its wakeups along. A wakeup that is no longer needed does no harm: its decider refuses it.

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use bus::{CommandError, CommandHandler};
use domain::command::{Command, CommandEnvelope};
use domain::decision::{Wakeup, WakeupKind};
use domain::execution::FINAL_EVENT_TYPES;
use domain::execution::command::ExecutionCommand;
use domain::ids::{Actor, Partition, Slot, TenantId, derived_id};
use domain::time::{Clock, Timestamp};
use event_store::log::WakeupCursor;
use event_store::{Log, StoreError};

use crate::error::report;
use crate::owned::Owned;

/// Wakeups fired at the same time.
const MAX_FIRING: usize = 256;
/// Rows read from the store at a time.
const PAGE: usize = 5_000;
/// Rows forgotten at a time.
const FORGET: usize = 5_000;
/// Pause before a wakeup whose command was not answered is fired again, in milliseconds; doubled each time.
const RETRY_MS: u64 = 1_000;
/// The longest such pause, in milliseconds.
const MAX_RETRY_MS: u64 = 5 * 60 * 1_000;
/// How often past rows are forgotten and overdue ones looked for, unless the horizon is shorter, in milliseconds.
const SWEEP_EVERY_MS: u64 = 10_000;
/// Rows are kept for this long after their time, in milliseconds.
const KEEP_PAST_MS: i64 = 30_000;

/// Before every wakeup.
const NEVER: Timestamp = Timestamp::MIN;

/// The wakeups of all partitions that this process owns.
pub(crate) struct Timers {
    horizon_ms: u64,
    partitions: u16,
    clock: Arc<dyn Clock>,
    owned: Arc<Owned>,
    held: Mutex<Held>,
    changed: Notify,
}

#[derive(Default)]
struct Held {
    /// What is committed and due up to here goes straight into memory.
    until: Timestamp,
    /// When the queue is looked at next, unless somebody says that it has changed.
    looks_at: Timestamp,
    /// By number of each partition that is owned.
    loaded: BTreeMap<u16, Loaded>,
    queue: BTreeMap<Key, Entry>,
    by_stream: HashMap<Uuid, Vec<Wakeup>>,
}

/// How far a partition's rows are in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Loaded {
    /// The tenure.
    epoch: u64,
    /// Rows due up to here have been read from the store.
    until: Timestamp,
    /// How often everything had to be read once more: a reading that began before does not count.
    again: u64,
}

/// Ordered by due time first.
type Key = (Timestamp, Uuid, WakeupKind);

struct Entry {
    tenant: TenantId,
    /// Not before this time; later than due after a failure.
    not_before: Timestamp,
    failures: u32,
    firing: bool,
}

impl Held {
    fn insert(&mut self, tenant: &TenantId, stream: Uuid, wakeup: Wakeup) {
        let key = (wakeup.due_at, stream, wakeup.kind.clone());
        if self.queue.contains_key(&key) {
            return;
        }
        let entry = Entry { tenant: tenant.clone(), not_before: wakeup.due_at, failures: 0, firing: false };
        self.queue.insert(key, entry);
        self.by_stream.entry(stream).or_default().push(wakeup);
    }

    fn remove(&mut self, key: &Key) {
        self.queue.remove(key);
        if let Some(wakeups) = self.by_stream.get_mut(&key.1) {
            wakeups.retain(|wakeup| wakeup.due_at != key.0 || wakeup.kind != key.2);
            if wakeups.is_empty() {
                self.by_stream.remove(&key.1);
            }
        }
    }
}

impl Timers {
    pub(crate) fn new(horizon_ms: u64, partitions: u16, clock: Arc<dyn Clock>, owned: Arc<Owned>) -> Self {
        let until = clock.now().plus_ms(horizon_ms);
        let held = Held { until, looks_at: Timestamp::MAX, ..Held::default() };
        Self { horizon_ms, partitions, clock, owned, held: Mutex::new(held), changed: Notify::new() }
    }

    /// A partition is owned from now on.
    pub(crate) fn adopt(&self, partition: Partition, epoch: u64) {
        self.held().loaded.insert(partition.0, Loaded { epoch, until: NEVER, again: 0 });
    }

    /// A partition is not owned any more: whoever owns it fires its wakeups.
    pub(crate) fn drop_partition(&self, partition: Partition) {
        let mut held = self.held();
        held.loaded.remove(&partition.0);
        let theirs = |stream: Uuid| Partition::of(stream, self.partitions) == partition;
        held.queue.retain(|key, _| !theirs(key.1));
        held.by_stream.retain(|stream, _| !theirs(*stream));
    }

    /// Takes committed wakeups in, as far as the horizon reaches.
    pub(crate) fn add(&self, tenant: &TenantId, stream: Uuid, wakeups: Vec<Wakeup>) {
        if wakeups.is_empty() {
            return;
        }
        let mut held = self.held();
        let mut sooner = false;
        for wakeup in wakeups {
            if wakeup.due_at <= held.until {
                // Not only if it is the first: those before it may be waiting after a failure.
                sooner |= wakeup.due_at < held.looks_at;
                held.insert(tenant, stream, wakeup);
            }
        }
        if sooner {
            self.changed.notify_one();
        }
    }

    /// Forgets a wakeup that is no longer needed.
    pub(crate) fn forget(&self, stream: Uuid, kind: &WakeupKind) {
        let mut held = self.held();
        let Some(wakeups) = held.by_stream.get(&stream) else { return };
        let keys: Vec<Key> = wakeups
            .iter()
            .filter(|wakeup| wakeup.kind == *kind)
            .map(|wakeup| (wakeup.due_at, stream, wakeup.kind.clone()))
            .collect();
        for key in keys {
            held.remove(&key);
        }
    }

    /// Forgets every wakeup of a stream that is finished.
    pub(crate) fn forget_stream(&self, stream: Uuid) {
        let mut held = self.held();
        for wakeup in held.by_stream.remove(&stream).unwrap_or_default() {
            held.queue.remove(&(wakeup.due_at, stream, wakeup.kind));
        }
    }

    /// Reads the wakeups of a partition that are not in memory yet, up to the horizon.
    pub(crate) async fn load(&self, log: &dyn Log, partition: Partition) -> Result<(), StoreError> {
        let (from, until) = {
            let held = self.held();
            match held.loaded.get(&partition.0) {
                Some(loaded) => (*loaded, held.until),
                None => return Ok(()),
            }
        };
        let mut cursor = WakeupCursor::after_time(from.until);
        loop {
            let page = log.wakeups(partition, &cursor, until, &FINAL_EVENT_TYPES, PAGE).await?;
            let mut held = self.held();
            // Given up meanwhile, perhaps taken over anew: then these rows are not all that must be read.
            if held.loaded.get(&partition.0).is_none_or(|loaded| loaded.epoch != from.epoch) {
                return Ok(());
            }
            for row in &page {
                held.insert(&row.tenant, row.stream, row.wakeup.clone());
            }
            match page.last() {
                Some(last) if page.len() >= PAGE => cursor = WakeupCursor::after_row(last),
                _ => {
                    // Unless there is more to read by now than there was.
                    if let Some(loaded) = held.loaded.get_mut(&partition.0).filter(|loaded| **loaded == from)
                    {
                        loaded.until = until;
                    }
                    break;
                }
            }
        }
        self.changed.notify_one();
        Ok(())
    }

    /// Has all of a partition's rows read once more.
    pub(crate) fn load_again(&self, partition: Partition) {
        if let Some(loaded) = self.held().loaded.get_mut(&partition.0) {
            loaded.until = NEVER;
            loaded.again += 1;
        }
    }

    /// Fires what is due until the shutdown.
    pub(crate) async fn run(
        &self,
        log: Arc<dyn Log>,
        handler: Arc<dyn CommandHandler>,
        shutdown: CancellationToken,
    ) {
        let mut firing = FuturesUnordered::new();
        let mut sweep =
            tokio::time::interval(Duration::from_millis(SWEEP_EVERY_MS.min(self.horizon_ms / 2).max(1)));
        sweep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let pause = loop {
                if firing.len() >= MAX_FIRING {
                    break self.horizon_ms;
                }
                match self.next_due() {
                    Due::Now(key, tenant) => firing.push(fire(handler.clone(), key, tenant)),
                    Due::InMs(ms) => break ms,
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some((key, result)) = firing.next(), if !firing.is_empty() => self.fired(&key, result),
                () = self.changed.notified() => {}
                () = tokio::time::sleep(Duration::from_millis(pause)) => {}
                _ = sweep.tick() => self.sweep(&*log).await,
            }
        }
    }

    fn next_due(&self) -> Due {
        let now = self.clock.now();
        let mut held = self.held();
        held.looks_at = Timestamp::MAX;
        let mut soonest = self.horizon_ms;
        for (key, entry) in &mut held.queue {
            if key.0 > now {
                soonest = soonest.min(key.0.since_ms(now));
                break;
            }
            if entry.firing {
                continue;
            }
            if entry.not_before > now {
                soonest = soonest.min(entry.not_before.since_ms(now));
                continue;
            }
            entry.firing = true;
            return Due::Now(key.clone(), entry.tenant.clone());
        }
        let pause = soonest.max(1);
        held.looks_at = now.plus_ms(pause);
        Due::InMs(pause)
    }

    fn fired(&self, key: &Key, result: Result<(), CommandError>) {
        let mut held = self.held();
        match result {
            Ok(()) | Err(CommandError::Rejected(_) | CommandError::DigestMismatch) => held.remove(key),
            Err(CommandError::Overloaded | CommandError::NotOwner | CommandError::Unknown(_)) => {
                let now = self.clock.now();
                if let Some(entry) = held.queue.get_mut(key) {
                    let pause = RETRY_MS.saturating_mul(1 << entry.failures.min(16)).min(MAX_RETRY_MS);
                    entry.firing = false;
                    entry.failures += 1;
                    entry.not_before = now.plus_ms(pause);
                }
            }
        }
    }

    /// Moves the horizon, reads what has come within it, and forgets rows that are dealt with.
    async fn sweep(&self, log: &dyn Log) {
        let now = self.clock.now();
        {
            // Moved before the rows are read: what is committed meanwhile goes straight into memory.
            let mut held = self.held();
            held.until = held.until.max(now.plus_ms(self.horizon_ms));
        }
        let partitions: Vec<u16> = self.held().loaded.keys().copied().collect();
        for partition in partitions.into_iter().map(Partition) {
            let swept = async {
                self.load(log, partition).await?;
                // Rows are dropped only where nobody else can have put any in that this process does not know.
                let Some(first) = self.earliest(partition).filter(|_| self.owned.trusts(partition)) else {
                    return Ok(false);
                };
                let past = Timestamp::from_unix_ms(now.unix_ms() - KEEP_PAST_MS).min(first);
                log.forget_past(partition, Timestamp::from_unix_ms(past.unix_ms() - 1), now, FORGET).await
            };
            if let Err(error) = swept.await {
                tracing::warn!(partition = %partition, error = %report(&error), "wakeups could not be swept; trying again later");
            }
        }
    }

    /// When the first wakeup that has not been fired was due, in a partition that is owned and read to the end.
    fn earliest(&self, partition: Partition) -> Option<Timestamp> {
        let held = self.held();
        held.loaded.get(&partition.0).filter(|loaded| loaded.until > NEVER)?;
        let mut of_partition =
            held.queue.keys().filter(|key| Partition::of(key.1, self.partitions) == partition);
        Some(of_partition.next().map_or(Timestamp::MAX, |key| key.0))
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        // The rows are in the store; a panic elsewhere can at worst delay a wakeup until the next sweep.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Due {
    Now(Key, TenantId),
    InMs(u64),
}

async fn fire(
    handler: Arc<dyn CommandHandler>,
    key: Key,
    tenant: TenantId,
) -> (Key, Result<(), CommandError>) {
    let (due_at, stream, kind) = key.clone();
    let text = kind.to_string();
    let id = derived_id(due_at, Slot::of(stream), &[b"wake", stream.as_bytes(), text.as_bytes()]);
    let command = CommandEnvelope {
        id,
        tenant,
        actor: Actor::system("timer"),
        stream,
        correlation_id: stream,
        causation_id: id,
        traceparent: None,
        digest: None,
        command: Command::Execution(ExecutionCommand::Wake(Wakeup { due_at, kind })),
        authority: None,
    };
    let result = handler.handle(command).await.map(|_| ());
    (key, result)
}
