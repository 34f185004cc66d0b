//! Fixtures: the cases of a workflow, with what its worker nodes give.
//!
//! ```json
//! {"cases": [{"name": "…", "input": …, "vars": {…}, "now": "2026-01-01T00:00:00Z",
//!   "nodes": {"fetch": {"output": …}, "loop/*/fetch": [{"error": {"kind": "timeout", "message": "…"}}, {"output": …}]},
//!   "signals": [{"name": "approved", "payload": …, "at_ms": 60000}], "events": [{"type": "order.paid", "data": …, "at_ms": 0}],
//!   "children": {"billing": {"output": …}, "shipping": {"definition": "shipping.json", "nodes": {…}}},
//!   "expect": {"status": "completed", "output": …, "error": {"kind": "…", "node_id": "…"}, "nodes": {"fetch": {"status": "…"}}}}]}
//! ```
//!
//! One record stands for every call of a path; of a list, one for each call of that path, in the order of run and
//! attempt. In paths `*` stands for the number of an iteration or branch; a path without it goes first. Times are
//! milliseconds from the start. `{"never": true}` stands for a worker that does not answer before its deadline. Fields
//! that are not known are refused.

use domain::execution::event::{ErrorKind, NodeError};
use domain::node_type::RunsIn;
use domain::time::Timestamp;
use domain::workflow::definition::{Definition, Node};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::expectation::Expectation;
use super::reader::{Defects, Object, place};

/// When a case begins where it does not say: 2026-01-01T00:00:00Z.
const START_MS: i64 = 1_767_225_600_000;

/// What a child gives, or one call of a worker node that is answered.
pub type Recorded = Result<Value, NodeError>;

/// What one call of a worker node gives; `None` if no answer comes before its deadline.
pub type Answer = Option<Recorded>;

/// A case.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name, unique in the fixture.
    pub name: String,
    /// The input.
    pub input: Value,
    /// What `vars` shows.
    pub vars: Map<String, Value>,
    /// When it begins.
    pub now: Timestamp,
    /// What worker nodes give.
    pub nodes: Recordings,
    /// Signals, by time.
    pub signals: Vec<SignalAt>,
    /// Events of other parts, by time.
    pub events: Vec<EventAt>,
    /// What `sub_workflow` nodes find, by workflow name or id.
    pub children: BTreeMap<String, Calls<Child>>,
    /// What must come of it.
    pub expect: Expectation,
}

/// A signal at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct SignalAt {
    /// Milliseconds from the start.
    pub at_ms: u64,
    /// Its name.
    pub name: String,
    /// What comes with it.
    pub payload: Value,
}

/// An event at a time.
#[derive(Debug, Clone, PartialEq)]
pub struct EventAt {
    /// Milliseconds from the start.
    pub at_ms: u64,
    /// Its type.
    pub event_type: String,
    /// Its data.
    pub data: Value,
}

/// The same for every call, or one for each.
#[derive(Debug, Clone, PartialEq)]
pub enum Calls<T> {
    /// For every call.
    Always(T),
    /// One for each call.
    InOrder(Vec<T>),
}

impl<T> Calls<T> {
    /// What a call gets, from 0.
    pub fn get(&self, call: usize) -> Option<&T> {
        match self {
            Self::Always(one) => Some(one),
            Self::InOrder(all) => all.get(call),
        }
    }
}

/// What stands in for a child.
#[derive(Debug, Clone)]
pub enum Child {
    /// It ends so, at once.
    Ends(Recorded),
    /// It runs here.
    Runs {
        /// Its definition.
        definition: Arc<Definition>,
        /// What its worker nodes give.
        nodes: Recordings,
    },
}

/// What worker nodes give, by path.
#[derive(Debug, Clone, Default)]
pub struct Recordings(Vec<(String, Calls<Answer>)>);

impl Recordings {
    /// What is recorded for a path: exact, else with the fewest `*`.
    pub fn of(&self, path: &str) -> Option<&Calls<Answer>> {
        self.0.iter().find(|(pattern, _)| fits(pattern, path)).map(|(_, calls)| calls)
    }
}

/// Whether a path is one of a pattern's.
fn fits(pattern: &str, path: &str) -> bool {
    let (mut pattern, mut path) = (pattern.split('/'), path.split('/'));
    loop {
        match (pattern.next(), path.next()) {
            (None, None) => return true,
            (Some("*"), Some(segment)) if segment.bytes().all(|byte| byte.is_ascii_digit()) => {}
            (Some(wanted), Some(segment)) if wanted == segment => {}
            _ => return false,
        }
    }
}

