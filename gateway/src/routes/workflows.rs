//! `/workflows`.

mod sharing;

use axum::extract::State;
use axum::response::Response;
use domain::command::Command;
use domain::ids::Slot;
use domain::rejection::{Problem, Rejection};
use domain::workflow::NAME_CLAIM;
use domain::workflow::command::WorkflowCommand;
use domain::workflow::definition::Definition;
use http::{HeaderValue, StatusCode, header};
use read_models::{Viewer, WorkflowRow};
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use uuid::Uuid;

use crate::access::judging::{only_allowed_workflows, only_visible_workflows};
use crate::answer::{List, json as answer_json};
use crate::app::App;
use crate::cursor::Cursor;
use crate::failure::Failure;
use crate::large_values::{Unpacker, refuse_reserved};
use crate::reading::{read_error, wait_until_fresh};
use crate::request::{Caller, Fields, IfMatch, JsonBody, PathParams, Query, WriteHeaders, Writing, etag};
use crate::sending::{send, set_position};
use crate::workflow_answer::{self, WorkflowAnswer};
use crate::{precondition, schemas, status};

/// Stores version 1 of a definition, and publishes it unless `draft` is true.
#[utoipa::path(post, path = "/workflows", tag = "workflows", request_body = schemas::Definition,
    params(("Idempotency-Key" = Option<String>, Header, description = "The same key has one effect.")),
    responses((status = 201, description = "The workflow.", body = schemas::Workflow)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let body = body.required()?;
    let write = headers.with_body(&body);
    let (document, publish) = read_definition(body)?;
    let tenant = write.caller.principal.tenant.clone();
    let writing = write.create_in(Slot::of_tenant(&tenant), app.clock.now());
    let definition = check_in_definition(&app, &tenant, &document).await?;
    let command = Command::Workflow(WorkflowCommand::Create { definition, publish });
    let reply = send(&app, &writing, command).await?;
    let answer = workflow_answer::created(&reply, document, writing.caller())?;
    let mut response = answer_json(StatusCode::CREATED, &answer)?;
    let headers = response.headers_mut();
    set_position(headers, reply.position);
    headers.insert(header::ETAG, etag(answer.etag));
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/workflows/{}", answer.id)) {
        headers.insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Stores a further version of a definition, and publishes it unless `draft` is true.
#[utoipa::path(put, path = "/workflows/{id}", tag = "workflows", request_body = schemas::Definition,
    params(("id" = Uuid, Path), ("If-Match" = String, Header, description = "The `ETag` of the read.")),
    responses((status = 200, description = "The workflow.", body = schemas::Workflow)))]
pub(crate) async fn update(
    State(app): State<Arc<App>>,
    params: PathParams,
    if_match: IfMatch,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    let if_match = if_match.required()?;
    let body = body.required()?;
    let write = headers.with_body(&body);
    let (document, publish) = read_definition(body)?;
    let definition = check_in_definition(&app, &write.caller.principal.tenant, &document).await?;
    let writing = write.to(id, app.clock.now());
    let expected_version = precondition::expected_version(&app, &writing, &if_match).await?;
    change(&app, writing, WorkflowCommand::Update { definition, publish, expected_version }).await
}

/// Makes a version the one that new executions take: the latest, or the one named.
#[utoipa::path(post, path = "/workflows/{id}/publish", tag = "workflows", params(("id" = Uuid, Path)),
    request_body = schemas::Publish,
    responses((status = 200, description = "The workflow.", body = schemas::Workflow)))]
pub(crate) async fn publish(
    State(app): State<Arc<App>>,
    params: PathParams,
    if_match: IfMatch,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    let body = body.or_empty();
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let version = fields.number("version", 1, u64::MAX);
    fields.finish()?;
    let writing = write.to(id, app.clock.now());
    let expected_version = precondition::expected_version(&app, &writing, &if_match).await?;
    change(&app, writing, WorkflowCommand::Publish { version, expected_version }).await
}

/// Accepts new executions again.
#[utoipa::path(post, path = "/workflows/{id}/enable", tag = "workflows", params(("id" = Uuid, Path)),
    responses((status = 200, description = "The workflow.", body = schemas::Workflow)))]
