//! A tenant's variables: what `vars` shows in expressions. One stream per tenant, in its home partition.

pub mod command;
pub mod event;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::blob::{MAX_DEPTH, is_too_deep};
use crate::decision::{Decision, Outcome};
use crate::event::{Event, VariablesEvent};
use crate::facts::{Facts, Variables};
use crate::ids::{Slot, TenantId, derived_id};
use crate::rejection::{Problem, Rejection, RejectionKind};
use crate::time::Timestamp;

use command::VariablesCommand;
use event::{VariableDeleted, VariableSet};

/// The most variables of a tenant.
pub const MAX_VARIABLES: usize = 1_000;
/// The most bytes of a variable's JSON.
pub const MAX_VALUE_BYTES: usize = 32 * 1024;

/// The stream of a tenant's variables.
pub fn stream_of(tenant: &TenantId) -> Uuid {
    derived_id(Timestamp::default(), Slot::of_tenant(tenant), &[b"variables", tenant.as_str().as_bytes()])
}

/// Folded variables.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct VariablesState {
    /// The version of the stream.
    pub version: u64,
    /// Name to value.
    pub values: Map<String, Value>,
}

impl VariablesState {
    /// As a fact for deciders.
    pub fn as_fact(&self) -> Variables {
        Variables { version: self.version, values: self.values.clone() }
    }
}

/// The state after one more event.
pub fn evolve(mut state: VariablesState, event: &VariablesEvent) -> VariablesState {
    state.version += 1;
    match event {
        VariablesEvent::Set(set) => {
            state.values.insert(set.name.clone(), set.value.clone());
        }
        VariablesEvent::Deleted(deleted) => {
            state.values.remove(&deleted.name);
        }
    }
    state
}

/// Decides a command on folded state.
pub fn decide(
    state: &VariablesState,
    command: &VariablesCommand,
    _facts: &Facts,
) -> Result<Decision, Rejection> {
    let event = match command {
        VariablesCommand::Set { name, value } => {
            check(state, name, value)?;
            (state.values.get(name) != Some(value))
                .then(|| VariablesEvent::Set(VariableSet { name: name.clone(), value: value.clone() }))
        }
        VariablesCommand::Delete { name } => {
            if !state.values.contains_key(name) {
                let detail = format!("there is no variable `{name}`");
                return Err(Rejection::new(RejectionKind::NotFound, "variable_not_found", detail));
            }
            Some(VariablesEvent::Deleted(VariableDeleted { name: name.clone() }))
        }
    };
    let version = state.version + u64::from(event.is_some());
    Ok(Decision::Events(Outcome {
        events: event.into_iter().map(Event::Variables).collect(),
        answer: json!({ "version": version }),
        ..Outcome::default()
    }))
}

fn check(state: &VariablesState, name: &str, value: &Value) -> Result<(), Rejection> {
    let mut problems = Vec::new();
    let mut bytes = name.bytes();
    let shaped = bytes.next().is_some_and(|first| first.is_ascii_alphabetic() || first == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
        && name.len() <= 64;
    if !shaped {
        problems.push(Problem::new(
            "/name",
            "invalid_name",
            "a variable's name is a letter or _, then up to 63 letters, digits and _",
        ));
    }
    let length = value.to_string().len();
    if length > MAX_VALUE_BYTES {
        problems.push(Problem::new(
            "/value",
            "too_large",
            format!("the value has {length} bytes; at most {MAX_VALUE_BYTES} are allowed"),
        ));
    }
    if is_too_deep(value) {
        let detail = format!("the value is nested more than {MAX_DEPTH} levels deep; make it flatter");
        problems.push(Problem::new("/value", "too_deep", detail));
    }
    if !problems.is_empty() {
        return Err(Rejection::invalid("invalid_variable", "the variable is not valid", problems));
    }
    if state.values.len() >= MAX_VARIABLES && !state.values.contains_key(name) {
        let detail = format!("a tenant has at most {MAX_VARIABLES} variables; delete one first");
        return Err(Rejection::new(RejectionKind::TooLarge, "too_many_variables", detail));
    }
    Ok(())
}
