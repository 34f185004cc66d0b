//! What becomes of a batch that was refused: who is answered, who is decided again, who is written after all.

use std::collections::BTreeMap;

use bus::{CommandError, CommandReply};
use domain::aggregate::claim_taken;
use event_store::{Loser, Refusal};

use crate::error::CommandServiceError;
use crate::pending::{Pending, first_answer};

use super::{Again, Committer, Lost, answer, not_owner};

/// How often a command may be decided again because the store was ahead of the partition.
const MAX_REFUSALS: u32 = 3;

/// On one command of a refused batch.
pub(super) enum Verdict {
    Answer(Result<CommandReply, CommandError>),
    Again,
}

impl Committer {
    /// Answers losers, sends back what was decided after them, and returns what can be flushed.
    pub(super) fn without_losers(
        &mut self,
        batch: Vec<Pending>,
        losers: Vec<Loser>,
        again: &mut Again,
    ) -> Vec<Pending> {
        let mut verdicts: BTreeMap<usize, Verdict> = losers
            .into_iter()
            .filter_map(|loser| {
                let pending = batch.get(loser.index)?;
                let verdict = match loser.refusal {
                    Refusal::Duplicate(first) => {
                        Verdict::Answer(first_answer(&first, pending.submitted.envelope.digest))
                    }
                    Refusal::ClaimTaken { claim, holder } => {
                        Verdict::Answer(Err(CommandError::Rejected(claim_taken(&claim, holder))))
                    }
                    Refusal::WrongVersion { .. } if pending.submitted.refusals < MAX_REFUSALS => {
                        Verdict::Again
                    }
                    Refusal::WrongVersion { stream, actual } => Verdict::Answer(Err(CommandError::Unknown(
                        format!("stream {stream} is at version {actual} and keeps changing").into(),
                    ))),
                };
                Some((loser.index, verdict))
            })
            .collect();
        self.split(batch, &mut verdicts, again)
    }

    pub(super) fn split(
        &mut self,
        batch: Vec<Pending>,
        verdicts: &mut BTreeMap<usize, Verdict>,
        again: &mut Again,
    ) -> Vec<Pending> {
        let mut void: Vec<u16> = Vec::new();
        let mut kept = Vec::with_capacity(batch.len());
        for (index, mut pending) in batch.into_iter().enumerate() {
            let partition = pending.partition.0;
            match verdicts.remove(&index) {
                Some(verdict) => {
                    if !void.contains(&partition) {
                        void.push(partition);
                        if let Some(lane) = self.lanes.get_mut(&partition) {
                            lane.generation += 1;
                        }
                    }
                    // Even without commands to decide again the partition must hear of its new generation.
                    let back = again.entry(partition).or_default();
                    match verdict {
                        Verdict::Answer(reply) => answer(pending.submitted, reply),
                        Verdict::Again => {
                            pending.submitted.refusals += 1;
                            back.push(pending.submitted);
                        }
                    }
                }
                None if void.contains(&partition) => {
                    again.entry(partition).or_default().push(pending.submitted);
                }
                None => kept.push(pending),
            }
        }
        kept
    }

    /// Another owns a partition now: its commands are for that one. Returns what can be flushed without it.
    pub(super) fn fenced(
        &mut self,
        batch: Vec<Pending>,
        lost: Lost,
        again: &mut Again,
    ) -> Result<Vec<Pending>, CommandServiceError> {
        let Lost { partition, epoch, current } = lost;
        let (theirs, mut ours): (Vec<_>, Vec<_>) =
            batch.into_iter().partition(|pending| pending.partition == partition);
        if theirs.is_empty() || self.lost.is_none() {
            // Without a word of what was offered, nothing can be written again.
            theirs.into_iter().chain(ours.drain(..)).for_each(|pending| not_owner(pending.submitted));
            if self.lost.is_none() {
                return Err(CommandServiceError::Fenced { partition, offered: epoch, current });
            }
        } else {
            theirs.into_iter().for_each(|pending| not_owner(pending.submitted));
        }
        again.remove(&partition.0).into_iter().flatten().for_each(not_owner);
        // Its task ends with its notices, and drops the commands that wait in it.
        self.lanes.remove(&partition.0);
        if let Some(lost_partitions) = &self.lost {
            // Without a listener the service is ending.
            let _ = lost_partitions.send(lost);
        }
        Ok(ours)
    }
}
