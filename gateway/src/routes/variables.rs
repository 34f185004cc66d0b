//! `/variables`: what `vars` shows in expressions.

use axum::extract::State;
use axum::response::Response;
use domain::access::Resource;
use domain::command::Command;
use domain::variables::command::VariablesCommand;
use domain::variables::stream_of;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use std::sync::Arc;

use crate::answer::{List, json as answer_json};
use crate::app::App;
use crate::cursor::Cursor;
use crate::failure::Failure;
use crate::large_values::refuse_reserved;
use crate::request::{Caller, Fields, JsonBody, PathParams, Query, Write, WriteHeaders};
use crate::sending::{send, set_position};
use crate::{schemas, status};

/// The tenant's variables, by name.
#[utoipa::path(get, path = "/variables", tag = "variables",
    params(("limit" = Option<u16>, Query, description = "1 to 200."), ("cursor" = Option<String>, Query)),
    responses((status = 200, description = "A page.", body = schemas::VariableList)))]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    caller: Caller,
    query: Query,
) -> Result<Response, Failure> {
    query.only(&["limit", "cursor"])?;
    let limit = query.limit()?;
    let after = query.text("cursor").map(Cursor::name).transpose()?;
    let variables = app.variables.read(app.log.as_ref(), &caller.principal.tenant).await?;
    let visible = |name: &&String| caller.may(&variable(name)).is_ok();
    let behind = |name: &&String| after.as_ref().is_none_or(|after| *name > after);
    let mut names: Vec<&String> = variables.values.keys().filter(behind).filter(visible).collect();
    names.sort();
    let more = names.len() > limit;
    names.truncate(limit);
    let next_cursor = names.last().filter(|_| more).map(|name| Cursor::Name((*name).clone()).encode());
    let items =
        names.into_iter().map(|name| json!({ "name": name, "value": variables.values[name] })).collect();
    List::<Value> { items, next_cursor }.answer(&query.uri)
}

/// Gives a variable a value.
#[utoipa::path(post, path = "/variables", tag = "variables", request_body = schemas::Variable,
    responses((status = 201, description = "The variable.", body = schemas::Variable)))]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let body = body.required()?;
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let name = fields.required_text("name");
    let value = fields.required("value");
    fields.finish()?;
    let mut response = set(&app, write, StatusCode::CREATED, name.clone(), value).await?;
    // A name that was accepted is ASCII letters, digits and _.
    if let Ok(location) = HeaderValue::try_from(format!("/api/v1/variables/{name}")) {
        response.headers_mut().insert(header::LOCATION, location);
    }
    Ok(response)
}

/// Gives a variable a value.
#[utoipa::path(put, path = "/variables/{name}", tag = "variables", params(("name" = String, Path)),
    request_body = schemas::VariableValue,
    responses((status = 200, description = "The variable.", body = schemas::Variable)))]
pub(crate) async fn put(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let body = body.required()?;
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let value = fields.required("value");
    fields.finish()?;
    set(&app, write, StatusCode::OK, params.text("name").to_owned(), value).await
}

async fn set(
    app: &App,
    write: Write,
    status: StatusCode,
    name: String,
    value: Value,
) -> Result<Response, Failure> {
    refuse_reserved(&value, "/value")?;
    let stream = stream_of(&write.caller.principal.tenant);
    let writing = write.to(stream, app.clock.now());
    let body = json!({ "name": name, "value": value });
    let reply = send(app, &writing, Command::Variables(VariablesCommand::Set { name, value })).await?;
    let mut response = answer_json(status, &body)?;
    set_position(response.headers_mut(), reply.position);
    Ok(response)
}

/// A variable.
#[utoipa::path(get, path = "/variables/{name}", tag = "variables", params(("name" = String, Path)),
    responses((status = 200, description = "The variable.", body = schemas::Variable)))]
pub(crate) async fn get(
    State(app): State<Arc<App>>,
    caller: Caller,
    params: PathParams,
) -> Result<Response, Failure> {
    let name = params.text("name");
    caller.may(&variable(name))?;
    let variables = app.variables.read(app.log.as_ref(), &caller.principal.tenant).await?;
    let value = variables.values.get(name).ok_or_else(|| {
        let shown: String = name.chars().take(64).collect();
        Failure::new(status::VARIABLE_NOT_FOUND, format!("there is no variable `{shown}`"))
    })?;
    answer_json(StatusCode::OK, &json!({ "name": name, "value": value }))
}

/// As the judgement sees it: it belongs to the tenant.
fn variable(name: &str) -> Resource<'_> {
    Resource { kind: "variable", name, ..Resource::default() }
}

/// Removes a variable.
#[utoipa::path(delete, path = "/variables/{name}", tag = "variables", params(("name" = String, Path)),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn delete(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
) -> Result<Response, Failure> {
    let write = headers.with_body(&Value::Null);
    let stream = stream_of(&write.caller.principal.tenant);
    let writing = write.to(stream, app.clock.now());
    let command = VariablesCommand::Delete { name: params.text("name").to_owned() };
    let reply = send(&app, &writing, Command::Variables(command)).await?;
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    set_position(response.headers_mut(), reply.position);
    Ok(response)
}
