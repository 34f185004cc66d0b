//! What can be asked of an execution that exists, whichever way it comes in: HTTP, WebSocket, a redrive.
//!
//! Owns: the shapes of those requests, and how they become commands. Large values are stored here, before the command
//! travels. Deliberately absent: whether an execution allows it, which its decider says.

use domain::access::Permission;
use domain::command::Command;
use domain::decision::NodeRun;
use domain::execution::command::{ExecutionCommand, ForkExecution};
use domain::execution::event::Effects;
use domain::ids::TenantId;
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::app::App;
use crate::executing::{ExecutionAnswer, answer};
use crate::failure::Failure;
use crate::large_values::check_in;
use crate::request::{Fields, Write};
use crate::sending::send;

/// The most nodes that one retry or fork says something about.
const MAX_NODE_VALUES: usize = 100;

/// A request to an execution.
#[derive(Debug)]
pub(crate) enum Act {
    /// Ends it, undoing what it did.
    Cancel { reason: Option<String> },
    /// Ends it at once.
    Terminate { reason: Option<String> },
    /// Nothing new starts.
    Pause { reason: Option<String> },
    /// It goes on.
    Resume { reason: Option<String> },
    /// What failed is tried again, perhaps with other configurations.
    Retry { reason: Option<String>, node_inputs: Map<String, Value>, dead_letter: Option<NodeRun> },
    /// A signal.
    Signal { name: String, payload: Value },
}

impl Act {
    /// Its verb in the API.
    pub(crate) fn verb(&self) -> &'static str {
        match self {
            Self::Cancel { .. } => "cancel",
            Self::Terminate { .. } => "terminate",
            Self::Pause { .. } => "pause",
            Self::Resume { .. } => "resume",
            Self::Retry { .. } => "retry",
            Self::Signal { .. } => "signal",
        }
    }

    /// What it needs.
    pub(crate) fn permission(&self) -> Permission {
        match self {
            Self::Cancel { .. } => Permission::ExecutionCancel,
            Self::Terminate { .. } => Permission::ExecutionTerminate,
            Self::Pause { .. } | Self::Resume { .. } => Permission::ExecutionPause,
            Self::Retry { .. } => Permission::ExecutionRetry,
            Self::Signal { .. } => Permission::ExecutionSignal,
        }
    }

    /// Reads the body of a verb of the API; `None` if there is no such verb.
    pub(crate) fn read(verb: &str, fields: &mut Fields) -> Option<Self> {
        let mut reason = || fields.text("reason");
        Some(match verb {
            "cancel" => Self::Cancel { reason: reason() },
            "terminate" => Self::Terminate { reason: reason() },
            "pause" => Self::Pause { reason: reason() },
            "resume" => Self::Resume { reason: reason() },
            "retry" => Self::Retry {
                reason: reason(),
                node_inputs: node_values(fields, "node_inputs"),
                dead_letter: None,
            },
            _ => return None,
        })
    }
}

/// A fork as a caller asks for it.
#[derive(Debug)]
pub(crate) struct ForkRequest {
    at_version: u64,
    input: Option<Value>,
    node_outputs: Map<String, Value>,
    workflow_version: Option<u64>,
    effects: Effects,
}

impl ForkRequest {
    /// Reads the body of a fork.
    pub(crate) fn read(fields: &mut Fields) -> Self {
        Self {
            at_version: fields.required_number("at_version", 1, u64::MAX),
            input: fields.any("input"),
            node_outputs: node_values(fields, "node_outputs"),
            workflow_version: fields.number("workflow_version", 1, u64::MAX),
            effects: effects(fields),
        }
    }
}

fn effects(fields: &mut Fields) -> Effects {
    match fields.text("effects").as_deref() {
        None | Some("live") => Effects::Live,
        Some("replay") => Effects::Replay,
        Some("mute") => Effects::Mute,
        Some(_) => {
            fields.report("/effects", "invalid_value", "use live, replay or mute");
            Effects::Live
        }
    }
}

/// Values by node path.
fn node_values(fields: &mut Fields, name: &'static str) -> Map<String, Value> {
    let values = fields.object(name);
    if values.len() > MAX_NODE_VALUES {
        let detail = format!("`{name}` names {} nodes; at most {MAX_NODE_VALUES} are taken", values.len());
        fields.report(&format!("/{name}"), "too_many", detail);
    }
    values
}

