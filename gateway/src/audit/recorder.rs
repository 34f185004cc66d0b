//! The buffer of entries and its way into the log.

use bus::{CommandError, Commands};
use domain::audit::command::AuditCommand;
use domain::audit::event::{AuditEntry, AuditResult};
use domain::audit::{MAX_ENTRIES, stream_of};
use domain::command::{Command, CommandEnvelope};
use domain::ids::{Actor, Slot, TenantId, new_id};
use domain::time::Clock;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::folds::Folds;

/// How long an entry waits for others.
const LINGER: Duration = Duration::from_millis(250);
/// How long somebody waits for an entry to be in the log.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one try to send a batch may take.
const TRY_TIME: Duration = Duration::from_secs(10);
/// The first pause before a batch is sent again; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Batches under way at once, each of another tenant.
const AT_ONCE: usize = 16;
/// How long what is left may take at the end.
const FLUSH_TIME: Duration = Duration::from_secs(3);

/// Buffers entries and sends them.
pub(crate) struct Recorder {
    state: Mutex<State>,
    /// The most entries in memory, those under way included.
    most: usize,
    /// Something is to be sent at once.
    due: Notify,
    /// There is room again.
    room: Notify,
    recorded: AtomicU64,
    lost: AtomicU64,
    tries_failed: AtomicU64,
}

#[derive(Default)]
struct State {
    tenants: HashMap<TenantId, Waiting>,
    /// Entries of all tenants, those under way included.
    entries: usize,
    folds: Folds,
}

/// What waits of one tenant.
#[derive(Default)]
struct Waiting {
    entries: VecDeque<Pending>,
    /// Somebody waits for one of them.
    urgent: bool,
    /// A batch is under way; the next one follows it, so that entries stay in order.
    sending: bool,
    /// Entries that there was no room for since the last batch.
    lost: u32,
}

struct Pending {
    entry: AuditEntry,
    written: Option<oneshot::Sender<()>>,
}

struct Batch {
    tenant: TenantId,
    entries: Vec<AuditEntry>,
    written: Vec<oneshot::Sender<()>>,
    /// How many places of the buffer it has.
    places: usize,
}

/// Which batches begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    All,
    /// Those that somebody waits for, and full ones.
    Urgent,
}

impl Recorder {
    pub(crate) fn new(most: u32) -> Self {
        Self {
            state: Mutex::default(),
            most: (most as usize).max(1),
            due: Notify::new(),
            room: Notify::new(),
            recorded: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            tries_failed: AtomicU64::new(0),
        }
    }

    /// Takes an entry. If there is no room it is lost, and counted.
    pub(crate) fn record(&self, tenant: &TenantId, entry: AuditEntry) {
        let mut state = self.lock();
        self.put_or_lose(&mut state, tenant, entry);
    }

    /// Takes a denied attempt, which is told together with others like it.
    pub(crate) fn record_denied(&self, tenant: &TenantId, entry: AuditEntry) {
        let mut state = self.lock();
        if let Some(entry) = state.folds.add(tenant, entry, Instant::now()) {
            self.put_or_lose(&mut state, tenant, entry);
        }
    }

    /// Takes an entry as soon as there is room, and waits until it is in the log; not for ever.
    pub(crate) async fn record_and_wait(&self, tenant: &TenantId, entry: AuditEntry) {
        let mut entry = Some(entry);
        let work = async {
            loop {
                let room = self.room.notified();
                if let Some(taken) = entry.take() {
                    match self.put_urgent(tenant, taken) {
                        // A recorder that has ended drops it; nobody can do more.
                        Ok(written) => return written.await.is_ok(),
                        Err(refused) => entry = Some(*refused),
                    }
                }
                room.await;
            }
        };
        let ended = tokio::time::timeout(PATIENCE, work).await;
        if ended != Ok(true) {
            tracing::warn!("an audit entry is not in the log in time; it follows when the log takes it");
        }
        if let Some(entry) = entry {
            self.lose(&mut self.lock(), tenant, entry.count);
        }
    }

