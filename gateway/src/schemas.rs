//! The shapes of bodies and answers, for the OpenAPI document.
//!
//! These types are never built: answers are written from the domain's own types, bodies are read field by
//! field. A test holds the important ones against what is really written.
#![expect(dead_code, reason = "only their derived schemas are used")]

mod bulk;
mod identity;
mod reads;

use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

pub(crate) use bulk::*;
pub(crate) use identity::*;
pub(crate) use reads::*;

/// An error (RFC 9457).
#[derive(ToSchema)]
pub(crate) struct Problem {
    #[schema(rename = "type")]
    r#type: String,
    title: String,
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    detail: String,
    /// The path that was asked for.
    instance: String,
    /// Stable snake_case code.
    #[schema(pattern = "^[a-z][a-z0-9_]*$")]
    code: String,
    errors: Option<Vec<FieldProblem>>,
    trace_id: String,
}

/// One defect of what was sent.
#[derive(ToSchema)]
pub(crate) struct FieldProblem {
    /// JSON pointer into the body.
    pointer: String,
    code: String,
    detail: String,
}

#[derive(ToSchema)]
pub(crate) struct Credentials {
    email: String,
    password: String,
}

#[derive(ToSchema)]
pub(crate) struct Login {
    email: String,
    password: String,
    /// `tokens` (as without it) or `cookie`.
    session: Option<String>,
    /// The second factor's code of this moment.
    code: Option<String>,
    /// What stands in for it, once.
    recovery_code: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct Registration {
    email: String,
    password: String,
    name: Option<String>,
    /// `tokens` (as without it) or `cookie`.
    session: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct Invitation {
    /// `evt_…`
    token: String,
    password: String,
    name: Option<String>,
    /// `tokens` (as without it) or `cookie`.
    session: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct PasswordReset {
    /// `evt_…`
    token: String,
    password: String,
}

#[derive(ToSchema)]
pub(crate) struct PasswordChange {
    current_password: String,
    password: String,
}

#[derive(ToSchema)]
pub(crate) struct TotpEnrolment {
    password: String,
}

#[derive(ToSchema)]
pub(crate) struct TotpSeed {
    /// Base32.
    secret: String,
    /// For a QR code.
    otpauth_url: String,
    expires_at: String,
}

#[derive(ToSchema)]
pub(crate) struct TotpCode {
    /// Six digits.
    code: String,
}

/// One of them.
#[derive(ToSchema)]
pub(crate) struct TotpRemoval {
    password: Option<String>,
    code: Option<String>,
    recovery_code: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct RecoveryCodes {
    recovery_codes: Vec<String>,
}

#[derive(ToSchema)]
pub(crate) struct SessionRow {
    id: Uuid,
    /// The `client_id` of its tokens.
    client: String,
    user_agent: Option<String>,
    created_at: String,
    expires_at: Option<String>,
    /// Give or take a minute.
    last_used_at: Option<String>,
    /// Whether the request belongs to it.
    current: bool,
}

#[derive(ToSchema)]
pub(crate) struct Sessions {
    items: Vec<SessionRow>,
    next_cursor: Option<String>,
}

/// Public keys (RFC 7517).
#[derive(ToSchema)]
pub(crate) struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(ToSchema)]
pub(crate) struct Jwk {
    kty: String,
    crv: String,
    alg: String,
    r#use: String,
    kid: String,
    x: String,
}

#[derive(ToSchema)]
pub(crate) struct Refresh {
    refresh_token: String,
}

#[derive(ToSchema)]
pub(crate) struct Session {
    access_token: Option<String>,
    refresh_token: Option<String>,
    token_type: Option<String>,
    /// Of a session held by a cookie.
    csrf_token: Option<String>,
    /// Seconds.
    expires_in: u64,
    user: User,
}

#[derive(ToSchema)]
pub(crate) struct User {
    id: String,
    email: String,
    tenant: String,
    role: String,
}

/// A workflow definition, with `draft` beside its fields.
#[derive(ToSchema)]
pub(crate) struct Definition {
    /// No control characters, and no space at its ends; unique in the tenant.
    #[schema(min_length = 1, max_length = 200)]
    name: String,
    description: Option<String>,
    /// JSON Schema of inputs: an object, true or false.
    input_schema: Option<Value>,
    #[schema(minimum = 1, maximum = 31622400000u64)]
    timeout_ms: Option<u64>,
    /// 0 to 9; 5 if absent.
    #[schema(maximum = 9)]
    priority: Option<u8>,
    /// Templates of the executions' attributes.
    attributes: Option<Value>,
    /// How often one node may run in one execution.
    #[schema(minimum = 1, maximum = 1000000)]
    max_node_runs: Option<u32>,
    /// `key`, `limit` and `on_limit`: how many executions of one key run at once.
    concurrency: Option<Value>,
    /// `GET /node-types` lists their types; docs/workflows.md says what each takes.
    #[schema(max_items = 1000)]
    nodes: Vec<Value>,
    #[schema(max_items = 10000)]
    edges: Vec<Value>,
    /// Kept, and not looked at.
    position: Option<Value>,
    /// Kept, and not looked at.
    notes: Option<Value>,
    /// Kept, and not looked at.
    ui: Option<Value>,
    /// Stored without being published.
    draft: Option<bool>,
}

#[derive(ToSchema)]
pub(crate) struct Workflow {
    id: Uuid,
    name: String,
    description: Option<String>,
    version: u64,
    published_version: Option<u64>,
    enabled: bool,
    deleted: Option<bool>,
    definition: Option<Value>,
    created_at: String,
    updated_at: String,
    created_by: String,
    /// The user to whom it belongs.
    owner: Option<Uuid>,
    /// `private` or `public`: whether everybody of the tenant sees it.
    visibility: Option<String>,
    /// `read` or `execute`: what those who see it may do.
    access: Option<String>,
    /// Who sees it beside its owner; not in lists.
    shared_with: Option<Vec<Uuid>>,
}

#[derive(ToSchema)]
pub(crate) struct WorkflowList {
    items: Vec<Workflow>,
    next_cursor: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct WorkflowVersion {
    workflow_id: Uuid,
    version: u64,
    published: bool,
    /// SHA-256 of the definition.
    hash: String,
    created_at: String,
    created_by: String,
    definition: Option<Value>,
}

#[derive(ToSchema)]
pub(crate) struct WorkflowVersionList {
    items: Vec<WorkflowVersion>,
    next_cursor: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct Publish {
    /// The latest if none is named.
    #[schema(minimum = 1)]
    version: Option<u64>,
}

#[derive(ToSchema)]
pub(crate) struct Validation {
    valid: bool,
    errors: Vec<FieldProblem>,
}

#[derive(ToSchema)]
pub(crate) struct Execute {
    /// `{}` if absent.
    input: Option<Value>,
    /// The published one if none is named.
    #[schema(minimum = 1)]
    version: Option<u64>,
    /// How long to wait for the end.
    #[schema(maximum = 60000)]
    wait_ms: Option<u32>,
    /// 0 to 9; the definition's if absent.
    #[schema(maximum = 9)]
    priority: Option<u8>,
    /// For search: each a string, number, boolean or null.
    #[schema(value_type = Option<Object>)]
    attributes: Option<Value>,
}

#[derive(ToSchema)]
pub(crate) struct Accepted {
    execution_id: Uuid,
    #[schema(value_type = ExecutionStatus)]
    status: String,
}

#[derive(ToSchema)]
pub(crate) struct Outcome {
    execution_id: Uuid,
    #[schema(value_type = ExecutionStatus)]
    status: String,
    output: Value,
    error: Option<ExecutionError>,
}

#[derive(ToSchema)]
pub(crate) struct ExecutionError {
    node_id: Option<String>,
    kind: String,
    message: String,
    retryable: bool,
    details: Option<Value>,
}

/// How an execution is.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum ExecutionStatus {
    Pending,
    Running,
    Waiting,
    Paused,
    Compensating,
    Completed,
    Failed,
    Cancelled,
    Terminated,
}

/// How a node is.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum NodeStatus {
    Pending,
    Scheduled,
    Running,
    Waiting,
    Completed,
    Failed,
    Skipped,
    Compensated,
    Cancelled,
}

#[derive(ToSchema)]
pub(crate) struct Execution {
    id: Uuid,
    workflow_id: Uuid,
    workflow_name: String,
    workflow_version: u64,
    #[schema(value_type = ExecutionStatus)]
    status: String,
    /// Whether nothing new starts.
    paused: bool,
    input: Value,
    output: Value,
    error: Option<ExecutionError>,
    /// Why it was cancelled or terminated.
    cancel_reason: Option<String>,
    started_at: String,
    finished_at: Option<String>,
    duration_ms: Option<u64>,
    priority: u8,
    attributes: Value,
    /// The version of its last event.
    version: u64,
    started_by: String,
    ends: Vec<String>,
    concurrency: Option<ExecutionConcurrency>,
    compensation: Option<ExecutionCompensation>,
    forked_from: Option<ForkedFrom>,
    parent: Option<ExecutionParent>,
    open_nodes: Option<OpenNodes>,
    /// The top level; `GET /executions/{id}/nodes?parent=` has the others.
    nodes: Vec<ExecutionNode>,
}

#[derive(ToSchema)]
pub(crate) struct ExecutionNode {
    /// Its path.
    id: String,
    #[schema(rename = "type")]
    r#type: String,
    #[schema(value_type = NodeStatus)]
    status: String,
    run: u32,
    attempt: u32,
    started_at: Option<String>,
    finished_at: Option<String>,
    duration_ms: Option<u64>,
    output: Value,
    error: Option<Value>,
    /// How far a `loop` or `parallel` is.
    iterations: Option<NodeIterations>,
    /// The child of a `sub_workflow`.
    child: Option<NodeChild>,
}

#[derive(ToSchema)]
pub(crate) struct ExecutionSummary {
    id: Uuid,
    workflow_id: Uuid,
    workflow_name: String,
    workflow_version: u64,
    #[schema(value_type = ExecutionStatus)]
    status: String,
    paused: bool,
    error: Option<ExecutionError>,
    concurrency: Option<ExecutionConcurrency>,
    compensation: Option<ExecutionCompensation>,
    forked_from: Option<ForkedFrom>,
    parent: Option<ExecutionParent>,
    started_at: String,
    finished_at: Option<String>,
    duration_ms: Option<u64>,
    attributes: Value,
}

#[derive(ToSchema)]
pub(crate) struct ExecutionList {
    items: Vec<ExecutionSummary>,
    next_cursor: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct Reason {
    reason: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct Retry {
    reason: Option<String>,
    /// Configurations that replace what the failed nodes would render, by path. Worker nodes only; at most 100.
    #[schema(value_type = Option<Object>)]
    node_inputs: Option<Value>,
}

#[derive(ToSchema)]
pub(crate) struct Redrive {
    filter: RedriveFilter,
    /// 100 if absent.
    #[schema(minimum = 1, maximum = 1000)]
    limit: Option<u64>,
    reason: Option<String>,
}

/// Everything that is given must hold.
#[derive(ToSchema)]
pub(crate) struct RedriveFilter {
    workflow_id: Option<Uuid>,
    execution_id: Option<Uuid>,
    node_id: Option<String>,
    error_kind: Option<String>,
    #[schema(format = DateTime)]
    before: Option<String>,
    #[schema(format = DateTime)]
    after: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct Redriven {
    redriven: u64,
    failed: Vec<RefusedRedrive>,
    /// Whether the filter finds more than this request looked at.
    more: bool,
}

#[derive(ToSchema)]
pub(crate) struct RefusedRedrive {
    id: Uuid,
    execution_id: Uuid,
    code: String,
    detail: String,
}

#[derive(ToSchema)]
pub(crate) struct Fork {
    /// The last event of the origin that belongs to the fork, from 1.
    #[schema(minimum = 1)]
    at_version: u64,
    /// Another input.
    input: Option<Value>,
    /// Other outputs of nodes that had completed, by path.
    #[schema(value_type = Option<Object>)]
    node_outputs: Option<Value>,
    /// Another version of the workflow.
    #[schema(minimum = 1)]
    workflow_version: Option<u64>,
    /// `live` (the default) runs; `replay` takes recorded outcomes where the configuration is equal; `mute` dispatches
    /// nothing.
    #[schema(value_type = Option<Effects>)]
    effects: Option<String>,
}

/// What a fork may do to the world.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum Effects {
    Live,
    Replay,
    Mute,
}

/// Any JSON.
#[derive(ToSchema)]
pub(crate) struct AnyJson(Value);

/// An event of the log.
#[derive(ToSchema)]
pub(crate) struct Event {
    id: Uuid,
    #[schema(rename = "type")]
    r#type: String,
    schema_version: u16,
    /// `partition:offset`
    position: String,
    stream: Uuid,
    /// Its number in the stream, from 1.
    version: u64,
    tenant: String,
    actor: String,
    correlation_id: Uuid,
    causation_id: Uuid,
    traceparent: Option<String>,
    recorded_at: String,
    data: Value,
}

#[derive(ToSchema)]
pub(crate) struct EventList {
    items: Vec<Event>,
    next_cursor: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct EventPage {
    items: Vec<Event>,
    /// Where to go on, also when there is nothing more now.
    resume: String,
    next_cursor: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct Evaluate {
    /// CEL, or JavaScript by `language`; this or `template`.
    expression: Option<String>,
    /// Any JSON with `{{ … }}`, inside which is CEL.
    template: Option<Value>,
    /// Of `expression`; `cel` if absent.
    #[schema(value_type = Option<Language>)]
    language: Option<String>,
    /// Its fields are the names that expressions see.
    #[schema(value_type = Option<Object>)]
    context: Option<Value>,
}

/// What an expression is written in.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum Language {
    Cel,
    Js,
}

#[derive(ToSchema)]
pub(crate) struct Evaluated {
    value: Value,
}

#[derive(ToSchema)]
pub(crate) struct EvaluateFilter {
    /// CEL over `event` that gives true or false.
    filter: String,
    /// An event in its public shape.
    event: Value,
}

#[derive(ToSchema)]
pub(crate) struct FilterVerdict {
    matches: bool,
    /// Why the filter could not be evaluated, if it could not.
    #[schema(nullable = false)]
    error: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct Variable {
    name: String,
    value: Value,
}

#[derive(ToSchema)]
pub(crate) struct VariableValue {
    value: Value,
}

#[derive(ToSchema)]
pub(crate) struct VariableList {
    items: Vec<Variable>,
    next_cursor: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct NodeTypeDescription {
    #[schema(rename = "type")]
    r#type: String,
    /// `engine` or `worker`
    runs_in: String,
    description: String,
    handles: Vec<String>,
}

#[derive(ToSchema)]
pub(crate) struct NodeTypeList {
    items: Vec<NodeTypeDescription>,
    next_cursor: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct Readiness {
    status: String,
    checks: Value,
}

#[derive(ToSchema)]
pub(crate) struct Version {
    name: String,
    version: String,
    api: String,
}
