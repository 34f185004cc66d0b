//! Group commit: while one batch is being flushed the next one fills. All partitions share one committer.
//!
//! A batch is refused whole, naming its losers. The losers are answered; what their partitions decided after
//! them goes back to be decided again; the rest is flushed at once. Being fenced on a partition costs that partition
//! alone, unless this process shares nothing: then it ends.
//!
//! Partitions come and go by messages in the same queue as the appends: an append of another tenure than the present
//! one is answered `NotOwner`.

mod refused;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

use bus::{CommandError, CommandReply};
use domain::ids::Partition;
use domain::rejection::{Rejection, RejectionKind};
use event_store::{AppendError, Batch, Committed, Log, PartitionHead, StoreError};

use crate::aftermath::Aftermath;
use crate::config::CommandServiceConfig;
use crate::error::{CommandServiceError, report};
use crate::pending::{Notice, Pending, Submitted, Work};

use refused::Verdict;

/// How often the committer lets others run while a command is being decided, before it flushes.
const MAX_LINGER: usize = 4;
/// Pause after the store failed.
const STORE_PAUSE: Duration = Duration::from_millis(100);
/// After the store failed, how often it is asked whether it has written all the same.
const RECHECK_EVERY: Duration = Duration::from_secs(1);
/// For how long it is asked: longer than any statement of ours may run.
const RECHECK_FOR: Duration = Duration::from_secs(60);

/// A partition that was fenced: another owns it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lost {
    pub(crate) partition: Partition,
    /// The tenure that is over.
    pub(crate) epoch: u64,
    /// The epoch of the new owner.
    pub(crate) current: u64,
}

/// The task that writes.
pub(crate) struct Committer {
    log: Arc<dyn Log>,
    config: CommandServiceConfig,
    work: mpsc::Receiver<Work>,
    /// By partition number.
    lanes: BTreeMap<u16, Lane>,
    deciding: Arc<AtomicUsize>,
    aftermath: Aftermath,
    /// Who hears of partitions that were lost; `None`: losing one ends the committer.
    lost: Option<mpsc::UnboundedSender<Lost>>,
    /// Received, but not for the batch that was being filled.
    held: Option<Work>,
    /// Whether the log may have more than we have heard of.
    unsure: Option<Unsure>,
}

/// The store may have written, or may still write, what it seemed to have failed at.
#[derive(Clone, Copy)]
struct Unsure {
    look_at: Instant,
    until: Instant,
}

/// A partition as the committer knows it.
struct Lane {
    notices: mpsc::UnboundedSender<Notice>,
    /// Appends decided on an older one are void.
    generation: u64,
    /// Where the log ends, as far as this owner knows.
    head: PartitionHead,
}

impl Lane {
    /// The log has what we have not heard of: what the partition has folded and decided may lack it. Said before the
    /// others catch up, so that nobody is sent to a partition that does not know its own stream.
    fn grew_unheard(&mut self) {
        self.generation += 1;
        // A task that is gone does not need to know.
        let _ = self.notices.send(Notice::Grew { generation: self.generation });
    }
}

/// Commands to be decided again, by partition number.
type Again = BTreeMap<u16, Vec<Submitted>>;

impl Committer {
    pub(crate) fn new(
        log: Arc<dyn Log>,
        config: CommandServiceConfig,
        work: mpsc::Receiver<Work>,
        deciding: Arc<AtomicUsize>,
        aftermath: Aftermath,
        lost: Option<mpsc::UnboundedSender<Lost>>,
    ) -> Self {
        let lanes = BTreeMap::new();
        Self { log, config, work, lanes, deciding, aftermath, lost, held: None, unsure: None }
    }

