//! The node types: one file each, with its configuration and, for those that run in the engine, its step.
//!
//! A further control node is a new variant of [`NodeType`], a file here with `parse` and `begin`, and an
//! arm in each `match` below; the compiler names the places. Worker nodes only render their configuration:
//! what they do is in `agents`.

mod condition;
mod delay;
mod emit_event;
mod end;
mod fail;
mod http_request;
mod iteration;
mod merge;
mod parallel;
mod respond;
mod start;
mod sub_workflow;
mod switch;
mod transform;
mod wait;

use serde_json::{Map, Value};
use std::sync::Arc;

use crate::blob::BlobRef;
use crate::execution::event::{ErrorKind, NodeError, WaitCondition, WaitMode};
use crate::expression::{EvaluationError, Fuel, References, RenderError, Scope};
use crate::node_type::{NodeType, RunsIn};
use crate::time::Timestamp;
use crate::workflow::definition::{Graph, MAX_DURATION_MS, Problems, Reader};

pub use condition::Condition;
pub use delay::Delay;
pub use emit_event::EmitEvent;
pub use end::End;
pub use fail::Fail;
pub use http_request::{DEFAULT_TIMEOUT_MS as HTTP_REQUEST_TIMEOUT_MS, HttpRequest};
pub use iteration::Loop;
pub use merge::{Merge, MergeMode};
pub use parallel::Parallel;
pub use respond::Respond;
pub use start::Start;
pub use sub_workflow::SubWorkflow;
pub use switch::Switch;
pub use transform::Transform;
pub use wait::{OnTimeout, Wait};

/// How long a script that stands in the place of an expression may take in all, in milliseconds.
const SCRIPT_TIMEOUT_MS: u64 = 10_000;

/// The checked configuration of a node.
#[derive(Debug, Clone)]
pub enum NodeConfig {
    /// Where an execution begins.
    Start(Start),
    /// Where it ends, with an output.
    End(End),
    /// Renders JSON.
    Transform(Transform),
    /// Two ways on.
    Condition(Condition),
    /// One way on of several.
    Switch(Switch),
    /// A pause.
    Delay(Delay),
    /// A call to an HTTP server.
    HttpRequest(HttpRequest),
    /// Several graphs at the same time.
    Parallel(Parallel),
    /// A graph for each item, or while a condition holds.
    Loop(Loop),
    /// Joins branches.
    Merge(Merge),
    /// Waits for signals, approvals or events.
    Wait(Wait),
    /// Another workflow as a step.
    SubWorkflow(SubWorkflow),
    /// Stops with an error.
    Fail(Fail),
    /// Answers a waiting webhook.
    Respond(Respond),
    /// Writes an event for others.
    EmitEvent(EmitEvent),
}

/// What happens when a node becomes ready.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// It is done, at once.
    Complete {
        /// Its output.
        output: Value,
        /// The handle it leaves by, where it has more than the plain one.
        handle: Option<String>,
    },
    /// It waits inside the engine.
    WaitUntil(Timestamp),
    /// A worker is to carry it out with this configuration, as typed parts.
    Schedule(Value),
    /// Its iterations or branches begin.
    Iterate(Items),
    /// It gives what its inputs gave; only its graph knows them.
    Merge,
    /// It waits for signals or events, perhaps not for ever.
    Await {
        /// What for. A `since` of the epoch stands for the execution's start.
        conditions: Vec<WaitCondition>,
        /// How many must be met.
        mode: WaitMode,
        /// For how long at most, in milliseconds.
        timeout_ms: Option<u64>,
    },
    /// A child is to run.
    StartChild(ChildRequest),
    /// An event is to be written.
    Emit {
        /// The author's type.
        event_type: String,
        /// The author's data.
        data: Value,
    },
    /// A webhook is to be answered.
    Respond {
        /// The HTTP status.
        status: u16,
        /// HTTP headers, all texts.
        headers: Map<String, Value>,
        /// The body.
        body: Value,
    },
}

/// What a container goes over.
#[derive(Debug, Clone, PartialEq)]
pub enum Items {
    /// These, one iteration each.
    List {
        /// The items.
        items: Vec<Value>,
        /// Whether they are `{key, value}`.
        keyed: bool,
    },
    /// Until its condition does not hold.
    While,
    /// That many branches.
    Branches(u32),
}

/// The child that a `sub_workflow` asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct ChildRequest {
    /// Its workflow, by id or name.
    pub workflow: String,
    /// Its version; the latest published if none is named.
    pub version: Option<u64>,
    /// Its input.
    pub input: Value,
    /// Whether the node waits for it.
    pub wait: bool,
}

/// Why a step was not made.
#[derive(Debug, Clone, PartialEq)]
pub enum StepError {
    /// The content of a claim check must be known first.
    NeedsBlob(BlobRef),
    /// The node fails.
    Failed(NodeError),
}

