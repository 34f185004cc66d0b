//! The node types: one file each, with its configuration and, for those that run in the engine, its step.
//!
//! A further control node is a new variant of [`NodeType`], a file here with `parse` and `begin`, and an
//! arm in each `match` below; the compiler names the places. Worker nodes only render their configuration:
//! what they do is in `agents`.

mod condition;
mod delay;
mod end;
mod http_request;
mod start;
mod switch;
mod transform;

use serde_json::Value;

use crate::blob::BlobRef;
use crate::execution::event::{ErrorKind, NodeError};
use crate::expression::{EvaluationError, Fuel, References, RenderError, Scope};
use crate::node_type::NodeType;
use crate::time::Timestamp;
use crate::workflow::definition::{Problems, Reader};

pub use condition::Condition;
pub use delay::Delay;
pub use end::End;
pub use http_request::{DEFAULT_TIMEOUT_MS as HTTP_REQUEST_TIMEOUT_MS, HttpRequest};
pub use start::Start;
pub use switch::Switch;
pub use transform::Transform;

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
            | Self::Delay(_) => 0,
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
