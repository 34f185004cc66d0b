//! Bulk jobs.

use serde_json::Value;
use utoipa::ToSchema;
use uuid::Uuid;

/// What is done to each execution.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum BulkActionName {
    Start,
    Cancel,
    Terminate,
    Pause,
    Resume,
    Retry,
    Correct,
    Signal,
}

/// A bulk job as it is asked for.
#[derive(ToSchema)]
pub(crate) struct Bulk {
    #[schema(value_type = BulkActionName)]
    action: String,
    /// The parameters of `GET /executions` as texts; `{}` stands for every execution.
    #[schema(value_type = Object)]
    filter: Value,
    #[schema(min_length = 1, max_length = 500)]
    reason: String,
    /// Counts only.
    dry_run: Option<bool>,
    /// 50 if absent.
    #[schema(minimum = 1, maximum = 1000)]
    per_second: Option<u32>,
    /// Of the action `signal`: its name.
    signal: Option<String>,
    /// Of the action `signal`: what comes with it.
    payload: Option<Value>,
    /// Of the action `correct`: configurations that replace what the failed nodes would render, by path.
    #[schema(value_type = Option<Object>)]
    node_inputs: Option<Value>,
}

/// What a dry run found.
#[derive(ToSchema)]
pub(crate) struct BulkDryRun {
    dry_run: bool,
    found: u64,
    /// Counting ended early: there are this many at least.
    found_at_least: bool,
    /// The newest, at most 20.
    sample: Vec<BulkSample>,
}

#[derive(ToSchema)]
pub(crate) struct BulkSample {
    id: Uuid,
    workflow_id: Uuid,
    workflow_name: String,
    #[schema(value_type = super::ExecutionStatus)]
    status: String,
    started_at: String,
}

/// How far a job is.
#[derive(ToSchema)]
pub(crate) struct BulkProgress {
    id: Uuid,
    #[schema(value_type = BulkStatus)]
    status: String,
    found: u64,
    done: u64,
    failed: u64,
}

#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
pub(crate) enum BulkStatus {
    Running,
    Completed,
    Cancelled,
}

#[derive(ToSchema)]
pub(crate) struct BulkJob {
    id: Uuid,
    #[schema(value_type = BulkStatus)]
    status: String,
    /// `kind`, and what it takes.
    action: Value,
    #[schema(value_type = Object)]
    filter: Value,
    reason: String,
    per_second: u32,
    /// How many the filter found when it was asked.
    found: u64,
    /// Counting ended early.
    found_at_least: bool,
    /// How many have taken it.
    done: u64,
    /// How many have refused it.
    failed: u64,
    /// The last of those, at most 200.
    failures: Vec<BulkFailure>,
    created_at: String,
    created_by: String,
    updated_at: String,
    finished_at: Option<String>,
}

#[derive(ToSchema)]
pub(crate) struct BulkFailure {
    execution_id: Uuid,
    /// The code of the refusal.
    code: String,
}

#[derive(ToSchema)]
pub(crate) struct BulkJobList {
    items: Vec<BulkJob>,
    next_cursor: Option<String>,
}
