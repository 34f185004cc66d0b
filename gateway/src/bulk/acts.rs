//! One act of a job on one execution, as a command that is the same however often it is sent.

use domain::bulk::event::BulkAction;
use domain::command::{Command, CommandEnvelope};
use domain::execution::command::{ExecutionCommand, StartExecution};
use domain::execution::event::Trigger;
use domain::execution::view::ExecutionView;
use domain::ids::{Actor, Slot, derived_id, id_time};
use domain::time::Timestamp;
use read_models::BulkJobRow;
use uuid::Uuid;

/// The command of an act.
pub(super) fn command(job: &BulkJobRow, execution: &ExecutionView) -> CommandEnvelope {
    let (stream, command) = match &job.action {
        BulkAction::Start => (started(job, execution.id), start(execution)),
        BulkAction::Cancel => (execution.id, ExecutionCommand::Cancel { reason: reason(job) }),
        BulkAction::Terminate => (execution.id, ExecutionCommand::Terminate { reason: reason(job) }),
        BulkAction::Pause => (execution.id, ExecutionCommand::Pause { reason: reason(job) }),
        BulkAction::Resume => (execution.id, ExecutionCommand::Resume { reason: reason(job) }),
        BulkAction::Retry => (
            execution.id,
            ExecutionCommand::Retry {
                reason: reason(job),
                node_inputs: serde_json::Map::new(),
                dead_letter: None,
            },
        ),
        BulkAction::Correct { node_inputs } => (
            execution.id,
            ExecutionCommand::Retry {
                reason: reason(job),
                node_inputs: node_inputs.clone(),
                dead_letter: None,
            },
        ),
        BulkAction::Signal { name, payload } => {
            (execution.id, ExecutionCommand::Signal { name: name.clone(), payload: payload.clone() })
        }
    };
    CommandEnvelope {
        id: derived_id(
            Timestamp::default(),
            Slot::of(stream),
            &[b"bulk act", job.id.as_bytes(), execution.id.as_bytes()],
        ),
        tenant: job.tenant.clone(),
        actor: Actor::recorded(&job.created_by),
        stream,
        correlation_id: stream,
        causation_id: job.id,
        authority: Some(Box::new(job.acting.clone())),
        traceparent: None,
        digest: None,
        command: Command::Execution(command),
    }
}

fn reason(job: &BulkJobRow) -> Option<String> {
    Some(job.reason.clone())
}

/// The execution that a start makes: always the same, and newer than all that the job is concerned with.
fn started(job: &BulkJobRow, execution: Uuid) -> Uuid {
    let parts: [&[u8]; 3] = [b"bulk start", job.id.as_bytes(), execution.as_bytes()];
    derived_id(id_time(job.id).plus_ms(1), Slot::hashed(&parts), &parts)
}

/// The same workflow in its published version, with the same input.
fn start(execution: &ExecutionView) -> ExecutionCommand {
    ExecutionCommand::Start(StartExecution {
        workflow_id: execution.workflow_id,
        workflow_version: None,
        input: execution.input.clone(),
        trigger: Trigger { kind: "bulk".to_owned() },
        priority: None,
        attributes: serde_json::Map::new(),
        parent: None,
        owner: None,
    })
}
