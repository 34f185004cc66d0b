//! Following an execution from its first event to its last.

use serde_json::{Value, json};

use crate::client::{Answer, Client, ClientError, segment};
use crate::exit::Failure;
use crate::output::Output;

/// Whether events are shown while they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Events {
    Shown,
    Hidden,
}

/// Follows an execution to its end and gives it as the read model shows it then.
pub(super) async fn to_the_end(
    client: &Client,
    execution_id: &str,
    events: Events,
    output: Output,
) -> Result<Value, Failure> {
    let path = format!("/executions/{}/stream", segment(execution_id));
    let mut stream = client.stream(&path, &[]);
    let mut seen = 0;
    while let Some(message) = stream.next().await? {
        let Ok(event) = serde_json::from_str::<Value>(&message.data) else { continue };
        // Messages that are not events of the execution (such as "caught up") have no version.
        let Some(version) = event.get("version").and_then(Value::as_u64).filter(|version| *version > seen)
        else {
            continue;
        };
        seen = version;
        if events == Events::Shown {
            output.event(&event)?;
        }
        if is_final(&event) {
            let position = event.get("position").and_then(Value::as_str);
            let execution = read(client, execution_id, position).await?.body;
            // An execution that was retried went on after an end; then its stream does too.
            if execution.get("version").and_then(Value::as_u64).is_none_or(|latest| latest <= version) {
                return Ok(execution);
            }
        }
    }
    // The server has closed the stream, so there is nothing more to come.
    Ok(read(client, execution_id, None).await?.body)
}

async fn read(client: &Client, execution_id: &str, position: Option<&str>) -> Result<Answer, ClientError> {
    client.get_from(&format!("/executions/{}", segment(execution_id)), &[], position).await
}

fn is_final(event: &Value) -> bool {
    matches!(
        event.get("type").and_then(Value::as_str),
        Some("execution.completed" | "execution.failed" | "execution.cancelled" | "execution.terminated")
    )
}

/// Prints how an execution ended. Anything but `completed` is a failure.
pub(super) fn conclude(execution: &Value, output: Output) -> Result<(), Failure> {
    let field = |name: &str| execution.get(name).cloned().unwrap_or(Value::Null);
    let status = field("status");
    let completed = status == "completed";
    if output.for_people() {
        let error = field("error");
        let reason = error.get("message").and_then(Value::as_str).map(|message| format!(": {message}"));
        let status = status.as_str().unwrap_or("unknown");
        output.done(&Value::Null, &format!("{status}{}", reason.unwrap_or_default()))?;
        if completed {
            output.thing(&field("output"))?;
        }
    } else {
        output.thing(&json!({
            "execution_id": field("id"), "status": status, "output": field("output"), "error": field("error"),
        }))?;
    }
    if completed { Ok(()) } else { Err(Failure::Unsuccessful) }
}
