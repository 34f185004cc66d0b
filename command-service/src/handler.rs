//! The way in: hands each command to the partition of its stream.

use async_trait::async_trait;
use std::sync::Arc;
use tokio::sync::oneshot;

use bus::tasks::TaskRef;
use bus::{CommandError, CommandHandler, CommandReply};
use domain::command::{Command, CommandEnvelope};
use domain::execution::command::ExecutionCommand;

use crate::dispatcher::{Dispatcher, Stop};
use crate::owned::Owned;
use crate::pending::Submitted;

/// Takes commands of every partition that this process owns; the others are answered `NotOwner`.
pub(crate) struct Handler {
    pub(crate) owned: Arc<Owned>,
    pub(crate) dispatcher: Arc<Dispatcher>,
}

#[async_trait]
impl CommandHandler for Handler {
    async fn handle(&self, envelope: CommandEnvelope) -> Result<CommandReply, CommandError> {
        let _counted = self.owned.count();
        let (reply, answer) = oneshot::channel();
        let attempt = attempt_reported(&envelope);
        self.owned.submit(Submitted { envelope, reply, refusals: 0 })?;
        // Dropped without an answer: the partition was lost.
        let result = answer.await.unwrap_or(Err(CommandError::NotOwner));
        let is_over = match &result {
            // Perhaps nobody has acted on it: its commit may not have been heard of.
            Ok(reply) => reply.repeated,
            Err(error) => {
                matches!(error, CommandError::Rejected(rejection) if rejection.code == "stale_attempt")
            }
        };
        if let Some(task) = attempt.filter(|_| is_over) {
            // A result for an attempt that is over: whatever made it so, its place in the window is free.
            self.dispatcher.resolved(&task, Stop::No);
            self.dispatcher.release().await;
        }
        match result {
            // Perhaps the store is out of reach for this process alone: then another owns the partition, or will soon.
            // The same id has one effect, whoever is asked again.
            Err(CommandError::Unknown(_)) if !self.owned.leased() => Err(CommandError::NotOwner),
            result => result,
        }
    }
}

/// The attempt whose result a command brings.
fn attempt_reported(envelope: &CommandEnvelope) -> Option<TaskRef> {
    match &envelope.command {
        Command::Execution(ExecutionCommand::CompleteNode { node, .. }) => {
            Some(TaskRef { execution: envelope.stream, node: node.clone() })
        }
        Command::Execution(_)
        | Command::Lane(_)
        | Command::Workflow(_)
        | Command::Variables(_)
        | Command::Tenant(_)
        | Command::User(_)
        | Command::Role(_)
        | Command::ApiKey(_)
        | Command::Audit(_)
        | Command::Bulk(_) => None,
    }
}
