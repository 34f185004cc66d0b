//! Checking what is moved while it passes: order, density, and the hash chain. Pure.
//!
//! The same check stands at both ends: nothing is exported that could not be imported, and an import trusts nobody.
//! Memory is bounded by the hashes of one commit's events.

use domain::blob::hex;
use domain::ids::{Partition, Position};
use sha2::{Digest, Sha256};

use super::record::{BlobRow, CommandRow, CommitRow, Counts, PartitionRow, Record};
use crate::chain::{self, CommitContent, GENESIS, Hash};
use crate::log::MAX_ANSWER_BYTES;

/// No flush of any owner comes near it; what claims to is not a log.
const MAX_COMMIT_EVENTS: usize = 1_000_000;

/// What has passed so far.
#[derive(Debug)]
pub(crate) struct Checker {
    partitions: u16,
    counts: Counts,
    /// The kind of the last record, as a number that only rises.
    stage: u8,
    /// Of every partition that is complete.
    heads: Vec<u64>,
    open: Option<Open>,
    scratch: Vec<u8>,
}

/// The partition that is being moved.
#[derive(Debug)]
struct Open {
    partition: Partition,
    /// No commit of it was written under a later one.
    epoch: u64,
    /// The last event.
    offset: u64,
    /// The last commit.
    head: u64,
    hash: Hash,
    /// Of the events since the last commit.
    leaves: Vec<Hash>,
}

impl Checker {
    pub(crate) fn new(partitions: u16) -> Self {
        let heads = Vec::with_capacity(usize::from(partitions));
        Self { partitions, counts: Counts::default(), stage: 0, heads, open: None, scratch: Vec::new() }
    }

