//! Verifying: recomputes the chain of a partition from its first commit, in pages.
//!
//! Needs no snapshot: commits are read before their events, which are never changed, and what is appended
//! meanwhile is checked as well. Memory is bounded by a page of events and the hashes of one commit.

use std::collections::VecDeque;

use domain::event::RecordedEvent;
use domain::ids::{Partition, Position};
use domain::time::Timestamp;

use crate::chain::{self, CommitContent, GENESIS, Hash};
use crate::log::{ChainReport, StoreError};
use crate::queries::{self, Queries, Value};
use crate::rows::{self, StoredRow, count, failed, integer, limit};

const EVENTS_PER_PAGE: usize = 500;
const COMMITS_PER_PAGE: usize = 500;

/// A commit as stored.
struct StoredCommit {
    head: u64,
    epoch: u64,
    events: u64,
    root: Vec<u8>,
    hash: Vec<u8>,
    committed_at: Timestamp,
}

/// The events of a partition, one after the other.
struct Events<'q, Q> {
    queries: &'q Q,
    partition: Partition,
    offset: u64,
    page: VecDeque<RecordedEvent>,
}

/// Checks everything there is.
pub(crate) async fn chain(queries: &impl Queries, partition: Partition) -> Result<ChainReport, StoreError> {
    let mut report = ChainReport::default();
    let mut previous = GENESIS;
    let mut events = Events { queries, partition, offset: 0, page: VecDeque::new() };
    loop {
        let page = commits(queries, partition, events.offset).await?;
        let full = page.len() == COMMITS_PER_PAGE;
        for commit in page {
            previous = check(&commit, previous, &mut events).await?;
            report.commits += 1;
            report.events += commit.events;
        }
        if !full {
            break;
        }
    }
    check_end(queries, partition).await?;
    Ok(report)
}

impl<Q: Queries> Events<'_, Q> {
    /// The event after the last, which must be there.
    async fn next(&mut self) -> Result<RecordedEvent, StoreError> {
        if self.page.is_empty() {
            let page = queries::events_after(self.queries, self.partition, self.offset, EVENTS_PER_PAGE);
            self.page = page.await?.into();
        }
        let expected = self.offset + 1;
        let next = self.page.pop_front().filter(|event| event.position.offset == expected);
        self.offset = expected;
        next.ok_or_else(|| rows::missing(self.partition, expected))
    }
}

/// Checks a commit and its events; returns its hash.
async fn check(
    commit: &StoredCommit,
    previous: Hash,
    events: &mut Events<'_, impl Queries>,
) -> Result<Hash, StoreError> {
    let partition = events.partition;
    let first = events.offset + 1;
    let at = |offset| Position { partition, offset };
    if commit.events == 0 || commit.head.checked_sub(commit.events) != Some(events.offset) {
        let (head, count) = (at(commit.head), commit.events);
        return Err(StoreError::Corrupt(format!(
            "the commit that begins with event {} is missing; the next one ends at {head} and has {count} events",
            at(first)
        )));
    }
    let mut leaves = Vec::new();
    let mut scratch = Vec::new();
    while events.offset < commit.head {
        leaves.push(chain::event_hash(&events.next().await?, &mut scratch));
    }
    let root = chain::merkle_root(&mut leaves);
    if commit.root != root {
        return Err(StoreError::Corrupt(format!(
            "events {} to {} are not those that were committed",
            at(first),
            at(commit.head)
        )));
    }
    let content = CommitContent {
        previous,
        partition,
        first,
        last: commit.head,
        root,
        epoch: commit.epoch,
        committed_at: commit.committed_at,
    };
    let hash = chain::commit_hash(&content);
    if commit.hash != hash {
        return Err(StoreError::Corrupt(format!(
            "the commit of events {} to {} does not follow from the one before it",
            at(first),
            at(commit.head)
        )));
    }
    Ok(hash)
}

/// Nothing may stand after the last commit.
async fn check_end(queries: &impl Queries, partition: Partition) -> Result<(), StoreError> {
    let operation = "compare the ends of events and commits";
    let text = "select coalesce((select \"offset\" from events where partition = $1 order by \"offset\" desc limit 1), 0),
                coalesce((select head from commits where partition = $1 order by head desc limit 1), 0)";
    let rows = queries.rows(operation, text, &[Value::Number(i64::from(partition.0))]).await?;
    let Some(row) = rows.first() else { return Ok(()) };
    let ends = || -> Result<(i64, i64), sqlx::Error> { Ok((row.number(0)?, row.number(1)?)) };
    let (events, commits) = ends().map_err(failed(operation))?;
    if events == commits {
        return Ok(());
    }
    let uncommitted = Position { partition, offset: count(commits.max(0), "a head")? + 1 };
    Err(StoreError::Corrupt(format!("event {uncommitted} stands in no commit")))
}

async fn commits(
    queries: &impl Queries,
    partition: Partition,
    after: u64,
) -> Result<Vec<StoredCommit>, StoreError> {
    let text = "select head, epoch, event_count, merkle_root, hash, committed_at from commits
                where partition = $1 and head > $2 order by head limit $3";
    let values = [i64::from(partition.0), integer(after), limit(COMMITS_PER_PAGE)].map(Value::Number);
    let rows = queries.rows("read commits", text, &values).await?;
    rows.iter().map(stored_commit).collect()
}

fn stored_commit(row: &impl StoredRow) -> Result<StoredCommit, StoreError> {
    let numbers = || -> Result<(i64, i64, i64, i64), sqlx::Error> {
        Ok((row.number(0)?, row.number(1)?, row.number(2)?, row.number(5)?))
    };
    let hashes = || -> Result<(Vec<u8>, Vec<u8>), sqlx::Error> { Ok((row.bytes(3)?, row.bytes(4)?)) };
    let (head, epoch, events, committed_at) = numbers().map_err(failed("read a commit"))?;
    let (root, hash) = hashes().map_err(failed("read a commit"))?;
    Ok(StoredCommit {
        head: count(head, "a head")?,
        epoch: count(epoch, "an epoch")?,
        events: count(events, "the number of a commit's events")?,
        root,
        hash,
        committed_at: Timestamp::from_unix_ms(committed_at),
    })
}
