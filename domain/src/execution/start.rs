//! Starting: which version runs, with which attributes, and whether a concurrency key holds it back.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::decision::{Decision, Need, WakeupKind};
use crate::expression::{EvaluationError, Fuel};
use crate::facts::{Fact, Facts, WorkflowHead};
use crate::lane;
use crate::rejection::{Problem, Rejection, RejectionKind};
use crate::workflow;
use crate::workflow::definition::{Definition, MAX_PROBLEMS};

use super::MAX_CHILD_DEPTH;
use super::command::StartExecution;
use super::decide::{finish, refuse_too_deep};
use super::event::{ExecutionQueued, ExecutionStarted};
use super::progress::Progress;
use super::state::{ExecutionState, Phase};

/// The most bytes of an execution's attributes.
const MAX_ATTRIBUTES_BYTES: usize = 4 * 1024;
/// The most bytes of a concurrency key.
const MAX_KEY_BYTES: usize = 512;

pub(super) fn start_execution(
    state: &ExecutionState,
    start: &StartExecution,
    facts: &Facts,
) -> Result<Decision, Rejection> {
    if state.phase != Phase::NotStarted {
        let detail = format!("execution {} exists already", facts.stream);
        return Err(Rejection::new(RejectionKind::Conflict, "execution_exists", detail));
    }
    refuse_too_deep(&start.input, "/input")?;
    if start.parent.as_ref().is_some_and(|parent| parent.depth > MAX_CHILD_DEPTH) {
        let detail = format!("sub-workflows may go {MAX_CHILD_DEPTH} deep");
        return Err(Rejection::new(RejectionKind::TooLarge, "children_too_deep", detail));
    }
    let mut needs = Vec::new();
    if let Fact::Unknown = facts.variables {
        needs.push(Need::Variables(None));
    }
    let head = match &facts.workflow {
        Fact::Unknown => {
            needs.push(Need::Workflow(start.workflow_id));
            return Ok(Decision::Needs(needs));
        }
        Fact::Absent => return Err(workflow::not_found(start.workflow_id)),
        Fact::Is(head) => head,
    };
    let version = startable_version(start, head)?;
    let definition = match &facts.definition {
        Fact::Unknown => {
            needs.push(Need::Definition { workflow: start.workflow_id, version });
            return Ok(Decision::Needs(needs));
        }
        Fact::Absent => return Err(version_not_found(start, version)),
        Fact::Is(definition) => definition,
    };
    if !needs.is_empty() {
        return Ok(Decision::Needs(needs));
    }
    let vars_version = match &facts.variables {
        Fact::Is(variables) => variables.version,
        Fact::Unknown | Fact::Absent => 0,
    };
    let mut started = ExecutionStarted {
        workflow_id: start.workflow_id,
        workflow_name: head.name.clone(),
        workflow_version: version,
        definition_hash: definition.hash.clone(),
        input: start.input.clone(),
        trigger: start.trigger.clone(),
        vars_version,
        priority: start.priority.unwrap_or(definition.priority).min(9),
        attributes: start.attributes.clone(),
        deadline: definition.timeout_ms.map(|ms| facts.now.plus_ms(ms)),
        parent: start.parent.clone(),
        owner: owner_of(start, facts),
    };
    match render_attributes(&started, definition, facts) {
        Ok(rendered) => {
            for (key, value) in rendered {
                started.attributes.entry(key).or_insert(value);
            }
        }
        Err(AttributesError::Needs(need)) => return Ok(Decision::Needs(vec![need])),
        Err(AttributesError::Rejected(rejection)) => return Err(rejection),
    }
    check_attributes(&started.attributes)?;
    let mut progress = Progress::new(ExecutionState::default(), definition, facts);
    if let Some(deadline) = started.deadline {
        progress.wake_at(deadline, WakeupKind::ExecutionDeadline);
    }
    progress.record(started);
    if let Some(refused) = enter_lane(&mut progress)? {
        return Ok(refused);
    }
    finish(progress)
}

/// To whom an execution belongs: a child to whom its parent belongs to, whoever its right was; others to who starts them.
fn owner_of(start: &StartExecution, facts: &Facts) -> Option<Uuid> {
    if start.parent.is_some() {
        return start.owner;
    }
    facts.authority.as_ref().map(|authority| authority.user).or(start.owner)
}

