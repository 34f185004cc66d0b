//! Verifying: recomputes the chain of a partition from its first commit, in pages.
//!
//! Needs no snapshot: commits are read before their events, which are never changed, and what is appended
//! meanwhile is checked as well. Memory is bounded by a page of events and the hashes of one commit.

use sqlx::sqlite::SqliteRow;
use sqlx::{Row, SqlitePool};
use std::collections::VecDeque;

use domain::event::RecordedEvent;
use domain::ids::{Partition, Position};
use domain::time::Timestamp;

use super::{count, failed, integer, limit, read};
use crate::chain::{self, CommitContent, GENESIS, Hash};
use crate::log::{ChainReport, StoreError};

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
struct Events<'p> {
    pool: &'p SqlitePool,
    partition: Partition,
    offset: u64,
    page: VecDeque<RecordedEvent>,
}

/// Checks everything there is.
pub(super) async fn chain(pool: &SqlitePool, partition: Partition) -> Result<ChainReport, StoreError> {
    let mut report = ChainReport::default();
    let mut previous = GENESIS;
    let mut events = Events { pool, partition, offset: 0, page: VecDeque::new() };
    loop {
        let page = commits(pool, partition, events.offset).await?;
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
    check_end(pool, partition).await?;
    Ok(report)
}

impl Events<'_> {
    /// The event after the last, which must be there.
    async fn next(&mut self) -> Result<RecordedEvent, StoreError> {
        if self.page.is_empty() {
            self.page =
                read::events_after(self.pool, self.partition, self.offset, EVENTS_PER_PAGE).await?.into();
        }
        let expected = self.offset + 1;
        let next = self.page.pop_front().filter(|event| event.position.offset == expected);
        self.offset = expected;
        next.ok_or_else(|| read::missing(self.partition, expected))
    }
}

/// Checks a commit and its events; returns its hash.
async fn check(commit: &StoredCommit, previous: Hash, events: &mut Events<'_>) -> Result<Hash, StoreError> {
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
async fn check_end(pool: &SqlitePool, partition: Partition) -> Result<(), StoreError> {
    let operation = "compare the ends of events and commits";
    let row = sqlx::query(
        "select coalesce((select offset from events where partition = ?1 order by offset desc limit 1), 0),
                coalesce((select head from commits where partition = ?1 order by head desc limit 1), 0)",
    )
    .bind(i64::from(partition.0))
    .fetch_one(pool)
    .await
    .map_err(failed(operation))?;
    let ends = || -> Result<(i64, i64), sqlx::Error> { Ok((row.try_get(0)?, row.try_get(1)?)) };
    let (events, commits) = ends().map_err(failed(operation))?;
    if events == commits {
        return Ok(());
    }
    let uncommitted = Position { partition, offset: count(commits.max(0), "a head")? + 1 };
    Err(StoreError::Corrupt(format!("event {uncommitted} stands in no commit")))
}

async fn commits(
    pool: &SqlitePool,
    partition: Partition,
    after: u64,
) -> Result<Vec<StoredCommit>, StoreError> {
    let operation = "read commits";
    let rows = sqlx::query(
        "select head, epoch, event_count, merkle_root, hash, committed_at from commits
         where partition = ? and head > ? order by head limit ?",
    )
    .bind(i64::from(partition.0))
    .bind(integer(after))
    .bind(limit(COMMITS_PER_PAGE))
    .fetch_all(pool)
    .await
    .map_err(failed(operation))?;
    rows.iter().map(stored_commit).collect()
}

fn stored_commit(row: &SqliteRow) -> Result<StoredCommit, StoreError> {
    let numbers = || -> Result<(i64, i64, i64, i64), sqlx::Error> {
        Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?, row.try_get(5)?))
    };
    let hashes = || -> Result<(Vec<u8>, Vec<u8>), sqlx::Error> { Ok((row.try_get(3)?, row.try_get(4)?)) };
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
