//! What an append will write: shape, positions, hashes. Pure; the databases only differ in how it is written.
//!
//! Invariants: offsets count on from the tail without a gap, in the order of the appends; the chain is closed over
//! exactly the events that are given out. Deliberately absent: whether an append may be taken (`judge`).

use std::collections::{BTreeMap, BTreeSet};

use domain::event::RecordedEvent;
use domain::ids::{Partition, Position};
use domain::time::Timestamp;

use crate::chain::{self, CommitContent, Hash};
use crate::log::{
    Append, AppendAnswer, AppendError, Batch, Committed, MAX_ANSWER_BYTES, MAX_APPEND_BYTES,
    MAX_APPEND_EVENTS, PartitionHead, StoreError,
};

/// Where a partition ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tail {
    pub(crate) epoch: u64,
    /// The last offset; 0 in an empty partition.
    pub(crate) offset: u64,
    /// The hash of the last commit.
    pub(crate) hash: Hash,
    /// When the last event was recorded.
    pub(crate) recorded_at: Timestamp,
}

/// The ends of the partitions that a batch touches, or of all.
pub(crate) type Tails = BTreeMap<Partition, Tail>;

/// A batch with its positions, ready to be written.
pub(crate) struct Plan<'b> {
    pub(crate) events: Vec<RecordedEvent>,
    pub(crate) commands: Vec<(&'b Append, AppendAnswer)>,
    positions: Vec<Position>,
    /// By partition: the tail before, the tail after, and room for the hashes of the events in between.
    changes: BTreeMap<Partition, Change>,
}

struct Change {
    before: Tail,
    after: Tail,
    leaves: Vec<Hash>,
}

/// Refuses what no log may take, before anything is locked.
pub(crate) fn check_shape(batch: &Batch, partitions: u16) -> Result<(), AppendError> {
    for (index, append) in batch.appends.iter().enumerate() {
        let malformed = |reason| Err(AppendError::Malformed { index, reason });
        let events = append.streams.iter().map(|stream| stream.events.len()).sum();
        let bytes =
            append.streams.iter().flat_map(|stream| &stream.events).map(|event| event.data.len()).sum();
        if events > MAX_APPEND_EVENTS || bytes > MAX_APPEND_BYTES {
            return Err(AppendError::TooLarge { index, events, bytes });
        }
        if append.answer.len() > MAX_ANSWER_BYTES {
            return malformed("its answer is longer than 1 KiB");
        }
        if !batch.heads.iter().any(|head| head.partition == append.partition) {
            return malformed("the batch has no head of its partition");
        }
        if append.streams.is_empty() && !(append.claims.is_empty() && append.wakeups.is_empty()) {
            return malformed("it has claims or wakeups and no stream that they are of");
        }
        for stream in &append.streams {
            if Partition::of(stream.stream, partitions) != append.partition {
                return malformed("one of its streams lives in another partition");
            }
            let counts = stream.events.iter().zip(stream.expected_version + 1..);
            if counts.into_iter().any(|(event, version)| event.version != version) {
                return malformed("the versions of its events do not count on from the expected one");
            }
            if stream.events.iter().any(|event| event.stream != stream.stream) {
                return malformed("one of its events is of another stream than it stands under");
            }
        }
    }
    Ok(())
}

/// Fences off old epochs. Returns the partitions whose end the caller does not know.
pub(crate) fn check_heads(batch: &Batch, tails: &Tails) -> Result<BTreeSet<Partition>, AppendError> {
    let mut stale = BTreeSet::new();
    for head in &batch.heads {
        let Some(tail) = tails.get(&head.partition) else {
            return Err(AppendError::Malformed {
                index: 0,
                reason: "a head is of a partition that does not exist",
            });
        };
        // A newer epoch than the store's was given out by a store that is not this one, such as before a
        // restore: its owner must not write either.
        if head.epoch != tail.epoch {
            return Err(AppendError::Fenced {
                partition: head.partition,
                offered: head.epoch,
                current: tail.epoch,
            });
        }
        if head.offset != tail.offset {
            stale.insert(head.partition);
        }
    }
    Ok(stale)
}

