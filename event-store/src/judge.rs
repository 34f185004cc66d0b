//! Which appends of a batch cannot be taken, and why. Pure: what the store holds is looked up by each database.
//!
//! Off the hot path: asked when the owner's heads are not the store's, when names are claimed, and after an
//! insert met a row that was there. Appends are judged in order. Names that a loser takes or gives back stay as
//! they are; the versions of its streams count as if it had been taken, because whatever follows in them is
//! decided again anyway and is not itself at fault.

use std::collections::{BTreeSet, HashMap, HashSet};
use uuid::Uuid;

use domain::decision::{ClaimChange, ClaimOp, ClaimScope};
use domain::ids::Partition;

use crate::log::{Append, AppendAnswer, AppendError, Batch, Loser, Refusal};

/// A name: among whose names it is, kind, key.
pub(crate) type Name = (String, &'static str, String);

/// What stands in the column of the tenant where a name is unique in the installation. No slug is like it.
pub(crate) const INSTALLATION: &str = "*";

/// Among whose names a claim of an append is.
pub(crate) fn owner_of<'a>(append: &'a Append, claim: &ClaimChange) -> &'a str {
    match claim.scope {
        ClaimScope::Tenant => append.tenant.as_str(),
        ClaimScope::Installation => INSTALLATION,
    }
}

/// The name of a claim.
pub(crate) fn name_of(append: &Append, claim: &ClaimChange) -> Name {
    (owner_of(append, claim).to_owned(), claim.kind, claim.key.clone())
}

/// Of which streams the expected version is probed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Probe {
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

    /// The streams of a batch whose versions it needs.
    pub(crate) fn streams(&self, batch: &Batch) -> Vec<Uuid> {
        let covered = batch.appends.iter().filter(|append| self.covers(append.partition));
        let streams: BTreeSet<Uuid> = covered.flat_map(|a| a.streams.iter().map(|s| s.stream)).collect();
        streams.into_iter().collect()
    }
}

/// What the appends are judged against: the store, and the appends of the batch that came through so far.
#[derive(Debug, Default, Clone)]
pub(crate) struct Known {
    /// Answers to command ids of the batch that were used before.
    pub(crate) answers: HashMap<Uuid, AppendAnswer>,
    /// Versions of the streams that are probed; a stream that is not here has none.
    pub(crate) versions: HashMap<Uuid, u64>,
    /// Who holds the names of the batch's claims.
    pub(crate) holders: HashMap<Name, Uuid>,
}

impl Known {
    /// All appends that cannot be taken, ascending. What is known becomes what would be, were the others taken.
    pub(crate) fn losers(&mut self, batch: &Batch, probe: &Probe) -> Vec<Loser> {
        let mut losers = Vec::new();
        for (index, append) in batch.appends.iter().enumerate() {
            match self.judge(append, probe) {
                Some(refusal) => losers.push(Loser { index, refusal }),
                None => self.take_claims(append),
            }
            self.take_versions(append);
        }
        losers
    }

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
        let mut own: HashMap<Name, Option<Uuid>> = HashMap::new();
        for claim in &append.claims {
            let name = name_of(append, claim);
            let holder = own.get(&name).copied().unwrap_or_else(|| self.holders.get(&name).copied());
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
            let name = name_of(append, claim);
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
pub(crate) fn refuse_repeated_commands(batch: &Batch) -> Result<(), AppendError> {
    let mut seen = HashSet::with_capacity(batch.appends.len());
    match batch.appends.iter().position(|append| !seen.insert(append.command_id)) {
        None => Ok(()),
        Some(index) => Err(AppendError::Malformed {
            index,
            reason: "its command id is that of an earlier append of the batch",
        }),
    }
}
