//! What comes next: events of the feed where they follow on, pages of the log wherever they do not.
//!
//! Invariant: `positions[p]` is the offset of the last event of `p` accepted into a batch, and only its
//! successor is ever accepted; so neither a lost, repeated or late message nor a page that overlaps with the
//! feed can skip or repeat an event. A partition is *behind* until a page of it comes back short.

use std::collections::VecDeque;
use std::sync::Arc;

use bus::{CommittedBatch, FeedMessage};
use domain::ids::Partition;
use event_store::{LogReader, PartitionHead};

use crate::batch::Batch;
use crate::config::ProjectionConfig;
use crate::error::ProjectionError;

/// The last offset of a partition in the log; 0 where the log has no such partition.
pub(crate) fn head_of(heads: &[PartitionHead], partition: Partition) -> u64 {
    heads.iter().find(|head| head.partition == partition).map_or(0, |head| head.offset)
}

/// Refuses checkpoints beyond the log's end: its next events would get offsets that count as projected, and be
/// passed over in silence. The heads must have been read after the checkpoints.
pub(crate) fn refuse_ahead(
    checkpoints: &[(Partition, u64)],
    heads: &[PartitionHead],
) -> Result<(), ProjectionError> {
    for (partition, projected) in checkpoints {
        let head = head_of(heads, *partition);
        if *projected > head {
            return Err(ProjectionError::AheadOfLog { partition: *partition, projected: *projected, head });
        }
    }
    Ok(())
}

/// Collects batches.
pub(crate) struct Intake {
    positions: Vec<u64>,
    behind: VecDeque<Partition>,
    batch: Batch,
    batch_events: usize,
    batch_bytes: usize,
    page_events: usize,
}

impl Intake {
    /// Starts from checkpoints, behind in every partition.
    pub(crate) fn new(partitions: u16, checkpoints: &[(Partition, u64)], config: &ProjectionConfig) -> Self {
        let mut positions = vec![0; usize::from(partitions)];
        for (partition, offset) in checkpoints {
            if let Some(position) = positions.get_mut(usize::from(partition.0)) {
                *position = *offset;
            }
        }
        Self {
            positions,
            behind: (0..partitions).map(Partition).collect(),
            batch: Batch::default(),
            batch_events: config.batch_events.max(1),
            batch_bytes: config.batch_bytes.max(1),
            page_events: config.page_events.max(1),
        }
    }

    /// The last accepted offset of every partition.
    pub(crate) fn positions(&self) -> impl Iterator<Item = (Partition, u64)> {
        (0..).map(Partition).zip(self.positions.iter().copied())
    }

    pub(crate) fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    pub(crate) fn is_full(&self) -> bool {
        self.batch.events() >= self.batch_events || self.batch.bytes() >= self.batch_bytes
    }

    pub(crate) fn take_batch(&mut self) -> Batch {
        std::mem::take(&mut self.batch)
    }

    /// Has the log paged for a partition.
    pub(crate) fn mark_behind(&mut self, partition: Partition) {
        if usize::from(partition.0) < self.positions.len() && !self.behind.contains(&partition) {
            self.behind.push_back(partition);
        }
    }

    /// Has the log paged for every partition.
    pub(crate) fn mark_all_behind(&mut self) {
        for partition in 0..self.positions.len() as u16 {
            self.mark_behind(Partition(partition));
        }
    }

    /// Accepts what follows on; a gap sends the reader to the log.
    pub(crate) fn hear(&mut self, message: &FeedMessage) {
        match message {
            FeedMessage::Lagged => self.mark_all_behind(),
            FeedMessage::Batch(batch) => self.hear_batch(batch),
        }
    }

    /// A batch without events is its owner's sign of life: it begins where the log goes on, and so sends a reader
    /// that has missed something to the log like any other batch.
    fn hear_batch(&mut self, batch: &CommittedBatch) {
        let Some(position) = self.positions.get_mut(usize::from(batch.partition.0)) else { return };
        if batch.first_offset > *position + 1 {
            return self.mark_behind(batch.partition);
        }
        let known = (*position + 1 - batch.first_offset) as usize;
        for event in batch.events.iter().skip(known) {
            *position += 1;
            // The feed says which offsets these are; an event that disagrees is not believed.
            if event.position.offset != *position || event.position.partition != batch.partition {
                *position -= 1;
                return self.mark_behind(batch.partition);
            }
            self.batch.push(Arc::clone(event));
        }
    }

    /// Pages the log for partitions that are behind, in turns, until the batch is full or none is left.
    pub(crate) async fn page(&mut self, log: &dyn LogReader) -> Result<(), ProjectionError> {
        while !self.is_full() {
            let Some(partition) = self.behind.pop_front() else { return Ok(()) };
            if self.page_one(log, partition).await? {
                self.behind.push_back(partition);
            }
        }
        Ok(())
    }

    /// Reads one page; `true` if there may be more.
    pub(crate) async fn page_one(
        &mut self,
        log: &dyn LogReader,
        partition: Partition,
    ) -> Result<bool, ProjectionError> {
        let Some(position) = self.positions.get_mut(usize::from(partition.0)) else { return Ok(false) };
        let events = log.read_partition(partition, *position, self.page_events).await?;
        let more = events.len() >= self.page_events;
        for event in events {
            if event.position.offset != *position + 1 {
                let (expected, found) = (*position + 1, event.position.offset);
                return Err(ProjectionError::Damaged { partition, expected, found });
            }
            *position += 1;
            self.batch.push(Arc::new(event));
        }
        Ok(more)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(position: u64) -> Intake {
        let mut intake = Intake::new(2, &[(Partition(1), position)], &ProjectionConfig::default());
        intake.behind.clear();
        intake
    }

    fn sign_of_life(partition: u16, head: u64) -> FeedMessage {
        let partition = Partition(partition);
        FeedMessage::Batch(Arc::new(CommittedBatch { partition, first_offset: head + 1, events: Vec::new() }))
    }

    #[test]
    fn a_sign_of_life_beyond_what_is_known_sends_the_reader_to_that_partition_of_the_log() {
        let mut intake = at(7);
        intake.hear(&sign_of_life(1, 9));
        intake.hear(&sign_of_life(1, 9));
        assert_eq!(intake.behind, [Partition(1)]);
        assert!(intake.is_empty());
    }

    #[test]
    fn a_sign_of_life_of_what_is_known_or_is_no_partition_of_ours_changes_nothing() {
        let mut intake = at(7);
        for head in [7, 3, 0] {
            intake.hear(&sign_of_life(1, head));
        }
        intake.hear(&sign_of_life(0, 0));
        intake.hear(&sign_of_life(9, 100));
        assert!(!intake.is_behind() && intake.is_empty());
        assert_eq!(intake.positions().collect::<Vec<_>>(), [(Partition(0), 0), (Partition(1), 7)]);
    }
}