impl<'b> Plan<'b> {
    /// Gives every event its position. There must be a tail of every partition of the batch.
    pub(crate) fn of(batch: &'b Batch, tails: &Tails) -> Self {
        let count = batch.appends.iter().flat_map(|append| &append.streams).map(|s| s.events.len()).sum();
        let mut plan = Self {
            events: Vec::with_capacity(count),
            commands: Vec::with_capacity(batch.appends.len()),
            positions: Vec::with_capacity(batch.appends.len()),
            changes: BTreeMap::new(),
        };
        for append in &batch.appends {
            let partition = append.partition;
            let change = plan.changes.entry(partition).or_insert_with(|| {
                let tail = tails[&partition];
                Change { before: tail, after: tail, leaves: Vec::new() }
            });
            let tail = &mut change.after;
            for event in append.streams.iter().flat_map(|stream| &stream.events) {
                debug_assert!(
                    event.recorded_at >= tail.recorded_at,
                    "an event of partition {partition} is recorded at {}, before the last, {}",
                    event.recorded_at,
                    tail.recorded_at
                );
                tail.offset += 1;
                tail.recorded_at = event.recorded_at;
                let position = Position { partition, offset: tail.offset };
                plan.events.push(RecordedEvent { position, ..event.clone() });
            }
            let position = Position { partition, offset: tail.offset };
            let answer = AppendAnswer { answer: append.answer.clone(), digest: append.digest, position };
            plan.commands.push((append, answer));
            plan.positions.push(position);
        }
        plan
    }

    /// The events, and what hashes those that it is shown, in their order: the database may write them meanwhile.
    pub(crate) fn hashing(&mut self) -> (&[RecordedEvent], impl FnMut(&[RecordedEvent]) + Send) {
        let Self { events, changes, .. } = self;
        let mut scratch = Vec::with_capacity(1024);
        let hash = move |events: &[RecordedEvent]| {
            for event in events {
                if let Some(change) = changes.get_mut(&event.position.partition) {
                    change.leaves.push(chain::event_hash(event, &mut scratch));
                }
            }
        };
        (events, hash)
    }

    /// Closes the chain over the new events, once all are hashed; a partition that got none gets no commit.
    pub(crate) fn commits(&mut self) -> Vec<(CommitContent, Hash)> {
        let mut commits = Vec::with_capacity(self.changes.len());
        for (partition, change) in self.changes.iter_mut().filter(|(_, change)| !change.leaves.is_empty()) {
            let commit = CommitContent {
                previous: change.before.hash,
                partition: *partition,
                first: change.before.offset + 1,
                last: change.after.offset,
                root: chain::merkle_root(&mut change.leaves),
                epoch: change.after.epoch,
                committed_at: change.after.recorded_at,
            };
            change.after.hash = chain::commit_hash(&commit);
            commits.push((commit, change.after.hash));
        }
        commits
    }

    /// What the caller is told, after `tails` are brought up to what was written.
    pub(crate) fn into_committed(self, batch: &Batch, tails: &mut Tails) -> Committed {
        tails.extend(self.changes.into_iter().map(|(partition, change)| (partition, change.after)));
        let touched: BTreeSet<Partition> = batch.heads.iter().map(|head| head.partition).collect();
        let head = |partition: Partition| {
            let tail = tails[&partition];
            PartitionHead { partition, epoch: tail.epoch, offset: tail.offset }
        };
        Committed {
            heads: touched.into_iter().map(head).collect(),
            events: self.events,
            positions: self.positions,
        }
    }
}

/// Whether a row was in the way.
pub(crate) fn is_conflict(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|error| error.is_unique_violation())
}

/// A row was in the way that belongs to nobody.
pub(crate) fn unexplained(batch: &Batch) -> AppendError {
    let partitions: Vec<String> = batch.heads.iter().map(|head| head.partition.to_string()).collect();
    AppendError::Store(StoreError::Corrupt(format!(
        "an append meets rows after the last commit; verify the chain of partitions {}",
        partitions.join(", ")
    )))
}