impl NodeConfig {
    /// Reads the `config` of a node; problems carry pointers below `pointer`.
    pub(crate) fn parse(
        node_type: NodeType,
        config: &Value,
        pointer: &str,
        problems: &mut Problems,
    ) -> Option<Self> {
        let reader = Reader::open(config, pointer, problems)?;
        match node_type {
            NodeType::Start => Some(Self::Start(Start::parse(reader))),
            NodeType::End => Some(Self::End(End::parse(reader))),
            NodeType::Transform => Transform::parse(reader).map(Self::Transform),
            NodeType::Condition => Condition::parse(reader).map(Self::Condition),
            NodeType::Switch => Switch::parse(reader).map(Self::Switch),
            NodeType::Delay => Delay::parse(reader).map(Self::Delay),
            NodeType::HttpRequest => HttpRequest::parse(reader, config).map(Self::HttpRequest),
            NodeType::Parallel => Parallel::parse(reader).map(Self::Parallel),
            NodeType::Loop => Loop::parse(reader).map(Self::Loop),
            NodeType::Merge => Merge::parse(reader).map(Self::Merge),
            NodeType::Wait => Wait::parse(reader).map(Self::Wait),
            NodeType::SubWorkflow => SubWorkflow::parse(reader).map(Self::SubWorkflow),
            NodeType::Fail => Fail::parse(reader).map(Self::Fail),
            NodeType::Respond => Respond::parse(reader).map(Self::Respond),
            NodeType::EmitEvent => EmitEvent::parse(reader).map(Self::EmitEvent),
        }
    }

    /// What the node does now that it is ready. A pure function of scope and configuration.
    pub(crate) fn begin(&self, scope: &dyn Scope, fuel: &mut Fuel) -> Result<Step, StepError> {
        match self {
            Self::Start(start) => Ok(start.begin()),
            Self::End(end) => end.begin(scope, fuel),
            Self::Transform(transform) => transform.begin(scope, fuel),
            Self::Condition(condition) => condition.begin(scope, fuel),
            Self::Switch(switch) => switch.begin(scope, fuel),
            Self::Delay(delay) => delay.begin(scope, fuel),
            Self::HttpRequest(request) => request.begin(scope, fuel),
            Self::Parallel(parallel) => Ok(parallel.begin()),
            Self::Loop(iteration) => iteration.begin(scope, fuel),
            Self::Merge(_) => Ok(Step::Merge),
            Self::Wait(wait) => wait.begin(scope, fuel),
            Self::SubWorkflow(child) => child.begin(scope, fuel),
            Self::Fail(fail) => fail.begin(scope, fuel),
            Self::Respond(respond) => respond.begin(scope, fuel),
            Self::EmitEvent(emit) => emit.begin(scope, fuel),
        }
    }

    /// Who carries it out.
    pub fn runs_in(&self, node_type: NodeType) -> RunsIn {
        match self {
            Self::Condition(condition) if condition.is_script() => RunsIn::Worker,
            _ => node_type.runs_in(),
        }
    }

    /// The graphs inside it, one for each iteration or branch: a loop's body stands for all its iterations.
    pub fn graphs(&self) -> &[Arc<Graph>] {
        match self {
            Self::Loop(iteration) => std::slice::from_ref(iteration.body()),
            Self::Parallel(parallel) => parallel.branches(),
            _ => &[],
        }
    }

    /// How long one attempt may take where the node does not say, in milliseconds.
    pub(crate) fn default_timeout_ms(&self) -> u64 {
        match self {
            Self::HttpRequest(_) => HTTP_REQUEST_TIMEOUT_MS,
            Self::Start(_)
            | Self::End(_)
            | Self::Transform(_)
            | Self::Condition(_)
            | Self::Switch(_)
            | Self::Delay(_)
            | Self::Parallel(_)
            | Self::Loop(_)
            | Self::Merge(_)
            | Self::Wait(_)
            | Self::SubWorkflow(_)
            | Self::Fail(_)
            | Self::Respond(_)
            | Self::EmitEvent(_) => SCRIPT_TIMEOUT_MS,
        }
    }

    /// The names that its expressions use.
    pub(crate) fn references(&self) -> References {
        match self {
            Self::Start(_) => References::default(),
            Self::End(end) => end.references(),
            Self::Transform(transform) => transform.references(),
            Self::Condition(condition) => condition.references(),
            Self::Switch(switch) => switch.references(),
            Self::Delay(delay) => delay.references(),
            Self::HttpRequest(request) => request.references(),
            Self::Parallel(_) | Self::Merge(_) => References::default(),
            Self::Loop(iteration) => iteration.references(),
            Self::Wait(wait) => wait.references(),
            Self::SubWorkflow(child) => child.references(),
            Self::Fail(fail) => fail.references(),
            Self::Respond(respond) => respond.references(),
            Self::EmitEvent(emit) => emit.references(),
        }
    }
}

impl StepError {
    /// A node that fails because of its configuration or data, where another attempt cannot help.
    fn fail(kind: ErrorKind, message: impl Into<String>, details: Value) -> Self {
        Self::Failed(NodeError { kind, message: message.into(), retryable: false, details })
    }

    /// From an expression that stands at a place of the configuration.
    fn evaluation(expression: &str, pointer: &str, error: EvaluationError) -> Self {
        if let EvaluationError::NeedsBlob(reference) = error {
            return Self::NeedsBlob(reference);
        }
        let details = serde_json::json!({
            "expression": expression, "pointer": pointer, "code": error.code(),
        });
        Self::fail(ErrorKind::ExpressionError, error.to_string(), details)
    }

    /// From a template.
    fn render(base: &str, error: RenderError) -> Self {
        let pointer = format!("{base}{}", error.pointer);
        Self::evaluation(&error.expression, &pointer, error.error)
    }
}

/// A whole number of milliseconds within the limit; a template joined with text gives digits.
fn whole_ms(value: &Value) -> Option<u64> {
    let ms = match value {
        Value::String(text) => text.parse().ok()?,
        Value::Number(number) => number.as_u64().or_else(|| {
            number.as_f64().filter(|ms| ms.fract() == 0.0 && (0.0..=1e15).contains(ms)).map(|ms| ms as u64)
        })?,
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => return None,
    };
    (ms <= MAX_DURATION_MS).then_some(ms)
}
