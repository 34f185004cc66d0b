//! What clients do, and which executions there are.

use domain::command::{Command, CommandEnvelope};
use domain::execution::command::{ExecutionCommand, StartExecution};
use domain::execution::event::Trigger;
use domain::ids::{Actor, Slot, TenantId, new_id};
use domain::time::Timestamp;
use serde_json::{Map, json};
use std::collections::VecDeque;
use uuid::Uuid;

use crate::generate::{Case, Flavour};
use crate::random::Random;

/// When every scenario begins.
pub(crate) const BEGINNING_MS: i64 = 1_795_000_000_000;

/// One execution of `main` and what its client does, each step after the answer to the one before.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) execution: Uuid,
    pub(crate) label: String,
    /// What is sent, and when at the earliest in a world without faults.
    pub(crate) steps: VecDeque<(Timestamp, CommandEnvelope)>,
    /// Whether it is to end as the reference says.
    pub(crate) disturbed: bool,
}

/// An id of the scenario.
pub(crate) fn id(number: u64) -> Uuid {
    new_id(beginning(), Slot::from_bits(number), number)
}

pub(crate) fn beginning() -> Timestamp {
    Timestamp::from_unix_ms(BEGINNING_MS)
}

/// The id of a workflow of the case.
pub(crate) fn workflow_id(case: &Case, name: &str) -> Option<Uuid> {
    case.workflows.keys().position(|known| known == name).map(|at| id(1_000 + at as u64))
}

/// The name of a workflow of the case.
pub(crate) fn workflow_name(case: &Case, wanted: Uuid) -> Option<&str> {
    case.workflows.keys().map(String::as_str).find(|name| workflow_id(case, name) == Some(wanted))
}

/// A command with an id of its own.
pub(crate) fn envelope(number: u64, stream: Uuid, actor: &str, command: ExecutionCommand) -> CommandEnvelope {
    let id = id(number);
    CommandEnvelope {
        id,
        tenant: TenantId::default_tenant(),
        actor: Actor::system(actor),
        stream,
        correlation_id: stream,
        causation_id: id,
        traceparent: None,
        digest: None,
        command: Command::Execution(command),
        authority: None,
    }
}

/// Gives `main` a concurrency key now and then. Returns how many executions there are.
pub(crate) fn lanes(case: &mut Case, random: &mut Random) -> u64 {
    if case.flavour == Flavour::Racy || !random.chance(25) {
        return 1;
    }
    let on_limit = ["queue", "queue", "drop", "cancel_running"][random.below(4) as usize];
    let concurrency = json!({"key": "k {{ input.n }}", "limit": random.between(1, 2), "on_limit": on_limit});
    if let Some(main) = case.workflows.get_mut("main") {
        main["concurrency"] = concurrency;
    }
    random.between(2, 4)
}

/// What the client of one execution does.
pub(crate) fn client(case: &Case, number: u64, random: &mut Random, faults: bool) -> Client {
    let execution = id(10_000 + number);
    let start = ExecutionCommand::Start(StartExecution {
        workflow_id: workflow_id(case, "main").unwrap_or_default(),
        workflow_version: None,
        input: case.input.clone(),
        trigger: Trigger { kind: "api".to_owned() },
        priority: None,
        attributes: Map::new(),
        parent: None,
        owner: None,
    });
    let mut steps = vec![(beginning(), start)];
    for signal in &case.signals {
        let command = ExecutionCommand::Signal { name: signal.name.clone(), payload: signal.payload.clone() };
        steps.push((beginning().plus_ms(signal.at_ms), command));
    }
    let mut disturbed = false;
    if faults && random.chance(20) {
        let (reason, at) = (None, random.between(1, steps.len() as u64) as usize);
        steps.insert(at, (beginning(), ExecutionCommand::Pause { reason: None }));
        let until = random.between(at as u64 + 1, steps.len() as u64) as usize;
        steps.insert(until, (beginning(), ExecutionCommand::Resume { reason }));
    }
    if faults && random.chance(10) {
        disturbed = true;
        let at = random.between(1, steps.len() as u64) as usize;
        let stop = if random.chance(70) {
            ExecutionCommand::Cancel { reason: None }
        } else {
            ExecutionCommand::Terminate { reason: None }
        };
        steps.insert(at, (beginning(), stop));
    }
    let numbered = steps.into_iter().enumerate().map(|(at, (due, command))| {
        (due, envelope(100_000 + number * 1_000 + at as u64, execution, "client", command))
    });
    Client { execution, label: format!("x{number}"), steps: numbered.collect(), disturbed }
}
