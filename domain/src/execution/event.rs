//! What an execution's stream is made of. Stored for ever: a changed shape is a new schema version.

mod saga;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::decision::NodeRun;
use crate::node_type::NodeType;
use crate::time::Timestamp;

pub use saga::{
    ChildCompensated, ChildCompensationRequested, ChildFinished, ChildStarted, CompensationFinished,
    CompensationStarted, CompensationStatus, Ending, NodeCompensated,
};

/// What started an execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trigger {
    /// `api`, `cli`; later `webhook`, `schedule`, `event`, `parent`.
    pub kind: String,
}

/// The node of another execution that waits for this one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParentRef {
    /// The execution.
    pub execution_id: Uuid,
    /// Path of its `sub_workflow` node.
    pub node_id: String,
    /// The node's run.
    pub run: u32,
    /// The node's attempt.
    pub attempt: u32,
    /// How deep this execution is below its root, from 1.
    pub depth: u32,
    /// Whether the node does not wait for it: then nobody hears of its end.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub detached: bool,
}

impl ParentRef {
    /// The attempt of the node that waits.
    pub fn node_run(&self) -> NodeRun {
        NodeRun { node_id: self.node_id.clone(), run: self.run, attempt: self.attempt }
    }
}

/// What an execution does when its concurrency key has no slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum OnLimit {
    /// It waits.
    #[default]
    Queue,
    /// It ends cancelled.
    Drop,
    /// The oldest that runs is cancelled for it.
    CancelRunning,
}

/// `execution.queued`: a concurrency key holds it back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionQueued {
    /// The lane: the aggregate that gives out the key's slots.
    pub lane: Uuid,
    /// The rendered key.
    pub key: String,
    /// How many may run at once.
    pub limit: u32,
    /// What happens without a slot.
    pub on_limit: OnLimit,
    /// 0 to 9; higher goes first.
    pub priority: u8,
    /// The workflow whose lane it is.
    pub workflow_id: Uuid,
}

/// `execution.admitted`: it has a slot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionAdmitted {
    /// The lane.
    pub lane: Uuid,
}

/// What a fork does with effects on the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Effects {
    /// Worker nodes run.
    #[default]
    Live,
    /// Recorded outcomes of the same path and run are taken where the rendered configuration is equal.
    Replay,
    /// Recorded outputs, or null; nothing is dispatched.
    Mute,
}

/// A running child that is forked with its parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForkedChild {
    /// Path of the parent's `sub_workflow` node.
    pub node_id: String,
    /// The node's run.
    pub run: u32,
    /// The node's attempt.
    pub attempt: u32,
    /// How deep the child is below its root.
    pub depth: u32,
    /// The child of the origin.
    pub origin: Uuid,
    /// Its last event before the parent's.
    pub at_version: u64,
    /// The child of the fork.
    pub child: Uuid,
}

/// `execution.forked`: version 1 of a fork. Its state is the origin's at a version; nothing of it is copied.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionForked {
    /// The execution that it comes from.
    pub origin: Uuid,
    /// The last event of the origin that belongs to it.
    pub at_version: u64,
    /// The origin's last event when the fork was made: records up to it count.
    pub recorded_until: u64,
    /// How many forks led here, from 1.
    pub depth: u32,
    /// What it does with effects.
    pub effects: Effects,
    /// The workflow.
    pub workflow_id: Uuid,
    /// Its name.
    pub workflow_name: String,
    /// The version it runs, perhaps another than the origin's.
    pub workflow_version: u64,
    /// SHA-256 of the definition.
    pub definition_hash: String,
    /// Another input, perhaps a claim check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Other outputs of nodes, by path.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub node_outputs: Map<String, Value>,
    /// The handles by which nodes leave that are completed by `node_outputs` alone, by path.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub node_handles: Map<String, Value>,
    /// Whose child it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentRef>,
    /// Children that are forked with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<ForkedChild>,
    /// Paths of nodes that had begun and that its version of the workflow does not have, or not as what they were: they
    /// are pending again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub anew: Vec<String>,
    /// When the whole must be done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The user to whom it belongs: who forked it, or the owner of its parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Uuid>,
}

