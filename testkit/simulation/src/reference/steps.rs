//! What each type of node does when it begins, and when something happens to it.

use serde_json::{Map, Value, json};

use crate::answers::{self, Answer, Attempt};

use super::course::{Container, Course, Happening, State, What, split};
use super::document::{Graph, kind};
use super::{ANYTHING, DEEPEST, Fault, Status};

/// How long an attempt may take where its node does not say.
const TIMEOUT_MS: u64 = 30_000;

impl<'a> Course<'a> {
    /// Begins a node that is ready.
    pub(super) fn begin(&mut self, path: &str, definition: &'a Value) {
        let Some(node) = self.node(path) else { return };
        node.state = State::Running;
        node.attempt = 1;
        self.touch(path);
        let (scope, _) = split(path);
        let config = &definition["config"];
        match kind(definition) {
            "start" => {
                let input = self.input.clone();
                self.complete(path, input, None);
            }
            "transform" => match self.render(scope, &config["output"]) {
                Ok(output) => self.complete(path, output, None),
                Err(fault) => self.fail(path, fault),
            },
            "condition" => match self.truth(scope, &config["expression"], None) {
                Ok(taken) => self.complete(path, json!(taken), Some(taken.to_string())),
                Err(fault) => self.fail(path, fault),
            },
            "switch" => self.switch(path, config),
            "delay" => self.later(path, config["duration_ms"].as_u64().unwrap_or(0), What::DelayOver),
            "emit_event" => match self.render(scope, &config["data"]) {
                Ok(_) => self.complete(path, json!(ANYTHING), None),
                Err(fault) => self.fail(path, fault),
            },
            "fail" => self.fail(path, fault("custom")),
            "http_request" => self.attempt(path, definition),
            "wait" => self.begin_wait(path, config),
            "sub_workflow" => self.begin_child(path, config),
            "parallel" => {
                let count = config["branches"].as_array().map_or(0, Vec::len);
                self.begin_container(path, (0..count).map(|_| Map::new()).collect());
            }
            "loop" if config["over"].is_null() => {
                self.begin_container(path, Vec::new());
                self.next_while(path);
            }
            "loop" => match self.render(scope, &config["over"]).and_then(|over| items(&over)) {
                Ok(items) => self.begin_container(path, items),
                Err(fault) => self.fail(path, fault),
            },
            other => unreachable!("the reference knows no node of type {other}"),
        }
    }

    fn switch(&mut self, path: &str, config: &Value) {
        for case in config["cases"].as_array().into_iter().flatten() {
            match self.truth(split(path).0, &case["expression"], None) {
                Ok(true) => {
                    let name = case["name"].as_str().unwrap_or_default().to_owned();
                    return self.complete(path, json!(name), Some(name));
                }
                Ok(false) => {}
                Err(fault) => return self.fail(path, fault),
            }
        }
        self.complete(path, json!("default"), Some("default".to_owned()));
    }

    /// One attempt of a worker node.
    fn attempt(&mut self, path: &str, definition: &'a Value) {
        let (scope, _) = split(path);
        let config = match self.render(scope, &definition["config"]) {
            Ok(config) => config,
            Err(fault) => return self.fail(path, fault),
        };
        if self.broken_off.iter().any(|container| path.starts_with(container.as_str())) {
            // What a worker answers, and when, is a function of the run.
            self.ambiguous.get_or_insert_with(|| format!("{path} is in a container that was broken off"));
        }
        let Some(node) = self.node(path) else { return };
        let (run, ordinal) = (node.run, node.attempt);
        let attempt = Attempt { label: &self.label, path, run, ordinal };
        let answer = answers::answer(self.case.seed, config["url"].as_str().unwrap_or_default(), attempt);
        if answer == Answer::Never {
            let timeout_ms = definition["timeout_ms"].as_u64().unwrap_or(TIMEOUT_MS);
            self.later(path, timeout_ms, What::AttemptDeadline);
        } else {
            let duration_ms = answers::duration_ms(self.case.seed, attempt);
            self.later(path, duration_ms, What::Answered(answer));
        }
    }