/// Reads a fixture for a workflow; definitions of children are files beside it.
///
/// # Errors
/// All its defects, each with its place.
pub fn read(document: Value, definition: &Definition, directory: &Path) -> Result<Vec<Case>, Vec<String>> {
    let mut defects = Defects::default();
    let mut cases: Vec<Case> = Vec::new();
    if let Some(mut fixture) = Object::open("", document, &mut defects) {
        if !fixture.has("cases") {
            defects.add("", "`cases` is missing");
        }
        for (index, case) in fixture.list("cases", &mut defects).into_iter().enumerate() {
            let at = format!("cases[{index}]");
            let Some(case) = read_case(&at, case, definition, directory, &mut defects) else { continue };
            if cases.iter().any(|other| other.name == case.name) {
                defects.add(&at, format!("there is another case `{}`", case.name));
            }
            cases.push(case);
        }
        fixture.finish(&mut defects);
    }
    if defects.0.is_empty() { Ok(cases) } else { Err(defects.0) }
}

fn read_case(
    at: &str,
    value: Value,
    definition: &Definition,
    directory: &Path,
    defects: &mut Defects,
) -> Option<Case> {
    let mut object = Object::open(at, value, defects)?;
    let name = object.text("name", defects).unwrap_or_else(|| at.to_owned());
    let input = object.any("input").unwrap_or_else(|| Value::Object(Map::new()));
    let vars = object.object("vars", defects);
    let now = read_now(&mut object, defects);
    let nodes = read_nodes(&mut object, definition, defects);
    let signals = read_signals(&mut object, defects);
    let events = read_events(&mut object, defects);
    let children = read_children(&mut object, directory, defects);
    let expect_at = object.at("expect");
    let expect = object.any("expect").unwrap_or_else(|| Value::Object(Map::new()));
    object.finish(defects);
    let expect = Expectation::read(&expect_at, expect, definition, defects)?;
    Some(Case { name, input, vars, now, nodes, signals, events, children, expect })
}

fn read_now(object: &mut Object, defects: &mut Defects) -> Timestamp {
    let text = object.text("now", defects);
    text.and_then(|text| match text.parse::<Timestamp>() {
        Ok(now) => Some(now),
        Err(error) => {
            defects.add(&object.at("now"), error.to_string());
            None
        }
    })
    .unwrap_or_else(|| Timestamp::from_unix_ms(START_MS))
}

/// The node of a path in which `*` may stand for numbers.
pub(super) fn node_of<'d>(definition: &'d Definition, path: &str) -> Option<&'d Node> {
    definition.node(&path.replace('*', "0"))
}

fn read_nodes(object: &mut Object, definition: &Definition, defects: &mut Defects) -> Recordings {
    let at = object.at("nodes");
    let mut all = Vec::new();
    for (path, value) in object.object("nodes", defects) {
        let at = place(&at, &path);
        match node_of(definition, &path) {
            None => defects.add(&at, format!("there is no node `{path}`")),
            Some(node) if node.config.runs_in(node.node_type) == RunsIn::Engine => {
                let kind = node.node_type.as_str();
                defects.add(&at, format!("a `{kind}` runs in the engine; only worker nodes are recorded"));
            }
            Some(_) => {}
        }
        all.extend(read_calls(&at, value, defects, read_answer).map(|calls| (path, calls)));
    }
    all.sort_by_key(|(path, _)| path.matches('*').count());
    Recordings(all)
}

fn read_calls<T>(
    at: &str,
    value: Value,
    defects: &mut Defects,
    mut read: impl FnMut(&str, Value, &mut Defects) -> Option<T>,
) -> Option<Calls<T>> {
    let Value::Array(items) = value else { return read(at, value, defects).map(Calls::Always) };
    let items = items.into_iter().enumerate();
    let all: Vec<_> = items.map(|(index, item)| read(&format!("{at}[{index}]"), item, defects)).collect();
    all.into_iter().collect::<Option<_>>().map(Calls::InOrder)
}

fn read_answer(at: &str, value: Value, defects: &mut Defects) -> Option<Answer> {
    let mut object = Object::open(at, value, defects)?;
    let answer = match object.flag("never", defects) {
        Some(true) => Some(None),
        Some(false) | None => read_outcome(at, &mut object, defects).map(Some),
    };
    object.finish(defects);
    answer
}

fn read_outcome(at: &str, object: &mut Object, defects: &mut Defects) -> Option<Recorded> {
    let error_at = object.at("error");
    match (object.any("output"), object.any("error")) {
        (Some(output), None) => Some(Ok(output)),
        (None, Some(error)) => read_error(&error_at, error, defects).map(Err),
        _ => {
            defects.add(at, "must have either `output` or `error`");
            None
        }
    }
}

fn read_error(at: &str, value: Value, defects: &mut Defects) -> Option<NodeError> {
    let mut object = Object::open(at, value, defects)?;
    let kind = read_kind(&mut object, defects);
    if kind.is_none() && !defects.0.iter().any(|defect| defect.starts_with(&object.at("kind"))) {
        defects.add(at, "`kind` is missing");
    }
    let message = object.text("message", defects).unwrap_or_else(|| "recorded failure".to_owned());
    let retryable = object.flag("retryable", defects);
    let details = object.any("details").unwrap_or_default();
    object.finish(defects);
    let kind = kind?;
    Some(NodeError { kind, message, retryable: retryable.unwrap_or_else(|| is_transient(kind)), details })
}

