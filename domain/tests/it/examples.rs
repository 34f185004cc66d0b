//! Every example is a valid definition, and each of its cases comes out as it says.
//!
//! The cases are those of `everline test`: a small world of workers, signals, events and children stands around the
//! engine, and time jumps from one thing that is due to the next.

use domain::decision::{NodeRun, WakeupKind};
use domain::event::{Event, ExecutionEvent};
use domain::execution::command::ExecutionCommand;
use domain::execution::event::{ChildStarted, NodeError, WaitFor};
use domain::execution::{ExecutionStatus, Phase};
use domain::workflow::definition::Definition;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::scenario::{Scenario, failure, given};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples")
}

pub(crate) fn read(path: &Path) -> Value {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The definitions of the folder of small examples.
pub(crate) fn definitions() -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder().join("control"))
        .expect("examples")
        .map(|entry| entry.expect("an entry").path());
    let mut found: Vec<PathBuf> = files
        .filter(|path| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            name.ends_with(".json") && !name.ends_with(".test.json")
        })
        .collect();
    found.sort();
    found
}

#[test]
fn every_example_is_a_valid_definition() {
    let folders = std::fs::read_dir(folder()).expect("examples").map(|entry| entry.expect("an entry").path());
    let larger = folders.map(|path| path.join("workflow.json")).filter(|path| path.exists());
    let all: Vec<PathBuf> = larger.chain(definitions()).collect();
    assert!(all.len() > 30, "only {} examples", all.len());
    for path in all {
        if let Err(problems) = Definition::parse(&read(&path)) {
            panic!("{}: {problems:#?}", path.display());
        }
    }
}

#[test]
fn every_node_type_has_an_example() {
    let mut found = String::new();
    definitions().iter().for_each(|path| found.push_str(&read(path).to_string()));
    for node_type in domain::node_type::NodeType::ALL {
        assert!(found.contains(&format!("\"type\":\"{}\"", node_type.as_str())), "{}", node_type.as_str());
    }
}

#[test]
fn every_case_of_every_example_comes_out_as_it_says() {
    let mut cases = 0;
    for path in definitions() {
        let fixture = read(&path.with_extension("test.json"));
        for case in fixture["cases"].as_array().expect("cases") {
            let name = format!("{}: {}", path.display(), case["name"]);
            let scenario = run(&path, case);
            check(&name, &scenario, &case["expect"]);
            cases += 1;
        }
    }
    assert!(cases > 50, "only {cases} cases");
}

fn check(name: &str, scenario: &Scenario, expect: &Value) {
    let Phase::Finished(status) = scenario.phase() else { panic!("{name}: {:#?}", scenario.types()) };
    assert_eq!(status.as_str(), expect["status"], "{name}: {:#?}", scenario.types());
    if status == ExecutionStatus::Completed {
        assert_eq!(scenario.output(), expect["output"], "{name}");
    } else {
        let failed = scenario.latest("execution.failed");
        for (field, found) in [("kind", &failed["error"]["kind"]), ("node_id", &failed["node_id"])] {
            assert!(expect["error"][field].is_null() || expect["error"][field] == *found, "{name}: {failed}");
        }
    }
    for (path, wanted) in expect["nodes"].as_object().into_iter().flatten() {
        let status = wanted["status"].as_str().expect("a status");
        assert!(scenario.count(&format!("{status} {path}")) > 0, "{name}: {path} {:#?}", scenario.types());
    }
}

/// What a case has for an execution, and how often each path was asked.
struct World<'a> {
    case: &'a Value,
    folder: &'a Path,
    calls: HashMap<String, usize>,
    seen: usize,
}

pub(crate) fn run(path: &Path, case: &Value) -> Scenario {
    let folder = path.parent().expect("a folder");
    let mut scenario = given(read(path));
    if let Some(now) = case["now"].as_str() {
        scenario.now = now.parse().expect("a time");
    }
    for (name, value) in case["vars"].as_object().into_iter().flatten() {
        scenario = scenario.with_variable(name, value.clone());
    }
    let begin = scenario.now;
    let mut scenario = scenario.started_with(case["input"].clone());
    let mut world = World { case, folder, calls: HashMap::new(), seen: 0 };
    let mut comes: Vec<(u64, bool, &Value)> = Vec::new();
    for (field, is_signal) in [("signals", true), ("events", false)] {
        let list = case[field].as_array().into_iter().flatten();
        comes.extend(list.map(|item| (item["at_ms"].as_u64().unwrap_or(0), is_signal, item)));
    }
    comes.sort_by_key(|(at, ..)| *at);
    let mut comes = comes.into_iter().peekable();
    for _ in 0..10_000 {
        world.react(&mut scenario);
        if matches!(scenario.phase(), Phase::Finished(_)) {
            break;
        }
        let next = scenario.next_due().map(|at| scenario.wakeups[at].due_at);
        if let Some((at, is_signal, item)) =
            comes.next_if(|(at, ..)| next.is_none_or(|next| begin.plus_ms(*at) <= next))
        {
            scenario.now = scenario.now.max(begin.plus_ms(at));
            if is_signal { signal(&mut scenario, item) } else { offer(&mut scenario, at, item) }
        } else if let Some(at) = scenario.next_due() {
            let wakeup = scenario.wakeups.remove(at);
            scenario.now = scenario.now.max(wakeup.due_at);
            // One that nobody needs any more is refused.
            let _ = scenario.when(ExecutionCommand::Wake(wakeup));
        } else {
            break;
        }
    }
    scenario
}