/// `execution.started`, version 4 (3 had no `owner`; 2 had no `parent`; 1 had no `priority` and `attributes`, and `trigger` was text).
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
    /// Whose child it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentRef>,
    /// The user to whom it belongs: who started it, or the owner of its parent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Uuid>,
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

/// `execution.node.scheduled`, version 2 (1 had no `heartbeat_timeout_ms`).
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
    /// How long its worker may be silent, in milliseconds, where the node says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heartbeat_timeout_ms: Option<u64>,
}

/// `execution.node.started`, version 2 (1 was for workers alone): a worker has held it for longer than a second, or a
/// `loop` or `parallel` has begun its iterations or branches.
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worker: Option<String>,
    /// The items of a `loop` over something, perhaps a claim check.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Value>,
    /// Whether the items are `{key, value}`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keyed: bool,
    /// How many iterations or branches there will be; a `while` cannot say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
}

/// `execution.scope.completed`: one iteration of a `loop` or one branch of a `parallel` is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ScopeCompleted {
    /// Path of the scope, such as `loop/3`.
    pub node_id: String,
    /// The run of its `loop` or `parallel`.
    pub run: u32,
    /// What its ends give, perhaps a claim check.
    pub output: Value,
    /// The ends that were reached.
    pub ends: Vec<String>,
}

/// `execution.run.started`: a back edge was taken; its region runs anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStarted {
    /// Path of the node that the back edge leads to.
    pub node_id: String,
    /// Its new run.
    pub run: u32,
    /// Path of the node that the back edge leaves.
    pub source: String,
    /// Paths of all nodes of the region.
    pub nodes: Vec<String>,
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

/// How a child is asked to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StopChild {
    /// Cancelled, with compensation.
    Cancel,
    /// At once.
    Terminate,
}

/// A child that ends with its node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedChild {
    /// The child.
    pub execution_id: Uuid,
    /// How.
    pub how: StopChild,
}

/// `execution.node.cancelled`, version 2 (1 had no `child`).
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
    /// Its child, which is to end too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<StoppedChild>,
}

/// What a wait is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WaitFor {
    /// A signal by name.
    Signal,
    /// A signal that a person gives.
    Approval,
    /// An event of the log.
    Event,
}

/// One condition of a wait, rendered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaitCondition {
    /// What it is for.
    #[serde(rename = "for")]
    pub wait_for: WaitFor,
    /// The signal's name, for signals and approvals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// The event's type.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub event_type: Option<String>,
    /// What the event's key must be equal to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Value>,
    /// What came before does not count.
    pub since: Timestamp,
}

/// Whether one condition of a wait is enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum WaitMode {
    /// There is one condition.
    #[default]
    One,
    /// The first that is met.
    Any,
    /// All of them.
    All,
}

/// `execution.node.waiting`, version 2 (1 had no conditions).
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
    /// What a `wait` waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<WaitCondition>,
    /// How many of them must be met.
    #[serde(default, skip_serializing_if = "is_one")]
    pub mode: WaitMode,
    /// For how long at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_at: Option<Timestamp>,
}

fn is_one(mode: &WaitMode) -> bool {
    *mode == WaitMode::One
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
    /// The longest time that a `wait` may last.
    Wait,
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

/// An event that satisfied a wait.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MatchedEvent {
    /// Its id.
    pub id: Uuid,
    /// Its type.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The stream that it is in.
    pub stream: Uuid,
    /// When it was recorded.
    pub recorded_at: Timestamp,
}