pub(crate) async fn enable(
    State(app): State<Arc<App>>,
    params: PathParams,
    if_match: IfMatch,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let command = |expected_version| WorkflowCommand::Enable { expected_version };
    change_without_body(&app, (&params, &if_match), headers, body, command).await
}

/// Refuses new executions.
#[utoipa::path(post, path = "/workflows/{id}/disable", tag = "workflows", params(("id" = Uuid, Path)),
    responses((status = 200, description = "The workflow.", body = schemas::Workflow)))]
pub(crate) async fn disable(
    State(app): State<Arc<App>>,
    params: PathParams,
    if_match: IfMatch,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let command = |expected_version| WorkflowCommand::Disable { expected_version };
    change_without_body(&app, (&params, &if_match), headers, body, command).await
}

/// Undoes a deletion, if the name is still free.
#[utoipa::path(post, path = "/workflows/{id}/restore", tag = "workflows", params(("id" = Uuid, Path)),
    responses((status = 200, description = "The workflow.", body = schemas::Workflow)))]
pub(crate) async fn restore(
    State(app): State<Arc<App>>,
    params: PathParams,
    if_match: IfMatch,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let command = |expected_version| WorkflowCommand::Restore { expected_version };
    change_without_body(&app, (&params, &if_match), headers, body, command).await
}

/// Says who besides its owner sees a workflow and its executions, and whether they may start it: in place of what was
/// said before.
#[utoipa::path(post, path = "/workflows/{id}/share", tag = "workflows", params(("id" = Uuid, Path)),
    request_body = schemas::Share,
    responses((status = 200, description = "The workflow.", body = schemas::Workflow)))]
pub(crate) async fn share(
    State(app): State<Arc<App>>,
    params: PathParams,
    if_match: IfMatch,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    let body = body.required()?;
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let shared = sharing::read(&mut fields);
    fields.finish()?;
    write.caller.may_workflow(&app, id).await?;
    sharing::check_users(&app, &write.caller, &shared).await?;
    let writing = write.to(id, app.clock.now());
    precondition::check(&app, &writing, &if_match).await?;
    change(&app, writing, WorkflowCommand::Share(shared)).await
}

/// Hides a workflow and frees its name. Running executions go on.
#[utoipa::path(delete, path = "/workflows/{id}", tag = "workflows",
    params(("id" = Uuid, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "It is deleted.")))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    params: PathParams,
    if_match: IfMatch,
    headers: WriteHeaders,
) -> Result<Response, Failure> {
    let writing = headers.with_body(&Value::Null).to(params.id("id")?, app.clock.now());
    let expected_version = precondition::expected_version(&app, &writing, &if_match).await?;
    let reply = send(&app, &writing, Command::Workflow(WorkflowCommand::Delete { expected_version })).await?;
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    set_position(response.headers_mut(), reply.position);
    Ok(response)
}

async fn change_without_body(
    app: &App,
    (params, if_match): (&PathParams, &IfMatch),
    headers: WriteHeaders,
    body: JsonBody,
    command: impl FnOnce(Option<u64>) -> WorkflowCommand,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    let body = body.or_empty();
    let write = headers.with_body(&body);
    Fields::open(body)?.finish()?;
    let writing = write.to(id, app.clock.now());
    let expected_version = precondition::expected_version(app, &writing, if_match).await?;
    change(app, writing, command(expected_version)).await
}

async fn change(app: &App, writing: Writing, command: WorkflowCommand) -> Result<Response, Failure> {
    let reply = send(app, &writing, Command::Workflow(command)).await?;
    let answer = workflow_answer::changed(app, &reply, &writing.caller().principal.tenant).await?;
    let mut response = answer_json(StatusCode::OK, &answer)?;
    set_position(response.headers_mut(), reply.position);
    response.headers_mut().insert(header::ETAG, etag(answer.etag));
    Ok(response)
}

/// The definition and whether it is to be published: the body is the definition, with `draft` beside its fields.
fn read_definition(body: Value) -> Result<(Value, bool), Failure> {
    let mut fields = Fields::open(body)?;
    let draft = fields.flag("draft").unwrap_or(false);
    Ok((fields.rest()?, !draft))
}

