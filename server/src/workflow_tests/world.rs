//! A world for one case: its execution and the children of it, a clock that jumps, and an inbox of commands.
//!
//! Every command goes through the engine's own decider. When the inbox is empty, open waits are offered the events that
//! have happened; when that gives nothing, the clock jumps to the next wakeup, signal or event; when there is none, or
//! every execution has ended, the case is over.

use domain::blob::claim_check;
use domain::decision::{Decision, Need, Outcome, Wakeup, WakeupKind};
use domain::execution::command::{ExecutionCommand, StartExecution};
use domain::execution::event::{NodeError, ParentRef, Trigger};
use domain::execution::{self, ExecutionState, ExecutionStatus, Phase};
use domain::facts::{Fact, Facts, Variables, WorkflowHead};
use domain::ids::{Slot, TenantId, derived_id};
use domain::rejection::{Rejection, RejectionKind};
use domain::time::Timestamp;
use domain::workflow::definition::Definition;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use uuid::Uuid;

use super::fixture::{Case, Recordings};
use super::stand_ins::{Happened, Offered};

/// The most commands, events and wakeups of a case. The engine bounds every history; this bounds all of them together.
const MAX_STEPS: u64 = 1_000_000;
/// The most facts that one decision asks for, one after the other.
const MAX_ROUNDS: usize = 10_000;

/// What came of the whole case.
#[derive(Debug)]
pub struct CaseOutcome {
    /// The execution's public status.
    pub status: String,
    /// Its output, if it completed.
    pub output: Value,
    /// Why it failed, and at which node.
    pub error: Option<(Option<String>, NodeError)>,
    /// The ends that were reached.
    pub ends: Vec<String>,
    /// Its state, with every node.
    pub state: ExecutionState,
    /// Contents of claim checks, by SHA-256.
    pub blobs: HashMap<String, Arc<Value>>,
    /// What kept the case from running as it should.
    pub problems: Vec<String>,
}

/// One execution.
pub(super) struct Run<'c> {
    pub(super) id: Uuid,
    pub(super) workflow_id: Uuid,
    /// How it is called in messages: nothing for the case's own.
    pub(super) label: String,
    pub(super) definition: Arc<Definition>,
    pub(super) nodes: &'c Recordings,
    pub(super) state: ExecutionState,
    /// How often each path was called.
    pub(super) calls: HashMap<String, usize>,
    /// How it ended, if it has.
    pub(super) end: Option<End>,
    status: Value,
}

/// How an execution ended.
pub(super) struct End {
    pub(super) output: Value,
    pub(super) error: Option<(Option<String>, NodeError)>,
    pub(super) ends: Vec<String>,
}

