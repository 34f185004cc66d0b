//! The real deciders in a world that is simulated: log, bus, workers, timers and time, in one thread.
//!
//! ```text
//!   clients ─┐                       ┌─► log (durable) ──► reactor ──┐
//!   timers ──┼─► bus ──► owner: decide                               │
//!   workers ─┘    ▲      └─► tasks ──► workers                       │
//!                 └──────────────────────────────────────────────────┘
//! ```
//!
//! Each step does one of the things that can happen now, chosen by chance; faults are chosen by chance too. Without
//! faults ([`World::plain`]) everything happens at its virtual time, which orders it all.
//!
//! Invariants of the simulation itself: what is durable is in [`log::Log`] and survives; everything else may be lost at
//! any step and is made again from it. Time moves only when nothing else can happen, except where it jumps on purpose:
//! such a scenario may end otherwise than the reference says, and is then held to the invariants alone.

mod checks;
mod ends;
mod faults;
mod log;
mod owner;
mod reactions;
mod script;
mod steps;
mod workers;

use domain::command::CommandEnvelope;
use domain::decision::{NodeRun, Wakeup};
use domain::time::Timestamp;
use domain::workflow::definition::Definition;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use uuid::Uuid;

use crate::generate::Case;
use crate::random::Random;

use checks::Checks;
use faults::Rates;
use log::{Guards, Log};
use owner::Owner;
use reactions::Reactor;
use script::Client;
use workers::Task;

pub use faults::{Breakage, Fault, Injected};

/// Steps after which a scenario is taken not to end.
const MOST_STEPS: u64 = 60_000;

/// How a scenario went.
#[derive(Debug)]
pub struct Report {
    /// Faults that happened.
    pub injected: Injected,
    /// What was wrong, if anything was.
    pub violation: Option<String>,
    /// Executions that were compared with the reference.
    pub compared: u64,
    /// Executions that ended, by status.
    pub ended: BTreeMap<&'static str, u64>,
    /// Events in the log.
    pub events: u64,
    /// What happened, step by step, if it was asked for.
    pub trace: Vec<String>,
}

/// A world and everything in it.
pub struct World {
    case: Case,
    /// Whether chance chooses, or virtual time.
    chaos: bool,
    random: Random,
    rates: Rates,
    breakage: Option<Breakage>,
    definitions: HashMap<Uuid, Arc<Definition>>,
    log: Log,
    owner: Owner,
    /// A former owner that has not heard that it is none.
    stale: Option<Owner>,
    now: Timestamp,
    bus: Vec<Message>,
    sent: u64,
    tasks: BTreeMap<(Uuid, NodeRun), Task>,
    timers_sent: BTreeSet<(Timestamp, Uuid, Wakeup)>,
    reactor: Reactor,
    clients: Vec<Client>,
    /// Clients whose step is on its way.
    waiting_clients: BTreeSet<usize>,
    /// Executions by what their workers know them as.
    labels: BTreeMap<Uuid, String>,
    /// Whether time moved while something else could have happened.
    jumped: bool,
    checks: Checks,
    injected: Injected,
    trace: Option<Vec<String>>,
    violation: Option<String>,
}

/// Something on its way.
#[derive(Debug, Clone)]
struct Message {
    /// When it arrives in a world without faults.
    due: Timestamp,
    number: u64,
    sender: Sender,
    load: Load,
}

/// Who waits for the answer to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sender {
    Client(usize),
    Timer(Timestamp, Uuid, Wakeup),
    Reactor(Uuid),
    /// The worker of a task, or who watches it.
    Task(Uuid, NodeRun),
    /// A repetition.
    Nobody,
}

/// What a message carries.
#[derive(Debug, Clone)]
enum Load {
    Command(Box<CommandEnvelope>),
    Task,
}

impl World {
    /// A world in which everything happens at its virtual time and nothing goes wrong.
    pub fn plain(case: &Case) -> Self {
        Self::new(case.clone(), Random::new(case.seed), false, 1)
    }

    /// A world with faults; everything that goes wrong is drawn from the case's seed.
    pub fn with_faults(case: &Case) -> Self {
        let mut random = Random::new(case.seed ^ 0xfa17);
        let mut case = case.clone();
        let executions = script::lanes(&mut case, &mut random);
        let rates = Rates::draw(&mut random);
        Self { rates, ..Self::new(case, random, true, executions) }
    }

    /// Breaks a rule, so that one sees what the checks notice.
    pub fn broken(self, breakage: Breakage) -> Self {
        Self { breakage: Some(breakage), ..self }
    }

    /// Keeps what happens, step by step.
    pub fn verbose(self) -> Self {
        Self { trace: Some(Vec::new()), ..self }
    }

    fn new(case: Case, mut random: Random, chaos: bool, executions: u64) -> Self {
        let parse = |(name, document): (&String, &Value)| {
            let id = script::workflow_id(&case, name)?;
            Definition::parse(document).ok().map(|definition| (id, Arc::new(definition)))
        };
        let definitions = case.workflows.iter().filter_map(parse).collect();
        let clients: Vec<Client> =
            (0..executions).map(|number| script::client(&case, number, &mut random, chaos)).collect();
        let labels = clients.iter().map(|client| (client.execution, client.label.clone())).collect();
        Self {
            case,
            chaos,
            random,
            rates: Rates::default(),
            breakage: None,
            definitions,
            log: Log::default(),
            owner: Owner::default(),
            stale: None,
            now: script::beginning(),
            bus: Vec::new(),
            sent: 0,
            tasks: BTreeMap::new(),
            timers_sent: BTreeSet::new(),
            reactor: Reactor::default(),
            clients,
            waiting_clients: BTreeSet::new(),
            labels,
            jumped: false,
            checks: Checks::default(),
            injected: Injected::new(),
            trace: None,
            violation: None,
        }
    }

    /// Runs it until all executions have ended and nothing is on its way.
    pub fn run(mut self) -> Report {
        let mut steps = 0;
        while self.violation.is_none() && self.step() {
            steps += 1;
            if steps > MOST_STEPS {
                self.violate(format!("no end after {MOST_STEPS} steps"));
            }
        }
        if self.violation.is_none() {
            self.check_end();
        }
        let events = self.log.streams.values().map(Vec::len).sum::<usize>() as u64;
        let (compared, ended) = (self.checks.compared, self.checks.ended);
        Report {
            injected: self.injected,
            violation: self.violation,
            compared,
            ended,
            events,
            trace: self.trace.unwrap_or_default(),
        }
    }

    fn violate(&mut self, what: String) {
        self.note(|| format!("VIOLATION {what}"));
        self.violation.get_or_insert(what);
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let ms = self.now.since_ms(script::beginning());
            trace.push(format!("{ms:>9} {}", text()));
        }
    }

    fn count(&mut self, fault: Fault) {
        *self.injected.entry(fault).or_default() += 1;
        self.note(|| format!("FAULT {fault:?}"));
    }

    fn breaks(&self, breakage: Breakage) -> bool {
        self.breakage == Some(breakage)
    }

    fn guards(&self) -> Guards {
        Guards {
            epoch: !self.breaks(Breakage::ForgetEpochs),
            command_ids: !self.breaks(Breakage::ForgetCommandIds),
        }
    }

    /// Puts something on its way.
    fn send(&mut self, due: Timestamp, sender: Sender, load: Load) {
        self.sent += 1;
        self.bus.push(Message { due, number: self.sent, sender, load });
    }

    /// An id for a command that nobody repeats.
    fn fresh(&mut self) -> u64 {
        self.sent += 1;
        1_000_000 + self.sent
    }
}
