//! What travels between the way in, the partitions and the committer.

use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use bus::{CommandError, CommandReply};
use domain::command::CommandEnvelope;
use domain::decision::Wakeup;
use domain::event::Event;
use domain::ids::Partition;
use event_store::{Append, AppendAnswer, PartitionHead};

/// Where a command's answer goes.
pub(crate) type Reply = oneshot::Sender<Result<CommandReply, CommandError>>;

/// A command and where its answer goes.
#[derive(Debug)]
pub(crate) struct Submitted {
    pub(crate) envelope: CommandEnvelope,
    pub(crate) reply: Reply,
    /// How often the store has refused what was decided.
    pub(crate) refusals: u32,
}

/// A decided append on its way to the disk.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) submitted: Submitted,
    /// Taken out while it is with the store.
    pub(crate) append: Option<Append>,
    /// The typed events, for whoever acts on the commit.
    pub(crate) events: Vec<Event>,
    pub(crate) wakeups: Vec<Wakeup>,
    pub(crate) answer: Value,
    pub(crate) partition: Partition,
    /// Under which tenure of the partition it was decided.
    pub(crate) epoch: u64,
    pub(crate) generation: u64,
    pub(crate) bytes: usize,
    pub(crate) priority: u8,
}

/// What the committer is told, in order.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly every message is an append")]
pub(crate) enum Work {
    /// Write this.
    Append(Pending),
    /// This process owns a partition from now on.
    Adopt {
        /// Where it ends, and under which epoch it was taken over.
        head: PartitionHead,
        /// The partition's task.
        notices: mpsc::UnboundedSender<Notice>,
    },
    /// Nothing more comes for the partition in this tenure.
    Drop {
        /// The partition.
        partition: Partition,
        /// The tenure.
        epoch: u64,
        /// Told when everything that came before is durable and answered.
        done: oneshot::Sender<()>,
    },
}

/// What the committer tells a partition.
#[derive(Debug)]
pub(crate) enum Notice {
    /// These command ids, each with its stream, are durable.
    Committed(Vec<(Uuid, Uuid)>),
    /// What was decided on an older generation is void; decide these again.
    Again {
        /// The generation from now on.
        generation: u64,
        /// In the order in which they were first decided.
        commands: Vec<Submitted>,
    },
    /// The log has more than this process has heard of: whatever was folded may be old.
    Grew {
        /// The generation from now on.
        generation: u64,
    },
}

/// The answer to a command id that was used before.
pub(crate) fn first_answer(
    first: &AppendAnswer,
    digest: Option<[u8; 32]>,
) -> Result<CommandReply, CommandError> {
    if let (Some(first), Some(now)) = (first.digest, digest)
        && first != now
    {
        return Err(CommandError::DigestMismatch);
    }
    let answer = serde_json::from_slice(&first.answer)
        .map_err(|error| CommandError::Unknown(format!("the stored answer is damaged: {error}").into()))?;
    Ok(CommandReply { answer, position: Some(first.position), repeated: true })
}
