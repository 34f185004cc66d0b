//! `/dead-letters/…/redrive`: nodes that ran out of attempts get further ones.
//!
//! A dead letter's id is that of its event, which says the partition but not the stream, so it is looked up in the read
//! model; the execution's decider then checks that the node is still the one that failed. So a letter is redriven at
//! most once, however often it is asked for.

use axum::extract::State;
use axum::response::Response;
use domain::decision::NodeRun;
use domain::ids::{Partition, parse_id};
use domain::time::Timestamp;
use futures::{StreamExt, stream};
use http::StatusCode;
use read_models::{DeadLetter, DeadLetterFilter, Viewer};
use serde::Serialize;
use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

use crate::access::judging::only_allowed;
use crate::acting::{self, Act};
use crate::answer::json;
use crate::app::App;
use crate::failure::Failure;
use crate::position::Offsets;
use crate::reading::{read_error, wait_for_own_writes};
use crate::request::{Fields, JsonBody, PathParams, Write, WriteHeaders};
use crate::{schemas, status};

use super::execution_commands::accepted;

/// The most dead letters that one request redrives.
const MAX_REDRIVEN: u64 = 1_000;
/// How many it redrives where nothing is said.
const DEFAULT_REDRIVEN: u64 = 100;
/// How many are under way at once.
const AT_ONCE: usize = 8;
/// How long one request begins further ones.
const MAX_TIME: Duration = Duration::from_secs(30);
/// How many dead letters a page of the read model has.
const PAGE: usize = 200;

/// Tries a node again that ran out of attempts, as a retry of its execution.
#[utoipa::path(post, path = "/dead-letters/{id}/redrive", tag = "executions",
    params(("id" = Uuid, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = schemas::Retry,
    responses((status = 202, description = "Its execution goes on.", body = schemas::Accepted)))]
pub(crate) async fn one(
    State(app): State<Arc<App>>,
    params: PathParams,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let id = params.id("id")?;
    let body = body.or_empty();
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let retry = Act::read("retry", &mut fields).expect("`retry` is one of `Act`");
    fields.finish()?;
    let principal = write.caller.principal.clone();
    let partition = Partition::of(id, app.log.partitions());
    wait_for_own_writes(&app, &principal, Some(partition)).await?;
    let letter = app.models.dead_letter(&principal.tenant, id).await.map_err(read_error)?;
    let letter = letter.ok_or_else(|| {
        Failure::new(status::DEAD_LETTER_NOT_FOUND, format!("there is no dead letter {id}"))
    })?;
    let act = match retry {
        Act::Retry { reason, node_inputs, .. } => redrive(&letter, reason, node_inputs),
        other => other,
    };
    accepted(&acting::act(&app, write, letter.execution_id, act).await?)
}

/// Tries again the nodes of the dead letters that a filter finds, the newest first. A repetition goes on with those
/// that are left.
#[utoipa::path(post, path = "/dead-letters/redrive", tag = "executions",
    params(("Idempotency-Key" = Option<String>, Header)),
    request_body = schemas::Redrive,
    responses((status = 202, description = "What was redriven and what was refused.", body = schemas::Redriven)))]
pub(crate) async fn several(
    State(app): State<Arc<App>>,
    headers: WriteHeaders,
    body: JsonBody,
) -> Result<Response, Failure> {
    let body = body.required()?;
    let write = headers.with_body(&body);
    let mut fields = Fields::open(body)?;
    let filter = read_filter(&mut fields);
    let limit = fields.number("limit", 1, MAX_REDRIVEN).unwrap_or(DEFAULT_REDRIVEN) as usize;
    let reason = fields.text("reason");
    fields.finish()?;
    let principal = write.caller.principal.clone();
    wait_for_own_writes(&app, &principal, None).await?;
    let (letters, more) = find(&app, &write.caller.viewer()?, &filter, limit).await?;
    // The deciders would refuse the others, one by one, and tell of them.
    let letters = only_allowed(&app, &write.caller, letters, |letter| letter.execution_id).await?;
    let answer = redrive_all(&app, &write, letters, more, reason.as_deref()).await;
    let mut response = json(StatusCode::ACCEPTED, &answer.body)?;
    if let Ok(token) = http::HeaderValue::try_from(answer.seen.token()) {
        response.headers_mut().insert("everline-position", token);
    }
    Ok(response)
}

/// What was redriven.
#[derive(Debug, Default, Serialize)]
struct Redriven {
    redriven: usize,
    failed: Vec<Refused>,
    /// Whether the filter finds more than this request looked at.
    more: bool,
}

/// A dead letter that was not redriven.
#[derive(Debug, Serialize)]
struct Refused {
    id: Uuid,
    execution_id: Uuid,
    code: String,
    detail: String,
}