    fn put_urgent(
        &self,
        tenant: &TenantId,
        entry: AuditEntry,
    ) -> Result<oneshot::Receiver<()>, Box<AuditEntry>> {
        let (sender, written) = oneshot::channel();
        let pending = Pending { entry, written: Some(sender) };
        self.put(&mut self.lock(), tenant, pending).map_err(|refused| Box::new(refused.entry))?;
        Ok(written)
    }

    fn put_or_lose(&self, state: &mut State, tenant: &TenantId, entry: AuditEntry) {
        if let Err(refused) = self.put(state, tenant, Pending { entry, written: None }) {
            self.lose(state, tenant, refused.entry.count);
        }
    }

    fn put(&self, state: &mut State, tenant: &TenantId, pending: Pending) -> Result<(), Box<Pending>> {
        if state.entries >= self.most {
            return Err(Box::new(pending));
        }
        state.entries += 1;
        let waiting = state.tenants.entry(tenant.clone()).or_default();
        let urgent = pending.written.is_some();
        waiting.urgent |= urgent;
        waiting.entries.push_back(pending);
        if (urgent || waiting.entries.len() >= MAX_ENTRIES) && !waiting.sending {
            self.due.notify_one();
        }
        Ok(())
    }

    fn lose(&self, state: &mut State, tenant: &TenantId, count: u32) {
        let waiting = state.tenants.entry(tenant.clone()).or_default();
        waiting.lost = waiting.lost.saturating_add(count);
        self.lost.fetch_add(u64::from(count), Ordering::Relaxed);
    }