    pub(crate) fn partitions(&self) -> u16 {
        self.partitions
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Looks at the next record. The error says what is wrong with it.
    pub(crate) fn see(&mut self, record: &Record) -> Result<(), String> {
        let stage = stage(record);
        if stage < self.stage {
            return Err("stands behind what it should stand before".to_owned());
        }
        if stage > 0 && self.stage == 0 {
            self.close_partition()?;
            self.check_all_partitions()?;
        }
        self.stage = stage;
        match record {
            Record::Partition(partition) => self.partition(partition)?,
            Record::Event(event) => self.event(event)?,
            Record::Commit(commit) => self.commit(commit)?,
            Record::Command(command) => self.command(command)?,
            Record::Wakeup(wakeup) => self.home(wakeup.stream, wakeup.partition)?,
            Record::Blob(blob) => check_blob(blob)?,
            Record::Claim(_) | Record::Verifier(_) => {}
        }
        self.counts.add(record);
        Ok(())
    }

    /// Looks at the end.
    pub(crate) fn finish(&mut self) -> Result<(), String> {
        if self.stage == 0 {
            self.close_partition()?;
        }
        self.check_all_partitions()
    }

    fn partition(&mut self, row: &PartitionRow) -> Result<(), String> {
        self.close_partition()?;
        let expected = self.heads.len();
        if usize::from(row.partition.0) != expected || row.partition.0 >= self.partitions {
            return Err(format!("begins partition {} where {expected} was to come", row.partition));
        }
        self.open = Some(Open {
            partition: row.partition,
            epoch: row.epoch,
            offset: 0,
            head: 0,
            hash: GENESIS,
            leaves: Vec::new(),
        });
        Ok(())
    }

    fn event(&mut self, event: &domain::event::RecordedEvent) -> Result<(), String> {
        self.home(event.stream, event.position.partition)?;
        let Some(open) = &mut self.open else {
            return Err(format!("is event {} of a partition that has not begun", event.position));
        };
        let expected = Position { partition: open.partition, offset: open.offset + 1 };
        if event.position != expected {
            return Err(format!("is event {} where {expected} was to come", event.position));
        }
        if open.leaves.len() == MAX_COMMIT_EVENTS {
            return Err(format!("is event {expected}, of a commit of more than {MAX_COMMIT_EVENTS} events"));
        }
        open.offset = expected.offset;
        open.leaves.push(chain::event_hash(event, &mut self.scratch));
        Ok(())
    }

    fn commit(&mut self, commit: &CommitRow) -> Result<(), String> {
        let partition = commit.partition;
        let head = Position { partition, offset: commit.head };
        let Some(open) = self.open.as_mut().filter(|open| open.partition == partition) else {
            return Err(format!(
                "is the commit of event {head}, which is not of the partition that it stands in"
            ));
        };
        let first = Position { partition, offset: open.head + 1 };
        if open.leaves.is_empty() || commit.head != open.offset || commit.events != open.leaves.len() as u64 {
            return Err(format!(
                "is a commit of {} events up to {head}, but the events before it are {first} to {}",
                commit.events,
                Position { partition, offset: open.offset }
            ));
        }
        if commit.epoch > open.epoch {
            return Err(format!(
                "is the commit of events {first} to {head} under epoch {}, later than its partition's, {}",
                commit.epoch, open.epoch
            ));
        }
        if chain::merkle_root(&mut open.leaves) != commit.root {
            return Err(format!("commits events {first} to {head}, which are not those that were committed"));
        }
        let content = CommitContent {
            previous: open.hash,
            partition,
            first: first.offset,
            last: commit.head,
            root: commit.root,
            epoch: commit.epoch,
            committed_at: commit.committed_at,
        };
        if chain::commit_hash(&content) != commit.hash {
            return Err(format!(
                "is the commit of events {first} to {head}, which does not follow from the one before it"
            ));
        }
        (open.head, open.hash) = (commit.head, commit.hash);
        open.leaves.clear();
        Ok(())
    }

    fn command(&self, command: &CommandRow) -> Result<(), String> {
        let Position { partition, offset } = command.position;
        if self.heads.get(usize::from(partition.0)).is_none_or(|head| *head < offset) {
            return Err(format!("is the answer to a command at {}, where no event is", command.position));
        }
        if command.answer.len() > MAX_ANSWER_BYTES {
            return Err(format!("is an answer of more than {MAX_ANSWER_BYTES} bytes"));
        }
        Ok(())
    }

    /// A stream's id says where it lives.
    fn home(&self, stream: uuid::Uuid, partition: Partition) -> Result<(), String> {
        let home = Partition::of(stream, self.partitions);
        if home == partition {
            return Ok(());
        }
        Err(format!("is of stream {stream}, which lives in partition {home}, not {partition}"))
    }

    fn close_partition(&mut self) -> Result<(), String> {
        let Some(open) = self.open.take() else { return Ok(()) };
        if !open.leaves.is_empty() {
            let Open { partition, head, .. } = open;
            return Err(format!(
                "comes before a commit of event {}",
                Position { partition, offset: head + 1 }
            ));
        }
        self.heads.push(open.head);
        Ok(())
    }

    fn check_all_partitions(&self) -> Result<(), String> {
        let (seen, all) = (self.heads.len(), self.partitions);
        if seen == usize::from(all) {
            return Ok(());
        }
        Err(format!("comes after {seen} of {all} partitions"))
    }
}

/// Which part of an export a record belongs to.
fn stage(record: &Record) -> u8 {
    match record {
        Record::Partition(_) | Record::Event(_) | Record::Commit(_) => 0,
        Record::Command(_) => 1,
        Record::Claim(_) => 2,
        Record::Wakeup(_) => 3,
        Record::Blob(_) => 4,
        Record::Verifier(_) => 5,
    }
}

fn check_blob(BlobRow { blob, .. }: &BlobRow) -> Result<(), String> {
    let reference = &blob.reference;
    let length = blob.content.len() as u64;
    if reference.bytes == length && reference.sha256 == hex(&Sha256::digest(&blob.content)) {
        return Ok(());
    }
    Err(format!("is the large value {} with another content", reference.sha256))
}
