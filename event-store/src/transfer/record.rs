//! What is moved: one record per row, in the order in which it is given and taken.

use bytes::Bytes;
use domain::blob::Blob;
use domain::event::RecordedEvent;
use domain::ids::{Partition, Position};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::chain::Hash;
use crate::verifiers::Verifier;

/// A row of the log or of a table beside it. In this order: each partition, ascending, with its events and, behind
/// the last event of each, the commits; then the kinds below, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    Partition(PartitionRow),
    Event(RecordedEvent),
    Commit(CommitRow),
    Command(CommandRow),
    Claim(ClaimRow),
    Wakeup(WakeupRow),
    Blob(BlobRow),
    Verifier(Verifier),
}

/// A partition, before what is in it. Who owns it is not moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PartitionRow {
    pub(crate) partition: Partition,
    pub(crate) epoch: u64,
}

/// A commit; its events are those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CommitRow {
    pub(crate) partition: Partition,
    pub(crate) head: u64,
    pub(crate) epoch: u64,
    pub(crate) events: u64,
    pub(crate) root: Hash,
    pub(crate) hash: Hash,
    pub(crate) committed_at: Timestamp,
}

/// What was answered to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandRow {
    pub(crate) command_id: Uuid,
    pub(crate) digest: Option<Hash>,
    pub(crate) answer: Bytes,
    pub(crate) position: Position,
    pub(crate) day: i64,
}

/// A name that a stream holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClaimRow {
    pub(crate) tenant: String,
    pub(crate) kind: String,
    pub(crate) key: String,
    pub(crate) stream: Uuid,
}

/// A wakeup as stored, whether or not this release reads its kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct WakeupRow {
    pub(crate) partition: Partition,
    pub(crate) due_at: i64,
    pub(crate) stream: Uuid,
    pub(crate) kind: String,
    pub(crate) tenant: String,
}

/// A large value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlobRow {
    pub(crate) tenant: String,
    pub(crate) blob: Blob,
}

/// How many of what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Partitions, empty ones too.
    pub partitions: u64,
    /// Commits.
    pub commits: u64,
    /// Events.
    pub events: u64,
    /// Answers to commands.
    pub commands: u64,
    /// Names held.
    pub claims: u64,
    /// Wakeups.
    pub wakeups: u64,
    /// Large values.
    pub blobs: u64,
    /// Verifiers.
    pub verifiers: u64,
}

impl Counts {
    /// All together.
    pub fn records(&self) -> u64 {
        let Self { partitions, commits, events, commands, claims, wakeups, blobs, verifiers } = self;
        partitions + commits + events + commands + claims + wakeups + blobs + verifiers
    }

    pub(crate) fn add(&mut self, record: &Record) {
        *match record {
            Record::Partition(_) => &mut self.partitions,
            Record::Event(_) => &mut self.events,
            Record::Commit(_) => &mut self.commits,
            Record::Command(_) => &mut self.commands,
            Record::Claim(_) => &mut self.claims,
            Record::Wakeup(_) => &mut self.wakeups,
            Record::Blob(_) => &mut self.blobs,
            Record::Verifier(_) => &mut self.verifiers,
        } += 1;
    }
}

impl Record {
    /// What it weighs in memory, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let content = match self {
            Self::Event(event) => event.data.len(),
            Self::Command(command) => command.answer.len(),
            Self::Blob(blob) => blob.blob.content.len(),
            Self::Partition(_) | Self::Commit(_) | Self::Claim(_) | Self::Wakeup(_) | Self::Verifier(_) => 0,
        };
        content + 256
    }
}

/// Rows that are written together, by table.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) partitions: Vec<PartitionRow>,
    pub(crate) events: Vec<RecordedEvent>,
    pub(crate) commits: Vec<CommitRow>,
    pub(crate) commands: Vec<CommandRow>,
    pub(crate) claims: Vec<ClaimRow>,
    pub(crate) wakeups: Vec<WakeupRow>,
    pub(crate) blobs: Vec<BlobRow>,
    pub(crate) verifiers: Vec<Verifier>,
}

impl Rows {
    pub(crate) fn push(&mut self, record: Record) {
        match record {
            Record::Partition(row) => self.partitions.push(row),
            Record::Event(row) => self.events.push(row),
            Record::Commit(row) => self.commits.push(row),
            Record::Command(row) => self.commands.push(row),
            Record::Claim(row) => self.claims.push(row),
            Record::Wakeup(row) => self.wakeups.push(row),
            Record::Blob(row) => self.blobs.push(row),
            Record::Verifier(row) => self.verifiers.push(row),
        }
    }
}
