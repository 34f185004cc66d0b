//! Group commit: while one batch is being flushed the next one fills. All partitions share one committer.
//!
//! A batch is refused whole, naming its losers. The losers are answered; what their partitions decided after
//! them goes back to be decided again; the rest is flushed at once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

use bus::{CommandError, CommandReply};
use domain::ids::Partition;
use domain::rejection::{Rejection, RejectionKind};
use domain::workflow;
use event_store::{AppendError, Batch, Committed, Log, Loser, PartitionHead, Refusal, StoreError};

use crate::aftermath::Aftermath;
use crate::config::CommandServiceConfig;
use crate::error::{CommandServiceError, report};
use crate::pending::{Notice, Pending, Submitted, first_answer};

/// How often a command may be decided again because the store was ahead of the partition.
const MAX_REFUSALS: u32 = 3;
/// How often the committer lets others run while a command is being decided, before it flushes.
const MAX_LINGER: usize = 4;
/// Pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_millis(100);

/// The task that writes.
pub(crate) struct Committer {
    pub(crate) log: Arc<dyn Log>,
    pub(crate) config: CommandServiceConfig,
    pub(crate) pending: mpsc::Receiver<Pending>,
    /// By partition number.
    pub(crate) partitions: Vec<mpsc::UnboundedSender<Notice>>,
    /// By partition number: appends decided on an older one are void.
    pub(crate) generations: Vec<u64>,
    /// By partition number: where the log ends, as far as this owner knows.
    pub(crate) heads: Vec<PartitionHead>,
    pub(crate) deciding: Arc<AtomicUsize>,
    pub(crate) aftermath: Aftermath,
    /// Received, but too much for the batch that was being filled.
    pub(crate) held: Option<Pending>,
}

/// Commands to be decided again, by partition number.
type Again = BTreeMap<u16, Vec<Submitted>>;

impl Committer {
    /// Flushes until every partition is gone.
    pub(crate) async fn run(mut self) -> Result<(), CommandServiceError> {
        loop {
            let first = match self.held.take() {
                Some(held) => held,
                None => match self.pending.recv().await {
                    Some(pending) => pending,
                    None => return Ok(()),
                },
            };
            let mut again = Again::new();
            let batch = self.fill(first, &mut again).await;
            let flushed = self.flush(batch, &mut again).await;
            for (partition, commands) in again {
                let generation = self.generations[usize::from(partition)];
                self.notify(partition, Notice::Again { generation, commands });
            }
            flushed?;
        }
    }

    /// Collects what is there, and lingers only while another command is being decided.
    async fn fill(&mut self, first: Pending, again: &mut Again) -> Vec<Pending> {
        let mut batch = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        let mut next = Some(first);
        let mut lingered = 0;
        loop {
            match next {
                Some(pending) if pending.generation != self.generations[usize::from(pending.partition.0)] => {
                    again.entry(pending.partition.0).or_default().push(pending.submitted);
                }
                Some(pending) => {
                    let fits = events + pending.events.len() <= self.config.batch_events
                        && bytes + pending.bytes <= self.config.batch_bytes;
                    if !batch.is_empty() && !fits {
                        self.held = Some(pending);
                        return batch;
                    }
                    events += pending.events.len();
                    bytes += pending.bytes;
                    batch.push(pending);
                }
                None if lingered < MAX_LINGER && self.deciding.load(Ordering::Relaxed) > 0 => {
                    lingered += 1;
                    tokio::task::yield_now().await;
                }
                None => return batch,
            }
            next = self.pending.try_recv().ok();
        }
    }