    fn begin_child(&mut self, path: &str, config: &'a Value) {
        let (scope, _) = split(path);
        let input = match self.render(scope, &config["input"]) {
            Ok(input) => input,
            Err(fault) => return self.fail(path, fault),
        };
        let workflow = config["workflow"].as_str().unwrap_or_default();
        if self.depth >= DEEPEST {
            return self.fail(path, fault("custom"));
        }
        if config["wait"] == false {
            return self.complete(path, json!(ANYTHING), None);
        }
        let run = self.node(path).map_or(0, |node| node.run);
        let label = child_label(&self.label, path, run);
        let ending = Course::new(self.case, label, workflow, &input, &[], self.depth + 1).run();
        if let Some(reason) = &ending.ambiguous {
            self.ambiguous.get_or_insert_with(|| reason.clone());
        }
        let document = self.case.workflows[workflow].to_string();
        let undoes = ["\"compensate\"", "\"sub_workflow\""].iter().any(|word| document.contains(word));
        if ending.status == Status::Failed && undoes {
            // It is told to its parent when all is undone, and that takes a time that is not known here.
            self.ambiguous.get_or_insert_with(|| format!("the child of {path} fails and may have to undo"));
        }
        self.later(path, ending.took_ms, What::ChildEnded(Box::new(ending)));
    }

    fn begin_container(&mut self, path: &str, waiting: Vec<Map<String, Value>>) {
        let outputs = vec![None; waiting.len()];
        if let Some(node) = self.node(path) {
            node.container = Some(Container { outputs, waiting: waiting.into_iter().rev().collect() });
        }
        self.stop_inside(path);
        self.continue_container(path);
    }

    /// Opens as many iterations or branches as may run, or completes the node.
    fn continue_container(&mut self, path: &str) {
        let Some(definition) = self.definition(path) else { return };
        let config = &definition["config"];
        if !config["while"].is_null() {
            return;
        }
        let most = match (config["max_concurrency"].as_u64(), kind(definition)) {
            (Some(most), _) => most as usize,
            (None, "loop") => 1,
            (None, _) => usize::MAX,
        };
        loop {
            let prefix = format!("{path}/");
            let running = self
                .scopes
                .iter()
                .filter(|(scope, state)| {
                    !state.done && scope.strip_prefix(&prefix).is_some_and(|number| !number.contains('/'))
                })
                .count();
            let Some(container) = self.node(path).and_then(|node| node.container.as_mut()) else { return };
            if container.outputs.iter().all(Option::is_some) {
                let outputs = container.outputs.iter().flatten().cloned().collect();
                return self.complete(path, Value::Array(outputs), None);
            }
            if running >= most {
                return;
            }
            let number = container.outputs.len() - container.waiting.len();
            let Some(names) = container.waiting.pop() else { return };
            let graph = match kind(definition) {
                "parallel" => &config["branches"][number],
                _ => &config["body"],
            };
            self.open(&format!("{path}/{number}"), Graph::read(graph), names);
        }
    }

    /// Opens the next iteration of a `while`, if its condition holds.
    fn next_while(&mut self, path: &str) {
        let Some(definition) = self.definition(path) else { return };
        let Some(container) = self.node(path).and_then(|node| node.container.clone()) else { return };
        let number = container.outputs.len();
        let item = container.outputs.last().cloned().flatten().unwrap_or_default();
        let names = Map::from_iter([("item".to_owned(), item), ("index".to_owned(), json!(number))]);
        match self.truth(split(path).0, &definition["config"]["while"], Some(&names)) {
            Ok(true) => {
                if let Some(container) = self.node(path).and_then(|node| node.container.as_mut()) {
                    container.outputs.push(None);
                }
                let graph = Graph::read(&definition["config"]["body"]);
                self.open(&format!("{path}/{number}"), graph, names);
            }
            Ok(false) => {
                let outputs = container.outputs.into_iter().flatten().collect();
                self.complete(path, Value::Array(outputs), None);
            }
            Err(fault) => {
                self.stop_inside(path);
                self.fail(path, fault);
            }
        }
    }

    /// An iteration or branch is done.
    pub(super) fn inner_done(&mut self, path: &str, number: usize, output: Value) {
        if let Some(container) = self.node(path).and_then(|node| node.container.as_mut())
            && let Some(place) = container.outputs.get_mut(number)
        {
            *place = Some(output);
        }
        if self.definition(path).is_some_and(|definition| definition["config"]["while"].is_string()) {
            self.next_while(path);
        } else {
            self.continue_container(path);
        }
    }

    /// A node has its output.
    pub(super) fn complete(&mut self, path: &str, output: Value, handle: Option<String>) {
        self.latest.insert(path.to_owned(), output.clone());
        let Some(node) = self.node(path) else { return };
        node.state = State::Done(handle.clone());
        node.latest = Some(output);
        node.container = None;
        self.touch(path);
        let (scope, id) = split(path);
        let back = self.scopes[scope]
            .graph
            .edges
            .iter()
            .find(|edge| edge.back && edge.source == id && edge.handle == handle.as_deref());
        if let Some(target) = back.map(|edge| edge.target) {
            self.take_back_edge(scope, target);
        }
    }

