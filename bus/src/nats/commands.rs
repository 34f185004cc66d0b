//! Commands to whoever owns their partition.
//!
//! A command is sent again with the same id until it is answered or its deadline has passed: at once, with growing
//! pauses, where nobody listens or the one who does is not the owner; after [`ATTEMPT`] where nothing comes back. That
//! is short, because the one who was to answer may have been killed, and safe, because a command id has one effect.
//! It is cheap too: every attempt names the send that it belongs to, and a door drops an attempt of a send that it is
//! deciding already. The owner's answer to any attempt is the answer, and it always wins: one who is not the owner any
//! more, but has not closed its door yet, says so sooner, and that only makes the next attempt come sooner.

use async_nats::HeaderMap;
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::SelectAll;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

use domain::command::CommandEnvelope;
use domain::ids::Partition;
use domain::rejection::{Rejection, RejectionKind};

use super::requests::{Answers, AskError, Requests};
use super::{subjects, wire};
use crate::commands::{CommandError, CommandReply, Commands};

/// The header that says which send an attempt belongs to.
pub(super) const SEND_HEADER: &str = "Everline-Send";
/// How long one attempt waits alone.
const ATTEMPT: Duration = Duration::from_secs(1);
/// The first pause where nobody takes the command.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// The longest one.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Room for headers in a message.
const HEADERS: usize = 1_024;

/// Sends commands over NATS.
pub(super) struct NatsCommands {
    pub(super) requests: Arc<Requests>,
    pub(super) partitions: u16,
    pub(super) deadline: Duration,
}

#[async_trait]
impl Commands for NatsCommands {
    async fn send(&self, command: CommandEnvelope) -> Result<CommandReply, CommandError> {
        let body = wire::encode_command(&command);
        let limit = self.requests.max_payload().saturating_sub(HEADERS);
        if body.len() > limit {
            return Err(too_large(command.command.name(), body.len(), limit));
        }
        let mut headers = HeaderMap::new();
        headers.insert(SEND_HEADER, Uuid::new_v4().simple().to_string());
        let subject = subjects::command(Partition::of(command.stream, self.partitions));
        let request = Request { name: command.command.name(), subject, headers, body };
        let deadline = Instant::now() + self.deadline;
        let mut sending = Sending::default();
        let mut next = self.attempt(&request, &mut sending).await?;
        loop {
            tokio::select! {
                Some(answer) = sending.open.next(), if !sending.open.is_empty() => {
                    if let Some(result) = sending.judge(answer) {
                        return result;
                    }
                    next = next.min(Instant::now() + sending.pause());
                }
                () = tokio::time::sleep_until(deadline) => return Err(sending.given_up(self.deadline)),
                () = tokio::time::sleep_until(next) => next = self.attempt(&request, &mut sending).await?,
            }
        }
    }
}

impl NatsCommands {
    /// Sends it once more. The answer is when to send it again, if nothing comes.
    async fn attempt(&self, request: &Request, sending: &mut Sending) -> Result<Instant, CommandError> {
        let Request { name, subject, headers, body } = request;
        match self.requests.send(subject.clone(), headers.clone(), body.clone()).await {
            Ok(answers) => {
                sending.sent(answers);
                Ok(Instant::now() + ATTEMPT)
            }
            Err(AskError::TooLarge { size, limit }) => Err(too_large(name, size, limit)),
            Err(_) => Ok(Instant::now() + sending.pause()),
        }
    }
}

/// A command as every attempt carries it.
struct Request {
    name: &'static str,
    subject: String,
    headers: HeaderMap,
    body: Bytes,
}

/// What has become of the attempts so far.
#[derive(Default)]
struct Sending {
    open: SelectAll<Answers>,
    /// Attempts that an owner may have received and not answered.
    doubtful: usize,
    pauses: u32,
}

impl Sending {
    fn sent(&mut self, answers: Answers) {
        self.open.push(answers);
        self.doubtful += 1;
    }

    /// What an answer says: the result, or that another attempt is needed.
    fn judge(
        &mut self,
        answer: Result<async_nats::Message, AskError>,
    ) -> Option<Result<CommandReply, CommandError>> {
        match answer {
            Ok(message) => match wire::decode_reply(&message.payload) {
                // The owner may have it too: this says nothing about what becomes of the attempt.
                Ok(Err(CommandError::NotOwner)) => {}
                Ok(result) => return Some(result),
                Err(error) => return Some(Err(CommandError::Unknown(error.to_string().into()))),
            },
            Err(AskError::NoResponders) => self.doubtful -= 1,
            Err(_) => {}
        }
        None
    }

    /// The pause before the next attempt: it doubles, and differs between senders.
    fn pause(&mut self) -> Duration {
        let full = (FIRST_PAUSE * 2u32.pow(self.pauses.min(6))).min(LONGEST_PAUSE);
        self.pauses += 1;
        full / 2 + full.mul_f64(f64::from(Uuid::new_v4().as_bytes()[0]) / 512.0)
    }

    fn given_up(&self, deadline: Duration) -> CommandError {
        if self.doubtful == 0 {
            return CommandError::NotOwner;
        }
        CommandError::Unknown(format!("its owner did not answer within {} s", deadline.as_secs()).into())
    }
}

fn too_large(name: &str, size: usize, limit: usize) -> CommandError {
    let detail = format!(
        "the command {name} has {size} bytes and the bus takes {limit}; send less at once, or raise `max_payload` of \
         nats-server"
    );
    CommandError::Rejected(Rejection::new(RejectionKind::TooLarge, "command_too_large", detail))
}
