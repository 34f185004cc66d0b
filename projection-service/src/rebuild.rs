//! Rebuilding the read models from the log, beside the ones that serve.
//!
//! Reads the log only, never the feed, with the same fold as the running service, into shadow tables. When it
//! has nearly caught up, one transaction keeps the live projection from advancing, reads the little that is
//! left, and exchanges the tables. A running service sees another generation and goes on from there.

use read_models::{MAIN_PROJECTION, ReadModelError, ReadModels, WriteTx};
use std::time::Duration;
use tokio::time::Instant;

use domain::ids::Partition;
use event_store::LogReader;

use crate::config::ProjectionConfig;
use crate::error::ProjectionError;
use crate::intake::{Intake, head_of};
use crate::projections::Trouble;
use crate::projector::Projector;

/// Times that a rebuild looks for what was appended meanwhile before it takes the lock.
const MAX_ROUNDS: usize = 8;
/// How long a rebuild that is ready waits for others' long reads, such as a dump of the database. The live projection
/// goes on meanwhile.
const EXCHANGE_PATIENCE: Duration = Duration::from_secs(30 * 60);

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

impl std::ops::AddAssign for Rebuilt {
    fn add_assign(&mut self, other: Self) {
        self.events += other.events;
        self.parked += other.parked;
        self.skipped += other.skipped;
    }
}

impl Rebuilt {
    fn add(&mut self, events: usize, trouble: Trouble) {
        *self += Self { events: events as u64, parked: trouble.parked, skipped: trouble.skipped };
    }
}

/// Derives the read models again and puts the new tables in the place of the old ones.
///
/// Readers are not disturbed. Read models that are ahead of the log, which no service runs on, are brought back to
/// the log's end. When it fails, the old tables stay; calling it again starts over. While somebody reads the old
/// tables of Postgres in a long transaction it waits, up to half an hour. Of several at once the one that began last
/// goes on, and the others end with [`ProjectionError::AnotherRebuild`].
pub async fn rebuild(
    log: &dyn LogReader,
    models: &ReadModels,
    config: &ProjectionConfig,
) -> Result<Rebuilt, ProjectionError> {
    // Before the shadow tables are made: whatever exchanges them from here on is somebody else.
    let generation = models.generation(MAIN_PROJECTION).await?;
    models.start_rebuild().await?;
    let give_up = Instant::now() + EXCHANGE_PATIENCE;
    let mut rebuilt = Rebuilt::default();
    let mut pause = config.min_backoff;
    loop {
        let mut rebuild = Rebuild::continued(log, models, config, generation).await?;
        rebuild.catch_up(&mut rebuilt).await?;
        match rebuild.exchange().await {
            Ok(last) => {
                rebuilt += last;
                break;
            }
            Err(ProjectionError::Models(ReadModelError::Busy)) if Instant::now() < give_up => {
                tracing::warn!(
                    pause_ms = pause.as_millis() as u64,
                    "somebody reads the read models in a long transaction; their exchange waits for its end"
                );
                tokio::time::sleep(pause).await;
                pause = pause.saturating_mul(2).min(config.max_backoff);
            }
            Err(error) => return Err(error),
        }
    }
    tracing::info!(
        projection = MAIN_PROJECTION,
        events = rebuilt.events,
        parked = rebuilt.parked,
        "the read models were rebuilt"
    );
    Ok(rebuilt)
}

/// A rebuild from where its shadow tables are.
struct Rebuild<'a> {
    log: &'a dyn LogReader,
    models: &'a ReadModels,
    /// The one that this rebuild replaces.
    generation: u64,
    batch_events: usize,
    projector: Projector,
    intake: Intake,
}

impl<'a> Rebuild<'a> {
    async fn continued(
        log: &'a dyn LogReader,
        models: &'a ReadModels,
        config: &ProjectionConfig,
        generation: u64,
    ) -> Result<Self, ProjectionError> {
        let checkpoints = models.begin_shadow().await?.checkpoints(MAIN_PROJECTION).await?;
        let projector = Projector::new(models.clone(), config.cache_bytes);
        let intake = Intake::new(log.partitions(), &checkpoints, config);
        Ok(Self { log, models, generation, batch_events: config.batch_events, projector, intake })
    }

    /// Reads the log until little is left.
    async fn catch_up(&mut self, rebuilt: &mut Rebuilt) -> Result<(), ProjectionError> {
        for _ in 0..MAX_ROUNDS {
            if self.read_to_end(rebuilt).await? <= self.batch_events {
                break;
            }
            self.intake.mark_all_behind();
        }
        Ok(())
    }

    /// Reads until every partition gave a short page; returns how many events that were.
    async fn read_to_end(&mut self, rebuilt: &mut Rebuilt) -> Result<usize, ProjectionError> {
        let mut events = 0;
        while self.intake.is_behind() {
            let written = self.positions();
            self.intake.page(self.log).await?;
            let batch = self.intake.take_batch();
            if batch.is_empty() {
                continue;
            }
            let mut tx = self.begin_at(&written).await?;
            let trouble = self.projector.project_in(self.log, &mut tx, &batch).await?;
            tx.commit().await?;
            events += batch.events();
            rebuilt.add(batch.events(), trouble);
        }
        Ok(events)
    }

    /// Keeps the live projection where it is, reads what is left up to there, and exchanges the tables.
    async fn exchange(&mut self) -> Result<Rebuilt, ProjectionError> {
        let mut last = Rebuilt::default();
        let mut tx = self.begin_at(&self.positions()).await?;
        let live_checkpoints = tx.live_checkpoints().await?;
        let heads = self.log.heads().await?;
        for (partition, live) in live_checkpoints {
            // Not to the end of the log, which moves: to where readers have already been. Tables that are ahead of
            // the log are what a rebuild is to mend: then there is nothing beyond the log's end.
            let until = live.min(head_of(&heads, partition));
            while position_of(&self.intake, partition) < until {
                self.intake.page_one(self.log, partition).await?;
                let batch = self.intake.take_batch();
                if batch.is_empty() {
                    let expected = position_of(&self.intake, partition) + 1;
                    return Err(ProjectionError::Damaged { partition, expected, found: until });
                }
                last.add(batch.events(), self.projector.project_in(self.log, &mut tx, &batch).await?);
            }
        }
        tx.swap_in().await?;
        tx.commit().await?;
        Ok(last)
    }

    /// Begins a transaction on the shadow tables, if they are still those that this rebuild has filled up to its
    /// positions. Another rebuild may have emptied them, filled them, or put them in the place of the live ones:
    /// what is in memory says nothing of that.
    async fn begin_at(&self, positions: &[(Partition, u64)]) -> Result<WriteTx, ProjectionError> {
        let mut tx = self.models.begin_shadow().await?;
        let stored = tx.checkpoints(MAIN_PROJECTION).await?;
        let offset_of =
            |partition| stored.iter().find(|(p, _)| *p == partition).map_or(0, |(_, offset)| *offset);
        let is_ours = tx.generation(MAIN_PROJECTION).await? == self.generation
            && positions.iter().all(|(partition, offset)| offset_of(*partition) == *offset);
        if is_ours { Ok(tx) } else { Err(ProjectionError::AnotherRebuild) }
    }

    fn positions(&self) -> Vec<(Partition, u64)> {
        self.intake.positions().collect()
    }
}

fn position_of(intake: &Intake, partition: Partition) -> u64 {
    intake.positions().find(|(found, _)| *found == partition).map_or(0, |(_, offset)| offset)
}