    /// A node has failed for good.
    pub(super) fn fail(&mut self, path: &str, fault: Fault) {
        let Some(definition) = self.definition(path) else { return };
        let output = json!({"error": {"kind": fault.kind, "message": ""}});
        match definition["on_error"].as_str() {
            Some("continue") => self.complete(path, output, None),
            Some("route") => self.complete(path, output, Some("error".to_owned())),
            _ => {
                if let Some(node) = self.node(path) {
                    node.state = State::Stopped;
                }
                self.scope_failed(split(path).0, path, fault);
            }
        }
    }

    /// An attempt has failed: another one later, or none.
    fn attempt_failed(&mut self, path: &str, kind: &str) {
        let Some(definition) = self.definition(path) else { return };
        let attempt = self.node(path).map_or(1, |node| node.attempt);
        let retry = &definition["retry"];
        let most = if retry.is_null() { 1 } else { retry["max_attempts"].as_u64().unwrap_or(4) };
        let worth = match retry["retry_on"].as_array() {
            Some(kinds) => kinds.iter().any(|known| known == kind),
            None => ["timeout", "http_5xx", "http_429", "connection"].contains(&kind),
        };
        if u64::from(attempt) >= most || !worth {
            return self.fail(path, fault(kind));
        }
        let initial = retry["initial_interval_ms"].as_u64().unwrap_or(200);
        let factor = if retry["backoff"] == "constant" { 1 } else { 2_u64.pow(attempt - 1) };
        self.later(path, (initial * factor).min(10_000), What::TryAgain);
    }

    /// Something happens to a node, if it is still what the happening was for.
    pub(super) fn happen(&mut self, happening: Happening) {
        let Happening { path, run, attempt, what } = happening;
        if matches!(what, What::Signal) {
            return self.receive();
        }
        let live = self
            .node(&path)
            .is_some_and(|node| node.state == State::Running && node.run == run && node.attempt == attempt);
        if !live {
            return;
        }
        match what {
            What::Signal => {}
            What::Answered(Answer::Output(output)) => self.complete(&path, output, None),
            What::Answered(Answer::Failure { kind, .. }) => self.attempt_failed(&path, kind),
            What::Answered(Answer::Never) => {}
            What::AttemptDeadline => self.attempt_failed(&path, "timeout"),
            What::TryAgain => {
                if let (Some(definition), Some(node)) = (self.definition(&path), self.node(&path)) {
                    node.attempt += 1;
                    self.attempt(&path, definition);
                }
            }
            What::DelayOver => self.complete(&path, json!(ANYTHING), None),
            What::WaitTimeout => self.wait_timed_out(&path),
            What::ChildEnded(ending) => match ending.status {
                Status::Completed => self.complete(&path, ending.output, None),
                Status::Failed => {
                    let kind = ending.fault.map_or_else(|| "custom".to_owned(), |fault| fault.kind);
                    self.fail(&path, fault(&kind));
                }
            },
        }
    }

    /// Something will happen to the attempt that a node is at.
    pub(super) fn later(&mut self, path: &str, after_ms: u64, what: What) {
        let Some(node) = self.node(path) else { return };
        let (run, attempt) = (node.run, node.attempt);
        self.at(after_ms, Happening { path: path.to_owned(), run, attempt, what });
    }
}

/// The label of a node's child.
pub(crate) fn child_label(label: &str, path: &str, run: u32) -> String {
    format!("{label}>{path}#{run}")
}

/// What each iteration of a loop over something sees.
fn items(over: &Value) -> Result<Vec<Map<String, Value>>, Fault> {
    let names = |index: usize, key: Value, item: Value| {
        Map::from_iter([
            ("item".to_owned(), item),
            ("key".to_owned(), key),
            ("index".to_owned(), json!(index)),
        ])
    };
    match over {
        Value::Array(list) => Ok(list
            .iter()
            .enumerate()
            .map(|(index, item)| names(index, json!(index), item.clone()))
            .collect()),
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            let item = |(index, (key, value)): (usize, (&String, &Value))| {
                names(index, json!(key), json!({"key": key, "value": value}))
            };
            Ok(sorted.into_iter().enumerate().map(item).collect())
        }
        _ => Err(fault("expression_error")),
    }
}

pub(super) fn fault(kind: &str) -> Fault {
    Fault { kind: kind.to_owned(), inner: None }
}
