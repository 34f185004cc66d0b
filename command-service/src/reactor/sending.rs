//! Sending one command until it is answered.

use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

use bus::{CommandError, Commands};
use domain::command::{Command, CommandEnvelope};
use domain::execution::command::ExecutionCommand;
use domain::ids::Partition;
use domain::reactor::{Reaction, after_refusal};
use domain::rejection::{Rejection, RejectionKind};
use domain::workflow::NAME_CLAIM;
use event_store::{Log, StoreError};

use crate::error::report;

use super::backlog::{Finished, Job};
use super::rights::ChildRights;

/// First pause before a command is sent again; doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest such pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long one answer is waited for.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// After so many tries somebody should look at it.
const MANY_TRIES: u32 = 12;

/// In the place of a rejection's code, where its words do not matter.
const UNSAID: &str = "unsaid";

/// What every lane sends with.
pub(super) struct Sender {
    pub(super) log: Arc<dyn Log>,
    pub(super) commands: Arc<dyn Commands>,
    /// Of all lanes together. A command that waits for its next try has none.
    pub(super) permits: Semaphore,
    pub(super) rights: ChildRights,
}

/// How a try ended.
enum Answer {
    Done,
    Refused(Rejection),
    NotYet(String),
}

impl Sender {
    /// Carries a job out, however long that takes.
    pub(super) async fn send(self: Arc<Self>, job: Job) -> Finished {
        let Job { offset, bytes, mut reaction, again } = job;
        let follow_up = self.carry_out(&mut reaction, again).await;
        Finished { offset, bytes, target: reaction.command.stream, follow_up }
    }

    /// Returns what a refusal leads to.
    async fn carry_out(&self, reaction: &mut Reaction, again: bool) -> Option<Reaction> {
        let (mut pause, mut tries) = (FIRST_PAUSE, 0_u32);
        let mut again = again;
        loop {
            let answer = if again { self.earlier_answer(reaction).await } else { Ok(None) };
            let answer = match answer {
                Ok(Some(answer)) => answer,
                Ok(None) => {
                    again = false;
                    self.attempt(reaction).await
                }
                Err(error) => Answer::NotYet(report(&error)),
            };
            let reason = match answer {
                Answer::Done => return None,
                Answer::Refused(rejection) => return refused(reaction, &rejection),
                Answer::NotYet(reason) => reason,
            };
            tries += 1;
            let CommandEnvelope { command, stream, .. } = &reaction.command;
            let (command, target) = (command.name(), stream);
            if tries == MANY_TRIES {
                tracing::error!(command, target.id = %target, source.id = %reaction.source, reason, "what follows from an event cannot be done; it is tried again and again");
            } else {
                tracing::debug!(command, target.id = %target, tries, reason, "what follows from an event is tried again");
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Whether an earlier owner was refused and has dealt with that: then the command must not be tried once more, for
    /// it might be accepted by now.
    async fn earlier_answer(&self, reaction: &Reaction) -> Result<Option<Answer>, StoreError> {
        // The id does not depend on the refusal.
        let any = Rejection::new(RejectionKind::Conflict, UNSAID, "");
        let Some(follow_up) = after_refusal(reaction, &any) else { return Ok(None) };
        let partition = Partition::of(follow_up.command.stream, self.log.partitions());
        let answer = self.log.command_answer(partition, follow_up.command.id).await?;
        Ok(answer.map(|_| Answer::Done))
    }

    async fn attempt(&self, reaction: &mut Reaction) -> Answer {
        // Never closed.
        let _permit = self.permits.acquire().await;
        if let Some(name) = &reaction.workflow_name {
            match self.log.claim_holder(&reaction.command.tenant, NAME_CLAIM, name).await {
                Ok(holder) => reaction.resolve(holder),
                Err(error) => return Answer::NotYet(report(&error)),
            }
        }
        match self.rights.of(&reaction.command).await {
            Ok(authority) => reaction.command.authority = authority,
            Err(error) => return Answer::NotYet(report(&error)),
        }
        match tokio::time::timeout(ANSWER_LIMIT, self.commands.send(reaction.command.clone())).await {
            Ok(Ok(_)) => Answer::Done,
            Ok(Err(CommandError::Rejected(rejection))) => Answer::Refused(rejection),
            // Only callers from outside choose ids.
            Ok(Err(
                error @ (CommandError::NotOwner
                | CommandError::Overloaded
                | CommandError::Unknown(_)
                | CommandError::DigestMismatch),
            )) => Answer::NotYet(error.to_string()),
            Err(_) => Answer::NotYet("no answer in time".to_owned()),
        }
    }
}

fn refused(reaction: &Reaction, rejection: &Rejection) -> Option<Reaction> {
    let follow_up = after_refusal(reaction, rejection);
    let (target, source) = (reaction.command.stream, reaction.source);
    match &reaction.command.command {
        Command::Execution(ExecutionCommand::Start(start))
            if follow_up.is_none() && start.parent.is_none() =>
        {
            tracing::warn!(execution.id = %source, child.id = %target, code = %rejection.code, reason = %rejection, "a sub-workflow that nobody waits for could not be started");
        }
        command => {
            tracing::debug!(command = command.name(), target.id = %target, source.id = %source, code = %rejection.code, "what follows from an event is not wanted any more");
        }
    }
    follow_up
}