/// Asks an execution for something.
pub(crate) async fn act(
    app: &App,
    write: Write,
    execution: Uuid,
    act: Act,
) -> Result<ExecutionAnswer, Failure> {
    let writing = write.to(execution, app.clock.now());
    let tenant = &writing.caller().principal.tenant;
    let command = match act {
        Act::Cancel { reason } => ExecutionCommand::Cancel { reason },
        Act::Terminate { reason } => ExecutionCommand::Terminate { reason },
        Act::Pause { reason } => ExecutionCommand::Pause { reason },
        Act::Resume { reason } => ExecutionCommand::Resume { reason },
        Act::Retry { reason, node_inputs, dead_letter } => {
            let node_inputs = check_in_each(app, tenant, node_inputs, "/node_inputs").await?;
            ExecutionCommand::Retry { reason, node_inputs, dead_letter }
        }
        Act::Signal { name, payload } => {
            ExecutionCommand::Signal { name, payload: check_in(app, tenant, payload, "").await? }
        }
    };
    Ok(answer(execution, send(app, &writing, Command::Execution(command)).await?))
}

/// Makes a new execution that goes on from another's state. Its id is answered; with a key, always the same.
pub(crate) async fn fork(
    app: &App,
    write: Write,
    origin: Uuid,
    request: ForkRequest,
) -> Result<ExecutionAnswer, Failure> {
    let writing = write.create_anywhere(app.clock.now());
    let tenant = &writing.caller().principal.tenant;
    let input = match request.input {
        None => None,
        Some(input) => Some(check_in(app, tenant, input, "/input").await?),
    };
    let command = Command::Execution(ExecutionCommand::Fork(ForkExecution {
        origin,
        at_version: request.at_version,
        input,
        node_outputs: check_in_each(app, tenant, request.node_outputs, "/node_outputs").await?,
        workflow_version: request.workflow_version,
        effects: request.effects,
        parent: None,
        owner: None,
    }));
    Ok(answer(writing.stream, send(app, &writing, command).await?))
}

async fn check_in_each(
    app: &App,
    tenant: &TenantId,
    values: Map<String, Value>,
    pointer: &str,
) -> Result<Map<String, Value>, Failure> {
    let mut stored = Map::new();
    for (path, value) in values {
        let pointer = format!("{pointer}/{}", path.replace('~', "~0").replace('/', "~1"));
        let value = check_in(app, tenant, value, &pointer).await?;
        stored.insert(path, value);
    }
    Ok(stored)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(body: Value, read: impl FnOnce(&mut Fields)) -> Vec<(String, String)> {
        let mut fields = Fields::open(body).expect("an object");
        read(&mut fields);
        let errors = fields.finish().err().map(|failure| failure.errors).unwrap_or_default();
        errors.into_iter().map(|problem| (problem.pointer, problem.code.into_owned())).collect()
    }

    fn fork_problems(body: Value) -> Vec<(String, String)> {
        problems(body, |fields| drop(ForkRequest::read(fields)))
    }

    #[test]
    fn a_fork_names_the_event_that_it_goes_on_from() {
        let body = json!({"at_version": 3, "input": null, "node_outputs": {"a/0/b": 1}, "effects": "replay"});
        let mut fields = Fields::open(body).expect("an object");
        let request = ForkRequest::read(&mut fields);
        fields.finish().expect("no defects");
        assert_eq!((request.at_version, request.input), (3, Some(Value::Null)));
        assert_eq!((request.effects, request.node_outputs["a/0/b"].clone()), (Effects::Replay, json!(1)));
        assert_eq!(fork_problems(json!({})), [(String::new(), "missing_field".to_owned())]);
        let pair = |pointer: &str, code: &str| (pointer.to_owned(), code.to_owned());
        assert_eq!(
            fork_problems(json!({"at_version": 0, "effects": "none", "workflow_version": "x", "more": 1})),
            [
                pair("/at_version", "out_of_range"),
                pair("/workflow_version", "wrong_type"),
                pair("/effects", "invalid_value"),
                pair("/more", "unknown_field"),
            ]
        );
    }

    #[test]
    fn only_a_retry_takes_configurations_of_nodes_and_not_too_many() {
        let read =
            |verb: &'static str| move |fields: &mut Fields| drop(Act::read(verb, fields).expect("a verb"));
        let inputs = json!({"reason": "fixed", "node_inputs": {"fetch": {"url": "x"}}});
        assert_eq!(problems(inputs.clone(), read("retry")), []);
        assert_eq!(problems(inputs, read("pause"))[0].0, "/node_inputs");
        let many: Map<String, Value> = (0..=MAX_NODE_VALUES).map(|n| (format!("n{n}"), json!({}))).collect();
        assert_eq!(problems(json!({"node_inputs": many}), read("retry"))[0].1, "too_many");
        assert!(Act::read("dance", &mut Fields::open(json!({})).expect("an object")).is_none());
    }
}
