//! `/executions/bulk`: one act on every execution that a filter finds.

use axum::extract::State;
use axum::response::Response;
use domain::access::{Authority, Permission, Resource};
use domain::bulk::BulkStatus;
use domain::bulk::command::BulkCommand;
use domain::command::Command;
use domain::execution::view::ExecutionView;
use http::{HeaderValue, StatusCode, header};
use read_models::{BulkJobFilter, BulkJobRow};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

use crate::access::authority;
use crate::access::judging::may_execution;
use crate::answer::{List, json as answer_json};
use crate::app::App;
use crate::bulk::{BulkRequest, viewer};
use crate::cursor::Cursor;
use crate::execution_filter;
use crate::failure::Failure;
use crate::large_values::refuse_reserved;
use crate::reading::{read_error, wait_for_own_writes, wait_until_fresh};
use crate::request::{Caller, Fields, JsonBody, PathParams, Query, WriteHeaders};
use crate::sending::{send, set_position};
use crate::{schemas, status};

/// The most executions that are counted; then the count is "at least".
const MAX_COUNTED: usize = 10_000;
/// How long counting may take.
const MAX_COUNTING: Duration = Duration::from_secs(5);
/// How many of them a dry run shows.
const SAMPLE: usize = 20;
/// How many a page has while counting.
const PAGE: usize = 200;

/// Does something to every execution that a filter finds, or counts them in a dry run.
///
/// The job acts with the right that its asker has now; each act is judged and recorded like one that was asked for
/// alone. Executions that start later are not concerned.
#[utoipa::path(post, path = "/executions/bulk", tag = "bulk", request_body = schemas::Bulk,
    responses((status = 200, description = "What a dry run found.", body = schemas::BulkDryRun),
        (status = 202, description = "The job, under way.", body = schemas::BulkProgress)))]
