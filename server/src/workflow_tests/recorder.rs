//! A case from what an execution recorded: the events of a real run become outputs, signals and an expectation.
//!
//! Only what a fixture can say is recorded: an execution that ended by itself, completed or failed. Signals and events
//! that no wait used are left out, because without the time that workers take they might come after the end.

use domain::blob::BlobRef;
use domain::node_type::RunsIn;
use domain::time::Timestamp;
use domain::workflow::definition::Definition;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A call of a worker node: its path, run and attempt.
type Call = (String, u64, u64);

/// Makes a case of an execution's events, in the API's shape.
///
/// # Errors
/// Why these events make no case.
pub fn record(
    definition: &Definition,
    events: &[Value],
    name: &str,
    vars: &Map<String, Value>,
) -> Result<Value, String> {
    let mut recorder = Recorder::new(definition);
    for event in events {
        recorder.take(event)?;
    }
    recorder.case(name, vars)
}

struct Recorder<'d> {
    definition: &'d Definition,
    started: Option<(Timestamp, Value)>,
    /// In the order of scheduling within a path: run, then attempt.
    calls: BTreeMap<Call, Value>,
    signals: BTreeMap<u64, (Timestamp, Value, Value)>,
    used_signals: BTreeSet<u64>,
    events: Vec<(Timestamp, Value, Value)>,
    children: Vec<(Value, String, Value)>,
    expect: Option<Value>,
}

impl<'d> Recorder<'d> {
    fn new(definition: &'d Definition) -> Self {
        Self {
            definition,
            started: None,
            calls: BTreeMap::new(),
            signals: BTreeMap::new(),
            used_signals: BTreeSet::new(),
            events: Vec::new(),
            children: Vec::new(),
            expect: None,
        }
    }

    fn take(&mut self, event: &Value) -> Result<(), String> {
        let event_type = text(event, "/type");
        let data = &event["data"];
        let at = text(event, "/recorded_at").parse::<Timestamp>().unwrap_or_default();
        match event_type {
            "execution.started" => self.started = Some((at, whole(&data["input"], "the input")?)),
            "execution.node.scheduled" => {
                self.calls.insert(call(data), json!({"never": true}));
            }
            "execution.node.completed" | "execution.node.failed" if self.is_worker(data) => {
                let call = call(data);
                // A node that failed before it was scheduled was never called.
                if let Some(answer) = self.calls.get_mut(&call) {
                    *answer = match data.get("error") {
                        Some(error) => json!({ "error": error }),
                        None => {
                            json!({"output": whole(&data["output"], &format!("the output of `{}`", call.0))?})
                        }
                    };
                }
            }
            "execution.signal.received" => {
                let payload = whole(&data["payload"], "a signal's payload")?;
                let version = event["version"].as_u64().unwrap_or_default();
                self.signals.insert(version, (at, data["name"].clone(), payload));
            }
            "execution.wait.satisfied" => {
                self.used_signals.extend(data["signal_version"].as_u64());
                if let Some(matched) = data.get("event") {
                    let at = text(matched, "/recorded_at").parse().unwrap_or(at);
                    let payload = whole(&data["payload"], "an event's data")?;
                    self.events.push((at, matched["type"].clone(), payload));
                }
            }
            "execution.child.started" => {
                let workflow = text(data, "/workflow").to_owned();
                self.children.push((data["child_id"].clone(), workflow, json!({"output": null})));
            }
            "execution.child.finished" => self.child_finished(data)?,
            "execution.completed" => {
                let output = whole(&data["output"], "the output")?;
                self.expect = Some(json!({"status": "completed", "output": output}));
            }
            "execution.failed" => {
                let mut error = json!({"kind": data["error"]["kind"]});
                if let Some(node_id) = data.get("node_id") {
                    error["node_id"] = node_id.clone();
                }
                self.expect = Some(json!({"status": "failed", "error": error}));
            }
            "execution.forked" => return Err("a fork begins in its origin; record the origin".to_owned()),
            "execution.retried" => return Err("it was retried, which a case cannot say".to_owned()),
            "execution.cancelled" | "execution.terminated" => {
                return Err("it was ended from outside, which a case cannot say".to_owned());
            }
            _ => {}
        }
        Ok(())
    }

    fn child_finished(&mut self, data: &Value) -> Result<(), String> {
        let Some((_, workflow, answer)) = self.children.iter_mut().find(|(id, ..)| *id == data["child_id"])
        else {
            return Ok(());
        };
        *answer = match data.get("error").filter(|error| !error.is_null()) {
            Some(error) => json!({ "error": error }),
            None if data["status"] == "completed" => {
                json!({"output": whole(&data["output"], &format!("the output of child `{workflow}`"))?})
            }
            None => {
                json!({"error": {"kind": "custom", "message": format!("the child was {}", text(data, "/status"))}})
            }
        };
        Ok(())
    }

    fn is_worker(&self, data: &Value) -> bool {
        let node = self.definition.node(text(data, "/node_id"));
        node.is_some_and(|node| node.config.runs_in(node.node_type) == RunsIn::Worker)
    }

    fn case(self, name: &str, vars: &Map<String, Value>) -> Result<Value, String> {
        let (started, input) = self.started.ok_or("it has no start")?;
        let expect = self.expect.ok_or("it has not ended")?;
        let mut case = json!({"name": name, "input": input, "now": started.to_string()});
        let mut put = |field: &str, value: Value, is_empty: bool| {
            if !is_empty {
                case[field] = value;
            }
        };
        put("vars", Value::Object(vars.clone()), vars.is_empty());
        let nodes = self.calls.into_iter().map(|((path, ..), answer)| (path, answer));
        let nodes = in_order(nodes);
        put("nodes", json!(nodes), nodes.is_empty());
        let used = self.signals.iter().filter(|(version, _)| self.used_signals.contains(version));
        let signals: Vec<_> = used
            .map(|(_, (at, name, payload))| {
                json!({"name": name, "payload": payload, "at_ms": at.since_ms(started)})
            })
            .collect();
        put("signals", json!(signals), signals.is_empty());
        let events = self.events.iter().map(
            |(at, event_type, data)| json!({"type": event_type, "data": data, "at_ms": at.since_ms(started)}),
        );
        let events: Vec<_> = events.collect();
        put("events", json!(events), events.is_empty());
        let children = in_order(self.children.into_iter().map(|(_, workflow, answer)| (workflow, answer)));
        put("children", json!(children), children.is_empty());
        put("expect", expect, false);
        Ok(case)
    }
}

/// One answer as it is, several as a list.
fn in_order(calls: impl Iterator<Item = (String, Value)>) -> Map<String, Value> {
    let mut lists: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for (key, answer) in calls {
        lists.entry(key).or_default().push(answer);
    }
    let one = |mut list: Vec<Value>| match list.len() {
        1 => list.remove(0),
        _ => Value::Array(list),
    };
    lists.into_iter().map(|(key, list)| (key, one(list))).collect()
}

fn call(data: &Value) -> Call {
    let number = |field: &str| data[field].as_u64().unwrap_or_default();
    (text(data, "/node_id").to_owned(), number("run"), number("attempt"))
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The value, if the event has it itself.
fn whole(value: &Value, what: &str) -> Result<Value, String> {
    match BlobRef::from_value(value) {
        None => Ok(value.clone()),
        Some(reference) => Err(format!("{what} has {} bytes, too many for a fixture", reference.bytes)),
    }
}