/// The kind of an error, if one is named.
pub(super) fn read_kind(object: &mut Object, defects: &mut Defects) -> Option<ErrorKind> {
    let text = object.text("kind", defects)?;
    let kind = ErrorKind::deserialize(Value::String(text.clone()));
    if kind.is_err() {
        let detail = "use timeout, http_4xx, http_5xx, http_429, connection, expression_error, invalid_config, \
            sandbox_limit, cancelled, worker_lost, no_record or custom";
        defects.add(&object.at("kind"), format!("`{text}` is not a kind of error; {detail}"));
    }
    kind.ok()
}

/// Whether another attempt can help, where the record does not say.
fn is_transient(kind: ErrorKind) -> bool {
    match kind {
        ErrorKind::Timeout
        | ErrorKind::Http5xx
        | ErrorKind::Http429
        | ErrorKind::Connection
        | ErrorKind::WorkerLost => true,
        ErrorKind::Http4xx
        | ErrorKind::ExpressionError
        | ErrorKind::InvalidConfig
        | ErrorKind::SandboxLimit
        | ErrorKind::Cancelled
        | ErrorKind::NoRecord
        | ErrorKind::Custom => false,
    }
}

fn read_signals(object: &mut Object, defects: &mut Defects) -> Vec<SignalAt> {
    let at = object.at("signals");
    let mut all = Vec::new();
    for (index, value) in object.list("signals", defects).into_iter().enumerate() {
        let at = format!("{at}[{index}]");
        let Some(mut signal) = Object::open(&at, value, defects) else { continue };
        let name = signal.text("name", defects);
        let payload = signal.any("payload").unwrap_or_default();
        let at_ms = signal.number("at_ms", defects).unwrap_or(0);
        signal.finish(defects);
        match name {
            Some(name) => all.push(SignalAt { at_ms, name, payload }),
            None => defects.add(&at, "a signal needs its `name`"),
        }
    }
    all
}

fn read_events(object: &mut Object, defects: &mut Defects) -> Vec<EventAt> {
    let at = object.at("events");
    let mut all = Vec::new();
    for (index, value) in object.list("events", defects).into_iter().enumerate() {
        let at = format!("{at}[{index}]");
        let Some(mut event) = Object::open(&at, value, defects) else { continue };
        let event_type = event.text("type", defects);
        let data = event.any("data").unwrap_or_default();
        let at_ms = event.number("at_ms", defects).unwrap_or(0);
        event.finish(defects);
        match event_type {
            Some(event_type) => all.push(EventAt { at_ms, event_type, data }),
            None => defects.add(&at, "an event needs its `type`"),
        }
    }
    all
}

fn read_children(
    object: &mut Object,
    directory: &Path,
    defects: &mut Defects,
) -> BTreeMap<String, Calls<Child>> {
    let at = object.at("children");
    let mut all = BTreeMap::new();
    for (workflow, value) in object.object("children", defects) {
        let calls = read_calls(&place(&at, &workflow), value, defects, |at, value, defects| {
            read_child(at, value, directory, defects)
        });
        all.extend(calls.map(|calls| (workflow, calls)));
    }
    all
}

fn read_child(at: &str, value: Value, directory: &Path, defects: &mut Defects) -> Option<Child> {
    let mut object = Object::open(at, value, defects)?;
    if !object.has("definition") {
        let recorded = read_outcome(at, &mut object, defects);
        object.finish(defects);
        return recorded.map(Child::Ends);
    }
    let file = object.text("definition", defects)?;
    let definition = match read_definition(&directory.join(&file)) {
        Ok(definition) => definition,
        Err(detail) => {
            defects.add(&object.at("definition"), detail);
            return None;
        }
    };
    let nodes = read_nodes(&mut object, &definition, defects);
    object.finish(defects);
    Some(Child::Runs { definition: Arc::new(definition), nodes })
}

/// Reads a definition from a file.
///
/// # Errors
/// What is wrong with it, in one text.
pub fn read_definition(path: &Path) -> Result<Definition, String> {
    let name = path.display();
    let bytes = std::fs::read(path).map_err(|error| format!("cannot read {name}: {error}"))?;
    let document: Value =
        serde_json::from_slice(&bytes).map_err(|error| format!("{name} is not JSON: {error}"))?;
    Definition::parse(&document).map_err(|problems| {
        let lines = problems.iter().map(|p| format!("\n  {}  {}: {}", p.pointer, p.code, p.detail));
        format!("{name} is not a valid definition:{}", lines.collect::<String>())
    })
}
