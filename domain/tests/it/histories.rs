//! Recorded histories of every example, decided again for ever.
//!
//! A history is a file of JSON lines under `tests/histories/<example>/<case>.jsonl`: first what it was recorded with
//! (the definition, so that an example may change), then every command with the events and wakeups that it gave or the
//! code of its refusal, last what the execution had become. Decided again, from the stored events, the same commands
//! must give the same events: whoever breaks that breaks executions that are under way in somebody's log.
//!
//! `EVERLINE_RECORD_HISTORIES=1 cargo test -p domain --test it histories` writes what is missing and never touches
//! what is there. A history is never edited; `SHA256SUMS` says so.

use domain::decision::Wakeup;
use domain::event::Event;
use domain::execution::command::ExecutionCommand;
use domain::execution::{ExecutionState, NodeState, Phase};
use domain::time::Timestamp;
use serde_json::{Map, Value, json};
use sha2::Digest;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::examples;
use crate::scenario::{Scenario, Step, given};
use crate::transitions::status_name;

const SUMS: &str = "SHA256SUMS";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/histories")
}

/// The text of a file of the folder of histories.
fn text(name: &str) -> String {
    let path = folder().join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every history that there is: its name, which is its path in the folder.
fn kept() -> Vec<String> {
    let list = |path: &Path| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(path).into_iter().flatten();
        entries.map(|entry| entry.expect("an entry").path()).collect()
    };
    let folders = list(&folder()).into_iter().filter(|path| path.is_dir());
    let mut names: Vec<String> = folders
        .flat_map(|path| list(&path))
        .map(|path| path.strip_prefix(folder()).expect("inside").display().to_string())
        .collect();
    names.sort();
    names
}

/// Every example with its cases; those without any have the input that lies beside them.
fn all_cases() -> Vec<(PathBuf, Vec<Value>)> {
    let folders =
        std::fs::read_dir(examples::folder()).expect("examples").map(|entry| entry.expect("an entry").path());
    let larger = folders.map(|path| path.join("workflow.json")).filter(|path| path.exists());
    let with_cases = |path: PathBuf| {
        let fixture = path.with_extension("test.json");
        let cases = match fixture.exists() {
            true => examples::read(&fixture)["cases"].as_array().expect("cases").clone(),
            false => vec![json!({"name": "its input", "input": examples::read(&payload_beside(&path))})],
        };
        (path, cases)
    };
    larger.chain(examples::definitions()).map(with_cases).collect()
}

fn payload_beside(workflow: &Path) -> PathBuf {
    let entries = std::fs::read_dir(workflow.parent().expect("a folder")).expect("a folder");
    let mut paths = entries.map(|entry| entry.expect("an entry").path());
    let is_payload = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.ends_with(".json") && !["workflow.json", "expected.json"].contains(&name)
    };
    paths.find(is_payload).unwrap_or_else(|| panic!("no input beside {}", workflow.display()))
}

/// `control/retry.json`, "A case" → `retry/a-case.jsonl`; `notify/workflow.json` → `notify/…`.
fn name_of(path: &Path, case: &Value) -> String {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name");
    let parent = path.parent().and_then(Path::file_name).and_then(|name| name.to_str()).expect("a folder");
    let example = if stem == "workflow" { parent } else { stem };
    let words = case["name"].as_str().expect("a name").to_lowercase();
    let words: Vec<&str> =
        words.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    format!("{example}/{}.jsonl", words.join("-"))
}

#[test]
fn every_case_of_every_example_has_a_recorded_history() {
    let records = std::env::var("EVERLINE_RECORD_HISTORIES").is_ok_and(|value| value == "1");
    let (mut missing, mut names) = (Vec::new(), std::collections::BTreeSet::new());
    for (path, cases) in all_cases() {
        for case in cases {
            let name = name_of(&path, &case);
            assert!(names.insert(name.clone()), "two cases would have the history {name}");
            if folder().join(&name).exists() {
                continue;
            }
            if records {
                record(&name, &path, &case);
            } else {
                missing.push(name);
            }
        }
    }
    let hint = "EVERLINE_RECORD_HISTORIES=1 cargo test -p domain --test it histories";
    assert!(missing.is_empty(), "no history of {missing:#?}; record them with `{hint}`");
}