/// Asks for a slot where the workflow allows only so many executions of one key. A decision instead of nothing means
/// that something must be fetched first.
pub(super) fn enter_lane(progress: &mut Progress<'_>) -> Result<Option<Decision>, Rejection> {
    let (definition, facts) = (progress.definition, progress.facts);
    let Some(concurrency) = &definition.concurrency else { return Ok(None) };
    let Some(started) = progress.state.started.clone() else { return Ok(None) };
    let rendered = concurrency.key.render(&progress.scope(&started, "", ""), &mut Fuel::standard());
    let refuse = |detail: String| {
        let problem = Problem::new("/concurrency/key", "expression_error", detail);
        let message = "the workflow's concurrency key could not be rendered from this input";
        Rejection::invalid("expression_error", message, vec![problem])
    };
    let key = match rendered {
        Ok(Value::String(key)) => key,
        Ok(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
        Ok(_) => return Err(refuse("a key is a text, a number or a boolean".to_owned())),
        Err(error) => match error.error {
            EvaluationError::NeedsBlob(reference) => {
                return Ok(Some(Decision::Needs(vec![Need::Blob(reference)])));
            }
            other => return Err(refuse(other.to_string())),
        },
    };
    if key.len() > MAX_KEY_BYTES {
        return Err(refuse(format!("a key has at most {MAX_KEY_BYTES} bytes")));
    }
    let workflow_id = started.workflow_id;
    progress.record(ExecutionQueued {
        lane: lane::stream_of(&facts.tenant, workflow_id, &key),
        key,
        limit: concurrency.limit,
        on_limit: concurrency.on_limit,
        priority: started.priority,
        workflow_id,
    });
    Ok(None)
}

fn startable_version(start: &StartExecution, head: &WorkflowHead) -> Result<u64, Rejection> {
    let id = start.workflow_id;
    if head.deleted {
        return Err(workflow::not_found(id));
    }
    if !head.enabled {
        let detail = format!("workflow {id} is disabled; enable it first");
        return Err(Rejection::new(RejectionKind::Conflict, "workflow_disabled", detail));
    }
    let version = start.workflow_version.or(head.published_version).ok_or_else(|| {
        let detail = format!("workflow {id} has no published version; publish one, or name a version");
        Rejection::new(RejectionKind::Conflict, "workflow_not_published", detail)
    })?;
    if version == 0 || version > head.latest_version {
        return Err(version_not_found(start, version));
    }
    Ok(version)
}

fn version_not_found(start: &StartExecution, version: u64) -> Rejection {
    let detail = format!("workflow {} has no version {version}", start.workflow_id);
    Rejection::new(RejectionKind::NotFound, "workflow_version_not_found", detail)
}

enum AttributesError {
    Needs(Need),
    Rejected(Rejection),
}

/// The workflow's attribute templates, on the state that the start will give.
fn render_attributes(
    started: &ExecutionStarted,
    definition: &Definition,
    facts: &Facts,
) -> Result<Map<String, Value>, AttributesError> {
    let Some(template) = &definition.attributes else { return Ok(Map::new()) };
    let state = super::evolve(ExecutionState::default(), &started.clone().into(), facts.now);
    let Some(fixed) = state.started.as_deref() else { return Ok(Map::new()) };
    let progress = Progress::new(state.clone(), definition, facts);
    let scope = progress.scope(fixed, "", "");
    let reject = |pointer: String, detail: String| {
        AttributesError::Rejected(Rejection::invalid(
            "expression_error",
            "the workflow's attributes could not be rendered from this input",
            vec![Problem::new(pointer, "expression_error", detail)],
        ))
    };
    match template.render(&scope, &mut Fuel::standard()) {
        Ok(Value::Object(fields)) => Ok(fields),
        Ok(_) => Err(reject("/attributes".to_owned(), "attributes must be an object".to_owned())),
        Err(error) => Err(match error.error {
            EvaluationError::NeedsBlob(reference) => AttributesError::Needs(Need::Blob(reference)),
            other => reject(format!("/attributes{}", error.pointer), other.to_string()),
        }),
    }
}

fn check_attributes(attributes: &Map<String, Value>) -> Result<(), Rejection> {
    let mut problems: Vec<Problem> = attributes
        .iter()
        .filter(|(_, value)| value.is_object() || value.is_array())
        .take(MAX_PROBLEMS)
        .map(|(key, _)| {
            let pointer = format!("/attributes/{}", key.replace('~', "~0").replace('/', "~1"));
            Problem::new(pointer, "wrong_type", "an attribute is a string, number, boolean or null")
        })
        .collect();
    let bytes = serde_json::to_string(attributes).map_or(0, |json| json.len());
    if bytes > MAX_ATTRIBUTES_BYTES {
        let detail = format!("the attributes have {bytes} bytes; at most {MAX_ATTRIBUTES_BYTES} are allowed");
        problems.push(Problem::new("/attributes", "too_large", detail));
    }
    if problems.is_empty() {
        return Ok(());
    }
    Err(Rejection::invalid("invalid_attributes", "the execution's attributes are not valid", problems))
}