/// A large definition is checked before it is stored, so that refused ones leave nothing behind; a small one is
/// checked by the decider alone.
async fn check_in_definition(
    app: &App,
    tenant: &domain::ids::TenantId,
    document: &Value,
) -> Result<Value, Failure> {
    refuse_reserved(document, "")?;
    let (value, blob) = domain::blob::claim_check(document.clone());
    if let Some(blob) = blob {
        if let Err(problems) = parse_definition(app, document).await? {
            let detail = format!("the definition has {} problems", problems.len());
            return Err(Rejection::invalid("invalid_definition", detail, problems).into());
        }
        app.blobs.put(tenant, &blob).await?;
    }
    Ok(value)
}

/// Parses a definition; a large one off the async threads.
async fn parse_definition(app: &App, document: &Value) -> Result<Result<(), Vec<Problem>>, Failure> {
    let turn = app.evaluation_turn().await?;
    let document = document.clone();
    let parsed = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        Definition::parse(&document).map(drop)
    });
    parsed.await.map_err(|_| Failure::new(status::INTERNAL, "the definition could not be checked"))
}

/// The tenant's workflows, the newest first, without their definitions.
#[utoipa::path(get, path = "/workflows", tag = "workflows",
    params(("name" = Option<String>, Query, description = "The one with exactly this name."),
        ("limit" = Option<u16>, Query, description = "1 to 200."), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "A page.", body = schemas::WorkflowList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query,
) -> Result<Response, Failure> {
    query.only(&["name", "limit", "cursor"])?;
    let limit = query.limit()?;
    let cursor = query.text("cursor").map(Cursor::id).transpose()?;
    let tenant = &caller.principal.tenant;
    wait_until_fresh(&app, &caller.principal, &query, None).await?;
    let (rows, next) = match query.text("name") {
        Some(name) => {
            let rows = by_name(&app, tenant, name).await?;
            (only_allowed_workflows(&app, &caller, rows).await?, None)
        }
        None => {
            let page = app.models.workflows(&caller.viewer()?, cursor, limit).await.map_err(read_error)?;
            (only_visible_workflows(&app, &caller, page.items).await?, page.next)
        }
    };
    let items = rows.into_iter().map(|row| WorkflowAnswer::of_row(row, None)).collect();
    List { items, next_cursor: next.map(|id| Cursor::Id(id).encode()) }.answer(&query.uri)
}

/// Names resolve through the log's claims, which are never behind.
async fn by_name(app: &App, tenant: &domain::ids::TenantId, name: &str) -> Result<Vec<WorkflowRow>, Failure> {
    let Some(id) = app.log.claim_holder(tenant, NAME_CLAIM, name).await? else { return Ok(Vec::new()) };
    let row = app.models.workflow(tenant, id).await.map_err(read_error)?;
    Ok(row.into_iter().filter(|row| !row.deleted).collect())
}

/// A workflow with its latest definition.
#[utoipa::path(get, path = "/workflows/{id}", tag = "workflows",
    params(("id" = Uuid, Path), ("Everline-Min-Position" = Option<String>, Header)),
    responses((status = 200, description = "The workflow.", body = schemas::Workflow)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: PathParams,
    query: Query,
) -> Result<Response, Failure> {
    query.only(&[])?;
    let row = find(&app, &caller, params.id("id")?, &query).await?;
    let mut definition: Value = serde_json::from_str(&row.definition).unwrap_or_default();
    Unpacker::new(&app, &caller.principal.tenant).unpack(&mut definition).await?;
    let shared_with = app.models.shared_users(&row.tenant, row.id).await.map_err(read_error)?;
    let mut answer = WorkflowAnswer::of_row(row, Some(definition));
    answer.shared_with = Some(shared_with);
    let mut response = answer_json(StatusCode::OK, &answer)?;
    response.headers_mut().insert(header::ETAG, etag(answer.etag));
    Ok(response)
}

async fn find(app: &App, caller: &Caller, id: Uuid, query: &Query) -> Result<WorkflowRow, Failure> {
    wait_until_fresh(app, &caller.principal, query, Some(app.partition_of(id))).await?;
    let row = app.models.workflow(&caller.principal.tenant, id).await.map_err(read_error)?;
    let row = row
        .filter(|row| !row.deleted)
        .ok_or_else(|| Failure::new(status::WORKFLOW_NOT_FOUND, format!("there is no workflow {id}")))?;
    if !caller.authority()?.is_unbounded() {
        caller.may_workflow(app, id).await?;
    }
    Ok(row)
}

