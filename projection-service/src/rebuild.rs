//! Rebuilding the read models from the log, beside the ones that serve.
//!
//! Reads the log only, never the feed, with the same fold as the running service, into shadow tables. When it
//! has nearly caught up, one transaction keeps the live projection from advancing, reads the little that is
//! left, and exchanges the tables. A running service sees another generation and goes on from there.

use read_models::{MAIN_PROJECTION, ReadModels};

use domain::ids::Partition;
use event_store::LogReader;

use crate::config::ProjectionConfig;
use crate::error::ProjectionError;
use crate::intake::{Intake, head_of};
use crate::projections::Trouble;
use crate::projector::Projector;

/// Times that a rebuild looks for what was appended meanwhile before it takes the lock.
const MAX_ROUNDS: usize = 8;

/// What a rebuild has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rebuilt {
    /// Events read.
    pub events: u64,
    /// Streams that had to be parked.
    pub parked: u64,
    /// Events of parked streams that were passed over.
    pub skipped: u64,
}

impl Rebuilt {
    fn add(&mut self, events: usize, trouble: Trouble) {
        self.events += events as u64;
        self.parked += trouble.parked;
        self.skipped += trouble.skipped;
    }
}

/// Derives the read models again and puts the new tables in the place of the old ones.
///
/// Readers are not disturbed. Read models that are ahead of the log, which no service runs on, are brought back to
/// the log's end. When it fails, the old tables stay; calling it again starts over.
pub async fn rebuild(
    log: &dyn LogReader,
    models: &ReadModels,
    config: &ProjectionConfig,
) -> Result<Rebuilt, ProjectionError> {
    let mut rebuilt = Rebuilt::default();
    models.start_rebuild().await?;
    let mut projector = Projector::new(models.clone(), config.cache_bytes);
    let mut intake = Intake::new(log.partitions(), &[], config);
    for _ in 0..MAX_ROUNDS {
        let events = read_to_end(log, models, &mut projector, &mut intake, &mut rebuilt).await?;
        if events <= config.batch_events {
            break;
        }
        intake.mark_all_behind();
    }

    let mut tx = models.begin_shadow().await?;
    let live_checkpoints = tx.live_checkpoints().await?;
    let heads = log.heads().await?;
    for (partition, live) in live_checkpoints {
        // Not to the end of the log, which moves: to where readers have already been. Tables that are ahead of the
        // log are what a rebuild is to mend: then there is nothing beyond the log's end.
        let until = live.min(head_of(&heads, partition));
        while position_of(&intake, partition) < until {
            intake.page_one(log, partition).await?;
            let batch = intake.take_batch();
            if batch.is_empty() {
                let expected = position_of(&intake, partition) + 1;
                return Err(ProjectionError::Damaged { partition, expected, found: until });
            }
            rebuilt.add(batch.events(), projector.project_in(&mut tx, &batch).await?);
        }
    }
    tx.swap_in().await?;
    tx.commit().await?;
    tracing::info!(
        projection = MAIN_PROJECTION,
        events = rebuilt.events,
        parked = rebuilt.parked,
        "the read models were rebuilt"
    );
    Ok(rebuilt)
}

/// Reads until every partition gave a short page; returns how many events that were.
async fn read_to_end(
    log: &dyn LogReader,
    models: &ReadModels,
    projector: &mut Projector,
    intake: &mut Intake,
    rebuilt: &mut Rebuilt,
) -> Result<usize, ProjectionError> {
    let mut events = 0;
    while intake.is_behind() {
        intake.page(log).await?;
        let batch = intake.take_batch();
        if batch.is_empty() {
            continue;
        }
        let mut tx = models.begin_shadow().await?;
        let trouble = projector.project_in(&mut tx, &batch).await?;
        tx.commit().await?;
        events += batch.events();
        rebuilt.add(batch.events(), trouble);
    }
    Ok(events)
}

fn position_of(intake: &Intake, partition: Partition) -> u64 {
    intake.positions().find(|(found, _)| *found == partition).map_or(0, |(_, offset)| offset)
}
