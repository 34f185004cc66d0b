//! Which appends of a batch cannot be taken, and why. Reads only; the writer's connection, so nothing changes
//! in between.
//!
//! Off the hot path: asked when the owner's heads are not the store's, when names are claimed, and after an
//! insert met a row that was there. Appends are judged in order. Names that a loser takes or gives back stay as
//! they are; the versions of its streams count as if it had been taken, because whatever follows in them is
//! decided again anyway and is not itself at fault.

use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row};
use std::collections::{BTreeSet, HashMap, HashSet};
use uuid::Uuid;

use domain::decision::ClaimOp;
use domain::ids::{Partition, TenantId, birth_bucket};

use super::{failed, read};
use crate::log::{Append, AppendAnswer, AppendError, Batch, Loser, Refusal, StoreError};

/// How many values one probing statement takes.
const PROBE: usize = 500;

/// A name in a tenant: tenant, kind, key.
type Name = (TenantId, &'static str, String);

/// Of which streams the expected version is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Probe {
    /// Those of partitions whose head the owner did not know; of the others it is trusted.
    Partitions(BTreeSet<Partition>),
    /// All: a version was in the log that should not have been.
    All,
}

impl Probe {
    fn covers(&self, partition: Partition) -> bool {
        match self {
            Self::Partitions(partitions) => partitions.contains(&partition),
            Self::All => true,
        }
    }
}

/// What the appends are judged against: the store, and the appends of the batch that came through so far.
#[derive(Debug, Default)]
struct Known {
    answers: HashMap<Uuid, AppendAnswer>,
    versions: HashMap<Uuid, u64>,
    holders: HashMap<Name, Uuid>,
}

/// All appends that cannot be taken, ascending.
pub(super) async fn losers(
    connection: &mut SqliteConnection,
    batch: &Batch,
    probe: &Probe,
) -> Result<Vec<Loser>, AppendError> {
    refuse_repeated_commands(batch)?;
    let mut known = Known {
        answers: answers(connection, batch).await?,
        versions: versions(connection, batch, probe).await?,
        holders: holders(connection, batch).await?,
    };
    let mut losers = Vec::new();
    for (index, append) in batch.appends.iter().enumerate() {
        match known.judge(append, probe) {
            Some(refusal) => losers.push(Loser { index, refusal }),
            None => known.take_claims(append),
        }
        known.take_versions(append);
    }
    Ok(losers)
}

impl Known {
    fn judge(&self, append: &Append, probe: &Probe) -> Option<Refusal> {
        if let Some(answer) = self.answers.get(&append.command_id) {
            return Some(Refusal::Duplicate(answer.clone()));
        }
        if probe.covers(append.partition) {
            for stream in &append.streams {
                let actual = self.versions.get(&stream.stream).copied().unwrap_or(0);
                if actual != stream.expected_version {
                    return Some(Refusal::WrongVersion { stream: stream.stream, actual });
                }
            }
        }
        self.judge_claims(append)
    }

    fn judge_claims(&self, append: &Append) -> Option<Refusal> {
        let taker = append.streams.first()?.stream;
        // What the append itself has given back or taken so far.
        let mut own: HashMap<(&str, &str), Option<Uuid>> = HashMap::new();
        for claim in &append.claims {
            let name = (claim.kind, claim.key.as_str());
            let stored =
                || self.holders.get(&(append.tenant.clone(), claim.kind, claim.key.clone())).copied();
            let holder = own.get(&name).copied().unwrap_or_else(stored);
            match (claim.op, holder) {
                (ClaimOp::Take, Some(holder)) if holder != taker => {
                    return Some(Refusal::ClaimTaken { claim: claim.clone(), holder });
                }
                (ClaimOp::Take, _) => own.insert(name, Some(taker)),
                (ClaimOp::Release, Some(holder)) if holder == taker => own.insert(name, None),
                (ClaimOp::Release, _) => None,
            };
        }
        None
    }