pub(crate) async fn start(
    State(app): State<Arc<App>>,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let body = body.required()?;
    refuse_reserved(&body, "")?;
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let request = BulkRequest::read(&mut fields);
    fields.finish()?;
    let caller = write.caller.clone();
    let principal = &caller.principal;
    // What may be done to each, and that they may be seen: without either there is no job.
    let acting = authority(principal, request.action.permission())?;
    let seeing = authority(principal, Permission::ExecutionRead)?;
    wait_for_own_writes(&app, principal, None).await?;
    let found = count(&app, &caller, &request, &acting).await?;
    if request.dry_run {
        let sample = sample(&app, &caller, &seeing, found.first).await?;
        let answer = json!({ "dry_run": true, "found": found.count, "found_at_least": found.at_least, "sample": sample });
        return answer_json(StatusCode::OK, &answer);
    }
    let writing = write.create_anywhere(app.clock.now());
    let command = BulkCommand::Start {
        action: request.action,
        filter: request.filter,
        reason: request.reason,
        per_second: request.per_second,
        found: found.count as u64,
        upper: found.upper,
        acting,
    };
    let reply = send(&app, &writing, Command::Bulk(command)).await?;
    app.bulk_asked.notify_one();
    let mut response = answer_json(StatusCode::ACCEPTED, &progress(&reply.answer))?;
    set_position(response.headers_mut(), reply.position);
    let id = reply.answer.get("id").and_then(Value::as_str).unwrap_or_default();
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/executions/bulk/{id}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// What a filter finds now.
struct Found {
    count: usize,
    at_least: bool,
    /// The newest.
    upper: Uuid,
    first: Vec<ExecutionView>,
}

async fn count(
    app: &App,
    caller: &Caller,
    request: &BulkRequest,
    acting: &Authority,
) -> Result<Found, Failure> {
    let pairs = request.filter.as_object().into_iter().flatten();
    let pairs = pairs.filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
    let filter = execution_filter::read(&Query::of_pairs(pairs.collect()))?;
    let viewer = viewer(&caller.principal.tenant, acting);
    let began = Instant::now();
    let mut found = Found { count: 0, at_least: false, upper: Uuid::nil(), first: Vec::new() };
    let mut cursor = None;
    loop {
        let page = app.models.executions(&viewer, &filter, cursor, PAGE).await.map_err(read_error)?;
        if let Some(newest) = page.items.first().filter(|_| found.count == 0) {
            found.upper = newest.id;
        }
        found.count += page.items.len();
        let room = SAMPLE - found.first.len();
        found.first.extend(page.items.into_iter().take(room));
        cursor = page.next;
        if cursor.is_none() {
            return Ok(found);
        }
        if found.count >= MAX_COUNTED || began.elapsed() > MAX_COUNTING {
            found.at_least = true;
            // Where nothing was found in time there may still be something below.
            if found.count == 0 {
                found.upper = cursor.unwrap_or_default();
            }
            return Ok(found);
        }
    }
}

/// Some of them, as far as the caller may see them.
async fn sample(
    app: &App,
    caller: &Caller,
    seeing: &Authority,
    found: Vec<ExecutionView>,
) -> Result<Vec<Value>, Failure> {
    let mut shown = Vec::new();
    for view in found {
        match may_execution(app, &caller.principal.tenant, seeing, view.id).await {
            Ok(()) => shown.push(json!({
                "id": view.id,
                "workflow_id": view.workflow_id,
                "workflow_name": view.workflow_name,
                "status": view.status,
                "started_at": view.started_at,
            })),
            Err(failure) if failure.status.is_client_error() => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(shown)
}

/// The bulk jobs, the newest first.
#[utoipa::path(get, path = "/executions/bulk", tag = "bulk",
    params(("status" = Option<String>, Query, description = "`running`, `completed` or `cancelled`."),
        ("limit" = Option<u16>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "A page.", body = schemas::BulkJobList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query,
) -> Result<Response, Failure> {
    query.only(&["status", "limit", "cursor"])?;
    let limit = query.limit()?;
    let cursor = query.text("cursor").map(Cursor::id).transpose()?;
    let status = match query.text("status") {
        None => None,
        Some("running") => Some(BulkStatus::Running),
        Some("completed") => Some(BulkStatus::Completed),
        Some("cancelled") => Some(BulkStatus::Cancelled),
        Some(_) => {
            return Err(Failure::parameter("status", "`status` must be running, completed or cancelled"));
        }
    };
    wait_until_fresh(&app, &caller.principal, &query, None).await?;
    let viewer = viewer(&caller.principal.tenant, caller.authority()?);
    let page = app.models.bulk_jobs(&viewer, &BulkJobFilter { status }, cursor, limit).await;
    let page = page.map_err(read_error)?;
    let items = page.items.iter().filter(|job| may(&caller, job).is_ok()).map(show).collect();
    List { items, next_cursor: page.next.map(|id| Cursor::Id(id).encode()) }.answer(&query.uri)
}

/// A bulk job and how far it is.
#[utoipa::path(get, path = "/executions/bulk/{id}", tag = "bulk", params(("id" = Uuid, Path)),
    responses((status = 200, description = "The job.", body = schemas::BulkJob)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: PathParams,
    query: Query,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    query.only(&[])?;
    wait_until_fresh(&app, &caller.principal, &query, Some(app.partition_of(id))).await?;
    let job = app.models.bulk_job(&caller.principal.tenant, id).await.map_err(read_error)?;
    let job =
        job.ok_or_else(|| Failure::new(status::BULK_NOT_FOUND, format!("there is no bulk job {id}")))?;
    may(&caller, &job)?;
    answer_json(StatusCode::OK, &show(&job))
}

/// Stops a bulk job. What is done stays done.
#[utoipa::path(post, path = "/executions/bulk/{id}/cancel", tag = "bulk", params(("id" = Uuid, Path)),
    request_body = schemas::Reason,
    responses((status = 202, description = "It begins no further page.", body = schemas::BulkProgress)))]
pub(crate) async fn cancel(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    let body = body.or_empty();
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let reason = fields.text("reason");
    fields.finish()?;
    let writing = write.to(id, app.clock.now());
    let reply = send(&app, &writing, Command::Bulk(BulkCommand::Cancel { reason })).await?;
    let mut response = answer_json(StatusCode::ACCEPTED, &progress(&reply.answer))?;
    set_position(response.headers_mut(), reply.position);
    Ok(response)
}

/// Whether a job is within the caller's right.
fn may(caller: &Caller, job: &BulkJobRow) -> Result<(), Failure> {
    caller.may(&Resource {
        kind: "bulk_job",
        id: Some(job.id),
        owner: Some(job.acting.user),
        ..Resource::default()
    })
}

/// What its decider answered, in the shape of the API.
fn progress(answer: &Value) -> Value {
    let taken = ["id", "status", "found", "done", "failed"];
    taken.iter().map(|name| ((*name).to_owned(), answer.get(*name).cloned().unwrap_or_default())).collect()
}

fn show(job: &BulkJobRow) -> Value {
    json!({
        "id": job.id,
        "status": job.status,
        "action": job.action,
        "filter": job.filter,
        "reason": job.reason,
        "per_second": job.per_second,
        "found": job.found,
        "found_at_least": job.found >= MAX_COUNTED as u64,
        "done": job.done,
        "failed": job.failed,
        "failures": job.failures,
        "created_at": job.created_at,
        "created_by": job.created_by,
        "updated_at": job.updated_at,
        "finished_at": job.finished_at,
    })
}
