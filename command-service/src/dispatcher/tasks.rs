//! The dispatcher's lists: who waits for room, who is with a worker, who may be, who was asked to stop.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

use bus::tasks::{Task, TaskRef};
use domain::ids::TenantId;

/// Every attempt is in one of `waiting`, `listening` and `out`, and in `known`.
#[derive(Default)]
pub(super) struct Tasks {
    /// By priority, highest first (9 is stored as 0).
    turns: BTreeMap<u8, Turn>,
    waiting: HashMap<TaskRef, Ready>,
    /// Found after a takeover: a worker may hold them, and is given time to say so.
    listening: HashMap<TaskRef, Listening>,
    pub(super) out: HashMap<TaskRef, Lease>,
    /// The attempts of each execution.
    known: HashMap<Uuid, HashSet<TaskRef>>,
    /// Asked to stop before anybody had them: their owner says so itself.
    pub(super) untouched: Vec<Task>,
    /// By number of each partition whose attempts in flight are being looked for.
    pub(super) recovering: HashMap<u16, Recovering>,
}

/// Tenants of one priority, in turn. A place may be left behind by an attempt that waits no more.
#[derive(Default)]
struct Turn {
    tenants: VecDeque<TenantId>,
    places: HashMap<TenantId, VecDeque<TaskRef>>,
}

/// An attempt that waits for room in the window.
pub(super) struct Ready {
    pub(super) task: Task,
    pub(super) history: History,
}

/// What may have become of an attempt before it waits for room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum History {
    /// Nothing: it was scheduled just now.
    None,
    /// A worker may have begun it, and is gone.
    Begun,
    /// It may be in the queue or with a worker.
    Out,
}

/// What the log says of an attempt in flight that is found after a takeover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Its result is waited for.
    Wanted,
    /// It was asked to stop; its result counts if it comes soon.
    Stopping,
    /// It undoes something, and was scheduled after others were asked to stop.
    Compensates,
}

struct Listening {
    task: Task,
    priority: u8,
    until: Instant,
}

/// A partition that was taken over. What happens while its attempts are looked for makes what is read old.
pub(super) struct Recovering {
    /// The tenure.
    pub(super) epoch: u64,
    /// For how long workers are listened for.
    pub(super) listen: Duration,
    /// Attempts that have got their outcome meanwhile.
    pub(super) resolved: HashSet<TaskRef>,
    /// Executions whose attempts were asked to stop meanwhile.
    pub(super) stopped: HashSet<Uuid>,
    /// Executions that have ended meanwhile.
    pub(super) ended: HashSet<Uuid>,
}

impl Recovering {
    pub(super) fn new(epoch: u64, listen: Duration) -> Self {
        Self { epoch, listen, resolved: HashSet::new(), stopped: HashSet::new(), ended: HashSet::new() }
    }
}

/// An attempt that was handed out.
pub(super) struct Lease {
    pub(super) task: Task,
    /// The last sign of life; `None` while it waits in the queue.
    pub(super) beat_at: Option<Instant>,
    /// Whether it was handed out again since then.
    pub(super) redelivered: bool,
    /// Whether it was ever handed out more than once: then one may wait in the queue though a worker holds another.
    pub(super) copies: bool,
    /// Whether its worker was asked to stop. It is not handed out any more, but its result counts.
    pub(super) stopping: bool,
    /// Without a sign of life: when to ask the queue for it.
    pub(super) ask_at: Instant,
    /// Since when the queue does not know it.
    pub(super) missing_since: Option<Instant>,
}

impl Lease {
    /// For a task that is being published.
    pub(super) fn published(task: Task, redelivered: bool, ask_at: Instant) -> Self {
        Self {
            task,
            beat_at: None,
            redelivered,
            copies: redelivered,
            stopping: false,
            ask_at,
            missing_since: None,
        }
    }

    /// For a task that nobody is to begin any more, though somebody may have it.
    fn stopping(task: Task) -> Self {
        Self { stopping: true, ..Self::published(task, false, Instant::now()) }
    }

    /// A worker holds it.
    pub(super) fn heard(&mut self, now: Instant) {
        self.beat_at = Some(now);
        self.redelivered = false;
        self.missing_since = None;
    }
}

impl Turn {
    fn push(&mut self, tenant: &TenantId, task: TaskRef) {
        let places = self.places.entry(tenant.clone()).or_default();
        if places.is_empty() {
            self.tenants.push_back(tenant.clone());
        }
        places.push_back(task);
    }