    /// Sends what comes until the shutdown, then what is left.
    pub(crate) async fn run(&self, commands: &dyn Commands, clock: &dyn Clock, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LINGER);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sending = FuturesUnordered::new();
        loop {
            let which = tokio::select! {
                _ = ticks.tick() => Which::All,
                () = self.due.notified() => Which::Urgent,
                Some(()) = sending.next(), if !sending.is_empty() => Which::Urgent,
                () = stop.cancelled() => break,
            };
            let over = self.lock().folds.over(Instant::now());
            self.take_folded(over);
            while sending.len() < AT_ONCE
                && let Some(batch) = self.next_batch(which, clock)
            {
                sending.push(self.send(batch, commands, clock));
            }
        }
        let folded = self.lock().folds.all();
        self.take_folded(folded);
        let flush = async {
            loop {
                while let Some(batch) = self.next_batch(Which::All, clock) {
                    sending.push(self.send(batch, commands, clock));
                }
                if sending.next().await.is_none() {
                    return;
                }
            }
        };
        if tokio::time::timeout(FLUSH_TIME, flush).await.is_err() {
            let entries = self.lock().entries;
            tracing::error!(entries, "audit entries could not be recorded before the end and are lost");
        }
    }

    fn take_folded(&self, folded: Vec<(TenantId, AuditEntry)>) {
        let mut state = self.lock();
        for (tenant, entry) in folded {
            self.put_or_lose(&mut state, &tenant, entry);
        }
    }

    /// The next batch that may begin.
    fn next_batch(&self, which: Which, clock: &dyn Clock) -> Option<Batch> {
        let state = &mut *self.lock();
        let begins = |waiting: &Waiting| {
            let is_due = which == Which::All || waiting.urgent || waiting.entries.len() >= MAX_ENTRIES;
            let has_any = !waiting.entries.is_empty() || waiting.lost > 0;
            !waiting.sending && has_any && is_due
        };
        let (tenant, waiting) = state.tenants.iter_mut().find(|(_, waiting)| begins(waiting))?;
        let mut batch = Batch { tenant: tenant.clone(), entries: Vec::new(), written: Vec::new(), places: 0 };
        if waiting.lost > 0 {
            batch.entries.push(told_lost(tenant, std::mem::take(&mut waiting.lost), clock));
        }
        let most = MAX_ENTRIES - batch.entries.len();
        for pending in waiting.entries.drain(..waiting.entries.len().min(most)) {
            batch.places += 1;
            batch.written.extend(pending.written);
            batch.entries.push(pending.entry);
        }
        waiting.sending = true;
        waiting.urgent = waiting.entries.iter().any(|pending| pending.written.is_some());
        Some(batch)
    }

    /// Sends a batch until it is answered.
    async fn send(&self, batch: Batch, commands: &dyn Commands, clock: &dyn Clock) {
        let envelope = envelope(&batch, clock);
        let mut pause = FIRST_PAUSE;
        loop {
            match tokio::time::timeout(TRY_TIME, commands.send(envelope.clone())).await {
                Ok(Ok(_)) => break self.done(batch, Ok(())),
                Ok(Err(error @ (CommandError::Rejected(_) | CommandError::DigestMismatch))) => {
                    tracing::error!(
                        error = &error as &dyn std::error::Error,
                        entries = batch.entries.len(),
                        "audit entries were refused and are lost; this is a bug, please report it"
                    );
                    break self.done(batch, Err(()));
                }
                Ok(Err(CommandError::NotOwner | CommandError::Overloaded | CommandError::Unknown(_)))
                | Err(_) => {
                    self.tries_failed.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    fn done(&self, batch: Batch, outcome: Result<(), ()>) {
        let count: u64 = batch.entries.iter().map(|entry| u64::from(entry.count)).sum();
        let counter = if outcome.is_ok() { &self.recorded } else { &self.lost };
        counter.fetch_add(count, Ordering::Relaxed);
        let mut state = self.lock();
        state.entries -= batch.places;
        if let Some(waiting) = state.tenants.get_mut(&batch.tenant) {
            waiting.sending = false;
            if waiting.entries.is_empty() && waiting.lost == 0 {
                state.tenants.remove(&batch.tenant);
            }
        }
        drop(state);
        if outcome.is_ok() {
            // Whoever waited may have gone.
            for written in batch.written {
                let _ = written.send(());
            }
        }
        self.room.notify_waiters();
    }

    /// Counters as Prometheus text.
    pub(crate) fn metrics(&self) -> String {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        format!(
            "# HELP everline_audit_recorded_total What audit entries in the log tell of.\n\
             # TYPE everline_audit_recorded_total counter\n\
             everline_audit_recorded_total {}\n\
             # HELP everline_audit_lost_total What no audit entry tells of, for want of room.\n\
             # TYPE everline_audit_lost_total counter\n\
             everline_audit_lost_total {}\n\
             # HELP everline_audit_tries_failed_total Tries to record a batch that failed and are repeated.\n\
             # TYPE everline_audit_tries_failed_total counter\n\
             everline_audit_tries_failed_total {}\n\
             # HELP everline_audit_buffered Audit entries in memory.\n\
             # TYPE everline_audit_buffered gauge\n\
             everline_audit_buffered {}\n",
            load(&self.recorded),
            load(&self.lost),
            load(&self.tries_failed),
            self.lock().entries
        )
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Everything of a batch that a repetition must have again.
fn envelope(batch: &Batch, clock: &dyn Clock) -> CommandEnvelope {
    let now = clock.now();
    let stream = stream_of(&batch.tenant, now);
    let id = new_id(now, Slot::of(stream), crate::random::number());
    CommandEnvelope {
        id,
        tenant: batch.tenant.clone(),
        actor: Actor::system("gateway"),
        stream,
        correlation_id: stream,
        causation_id: id,
        authority: None,
        traceparent: None,
        digest: None,
        command: Command::Audit(AuditCommand::Record { entries: batch.entries.clone() }),
    }
}

/// The entry that says how many others are not there.
fn told_lost(tenant: &TenantId, count: u32, clock: &dyn Clock) -> AuditEntry {
    let now = clock.now();
    AuditEntry {
        id: new_id(now, Slot::of_tenant(tenant), crate::random::number()),
        at: now,
        actor: Actor::system("gateway"),
        user: None,
        action: "AuditEntriesLost".to_owned(),
        permission: None,
        route: "-".to_owned(),
        resource: None,
        result: AuditResult::Unknown,
        code: None,
        position: None,
        ip: None,
        user_agent: None,
        request_id: None,
        count,
    }
}