    fn take_versions(&mut self, append: &Append) {
        for stream in &append.streams {
            self.versions.insert(stream.stream, stream.expected_version + stream.events.len() as u64);
        }
    }

    fn take_claims(&mut self, append: &Append) {
        let Some(taker) = append.streams.first().map(|stream| stream.stream) else { return };
        for claim in &append.claims {
            let name = (append.tenant.clone(), claim.kind, claim.key.clone());
            match claim.op {
                ClaimOp::Take => {
                    self.holders.insert(name, taker);
                }
                ClaimOp::Release => {
                    if self.holders.get(&name) == Some(&taker) {
                        self.holders.remove(&name);
                    }
                }
            }
        }
    }
}

/// A command twice in one batch has no first answer yet, so it is not a duplicate but a mistake of the caller.
fn refuse_repeated_commands(batch: &Batch) -> Result<(), AppendError> {
    let mut seen = HashSet::with_capacity(batch.appends.len());
    match batch.appends.iter().position(|append| !seen.insert(append.command_id)) {
        None => Ok(()),
        Some(index) => Err(AppendError::Malformed {
            index,
            reason: "its command id is that of an earlier append of the batch",
        }),
    }
}

async fn answers(
    connection: &mut SqliteConnection,
    batch: &Batch,
) -> Result<HashMap<Uuid, AppendAnswer>, StoreError> {
    let mut found = HashMap::new();
    for appends in batch.appends.chunks(PROBE) {
        let text = format!(
            "select digest, answer, partition, offset, command_id from commands where command_id in ({})",
            placeholders("?", appends.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(text)).persistent(false);
        for append in appends {
            query = query.bind(append.command_id);
        }
        let operation = "look for commands that were answered before";
        for row in query.fetch_all(&mut *connection).await.map_err(failed(operation))? {
            let id = row.try_get::<Uuid, _>(4).map_err(failed(operation))?;
            found.insert(id, read::answer(&row)?);
        }
    }
    Ok(found)
}

async fn versions(
    connection: &mut SqliteConnection,
    batch: &Batch,
    probe: &Probe,
) -> Result<HashMap<Uuid, u64>, StoreError> {
    let covered = batch.appends.iter().filter(|append| probe.covers(append.partition));
    let streams: BTreeSet<Uuid> = covered.flat_map(|a| a.streams.iter().map(|s| s.stream)).collect();
    let streams: Vec<Uuid> = streams.into_iter().collect();
    let mut found = HashMap::new();
    for streams in streams.chunks(PROBE) {
        let text = format!(
            "with probes (bucket, stream) as (values {})
             select p.stream, (select e.version from events e where e.bucket = p.bucket and e.stream = p.stream
                               order by e.version desc limit 1)
             from probes p",
            placeholders("(?,?)", streams.len())
        );
        let mut query = sqlx::query(AssertSqlSafe(text)).persistent(false);
        for stream in streams {
            query = query.bind(i64::from(birth_bucket(*stream))).bind(*stream);
        }
        let operation = "look for the versions of streams";
        let version = |row: &SqliteRow| Ok((row.try_get::<Uuid, _>(0)?, row.try_get::<Option<i64>, _>(1)?));
        for row in query.fetch_all(&mut *connection).await.map_err(failed(operation))? {
            let (stream, version) = version(&row).map_err(failed(operation))?;
            found.insert(stream, super::count(version.unwrap_or(0), "the version of a stream")?);
        }
    }
    Ok(found)
}

async fn holders(
    connection: &mut SqliteConnection,
    batch: &Batch,
) -> Result<HashMap<Name, Uuid>, StoreError> {
    let mut found = HashMap::new();
    for append in &batch.appends {
        for claim in &append.claims {
            let holder = read::claim_holder(&mut *connection, &append.tenant, claim.kind, &claim.key).await?;
            if let Some(holder) = holder {
                found.insert((append.tenant.clone(), claim.kind, claim.key.clone()), holder);
            }
        }
    }
    Ok(found)
}

fn placeholders(one: &str, times: usize) -> String {
    vec![one; times].join(",")
}