    fn pop(&mut self) -> Option<TaskRef> {
        let tenant = self.tenants.pop_front()?;
        let places = self.places.get_mut(&tenant)?;
        let task = places.pop_front();
        if places.is_empty() {
            self.places.remove(&tenant);
        } else {
            self.tenants.push_back(tenant);
        }
        task
    }

    /// Keeps what is asked for.
    fn retain(&mut self, keep: impl Fn(&TaskRef) -> bool) {
        self.places.retain(|_, places| {
            places.retain(&keep);
            !places.is_empty()
        });
        self.tenants.retain(|tenant| self.places.contains_key(tenant));
    }
}

impl Tasks {
    /// Whether an attempt is in one of the lists.
    pub(super) fn knows(&self, task: &TaskRef) -> bool {
        self.known.get(&task.execution).is_some_and(|known| known.contains(task))
    }

    /// Has an attempt wait for room.
    pub(super) fn wait(&mut self, task: Task, priority: u8, history: History) {
        if self.waiting.contains_key(&task.task) {
            return;
        }
        self.note(&task.task);
        self.turns.entry(9 - priority.min(9)).or_default().push(&task.tenant, task.task.clone());
        self.waiting.insert(task.task.clone(), Ready { task, history });
    }

    /// The next attempt that waits for room. Whoever takes it puts it elsewhere.
    pub(super) fn next(&mut self) -> Option<Ready> {
        loop {
            let mut turn = self.turns.first_entry()?;
            match turn.get_mut().pop() {
                Some(task) => {
                    if let Some(ready) = self.waiting.remove(&task) {
                        return Some(ready);
                    }
                }
                None => {
                    turn.remove();
                }
            }
        }
    }

    /// Gives workers time to say that they hold an attempt, before it waits for room.
    pub(super) fn listen(&mut self, task: Task, priority: u8, until: Instant) {
        self.note(&task.task);
        self.listening.insert(task.task.clone(), Listening { task, priority, until });
    }

    /// An attempt that is listened for is with nobody, or known otherwise.
    pub(super) fn stop_listening_for(&mut self, task: &TaskRef) {
        self.listening.remove(task);
    }

    /// No attempt that is listened for is called silent before then.
    pub(super) fn listen_until(&mut self, at_least: Instant) {
        for listening in self.listening.values_mut() {
            listening.until = listening.until.max(at_least);
        }
    }

    /// Has attempts that were listened for in vain wait for room.
    pub(super) fn stop_listening(&mut self, now: Instant) {
        let silent: Vec<Listening> = self
            .listening
            .extract_if(|_, listening| listening.until <= now)
            .map(|(_, found)| found)
            .collect();
        for Listening { task, priority, .. } in silent {
            self.wait(task, priority, History::Out);
        }
    }

    /// Takes an attempt in that may be with a worker, and that nobody is to begin any more.
    pub(super) fn hold_stopping(&mut self, task: Task) {
        self.note(&task.task);
        self.out.insert(task.task.clone(), Lease::stopping(task));
    }

    /// A worker has given a sign of life for an attempt that is not out: so it is, whoever handed it out.
    pub(super) fn heard_elsewhere(&mut self, task: &TaskRef, now: Instant) {
        let listening = self.listening.remove(task).map(|listening| listening.task);
        let found = listening.or_else(|| self.waiting.remove(task).map(|ready| ready.task));
        if let Some(found) = found {
            let mut lease = Lease::published(found, false, now);
            lease.heard(now);
            self.out.insert(task.clone(), lease);
        }
    }

    /// Forgets an attempt. Returns whether it was listened for, and the lease if it was out.
    pub(super) fn remove(&mut self, task: &TaskRef) -> (bool, Option<Lease>) {
        if let Some(known) = self.known.get_mut(&task.execution) {
            known.remove(task);
            if known.is_empty() {
                self.known.remove(&task.execution);
            }
        }
        self.waiting.remove(task);
        (self.listening.remove(task).is_some(), self.out.remove(task))
    }

    /// The attempts of an execution.
    pub(super) fn of_execution(&self, execution: Uuid) -> Vec<TaskRef> {
        self.known.get(&execution).into_iter().flatten().cloned().collect()
    }