    /// Flushes until every partition and whoever adopts them is gone.
    pub(crate) async fn run(mut self) -> Result<(), CommandServiceError> {
        while let Some(work) = self.next().await {
            let first = match work {
                Work::Append(pending) => pending,
                Work::Adopt { head, notices } => {
                    self.lanes.insert(head.partition.0, Lane { notices, generation: 0, head });
                    continue;
                }
                Work::Drop { partition, epoch, done } => {
                    if self.lane(partition).is_some_and(|lane| lane.head.epoch == epoch) {
                        self.lanes.remove(&partition.0);
                    }
                    // Nobody waiting is not an error.
                    let _ = done.send(());
                    continue;
                }
            };
            let mut again = Again::new();
            let batch = self.fill(first, &mut again).await;
            let flushed = self.flush(batch, &mut again).await;
            for (partition, commands) in again {
                match self.lanes.get(&partition) {
                    Some(lane) => {
                        let notice = Notice::Again { generation: lane.generation, commands };
                        // A task that is gone has dropped what waited for it.
                        let _ = lane.notices.send(notice);
                    }
                    None => commands.into_iter().for_each(not_owner),
                }
            }
            flushed?;
        }
        Ok(())
    }

    async fn next(&mut self) -> Option<Work> {
        if let Some(held) = self.held.take() {
            return Some(held);
        }
        while let Some(Unsure { look_at, until }) = self.unsure {
            if Instant::now() < look_at {
                match tokio::time::timeout_at(look_at, self.work.recv()).await {
                    Ok(work) => return work,
                    Err(_) => continue,
                }
            }
            let look_at = look_at + RECHECK_EVERY;
            self.unsure = (look_at < until).then_some(Unsure { look_at, until });
            self.look_for_growth().await;
        }
        self.work.recv().await
    }

    fn lane(&self, partition: Partition) -> Option<&Lane> {
        self.lanes.get(&partition.0)
    }

    /// Collects what is there, and lingers only while another command is being decided.
    async fn fill(&mut self, first: Pending, again: &mut Again) -> Vec<Pending> {
        let mut batch = Vec::new();
        let (mut events, mut bytes) = (0, 0);
        let mut next = Some(Work::Append(first));
        let mut lingered = 0;
        loop {
            match next {
                Some(Work::Append(pending)) => match self.lane(pending.partition) {
                    Some(lane) if lane.head.epoch == pending.epoch => {
                        if lane.generation != pending.generation {
                            again.entry(pending.partition.0).or_default().push(pending.submitted);
                        } else if !batch.is_empty()
                            && (events + pending.events.len() > self.config.batch_events
                                || bytes + pending.bytes > self.config.batch_bytes)
                        {
                            self.held = Some(Work::Append(pending));
                            return batch;
                        } else {
                            events += pending.events.len();
                            bytes += pending.bytes;
                            batch.push(pending);
                        }
                    }
                    _ => not_owner(pending.submitted),
                },
                Some(control) => {
                    self.held = Some(control);
                    return batch;
                }
                None if lingered < MAX_LINGER && self.deciding.load(Ordering::Relaxed) > 0 => {
                    lingered += 1;
                    tokio::task::yield_now().await;
                }
                None => return batch,
            }
            next = self.work.try_recv().ok();
        }
    }