/// Something from outside at a time.
pub(super) enum Outside<'c> {
    Signal(&'c super::fixture::SignalAt),
    Event(&'c super::fixture::EventAt),
}

/// The world of a case.
pub struct World<'c> {
    pub(super) case: &'c Case,
    pub(super) now: Timestamp,
    pub(super) runs: Vec<Run<'c>>,
    pub(super) inbox: VecDeque<(usize, ExecutionCommand)>,
    wakeups: BTreeMap<(Timestamp, u64), (usize, Wakeup)>,
    outside: VecDeque<(Timestamp, Outside<'c>)>,
    pub(super) happened: Vec<Happened>,
    pub(super) offered: HashSet<Offered>,
    /// How often each workflow was asked for as a child.
    pub(super) child_calls: HashMap<String, usize>,
    blobs: HashMap<String, Arc<Value>>,
    numbers: u64,
    pub(super) problems: Vec<String>,
}

impl<'c> World<'c> {
    /// A world in which nothing has happened yet.
    pub fn new(definition: &Arc<Definition>, case: &'c Case) -> Self {
        let at = |ms| case.now.plus_ms(ms);
        let signals = case.signals.iter().map(|signal| (at(signal.at_ms), Outside::Signal(signal)));
        let events = case.events.iter().map(|event| (at(event.at_ms), Outside::Event(event)));
        let mut outside: Vec<_> = events.chain(signals).collect();
        outside.sort_by_key(|(at, _)| *at);
        let mut world = Self {
            case,
            now: case.now,
            runs: Vec::new(),
            inbox: VecDeque::new(),
            wakeups: BTreeMap::new(),
            outside: outside.into(),
            happened: Vec::new(),
            offered: HashSet::new(),
            child_calls: HashMap::new(),
            blobs: HashMap::new(),
            numbers: 0,
            problems: Vec::new(),
        };
        let id = world.fresh_id();
        world.add(id, String::new(), definition.clone(), &case.nodes);
        let input = world.stored(case.input.clone());
        world.start(0, input, None, None);
        world
    }

    /// Adds an execution that has not started.
    pub(super) fn add(
        &mut self,
        id: Uuid,
        label: String,
        definition: Arc<Definition>,
        nodes: &'c Recordings,
    ) -> usize {
        let workflow_id = self.fresh_id();
        self.runs.push(Run {
            id,
            workflow_id,
            label,
            definition,
            nodes,
            state: ExecutionState::default(),
            calls: HashMap::new(),
            end: None,
            status: Value::from(ExecutionStatus::Pending.as_str()),
        });
        self.runs.len() - 1
    }

    /// Asks an execution to start.
    pub(super) fn start(
        &mut self,
        run: usize,
        input: Value,
        parent: Option<ParentRef>,
        priority: Option<u8>,
    ) {
        let kind = if parent.is_some() { "parent" } else { "api" };
        let start = StartExecution {
            workflow_id: self.runs[run].workflow_id,
            workflow_version: Some(1),
            input,
            trigger: Trigger { kind: kind.to_owned() },
            priority,
            attributes: Map::new(),
            parent,
            owner: None,
        };
        self.inbox.push_back((run, ExecutionCommand::Start(start)));
    }

    /// Lets everything happen that happens by itself.
    pub fn run(mut self) -> CaseOutcome {
        loop {
            while self.numbers <= MAX_STEPS
                && let Some((run, command)) = self.inbox.pop_front()
            {
                self.carry_out(run, command);
            }
            if !self.problems.is_empty() || self.numbers > MAX_STEPS {
                break;
            }
            if !self.offer_an_event() && !self.jump() {
                break;
            }
        }
        if self.numbers > MAX_STEPS {
            self.problems.push(format!("the case did not end within {MAX_STEPS} steps"));
        }
        self.conclude()
    }

    fn conclude(self) -> CaseOutcome {
        let mut problems = self.problems;
        let root = self.runs.into_iter().next();
        let (status, end, state) = match root {
            Some(root) => (root.status, root.end, root.state),
            None => (Value::Null, None, ExecutionState::default()),
        };
        if end.is_some() && problems.is_empty() {
            let late = self.outside.iter().filter_map(|(_, outside)| match outside {
                Outside::Signal(signal) => Some(*signal),
                Outside::Event(_) => None,
            });
            problems.extend(late.map(|signal| {
                format!("the execution had ended before signal `{}` came at {} ms", signal.name, signal.at_ms)
            }));
        }
        let end = end.unwrap_or(End { output: Value::Null, error: None, ends: Vec::new() });
        CaseOutcome {
            status: status.as_str().unwrap_or_default().to_owned(),
            output: end.output,
            error: end.error,
            ends: end.ends,
            state,
            blobs: self.blobs,
            problems,
        }
    }

    /// Moves the clock to what comes next and lets it happen; `false` if there is nothing.
    fn jump(&mut self) -> bool {
        if self.runs.iter().all(|run| run.is_finished()) {
            return false;
        }
        let woken = self.wakeups.first_key_value().map(|((due_at, _), _)| *due_at);
        let outside = self.outside.front().map(|(at, _)| *at);
        // What comes from outside at the very time of a timer goes first.
        match (woken, outside) {
            (None, None) => return false,
            (Some(due_at), outside) if outside.is_none_or(|at| due_at < at) => {
                self.now = self.now.max(due_at);
                if let Some((_, (run, wakeup))) = self.wakeups.pop_first() {
                    self.inbox.push_back((run, ExecutionCommand::Wake(wakeup)));
                }
            }
            _ => {
                let Some((at, outside)) = self.outside.pop_front() else { return false };
                self.now = self.now.max(at);
                self.let_in(outside);
            }
        }
        true
    }

    fn carry_out(&mut self, run: usize, command: ExecutionCommand) {
        match self.decide(run, &command) {
            Ok(outcome) => self.apply(run, outcome),
            Err(rejection) => self.refused(run, command, rejection),
        }
    }

    fn decide(&mut self, run: usize, command: &ExecutionCommand) -> Result<Outcome, Rejection> {
        let command_id = self.fresh_id();
        let run = &self.runs[run];
        let mut facts = Facts::new(self.now, command_id, run.id, TenantId::default_tenant());
        facts.definition = Fact::Is(run.definition.clone());
        facts.workflow = Fact::Is(Arc::new(WorkflowHead {
            name: run.definition.name.clone(),
            published_version: Some(1),
            latest_version: 1,
            enabled: true,
            deleted: false,
            owner: None,
            shared: domain::workflow::event::WorkflowShared::default(),
        }));
        facts.variables = Fact::Is(Arc::new(Variables { version: 1, values: self.case.vars.clone() }));
        for _ in 0..MAX_ROUNDS {
            match execution::decide(&run.state, command, &facts)? {
                Decision::Events(outcome) => return Ok(outcome),
                Decision::Needs(needs) => {
                    for need in needs {
                        match need {
                            Need::Blob(reference) => {
                                let content = self.blobs.get(&reference.sha256).cloned().unwrap_or_default();
                                facts.blobs.insert(reference.sha256, content);
                            }
                            Need::Origin { .. } => facts.origin = Fact::Absent,
                            Need::Recording { .. } => facts.recording = Fact::Absent,
                            // Given from the beginning.
                            Need::Workflow(_) | Need::Definition { .. } | Need::Variables(_) => {}
                        }
                    }
                }
            }
        }
        let detail = format!("a decision about execution {} asks for facts without end", run.id);
        Err(Rejection::new(RejectionKind::TooLarge, "needs_without_end", detail))
    }

    fn apply(&mut self, run: usize, outcome: Outcome) {
        for blob in outcome.blobs {
            if let Ok(content) = serde_json::from_slice::<Value>(&blob.content) {
                self.blobs.insert(blob.reference.sha256, Arc::new(content));
            }
        }
        if let Some(status) = outcome.answer.get("status") {
            self.runs[run].status = status.clone();
        }
        let state = match outcome.after {
            Some(after) => *after,
            None => {
                let before = std::mem::take(&mut self.runs[run].state);
                outcome.events.iter().fold(before, |state, event| match event {
                    domain::event::Event::Execution(event) => execution::evolve(state, event, self.now),
                    _ => state,
                })
            }
        };
        self.runs[run].state = state;
        for wakeup in outcome.wakeups {
            // Events are offered as they happen; the registry of waits for them is for servers that restart.
            if !matches!(wakeup.kind, WakeupKind::EventWait(_)) {
                self.numbers += 1;
                self.wakeups.insert((wakeup.due_at, self.numbers), (run, wakeup));
            }
        }
        for event in outcome.events {
            if let domain::event::Event::Execution(event) = event {
                self.react(run, event);
            }
        }
    }

    /// A large value as it travels: by reference.
    pub(super) fn stored(&mut self, value: Value) -> Value {
        let (travelling, blob) = claim_check(value.clone());
        if let Some(blob) = blob {
            self.blobs.insert(blob.reference.sha256, Arc::new(value));
        }
        travelling
    }

    /// The value itself, where it travels by reference.
    pub(super) fn resolved(&self, value: &Value) -> Value {
        resolved(&self.blobs, value)
    }

    /// An id that is the same whenever the case runs.
    pub(super) fn fresh_id(&mut self) -> Uuid {
        self.numbers += 1;
        let parts: [&[u8]; 2] = [self.case.name.as_bytes(), &self.numbers.to_be_bytes()];
        derived_id(self.now, Slot::from_bits(0), &parts)
    }
}

impl Run<'_> {
    pub(super) fn is_finished(&self) -> bool {
        matches!(self.state.phase, Phase::Finished(_))
    }
}

/// The value itself, where it travels by reference.
pub(super) fn resolved(blobs: &HashMap<String, Arc<Value>>, value: &Value) -> Value {
    let content = domain::blob::BlobRef::from_value(value).and_then(|reference| blobs.get(&reference.sha256));
    content.map_or_else(|| value.clone(), |content| Value::clone(content))
}
