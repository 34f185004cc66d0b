//! What an execution's stream is made of. Stored for ever: a changed shape is a new schema version.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::node_type::NodeType;
use crate::time::Timestamp;

/// What started an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// `api`, `cli`; later `webhook`, `schedule`, `event`, `parent`.
    pub kind: String,
}

/// `execution.started`, version 2 (version 1 had no `priority` and `attributes`, and `trigger` was text).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionStarted {
    /// The workflow.
    pub workflow_id: Uuid,
    /// Its name at that time.
    pub workflow_name: String,
    /// The version this execution keeps for its whole life.
    pub workflow_version: u64,
    /// SHA-256 of the definition.
    pub definition_hash: String,
    /// The input, perhaps a claim check.
    pub input: Value,
    /// What started it.
    pub trigger: Trigger,
    /// The version of the tenant's variables that `vars` shows.
    pub vars_version: u64,
    /// 0 to 9; higher goes first.
    pub priority: u8,
    /// For search.
    #[serde(default)]
    pub attributes: Map<String, Value>,
    /// When the whole must be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
}

/// Why a node or an execution failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeError {
    /// The class of failure; what `retry_on` names.
    pub kind: ErrorKind,
    /// For people.
    pub message: String,
    /// Whether another attempt can help.
    pub retryable: bool,
    /// For programs; the failing expression, a status code.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub details: Value,
}

/// The class of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The attempt or the execution passed its deadline.
    Timeout,
    /// The target answered 400 to 499.
    #[serde(rename = "http_4xx")]
    Http4xx,
    /// The target answered 500 to 599.
    #[serde(rename = "http_5xx")]
    Http5xx,
    /// The target asked for fewer requests.
    #[serde(rename = "http_429")]
    Http429,
    /// The target was not reached, or hung up.
    Connection,
    /// An expression or template failed.
    ExpressionError,
    /// The rendered configuration cannot be used.
    InvalidConfig,
    /// A limit of the sandbox was hit.
    SandboxLimit,
    /// Asked to stop.
    Cancelled,
    /// The worker stopped giving signs of life.
    WorkerLost,
    /// A replay found no recorded outcome.
    NoRecord,
    /// The node's own.
    Custom,
}

/// `execution.node.scheduled`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeScheduled {
    /// Path of the node.
    pub node_id: String,
    /// Its run, from 1.
    pub run: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Its type.
    pub node_type: NodeType,
    /// The rendered configuration as typed parts, perhaps a claim check.
    pub config: Value,
    /// When this attempt must be done.
    pub deadline: Timestamp,
}

/// `execution.node.started`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStarted {
    /// Path of the node.
    pub node_id: String,
    /// Its run, from 1.
    pub run: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Its type.
    pub node_type: NodeType,
    /// The worker that leased it.
    pub worker: String,
}

/// `execution.node.completed`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeCompleted {
    /// Path of the node.
    pub node_id: String,
    /// Its run, from 1.
    pub run: u32,
    /// The attempt that gave the result.
    pub attempt: u32,
    /// Its type.
    pub node_type: NodeType,
    /// The output, perhaps a claim check.
    pub output: Value,
    /// The handle it leaves by, where it has more than the plain one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handle: Option<String>,
    /// From scheduling to result.
    pub duration_ms: u64,
}

/// `execution.node.failed`: one attempt.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeFailed {
    /// Path of the node.
    pub node_id: String,
    /// Its run, from 1.
    pub run: u32,
    /// The attempt that failed.
    pub attempt: u32,
    /// Its type.
    pub node_type: NodeType,
    /// Why.
    pub error: NodeError,
    /// From scheduling to failure.
    pub duration_ms: u64,
}

/// `execution.node.skipped`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeSkipped {
    /// Path of the node.
    pub node_id: String,
    /// Its run, from 1.
    pub run: u32,
    /// 0: it was never attempted.
    pub attempt: u32,
    /// Its type.
    pub node_type: NodeType,
}

/// `execution.node.cancelled`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeCancelled {
    /// Path of the node.
    pub node_id: String,
    /// Its run, from 1.
    pub run: u32,
    /// The attempt that was in flight.
    pub attempt: u32,
    /// Its type.
    pub node_type: NodeType,
    /// Why.
    pub reason: String,
}

/// `execution.node.waiting`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeWaiting {
    /// Path of the node.
    pub node_id: String,
    /// Its run, from 1.
    pub run: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Its type.
    pub node_type: NodeType,
}

/// `execution.node.retry_scheduled`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRetryScheduled {
    /// Path of the node.
    pub node_id: String,
    /// Its run, from 1.
    pub run: u32,
    /// The attempt that will be made.
    pub attempt: u32,
    /// Its type.
    pub node_type: NodeType,
    /// When.
    pub due_at: Timestamp,
}

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimerPurpose {
    /// A `delay` node.
    Delay,
    /// The pause before another attempt.
    Backoff,
}

/// `execution.timer.started`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimerStarted {
    /// Path of the node it belongs to.
    pub node_id: String,
    /// The node's run.
    pub run: u32,
    /// The node's attempt that it leads to.
    pub attempt: u32,
    /// What it is for.
    pub purpose: TimerPurpose,
    /// When it fires.
    pub due_at: Timestamp,
}

/// `execution.timer.fired`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimerFired {
    /// Path of the node it belongs to.
    pub node_id: String,
    /// The node's run.
    pub run: u32,
    /// The node's attempt that it leads to.
    pub attempt: u32,
    /// What it was for.
    pub purpose: TimerPurpose,
}

/// `execution.timer.cancelled`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimerCancelled {
    /// Path of the node it belongs to.
    pub node_id: String,
    /// The node's run.
    pub run: u32,
    /// The node's attempt that it would have led to.
    pub attempt: u32,
    /// What it was for.
    pub purpose: TimerPurpose,
}

/// `execution.signal.received`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignalReceived {
    /// The signal's name.
    pub name: String,
    /// What came with it, perhaps a claim check.
    pub payload: Value,
}

/// `execution.warning`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionWarning {
    /// Stable snake_case code.
    pub code: String,
    /// For people.
    pub message: String,
}

/// `execution.completed`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionCompleted {
    /// The output of the reached end, or an object by end id; null without an end.
    pub output: Value,
    /// The ends that were reached.
    pub ends: Vec<String>,
    /// From start to end.
    pub duration_ms: u64,
}

/// `execution.failed`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionFailed {
    /// The node whose failure ended it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// Why.
    pub error: NodeError,
    /// From start to end.
    pub duration_ms: u64,
}

/// `execution.cancelled`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionCancelled {
    /// Why, in the words of whoever asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// From start to end.
    pub duration_ms: u64,
}