    /// Writes a batch, without its losers if it has some.
    async fn flush(&mut self, mut batch: Vec<Pending>, again: &mut Again) -> Result<(), CommandServiceError> {
        while !batch.is_empty() {
            let offered = Arc::new(self.take_appends(&mut batch));
            let result = self.log.append(offered.clone()).await;
            let Err(error) = result else {
                if let Ok(committed) = result {
                    self.committed(batch, committed).await;
                }
                return Ok(());
            };
            let offered = Arc::try_unwrap(offered).unwrap_or_else(|shared| (*shared).clone());
            for (pending, append) in batch.iter_mut().zip(offered.appends) {
                pending.append = Some(append);
            }
            match error {
                AppendError::Refused(losers) => batch = self.without_losers(batch, losers, again),
                AppendError::TooLarge { index, events, bytes } => {
                    let detail = format!(
                        "the command leads to {events} events and {bytes} bytes in one append; send less at once"
                    );
                    let rejection = Rejection::new(RejectionKind::TooLarge, "append_too_large", detail);
                    let mut verdicts =
                        BTreeMap::from([(index, Verdict::Answer(Err(CommandError::Rejected(rejection))))]);
                    batch = self.split(batch, &mut verdicts, again);
                }
                AppendError::Malformed { index, reason } => {
                    tracing::error!(reason, "the command-service built an append that the log cannot take");
                    let verdict = Verdict::Answer(Err(CommandError::Unknown(reason.into())));
                    batch = self.split(batch, &mut BTreeMap::from([(index, verdict)]), again);
                }
                AppendError::Fenced { partition, offered, current } => {
                    for pending in batch {
                        answer(pending.submitted, Err(CommandError::NotOwner));
                    }
                    return Err(CommandServiceError::Fenced { partition, offered, current });
                }
                AppendError::Store(error) => {
                    tracing::error!(error = %report(&error), "the log did not take a batch; its commands are answered `unknown`");
                    self.lost(batch, &error, again).await;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn take_appends(&self, batch: &mut [Pending]) -> Batch {
        let appends: Vec<_> = batch.iter_mut().filter_map(|pending| pending.append.take()).collect();
        let mut touched: Vec<u16> = appends.iter().map(|append| append.partition.0).collect();
        touched.sort_unstable();
        touched.dedup();
        let heads = touched.into_iter().map(|partition| self.heads[usize::from(partition)]).collect();
        Batch { heads, appends }
    }

    /// Answers losers, sends back what was decided after them, and returns what can be flushed.
    fn without_losers(&mut self, batch: Vec<Pending>, losers: Vec<Loser>, again: &mut Again) -> Vec<Pending> {
        let mut verdicts: BTreeMap<usize, Verdict> = losers
            .into_iter()
            .filter_map(|loser| {
                let pending = batch.get(loser.index)?;
                let verdict = match loser.refusal {
                    Refusal::Duplicate(first) => {
                        Verdict::Answer(first_answer(&first, pending.submitted.envelope.digest))
                    }
                    Refusal::ClaimTaken { claim, holder } => {
                        Verdict::Answer(Err(CommandError::Rejected(workflow::claim_taken(&claim, holder))))
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

    fn split(
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
                        self.generations[usize::from(partition)] += 1;
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

    /// The store failed: whether the batch is durable is not known. Learns where the log ends now, and if it did
    /// grow, goes on as a new owner would: from what the log says.
    async fn lost(&mut self, batch: Vec<Pending>, error: &StoreError, again: &mut Again) {
        let text: Arc<str> = error.to_string().into();
        let touched: BTreeSet<u16> = batch.iter().map(|pending| pending.partition.0).collect();
        for partition in touched {
            // Each of them, also one that has commands to decide again already: what it folded on this batch is void.
            self.generations[usize::from(partition)] += 1;
            again.entry(partition).or_default();
        }
        for pending in batch {
            answer(pending.submitted, Err(CommandError::Unknown(text.clone())));
        }
        tokio::time::sleep(STORE_PAUSE).await;
        match self.log.heads().await {
            Ok(heads) => {
                for head in heads {
                    let Some(known) = self.heads.get_mut(usize::from(head.partition.0)) else { continue };
                    let grew = head.offset != known.offset;
                    // The epoch stays what this owner was given: if it is older now, the store must refuse.
                    known.offset = head.offset;
                    if grew {
                        self.aftermath.catch_up(&self.log, head.partition).await;
                    }
                }
            }
            // The next append offers the old heads; the store then checks every version itself.
            Err(error) => tracing::error!(error = %report(&error), "the log's heads cannot be read"),
        }
    }

    async fn committed(&mut self, batch: Vec<Pending>, committed: Committed) {
        for head in &committed.heads {
            self.heads[usize::from(head.partition.0)] = *head;
        }
        let mut done: BTreeMap<u16, Vec<(uuid::Uuid, uuid::Uuid)>> = BTreeMap::new();
        for pending in &batch {
            let envelope = &pending.submitted.envelope;
            done.entry(pending.partition.0).or_default().push((envelope.id, envelope.stream));
        }
        let replies = self.aftermath.apply(batch, committed).await;
        for (partition, commands) in done {
            self.notify(partition, Notice::Committed(commands));
        }
        for (submitted, reply) in replies {
            answer(submitted, Ok(reply));
        }
    }

    fn notify(&self, partition: u16, notice: Notice) {
        // A partition that is gone has shut down.
        let _ = self.partitions[usize::from(partition)].send(notice);
    }
}

enum Verdict {
    Answer(Result<CommandReply, CommandError>),
    Again,
}

fn answer(submitted: Submitted, reply: Result<CommandReply, CommandError>) {
    // Nobody waiting for the answer is not an error.
    let _ = submitted.reply.send(reply);
}

/// The initial generations of a number of partitions.
pub(crate) fn first_generations(partitions: u16) -> Vec<u64> {
    vec![0; usize::from(partitions)]
}

/// Heads by partition number.
pub(crate) fn by_number(mut heads: Vec<PartitionHead>) -> Vec<PartitionHead> {
    heads.sort_by_key(|head| head.partition);
    debug_assert!(heads.iter().enumerate().all(|(at, head)| head.partition == Partition(at as u16)));
    heads
}