struct Answer {
    body: Redriven,
    seen: Offsets,
}

async fn redrive_all(
    app: &App,
    write: &Write,
    letters: Vec<DeadLetter>,
    more: bool,
    reason: Option<&str>,
) -> Answer {
    let began = Instant::now();
    let mut answer =
        Answer { body: Redriven { more, ..Redriven::default() }, seen: Offsets::start(app.log.partitions()) };
    let in_time = |_: &DeadLetter| futures::future::ready(began.elapsed() < MAX_TIME);
    let found = letters.len();
    let mut results = stream::iter(letters)
        .take_while(in_time)
        .map(|letter| {
            let write = write.part(letter.id);
            let act = redrive(&letter, reason.map(str::to_owned), Map::new());
            async move { (acting::act(app, write, letter.execution_id, act).await, letter) }
        })
        .buffered(AT_ONCE);
    while let Some((result, letter)) = results.next().await {
        match result {
            Ok(done) => {
                answer.body.redriven += 1;
                done.position.into_iter().for_each(|position| answer.seen.advance(position));
            }
            Err(failure) => {
                let lasting = failure.status.is_server_error();
                answer.body.failed.push(Refused {
                    id: letter.id,
                    execution_id: letter.execution_id,
                    code: failure.code.into_owned(),
                    detail: failure.detail,
                });
                // A store or owner that does not answer would refuse the rest too.
                if lasting {
                    break;
                }
            }
        }
    }
    answer.body.more |= answer.body.redriven + answer.body.failed.len() < found;
    answer
}

fn redrive(letter: &DeadLetter, reason: Option<String>, node_inputs: Map<String, Value>) -> Act {
    let node = NodeRun { node_id: letter.node_id.clone(), run: letter.run, attempt: letter.attempt };
    Act::Retry { reason, node_inputs, dead_letter: Some(node) }
}

/// The dead letters that a filter finds, and whether there are more than so many.
async fn find(
    app: &App,
    viewer: &Viewer,
    filter: &DeadLetterFilter,
    limit: usize,
) -> Result<(Vec<DeadLetter>, bool), Failure> {
    let mut letters = Vec::new();
    let mut cursor = None;
    let began = Instant::now();
    loop {
        let wanted = (limit - letters.len()).min(PAGE);
        let page = app.models.dead_letters(viewer, filter, cursor, wanted).await.map_err(read_error)?;
        letters.extend(page.items);
        cursor = page.next;
        if cursor.is_none() || letters.len() >= limit || began.elapsed() > MAX_TIME {
            return Ok((letters, cursor.is_some()));
        }
    }
}

fn read_filter(fields: &mut Fields) -> DeadLetterFilter {
    // An absent filter must not mean every dead letter; an empty one does.
    let Some(given) = fields.any("filter") else {
        fields.report(
            "",
            "missing_field",
            "the field `filter` is missing; `{}` stands for every dead letter",
        );
        return DeadLetterFilter::default();
    };
    let Ok(mut inner) = Fields::open(given) else {
        fields.report("/filter", "wrong_type", "expected an object");
        return DeadLetterFilter::default();
    };
    let filter = DeadLetterFilter {
        redriven: false,
        workflow_id: id(&mut inner, "workflow_id"),
        execution_id: id(&mut inner, "execution_id"),
        node_id: inner.text("node_id"),
        error_kind: inner.text("error_kind"),
        before: time(&mut inner, "before"),
        after: time(&mut inner, "after"),
    };
    fields.adopt("/filter", inner);
    filter
}

fn id(fields: &mut Fields, name: &'static str) -> Option<Uuid> {
    let text = fields.text(name)?;
    let id = parse_id(&text);
    if id.is_none() {
        fields.report(&format!("/{name}"), "invalid_id", "ids are UUIDv7");
    }
    id
}

fn time(fields: &mut Fields, name: &'static str) -> Option<Timestamp> {
    let time = fields.text(name)?.parse::<Timestamp>();
    if let Err(error) = &time {
        fields.report(&format!("/{name}"), "invalid_value", error.to_string());
    }
    time.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_filter_that_is_not_understood_says_where() {
        let body = json!({"filter": {"workflow_id": "x", "before": "noon", "node": "a"}});
        let mut fields = Fields::open(body).expect("an object");
        read_filter(&mut fields);
        let errors = fields.finish().expect_err("defects").errors;
        let found: Vec<_> = errors.iter().map(|p| (p.pointer.as_str(), p.code.as_ref())).collect();
        assert_eq!(
            found,
            [
                ("/filter/workflow_id", "invalid_id"),
                ("/filter/before", "invalid_value"),
                ("/filter/node", "unknown_field")
            ]
        );
    }
}
