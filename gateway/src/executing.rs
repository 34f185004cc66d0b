//! Starting executions, whichever way it comes in, and waiting for their end.

use bus::CommandReply;
use domain::command::Command;
use domain::event::{Event, ExecutionEvent, RecordedEvent};
use domain::execution::ExecutionStatus;
use domain::execution::command::{ExecutionCommand, StartExecution};
use domain::execution::event::Trigger;
use domain::execution::view::ExecutionError;
use domain::ids::Position;
use serde::Serialize;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

use crate::app::App;
use crate::failure::Failure;
use crate::large_values::{Unpacker, check_in};
use crate::live::{IDLE_REREAD, News, Waiter, find_first_end};
use crate::request::{Fields, Write};
use crate::sending::{note, send};
use crate::status;

/// The longest time that a start may wait for the end, in milliseconds.
pub(crate) const MAX_WAIT_MS: u64 = 60_000;

/// A start as a caller asks for it.
pub(crate) struct StartRequest {
    pub(crate) workflow_id: Uuid,
    pub(crate) version: Option<u64>,
    pub(crate) input: Value,
    pub(crate) wait: Option<Duration>,
    pub(crate) priority: Option<u8>,
    pub(crate) attributes: serde_json::Map<String, Value>,
}

/// What a command to an execution is answered with. `output` and `error` are there when it has ended.
#[derive(Debug, Serialize)]
pub(crate) struct ExecutionAnswer {
    pub(crate) execution_id: Uuid,
    pub(crate) status: Value,
    #[serde(flatten)]
    pub(crate) end: Option<EndAnswer>,
    #[serde(skip)]
    pub(crate) position: Option<Position>,
}

/// How an execution ended.
#[derive(Debug, Serialize)]
pub(crate) struct EndAnswer {
    pub(crate) output: Value,
    pub(crate) error: Option<ExecutionError>,
}

impl StartRequest {
    /// Reads the body of a start.
    pub(crate) fn read(workflow_id: Uuid, fields: &mut Fields) -> Self {
        Self {
            workflow_id,
            version: fields.number("version", 1, u64::MAX),
            input: fields.any("input").unwrap_or_else(|| Value::Object(serde_json::Map::new())),
            wait: fields
                .number("wait_ms", 0, MAX_WAIT_MS)
                .filter(|wait| *wait > 0)
                .map(Duration::from_millis),
            priority: fields.number("priority", 0, 9).map(|priority| priority as u8),
            attributes: fields.object("attributes"),
        }
    }
}

/// Starts an execution, and waits for its end if asked to.
pub(crate) async fn start(
    app: &App,
    write: Write,
    request: StartRequest,
    trigger: &str,
) -> Result<ExecutionAnswer, Failure> {
    let started = Instant::now();
    let writing = write.create_anywhere(app.clock.now());
    let principal = writing.caller().principal.clone();
    let input = check_in(app, &principal.tenant, request.input, "/input").await?;
    // The end may come before the reply does, so whoever waits for it must be there first.
    let waiter = request.wait.map(|wait| (app.hub.wait_for_end(writing.stream), started + wait));
    let command = Command::Execution(ExecutionCommand::Start(StartExecution {
        workflow_id: request.workflow_id,
        workflow_version: request.version,
        input,
        trigger: Trigger { kind: trigger.to_owned() },
        priority: request.priority,
        attributes: request.attributes,
        parent: None,
        owner: None,
    }));
    let reply = send(app, &writing, command).await?;
    let answer = answer(writing.stream, reply);
    let Some((waiter, deadline)) = waiter else { return Ok(answer) };
    // A repeated key is answered with the first execution, which may have ended long ago.
    let waiter = if answer.execution_id == writing.stream {
        waiter
    } else {
        let waiter = app.hub.wait_for_end(answer.execution_id);
        if let Some(event) = find_first_end(app.log.as_ref(), answer.execution_id, &mut 0).await? {
            return ended(app, &principal, answer, &event).await;
        }
        waiter
    };
    match wait_for_end(app, waiter, answer.execution_id, deadline).await? {
        Some(event) => ended(app, &principal, answer, &event).await,
        None => Ok(answer),
    }
}

/// The first event that ended the execution, though it may have been retried since; `None` if none came before the
/// deadline.
async fn wait_for_end(
    app: &App,
    mut waiter: Waiter,
    execution: Uuid,
    deadline: Instant,
) -> Result<Option<std::sync::Arc<RecordedEvent>>, Failure> {
    let mut read = 0;
    loop {
        // The feed's silence is trusted for a while only; then the log is asked. A process that stops asks once.
        let until = deadline.min(Instant::now() + IDLE_REREAD);
        tokio::select! {
            news = waiter.news() => {
                if let News::Ended(event) = news {
                    return Ok(Some(event));
                }
            }
            () = tokio::time::sleep_until(until) => {}
            () = app.draining.cancelled() => {}
        }
        // After a lag the old registration is used up; a new one comes before the look into the log.
        waiter = app.hub.wait_for_end(execution);
        if let Some(event) = find_first_end(app.log.as_ref(), execution, &mut read).await? {
            return Ok(Some(std::sync::Arc::new(event)));
        }
        if Instant::now() >= deadline || app.draining.is_cancelled() {
            return Ok(None);
        }
    }
}

/// The answer of an execution that has ended with this event.
async fn ended(
    app: &App,
    principal: &crate::auth::Principal,
    answer: ExecutionAnswer,
    recorded: &RecordedEvent,
) -> Result<ExecutionAnswer, Failure> {
    let damaged = || Failure::new(status::INTERNAL, "the execution's last event does not decode");
    if recorded.tenant != principal.tenant {
        return Err(damaged());
    }
    let (ended, mut output, error) = match recorded.decode().map_err(|_| damaged())? {
        Event::Execution(ExecutionEvent::Completed(end)) => (ExecutionStatus::Completed, end.output, None),
        Event::Execution(ExecutionEvent::Failed(end)) => {
            let error = ExecutionError { node_id: end.node_id, error: end.error };
            (ExecutionStatus::Failed, Value::Null, Some(error))
        }
        Event::Execution(ExecutionEvent::Cancelled(_)) => (ExecutionStatus::Cancelled, Value::Null, None),
        Event::Execution(ExecutionEvent::Terminated(_)) => (ExecutionStatus::Terminated, Value::Null, None),
        _ => return Err(damaged()),
    };
    Unpacker::new(app, &principal.tenant).unpack(&mut output).await?;
    note(principal, Some(recorded.position));
    Ok(ExecutionAnswer {
        execution_id: answer.execution_id,
        status: Value::from(ended.as_str()),
        end: Some(EndAnswer { output, error }),
        position: Some(recorded.position),
    })
}

/// What the decider answered, in the shape of the API.
pub(crate) fn answer(execution: Uuid, mut reply: CommandReply) -> ExecutionAnswer {
    let mut take = |name: &str| reply.answer.get_mut(name).map(Value::take);
    let id = take("execution_id").and_then(|id| id.as_str()?.parse().ok());
    ExecutionAnswer {
        execution_id: id.unwrap_or(execution),
        status: take("status").unwrap_or_else(|| Value::from(ExecutionStatus::Running.as_str())),
        end: None,
        position: reply.position,
    }
}