fn record(name: &str, path: &Path, case: &Value) {
    let scenario = examples::run(path, case);
    let mut lines = vec![json!({
        "history": name, "stream": scenario.stream, "variables": scenario.variables, "definition": examples::read(path),
    })];
    for step in &scenario.steps {
        lines.push(json!({"command": step.command, "id": step.id, "at": step.at}));
        lines.extend(lines_of(step));
    }
    lines.push(json!({"end": end_of(scenario.state())}));
    let mut content = String::new();
    lines.iter().for_each(|line| content.push_str(&format!("{line}\n")));
    let file = folder().join(name);
    std::fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
    std::fs::write(&file, &content).expect("written");
    let mut sums = std::fs::read_to_string(folder().join(SUMS)).unwrap_or_default();
    sums.push_str(&format!("{}  {name}\n", sha256(&content)));
    std::fs::write(folder().join(SUMS), sums).expect("written");
}

fn sha256(content: &str) -> String {
    sha2::Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn no_history_is_edited_lost_or_slipped_in() {
    let listed = text(SUMS);
    let listed: BTreeMap<&str, &str> = listed
        .lines()
        .map(|line| line.split_once("  ").expect("a sum and a name"))
        .map(|(sum, name)| (name, sum))
        .collect();
    assert_eq!(listed.keys().copied().collect::<Vec<_>>(), kept(), "files, against those of {SUMS}");
    assert!(listed.len() > 60, "only {} histories", listed.len());
    for (name, sum) in listed {
        assert_eq!(sha256(&text(name)), sum, "{name} is not as it was recorded");
    }
}

/// What a command gave, a line for each event and wakeup.
fn lines_of(step: &Step) -> Vec<Value> {
    match &step.answer {
        Ok((events, wakeups)) => answer_lines(events, wakeups),
        Err(code) => vec![json!({ "refused": code })],
    }
}

fn answer_lines(events: &[Event], wakeups: &[Wakeup]) -> Vec<Value> {
    let event = |event: &Event| {
        let data: Value = serde_json::from_slice(&event.encode()).expect("JSON");
        json!({"event": event.event_type(), "version": event.schema_version(), "data": data})
    };
    let wakeup = |wakeup: &Wakeup| json!({ "wakeup": wakeup });
    events.iter().map(event).chain(wakeups.iter().map(wakeup)).collect()
}

/// What an execution has become, for eyes and for comparison.
fn end_of(state: &ExecutionState) -> Value {
    let node =
        |node: &NodeState| json!([status_name(&node.status), node.run, node.attempt, node.output.as_deref()]);
    let phase = match state.phase {
        Phase::NotStarted => "not started",
        Phase::Queued => "queued",
        Phase::Running => "running",
        Phase::Compensating => "compensating",
        Phase::Finished(status) => status.as_str(),
    };
    let nodes: Map<String, Value> =
        state.nodes.iter().map(|(path, found)| (path.to_string(), node(found))).collect();
    json!({
        "phase": phase, "paused": state.paused, "version": state.version, "updated_at": state.updated_at,
        "signals": state.signals.len(), "completions": state.completions.len(), "nodes": nodes,
    })
}

/// A history as it is stored.
struct History {
    definition: Value,
    stream: uuid::Uuid,
    variables: Map<String, Value>,
    steps: Vec<Step>,
    end: Value,
}

/// Reads a history, whatever versions its events have.
fn stored(name: &str) -> History {
    let text = text(name);
    let mut lines = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let head = lines.next().expect("a first line");
    let read = |value: &Value| serde_json::from_value(value.clone());
    let mut history = History {
        definition: head["definition"].clone(),
        stream: read(&head["stream"]).expect("an id"),
        variables: head["variables"].as_object().expect("variables").clone(),
        steps: Vec::new(),
        end: Value::Null,
    };
    for line in lines {
        if !line["command"].is_null() {
            let command: ExecutionCommand =
                serde_json::from_value(line["command"].clone()).expect("a command");
            let at: Timestamp = serde_json::from_value(line["at"].clone()).expect("a time");
            let answer = Ok((Vec::new(), Vec::new()));
            history.steps.push(Step { id: read(&line["id"]).expect("an id"), at, command, answer });
        } else if !line["end"].is_null() {
            history.end = line["end"].clone();
        } else {
            add_answer(history.steps.last_mut().expect("a command first"), &line);
        }
    }
    history
}

fn add_answer(step: &mut Step, line: &Value) {
    if let Some(code) = line["refused"].as_str() {
        step.answer = Err(code.to_owned());
        return;
    }
    let (events, wakeups) = step.answer.as_mut().expect("no refusal before it");
    if let Some(event_type) = line["event"].as_str() {
        let version = line["version"].as_u64().expect("a version") as u16;
        let data = line["data"].to_string();
        events.push(Event::decode(event_type, version, data.as_bytes()).expect("an event of the catalogue"));
    } else {
        wakeups.push(serde_json::from_value(line["wakeup"].clone()).expect("a wakeup"));
    }
}

#[test]
fn every_recorded_history_is_decided_again_as_it_was() {
    for name in kept() {
        decide_again(&name, &stored(&name));
    }
}

/// Decides each command twice: on what the stored events before it add up to, and on what the decision before it left.
fn decide_again(name: &str, history: &History) {
    let mut live = given(history.definition.clone());
    live.stream = history.stream;
    live.variables.clone_from(&history.variables);
    let mut read = live.clone();
    for (number, step) in history.steps.iter().enumerate() {
        let place = format!("{name}, command {}: {:?}", number + 1, step.command);
        (live.now, read.now) = (step.at, step.at);
        let decided = match read.decide_as(step.id, step.command.clone()) {
            Ok(outcome) => answer_lines(&outcome.events, &outcome.wakeups),
            Err(rejection) => vec![json!({ "refused": rejection.code })],
        };
        compare(&format!("{place}, on the stored events"), &lines_of(step), &decided);
        let _ = live.when_as(step.id, step.command.clone());
        let decided = lines_of(live.steps.last().expect("the step just made"));
        compare(&format!("{place}, on the state that was left"), &lines_of(step), &decided);
        fold(&mut read, step);
    }
    assert_eq!(end_of(read.state()), history.end, "{name}: the end");
    assert_eq!(read.state(), live.state(), "{name}: the end, folded and left");
}

/// Folds what a step gave. Every prefix, also one that ends inside an append, is a state that can be asked something.
fn fold(read: &mut Scenario, step: &Step) {
    let Ok((events, _)) = &step.answer else { return };
    for event in events {
        read.apply(event.clone());
        let mut again = read.clone();
        if let Err(rejection) = again.when_as(step.id, ExecutionCommand::Cancel { reason: None }) {
            let codes = ["execution_finished", "execution_compensating"];
            assert!(codes.contains(&&*rejection.code), "{rejection:?}");
        }
    }
}

/// Panics with what is missing (`-`) and what is new (`+`), line by line.
fn compare(place: &str, wanted: &[Value], found: &[Value]) {
    if wanted == found {
        return;
    }
    let (mut diff, mut found) = (String::new(), found.to_vec());
    for line in wanted {
        match found.iter().position(|candidate| candidate == line) {
            Some(at) => {
                found.drain(..at).for_each(|new| diff.push_str(&format!("+ {new}\n")));
                found.remove(0);
                diff.push_str(&format!("  {line}\n"));
            }
            None => diff.push_str(&format!("- {line}\n")),
        }
    }
    found.iter().for_each(|new| diff.push_str(&format!("+ {new}\n")));
    panic!("{place}: decided otherwise than it was recorded\n{diff}");
}
