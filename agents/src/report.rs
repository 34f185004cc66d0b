//! The report of an attempt: one command with one id, sent until it is answered.
//!
//! Invariants: sending again never makes a second effect, because the id stays; the sending ends some time after
//! the attempt's deadline, when the engine has given the attempt up anyway. A refusal because the attempt or the
//! execution is over is normal: another result was first.

use bus::{CommandError, Task};
use domain::blob::claim_check;
use domain::command::{Command, CommandEnvelope};
use domain::execution::command::ExecutionCommand;
use domain::execution::event::NodeError;
use domain::ids::{Slot, new_id};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

use crate::failure;
use crate::runtime::Shared;

/// The largest output, as JSON, in bytes.
const MAX_OUTPUT_BYTES: u64 = 64 * 1024 * 1024;
/// Outputs heavier than this are serialised away from the threads that serve other attempts, in bytes.
const OFF_THREAD_BYTES: usize = 1024 * 1024;
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Pauses that double.
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST_PAUSE }
    }

    /// Waits the next pause, between half and all of it so that workers do not come back in step.
    pub(crate) async fn pause(&mut self) {
        let half = self.next / 2;
        let random = random_bits() % (half.as_micros() as u64).max(1);
        tokio::time::sleep(half + Duration::from_micros(random)).await;
        self.next = (self.next * 2).min(LONGEST_PAUSE);
    }
}

impl Shared {
    /// Sends the result until it is answered or no longer wanted.
    pub(crate) async fn report(&self, task: &Task, deadline: Instant, result: Result<Value, NodeError>) {
        let give_up = deadline.max(Instant::now()) + self.config.report_grace();
        let sending = async {
            let result = match result {
                Ok(output) => self.store_if_large(task, output).await,
                Err(error) => Err(error),
            };
            let command = ExecutionCommand::CompleteNode { node: task.task.node.clone(), result };
            self.send_until_answered(task, self.envelope(task, command)).await;
        };
        if tokio::time::timeout_at(give_up, sending).await.is_err() {
            tracing::warn!(execution.id = %task.task.execution, node.id = task.task.node.node_id,
                node.attempt = task.task.node.attempt,
                "the worker could not deliver an attempt's result; the engine times the attempt out");
        }
    }

    /// A command about the task's execution, with a fresh id.
    pub(crate) fn envelope(&self, task: &Task, command: ExecutionCommand) -> CommandEnvelope {
        CommandEnvelope {
            id: new_id(self.clock.now(), Slot::of(task.task.execution), random_bits()),
            tenant: task.tenant.clone(),
            actor: self.actor.clone(),
            stream: task.task.execution,
            correlation_id: task.correlation_id,
            causation_id: task.causation_id,
            traceparent: task.traceparent.clone(),
            digest: None,
            command: Command::Execution(command),
            authority: None,
        }
    }

    async fn send_until_answered(&self, task: &Task, command: CommandEnvelope) {
        let mut backoff = Backoff::new();
        loop {
            let error = match self.commands.send(command.clone()).await {
                Ok(_) => return,
                Err(error) => error,
            };
            match &error {
                CommandError::Overloaded | CommandError::NotOwner | CommandError::Unknown(_) => {
                    tracing::debug!(%error, command.id = %command.id, "a result is sent again");
                    backoff.pause().await;
                }
                CommandError::Rejected(rejection)
                    if rejection.code == "stale_attempt" || rejection.code.starts_with("execution_") =>
                {
                    tracing::debug!(execution.id = %task.task.execution, node.id = task.task.node.node_id,
                        rejection.code = %rejection.code, "a result came too late");
                    return;
                }
                CommandError::Rejected(_) | CommandError::DigestMismatch => {
                    tracing::warn!(%error, execution.id = %task.task.execution,
                        node.id = task.task.node.node_id, "a result was refused");
                    return;
                }
            }
        }
    }

    /// The output as it travels: by reference if it is large, and then it is stored first.
    async fn store_if_large(&self, task: &Task, output: Value) -> Result<Value, NodeError> {
        let (output, blob) = if is_heavy(&output) {
            // The closure cannot panic: it serialises a value that is in memory.
            match tokio::task::spawn_blocking(|| claim_check(output)).await {
                Ok(checked) => checked,
                Err(_) => return Err(failure::custom("the output could not be serialised", Value::Null)),
            }
        } else {
            claim_check(output)
        };
        let Some(blob) = blob else { return Ok(output) };
        let bytes = blob.reference.bytes;
        if bytes > MAX_OUTPUT_BYTES {
            let message = format!("the output is {bytes} bytes of JSON; at most {MAX_OUTPUT_BYTES} are kept");
            return Err(failure::custom(message, json!({ "bytes": bytes, "limit": MAX_OUTPUT_BYTES })));
        }
        let mut backoff = Backoff::new();
        while let Err(error) = self.blobs.put(&task.tenant, &blob).await {
            tracing::warn!(%error, blob.bytes = bytes, "an output could not be stored; trying again");
            backoff.pause().await;
        }
        Ok(output)
    }
}

/// Whether serialising takes long enough to be noticed by others. Stops counting at the limit.
fn is_heavy(value: &Value) -> bool {
    fn weigh(value: &Value, sum: &mut usize) -> bool {
        *sum += 8;
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
            Value::String(text) => *sum += text.len(),
            Value::Array(items) => return items.iter().any(|item| weigh(item, sum)),
            Value::Object(fields) => {
                return fields.iter().any(|(key, item)| {
                    *sum += key.len();
                    weigh(item, sum)
                });
            }
        }
        *sum > OFF_THREAD_BYTES
    }
    weigh(value, &mut 0)
}

/// 62 random bits at the low end, which is what an id takes.
fn random_bits() -> u64 {
    Uuid::new_v4().as_u64_pair().1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_outputs_that_take_long_to_serialise_are_heavy() {
        assert!(!is_heavy(&json!({"status": 200, "body": "x".repeat(1_000)})));
        assert!(is_heavy(&json!({"body": ["x".repeat(OFF_THREAD_BYTES)]})));
    }
}