/// One version of a definition.
#[derive(Serialize)]
struct VersionAnswer {
    workflow_id: Uuid,
    version: u64,
    published: bool,
    hash: String,
    created_at: domain::time::Timestamp,
    created_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    definition: Option<Value>,
}

/// The versions of a workflow, the newest first, without their definitions.
#[utoipa::path(get, path = "/workflows/{id}/versions", tag = "workflows",
    params(("id" = Uuid, Path), ("limit" = Option<u16>, Query), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "A page.", body = schemas::WorkflowVersionList)))]
pub(crate) async fn versions(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: PathParams,
    query: Query,
) -> Result<Response, Failure> {
    query.only(&["limit", "cursor"])?;
    let limit = query.limit()?;
    let cursor = query.text("cursor").map(Cursor::number).transpose()?;
    let row = find(&app, &caller, params.id("id")?, &query).await?;
    let page = app
        .models
        .workflow_versions(&Viewer::any(&row.tenant), row.id, cursor, limit)
        .await
        .map_err(read_error)?;
    let items = page.items.into_iter().map(|version| VersionAnswer {
        workflow_id: row.id,
        published: row.published_version == Some(version.version),
        version: version.version,
        hash: version.hash,
        created_at: version.created_at,
        created_by: version.created_by,
        definition: None,
    });
    List { items: items.collect(), next_cursor: page.next.map(|version| Cursor::Number(version).encode()) }
        .answer(&query.uri)
}

/// One version with its definition.
#[utoipa::path(get, path = "/workflows/{id}/versions/{v}", tag = "workflows",
    params(("id" = Uuid, Path), ("v" = u64, Path)),
    responses((status = 200, description = "The version.", body = schemas::WorkflowVersion)))]
pub(crate) async fn version(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: PathParams,
    query: Query,
) -> Result<Response, Failure> {
    query.only(&[])?;
    let row = find(&app, &caller, params.id("id")?, &query).await?;
    let shown: String = params.text("v").chars().take(24).collect();
    let missing = || {
        Failure::new(
            status::WORKFLOW_VERSION_NOT_FOUND,
            format!("workflow {} has no version {shown}", row.id),
        )
    };
    let number: u64 = params.text("v").parse().map_err(|_| missing())?;
    let found = app.models.workflow_version(&row.tenant, row.id, number).await.map_err(read_error)?;
    let found = found.ok_or_else(missing)?;
    let mut definition: Value = serde_json::from_str(&found.definition).unwrap_or_default();
    Unpacker::new(&app, &row.tenant).unpack(&mut definition).await?;
    let published = row.published_version == Some(found.version);
    // A version never changes; whether it is the published one does.
    let tag = format!("\"{}{}\"", found.hash, if published { "-published" } else { "" });
    let answer = VersionAnswer {
        workflow_id: row.id,
        version: found.version,
        published,
        hash: found.hash,
        created_at: found.created_at,
        created_by: found.created_by,
        definition: Some(definition),
    };
    let mut response = answer_json(StatusCode::OK, &answer)?;
    if let Ok(tag) = HeaderValue::try_from(tag) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    Ok(response)
}

/// Checks a definition without storing it.
#[utoipa::path(post, path = "/workflows/validate", tag = "workflows", request_body = schemas::Definition,
    responses((status = 200, description = "Whether it is valid, and all its defects.", body = schemas::Validation)))]
pub(crate) async fn validate(
    State(app): State<Arc<App>>,
    caller: Caller,
    body: JsonBody,
) -> Result<Response, Failure> {
    caller.may_kind("expression")?;
    // Here what is wrong with a definition is the answer, not a failure.
    let mut document = body.required()?;
    let draft = document.as_object_mut().and_then(|fields| fields.remove("draft"));
    let mut errors = parse_definition(&app, &document).await?.err().unwrap_or_default();
    if draft.is_some_and(|draft| !draft.is_boolean() && !draft.is_null()) {
        errors.push(Problem::new("/draft", "wrong_type", "expected true or false"));
    }
    answer_json(StatusCode::OK, &json!({ "valid": errors.is_empty(), "errors": errors }))
}
