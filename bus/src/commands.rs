//! Commands: request and reply, to whoever owns the stream's partition.

use async_trait::async_trait;
use serde_json::Value;
use std::sync::Arc;

use domain::command::CommandEnvelope;
use domain::ids::{Partition, Position};
use domain::rejection::Rejection;

use crate::error::BusError;

/// A command that was carried out; durable when this is seen.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandReply {
    /// What the decider answered, the same for a repeated command.
    pub answer: Value,
    /// Where the last event of the append is, if it had events.
    pub position: Option<Position>,
    /// Whether this id had been carried out before.
    pub repeated: bool,
}

/// A command that was not carried out, or of which that is not known.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommandError {
    /// The decider refused it.
    #[error(transparent)]
    Rejected(Rejection),
    /// The same command id came with another request.
    #[error("this command id was used for a different request; choose a new Idempotency-Key")]
    DigestMismatch,
    /// The owner's queue is full; nothing was done.
    #[error("the partition's command queue is full; try again shortly")]
    Overloaded,
    /// Nobody answers for the partition at the moment; send the same id again.
    #[error("no owner answers for the partition; send the same command again")]
    NotOwner,
    /// The store or bus failed; whether the command took effect is not known. Send the same id again.
    #[error("the command's outcome is not known: {0}; send the same command again")]
    Unknown(Arc<str>),
}

/// Sends commands to their owners.
#[async_trait]
pub trait Commands: Send + Sync {
    /// Sends a command and waits until it is durable or refused.
    async fn send(&self, command: CommandEnvelope) -> Result<CommandReply, CommandError>;
}

/// Takes the commands of the partitions that a process owns.
#[async_trait]
pub trait CommandHandler: Send + Sync {
    /// Decides a command and answers when it is durable.
    async fn handle(&self, command: CommandEnvelope) -> Result<CommandReply, CommandError>;
}

/// Where an owner takes the commands of its partitions, if they come over a network.
#[async_trait]
pub trait CommandDoors: Send + Sync {
    /// Takes the commands of a partition from now on.
    async fn open(&self, partition: Partition, handler: Arc<dyn CommandHandler>) -> Result<(), BusError>;

    /// Takes no more commands of a partition; those that have come in are still answered.
    async fn close(&self, partition: Partition);
}