    /// Nobody is to begin the attempts of an execution any more; results of those that were begun count. Returns whose
    /// workers must be asked to stop.
    pub(super) fn stop(&mut self, execution: Uuid) -> Vec<TaskRef> {
        let mut asked = Vec::new();
        for task in self.of_execution(execution) {
            if let Some(Ready { task: ready, history }) = self.waiting.remove(&task) {
                if history == History::None {
                    self.remove(&task);
                    self.untouched.push(ready);
                    continue;
                }
                self.hold_stopping(ready);
            } else if let Some(listening) = self.listening.remove(&task) {
                self.hold_stopping(listening.task);
            } else if let Some(lease) = self.out.get_mut(&task) {
                lease.stopping = true;
            }
            asked.push(task);
        }
        asked
    }

    /// Forgets every attempt that is not asked for.
    pub(super) fn retain(&mut self, keep: impl Fn(&TaskRef) -> bool) {
        self.turns.values_mut().for_each(|turn| turn.retain(&keep));
        self.waiting.retain(|task, _| keep(task));
        self.listening.retain(|task, _| keep(task));
        self.out.retain(|task, _| keep(task));
        self.untouched.retain(|task| keep(&task.task));
        self.known.retain(|_, known| {
            known.retain(&keep);
            !known.is_empty()
        });
    }

    fn note(&mut self, task: &TaskRef) {
        self.known.entry(task.execution).or_default().insert(task.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::decision::NodeRun;
    use domain::node_type::NodeType;
    use domain::time::Timestamp;
    use serde_json::Value;

    fn task(execution: u128, node_id: &str) -> Task {
        Task {
            task: TaskRef {
                execution: Uuid::from_u128(execution),
                node: NodeRun { node_id: node_id.to_owned(), run: 1, attempt: 1 },
            },
            tenant: TenantId::default_tenant(),
            node_type: NodeType::HttpRequest,
            config: Value::Null,
            deadline: Timestamp::MAX,
            heartbeat_timeout_ms: None,
            correlation_id: Uuid::nil(),
            causation_id: Uuid::nil(),
            traceparent: None,
        }
    }

    fn hand_out(tasks: &mut Tasks) -> TaskRef {
        let Ready { task, .. } = tasks.next().expect("one that waits");
        let name = task.task.clone();
        tasks.out.insert(name.clone(), Lease::published(task, false, Instant::now()));
        name
    }

    #[test]
    fn stopping_takes_back_what_nobody_had_and_asks_whoever_may_have_the_rest() {
        let mut tasks = Tasks::default();
        tasks.wait(task(1, "out"), 5, History::None);
        let out = hand_out(&mut tasks);
        tasks.wait(task(1, "fresh"), 5, History::None);
        tasks.wait(task(1, "begun"), 5, History::Begun);
        tasks.listen(task(1, "listening"), 5, Instant::now());
        tasks.wait(task(2, "other"), 5, History::None);
        let mut asked: Vec<String> =
            tasks.stop(Uuid::from_u128(1)).into_iter().map(|task| task.node.node_id).collect();
        asked.sort();
        assert_eq!(asked, ["begun", "listening", "out"]);
        assert!(tasks.out.values().all(|lease| lease.stopping));
        let taken_back: Vec<_> = tasks.untouched.iter().map(|task| task.task.node.node_id.as_str()).collect();
        assert_eq!(taken_back, ["fresh"]);
        // Only the other execution's is left to hand out; the places of the rest are empty.
        assert_eq!(hand_out(&mut tasks).execution, Uuid::from_u128(2));
        assert!(tasks.next().is_none());
        // Not resolved: their results are waited for.
        assert!(tasks.knows(&out));
        assert_eq!(tasks.of_execution(Uuid::from_u128(1)).len(), 3);
    }

    #[test]
    fn what_is_forgotten_is_known_no_more_wherever_it_was() {
        let mut tasks = Tasks::default();
        for (number, name) in ["a", "b", "c"].into_iter().enumerate() {
            tasks.wait(task(1, name), number as u8, History::None);
        }
        let first = hand_out(&mut tasks);
        assert_eq!(first.node.node_id, "c", "the highest priority first");
        tasks.listen(task(1, "d"), 5, Instant::now());
        for known in tasks.of_execution(Uuid::from_u128(1)) {
            tasks.remove(&known);
            assert!(!tasks.knows(&known));
        }
        assert!(tasks.next().is_none() && tasks.out.is_empty() && tasks.known.is_empty());
        tasks.wait(task(1, "a"), 0, History::None);
        assert_eq!(hand_out(&mut tasks).node.node_id, "a", "as if it had never been there");
    }
}
