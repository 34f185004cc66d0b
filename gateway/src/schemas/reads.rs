//! The parts of an execution, its nodes, what differs, and dead letters.

use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

use super::ExecutionNode;

/// The concurrency key that held an execution back, or does.
#[derive(ToSchema)]
pub(crate) struct ExecutionConcurrency {
    key: String,
    limit: u32,
    /// `queue`, `drop` or `cancel_running`
    on_limit: String,
    queued_at: String,
    admitted_at: Option<String>,
}

/// How an execution's work is undone.
#[derive(ToSchema)]
pub(crate) struct ExecutionCompensation {
    /// `running`, `completed` or `failed`
    status: String,
    /// `kind` is `failed`, `cancelled` or `by_parent`.
    cause: Value,
    started_at: String,
    finished_at: Option<String>,
    /// Path of the compensating node that failed.
    node_id: Option<String>,
    error: Option<Value>,
}

/// What an execution was forked from.
#[derive(ToSchema)]
pub(crate) struct ForkedFrom {
    execution_id: Uuid,
    at_version: u64,
    /// `live`, `replay` or `mute`
    effects: String,
}

/// The `sub_workflow` node whose child an execution is.
#[derive(ToSchema)]
pub(crate) struct ExecutionParent {
    execution_id: Uuid,
    node_id: String,
    run: u32,
    attempt: u32,
    /// How deep the child is below its root, from 1.
    depth: u32,
}

/// How many nodes are open, at any depth, without the loops and branches around them.
#[derive(ToSchema)]
pub(crate) struct OpenNodes {
    total: u32,
    /// Those of them that wait for a timer, a signal or an event.
    waiting: u32,
}

#[derive(ToSchema)]
pub(crate) struct NodeIterations {
    /// How many there will be; a `while` cannot say.
    count: Option<u32>,
    completed: u32,
}

#[derive(ToSchema)]
pub(crate) struct NodeChild {
    execution_id: Uuid,
    /// How it ended, once its parent knows.
    status: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct NodeList {
    items: Vec<ExecutionNode>,
    next_cursor: Option<String>,
}

/// What differs between two executions, or two versions of one.
#[derive(ToSchema)]
pub(crate) struct ExecutionDiff {
    from: DiffSide,
    to: DiffSide,
    /// The fields of the executions that differ, each `{from, to}`.
    execution: Value,
    /// A page of the nodes that differ, in the order of their paths.
    nodes: Vec<NodeDiff>,
    next_cursor: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct DiffSide {
    execution_id: Uuid,
    version: u64,
}

#[derive(ToSchema)]
pub(crate) struct NodeDiff {
    /// Its path.
    id: String,
    #[schema(rename = "type")]
    r#type: String,
    /// `added`, `removed` or `changed`
    change: String,
    /// The fields that differ, each `{from, to}`.
    fields: Value,
}

/// Who asked for what, from where, and what became of it.
#[derive(ToSchema)]
pub(crate) struct AuditEntry {
    /// Of a command: its id.
    id: Uuid,
    at: String,
    /// `user:<id>`, `key:<fingerprint>`, `anonymous:-` or `system:<part>`
    actor: String,
    /// The user behind it.
    user: Option<Uuid>,
    /// A command's name, `Login`, `Denied` and so on; of a command of which only the log knows, its first event's type.
    action: String,
    permission: Option<String>,
    /// Method and route, or `WS` and the message.
    route: Option<String>,
    /// What it was done to.
    resource: Option<String>,
    /// `accepted`, `rejected`, `denied` or `unknown`
    result: String,
    /// The code of a refusal.
    code: Option<String>,
    /// Where the log ended with it.
    position: Option<String>,
    ip: Option<String>,
    user_agent: Option<String>,
    /// How many alike this entry tells of.
    count: u32,
}

#[derive(ToSchema)]
pub(crate) struct AuditList {
    items: Vec<AuditEntry>,
    next_cursor: Option<String>,
}

/// A node that ran out of attempts.
#[derive(ToSchema)]
pub(crate) struct DeadLetter {
    /// The id of the event that says so.
    id: Uuid,
    execution_id: Uuid,
    workflow_id: Uuid,
    workflow_name: String,
    /// The node's path.
    node_id: String,
    run: u32,
    attempt: u32,
    node_type: String,
    /// `kind`, `message`, `retryable`, `details`
    error: Value,
    dead_lettered_at: String,
    /// When it was tried again.
    redriven_at: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct DeadLetterList {
    items: Vec<DeadLetter>,
    next_cursor: Option<String>,
}