/// `execution.wait.satisfied`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WaitSatisfied {
    /// Path of the `wait` node.
    pub node_id: String,
    /// Its run, from 1.
    pub run: u32,
    /// The attempt, from 1.
    pub attempt: u32,
    /// Its type.
    pub node_type: NodeType,
    /// Which of the wait's conditions, from 0.
    pub condition: u32,
    /// The version of the signal's event, where a signal met it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal_version: Option<u64>,
    /// Which of the signals received it was, from 0; a fork's signals come after its origin's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal_number: Option<u32>,
    /// The event, where an event met it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<MatchedEvent>,
    /// The signal's payload or the event's data, perhaps a claim check.
    pub payload: Value,
}

/// `execution.event.emitted`: what an `emit_event` node writes; others wait for it by its own `type`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EventEmitted {
    /// Path of the node.
    pub node_id: String,
    /// Its run, from 1.
    pub run: u32,
    /// The author's type, such as `order.paid`.
    #[serde(rename = "type")]
    pub event_type: String,
    /// The author's data, perhaps a claim check.
    pub data: Value,
}

/// `execution.responded`: the answer for the webhook that started it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionResponded {
    /// Path of the node.
    pub node_id: String,
    /// Its run, from 1.
    pub run: u32,
    /// The HTTP status.
    pub status: u16,
    /// HTTP headers.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub headers: Map<String, Value>,
    /// The body, perhaps a claim check.
    pub body: Value,
}

/// `execution.node.dead_lettered`: it ran out of attempts, and its execution failed with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeDeadLettered {
    /// Path of the node.
    pub node_id: String,
    /// Its run, from 1.
    pub run: u32,
    /// Its last attempt.
    pub attempt: u32,
    /// Its type.
    pub node_type: NodeType,
    /// The last error.
    pub error: NodeError,
}

/// `execution.paused`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionPaused {
    /// Why, in the words of whoever asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `execution.resumed`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionResumed {
    /// Why, in the words of whoever asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// `execution.retried`: an execution that had ended goes on from what failed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionRetried {
    /// Why, in the words of whoever asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Paths of the nodes that get further attempts.
    pub nodes: Vec<String>,
    /// Configurations that replace what those nodes would render, by path; perhaps claim checks.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub node_inputs: Map<String, Value>,
    /// Whether only the failed compensation is tried again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub compensation: bool,
    /// When the whole must be done now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
}

/// Who must hear of an execution's end. Kept in its last event, so that whoever tells them needs no other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndNotice {
    /// The lane whose slot is free now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lane: Option<Uuid>,
    /// The parent that waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<ParentRef>,
}

/// `execution.terminated`: the end, at once, without compensation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecutionTerminated {
    /// Why, in the words of whoever asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// From start to end.
    pub duration_ms: u64,
    /// Who must hear of it.
    #[serde(flatten)]
    pub notice: EndNotice,
}

/// `execution.warning`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionWarning {
    /// Stable snake_case code.
    pub code: String,
    /// For people.
    pub message: String,
}

/// `execution.completed`, version 2 (1 had no `lane` and `parent`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionCompleted {
    /// The output of the reached end, or an object by end id; null without an end.
    pub output: Value,
    /// The ends that were reached.
    pub ends: Vec<String>,
    /// From start to end.
    pub duration_ms: u64,
    /// Who must hear of it.
    #[serde(flatten)]
    pub notice: EndNotice,
}

/// `execution.failed`, version 2 (1 had no `lane` and `parent`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionFailed {
    /// The node whose failure ended it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_id: Option<String>,
    /// Why.
    pub error: NodeError,
    /// From start to end.
    pub duration_ms: u64,
    /// Who must hear of it.
    #[serde(flatten)]
    pub notice: EndNotice,
}

/// `execution.cancelled`, version 2 (1 had no `lane` and `parent`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExecutionCancelled {
    /// Why, in the words of whoever asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// From start to end.
    pub duration_ms: u64,
    /// Who must hear of it.
    #[serde(flatten)]
    pub notice: EndNotice,
}
