//! What follows when the target of a reaction refuses it. A refusal is final: whoever asked must be told.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::command::{Command, CommandEnvelope};
use crate::execution::ExecutionStatus;
use crate::execution::command::ExecutionCommand;
use crate::execution::event::{CompensationStatus, ErrorKind, NodeError, ParentRef};
use crate::ids::{Slot, derived_id, id_time};
use crate::lane::command::LaneCommand;
use crate::rejection::Rejection;

use super::Reaction;

/// What a refused reaction leads to. The id of its command depends on the reaction alone, not on the refusal's words.
pub fn after_refusal(reaction: &Reaction, rejection: &Rejection) -> Option<Reaction> {
    let target = reaction.command.stream;
    match &reaction.command.command {
        Command::Lane(command) => match command {
            LaneCommand::Request { execution, .. } => Some(follow_up(
                reaction,
                *execution,
                Command::Execution(ExecutionCommand::Drop { lane: target }),
            )),
            LaneCommand::Release { .. } => None,
        },
        Command::Execution(command) => match command {
            // Its id is its parent's choice: it can only be this child, and it began.
            ExecutionCommand::Start(_) | ExecutionCommand::Fork(_)
                if rejection.code == "execution_exists" =>
            {
                None
            }
            ExecutionCommand::Start(_) | ExecutionCommand::Fork(_) => {
                let parent = reaction.parent.as_ref()?;
                Some(told_parent(reaction, parent, never_began(reaction, target, rejection)))
            }
            ExecutionCommand::Compensate { .. } => {
                let parent = reaction.parent.as_ref()?;
                let command = ExecutionCommand::ChildCompensated {
                    node: parent.node_run(),
                    child: target,
                    status: CompensationStatus::Completed,
                    error: None,
                };
                Some(follow_up(reaction, parent.execution_id, Command::Execution(command)))
            }
            ExecutionCommand::Admit { lane } => {
                Some(follow_up(reaction, *lane, Command::Lane(LaneCommand::Release { execution: target })))
            }
            ExecutionCommand::Drop { .. }
            | ExecutionCommand::Cancel { .. }
            | ExecutionCommand::Terminate { .. }
            | ExecutionCommand::FinishChild { .. }
            | ExecutionCommand::ChildCompensated { .. }
            | ExecutionCommand::StartNode { .. }
            | ExecutionCommand::CompleteNode { .. }
            | ExecutionCommand::LoseWorker { .. }
            | ExecutionCommand::Wake(_)
            | ExecutionCommand::Signal { .. }
            | ExecutionCommand::Pause { .. }
            | ExecutionCommand::Resume { .. }
            | ExecutionCommand::Retry { .. }
            | ExecutionCommand::OfferEvent(_) => None,
        },
        Command::Workflow(_)
        | Command::Variables(_)
        | Command::Tenant(_)
        | Command::User(_)
        | Command::Role(_)
        | Command::ApiKey(_)
        | Command::Audit(_)
        | Command::Bulk(_) => None,
    }
}

/// Why a child never began, in the words of whoever refused it.
fn never_began(reaction: &Reaction, child: Uuid, rejection: &Rejection) -> NodeError {
    let message = match &reaction.workflow_name {
        Some(name) if rejection.code == "workflow_not_found" => {
            format!("there is no workflow named `{name}`; name one that exists, or give its id")
        }
        _ => rejection.detail.clone(),
    };
    let details = json!({ "code": rejection.code, "child": child });
    NodeError { kind: ErrorKind::InvalidConfig, message, retryable: false, details }
}

fn told_parent(reaction: &Reaction, parent: &ParentRef, error: NodeError) -> Reaction {
    let command = ExecutionCommand::FinishChild {
        node: parent.node_run(),
        child: reaction.command.stream,
        status: ExecutionStatus::Failed,
        output: Value::Null,
        error: Some(error),
    };
    follow_up(reaction, parent.execution_id, Command::Execution(command))
}

fn follow_up(reaction: &Reaction, target: Uuid, command: Command) -> Reaction {
    let refused = &reaction.command;
    let parts: [&[u8]; 3] = [b"refused reaction", refused.id.as_bytes(), target.as_bytes()];
    let command = CommandEnvelope {
        id: derived_id(id_time(refused.id), Slot::of(target), &parts),
        stream: target,
        command,
        ..refused.clone()
    };
    Reaction { command, workflow_name: None, source: reaction.source, parent: None }
}