    /// Writes a batch, without its losers and without partitions that are lost, if it has some.
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
                AppendError::Refused(losers) => {
                    // Somebody has written what we do not know of: perhaps we, with an outcome we have not heard.
                    let look_at = Instant::now() + RECHECK_EVERY;
                    self.unsure.get_or_insert(Unsure { look_at, until: look_at });
                    batch = self.without_losers(batch, losers, again);
                }
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
                    batch = self.fenced(batch, Lost { partition, epoch: offered, current }, again)?;
                }
                AppendError::Store(error) => {
                    tracing::error!(error = %report(&error), "the log did not take a batch; its commands are answered `unknown`");
                    return self.failed(batch, &error, again).await;
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
        let heads =
            touched.iter().filter_map(|number| self.lanes.get(number)).map(|lane| lane.head).collect();
        Batch { heads, appends }
    }

    /// The store failed: whether the batch is durable is not known. Learns where the log ends now, and if it did
    /// grow, goes on as a new owner would: from what the log says.
    async fn failed(
        &mut self,
        batch: Vec<Pending>,
        error: &StoreError,
        again: &mut Again,
    ) -> Result<(), CommandServiceError> {
        let text: Arc<str> = error.to_string().into();
        let touched: BTreeSet<u16> = batch.iter().map(|pending| pending.partition.0).collect();
        for partition in touched {
            // Each of them, also one that has commands to decide again already: what it folded on this batch is void.
            again.entry(partition).or_default();
            if let Some(lane) = self.lanes.get_mut(&partition) {
                lane.generation += 1;
            }
        }
        for pending in batch {
            answer(pending.submitted, Err(CommandError::Unknown(text.clone())));
        }
        tokio::time::sleep(STORE_PAUSE).await;
        // A server that has lost us may be at it still.
        let now = Instant::now();
        self.unsure = Some(Unsure { look_at: now + RECHECK_EVERY, until: now + RECHECK_FOR });
        self.look_for_growth().await;
        Ok(())
    }

    /// Compares what this owner knows of its partitions with the log, and catches up where the log has more.
    async fn look_for_growth(&mut self) {
        let heads = match self.log.heads().await {
            Ok(heads) => heads,
            // The next append offers the old heads; the store then checks every version itself.
            Err(error) => {
                return tracing::error!(error = %report(&error), "the log's heads cannot be read");
            }
        };
        for head in heads {
            let Some(lane) = self.lanes.get_mut(&head.partition.0) else { continue };
            // What another owner has written is not ours to follow; our next append will be refused.
            if head.epoch != lane.head.epoch || head.offset == lane.head.offset {
                continue;
            }
            lane.head.offset = head.offset;
            lane.grew_unheard();
            let known = lane.head;
            self.aftermath.catch_up(&self.log, &known).await;
        }
    }

    async fn committed(&mut self, batch: Vec<Pending>, committed: Committed) {
        let mut grown: BTreeMap<u16, u64> = BTreeMap::new();
        for event in &committed.events {
            *grown.entry(event.position.partition.0).or_default() += 1;
        }
        let mut unheard = Vec::new();
        for head in &committed.heads {
            let Some(lane) = self.lanes.get_mut(&head.partition.0) else { continue };
            let expected = lane.head.offset + grown.get(&head.partition.0).copied().unwrap_or(0);
            if head.offset != expected {
                unheard.push(*head);
            }
            lane.head = *head;
        }
        let mut done: BTreeMap<u16, Vec<(uuid::Uuid, uuid::Uuid)>> = BTreeMap::new();
        for pending in &batch {
            let envelope = &pending.submitted.envelope;
            done.entry(pending.partition.0).or_default().push((envelope.id, envelope.stream));
        }
        let heads = committed.heads.clone();
        let replies = self.aftermath.apply(batch, committed).await;
        self.aftermath.grew(&heads);
        for (partition, commands) in done {
            if let Some(lane) = self.lanes.get(&partition) {
                // A task that is gone does not need to know.
                let _ = lane.notices.send(Notice::Committed(commands));
            }
        }
        for (submitted, reply) in replies {
            answer(submitted, Ok(reply));
        }
        for head in unheard {
            // After the word of this batch: what was decided on an older generation is in it.
            if let Some(lane) = self.lanes.get_mut(&head.partition.0) {
                lane.grew_unheard();
            }
            self.aftermath.catch_up(&self.log, &head).await;
        }
    }
}

fn answer(submitted: Submitted, reply: Result<CommandReply, CommandError>) {
    // Nobody waiting for the answer is not an error.
    let _ = submitted.reply.send(reply);
}

fn not_owner(submitted: Submitted) {
    answer(submitted, Err(CommandError::NotOwner));
}