fn signal(scenario: &mut Scenario, item: &Value) {
    scenario.signal(item["name"].as_str().expect("a name"), item["payload"].clone());
}

/// Offers an event to every wait that is open; those that do not want it refuse.
fn offer(scenario: &mut Scenario, at: u64, item: &Value) {
    let waits: Vec<String> = scenario.state().waits.iter().map(ToString::to_string).collect();
    for path in waits {
        let conditions =
            scenario.at(&path).wait.as_ref().map_or_else(Vec::new, |wait| wait.conditions.clone());
        for (number, condition) in conditions.iter().enumerate() {
            if condition.wait_for == WaitFor::Event {
                let event_type = item["type"].as_str().expect("a type");
                let _ = scenario.offer(&path, number as u32, (700 + at, event_type), item["data"].clone());
            }
        }
    }
}

impl World<'_> {
    /// Workers, children and lanes answer at once.
    fn react(&mut self, scenario: &mut Scenario) {
        while let Some(event) = scenario.log.get(self.seen).cloned() {
            self.seen += 1;
            let Event::Execution(event) = event else { continue };
            match event {
                ExecutionEvent::NodeScheduled(asked) => {
                    let node = NodeRun { node_id: asked.node_id, run: asked.run, attempt: asked.attempt };
                    if let Some(result) = self.answer(&node.node_id) {
                        // A result for an attempt that was cancelled meanwhile is stale.
                        let _ = scenario.when(ExecutionCommand::CompleteNode { node, result });
                    }
                }
                ExecutionEvent::ChildStarted(asked) if asked.wait => self.end_child(scenario, &asked),
                ExecutionEvent::Queued(queued) => {
                    scenario.when(ExecutionCommand::Admit { lane: queued.lane }).expect("admitted");
                }
                _ => {}
            }
        }
    }

    /// What a worker gives; `None` if it does not answer.
    fn answer(&mut self, path: &str) -> Option<Result<Value, NodeError>> {
        let call = self.calls.entry(path.to_owned()).or_default();
        let recorded = &self.case["nodes"][path];
        let one = if recorded.is_array() { &recorded[*call] } else { recorded };
        *call += 1;
        assert!(one.is_object(), "nothing is recorded for call {call} of {path}");
        (one["never"] != true).then(|| outcome(one))
    }

    fn end_child(&self, scenario: &mut Scenario, asked: &ChildStarted) {
        let stand_in = &self.case["children"][&asked.workflow];
        let result = match stand_in["definition"].as_str() {
            Some(file) => {
                let child = run(&self.folder.join(file), &json!({"input": asked.input}));
                Ok(child.output())
            }
            None => outcome(stand_in),
        };
        let node = NodeRun { node_id: asked.node_id.clone(), run: asked.run, attempt: asked.attempt };
        let (status, output, error) = match result {
            Ok(output) => (ExecutionStatus::Completed, output, None),
            Err(error) => (ExecutionStatus::Failed, Value::Null, Some(error)),
        };
        let child = asked.child_id;
        scenario
            .when(ExecutionCommand::FinishChild { node, child, status, output, error })
            .expect("accepted");
    }
}

fn outcome(recorded: &Value) -> Result<Value, NodeError> {
    if recorded["error"].is_null() {
        return Ok(recorded["output"].clone());
    }
    let kind = serde_json::from_value(recorded["error"]["kind"].clone()).expect("a kind of error");
    let message = recorded["error"]["message"].as_str().unwrap_or("no").to_owned();
    Err(NodeError { message, ..failure(kind) })
}

#[test]
fn a_delay_example_is_woken_by_its_timer_alone() {
    let scenario = given(read(&folder().join("control/pause.json"))).started_with(json!({"ms": 20}));
    assert!(scenario.wakeups.iter().any(|wakeup| matches!(wakeup.kind, WakeupKind::Timer(_))));
}
