//! One batch, one transaction: rows, parked streams and checkpoints.

use event_store::LogReader;
use read_models::{ApiKeyRow, BulkJobRow, MAIN_PROJECTION, ReadModels, TenantRow, UserRow, WriteTx};

use crate::batch::Batch;
use crate::cache::ViewCache;
use crate::error::ProjectionError;
use crate::projections::{Trouble, audit, executions, small, workflows};

/// Folds batches into the read models.
pub(crate) struct Projector {
    models: ReadModels,
    cache: ViewCache,
    /// The generation of the live tables that the cache belongs to.
    generation: u64,
}

impl Projector {
    pub(crate) fn new(models: ReadModels, cache_bytes: usize) -> Self {
        Self { models, cache: ViewCache::new(cache_bytes), generation: 0 }
    }

    /// Forgets what is cached and reads where the live tables are.
    pub(crate) async fn restart(&mut self) -> Result<Vec<(domain::ids::Partition, u64)>, ProjectionError> {
        self.cache.clear();
        // The generation first: should the tables be exchanged between the two reads, the next batch is refused.
        self.generation = self.models.generation(MAIN_PROJECTION).await?;
        self.checkpoints().await
    }

    /// Where the live tables are.
    pub(crate) async fn checkpoints(&self) -> Result<Vec<(domain::ids::Partition, u64)>, ProjectionError> {
        Ok(self.models.checkpoints(MAIN_PROJECTION).await?)
    }

    /// Projects a batch into the tables that readers see. After an error, [`Projector::restart`]. The log is asked for
    /// the origins of forks.
    pub(crate) async fn project(
        &mut self,
        log: &dyn LogReader,
        batch: &Batch,
    ) -> Result<Trouble, ProjectionError> {
        let mut tx = self.models.begin().await?;
        let found = tx.generation(MAIN_PROJECTION).await?;
        if found != self.generation {
            return Err(ProjectionError::Exchanged { expected: self.generation, found });
        }
        let trouble = self.project_in(log, &mut tx, batch).await?;
        tx.commit().await?;
        Ok(trouble)
    }

    /// Projects a batch within a transaction that the caller commits.
    pub(crate) async fn project_in(
        &mut self,
        log: &dyn LogReader,
        tx: &mut WriteTx,
        batch: &Batch,
    ) -> Result<Trouble, ProjectionError> {
        // First of all, so that a writer that has lost the race does no work.
        tx.advance_checkpoints(MAIN_PROJECTION, &batch.advances()).await?;
        let mut trouble = workflows::project(tx, batch.workflows.list()).await?;
        trouble += small::project::<TenantRow>(tx, batch.tenants.list()).await?;
        trouble += small::project::<UserRow>(tx, batch.users.list()).await?;
        trouble += small::project::<ApiKeyRow>(tx, batch.api_keys.list()).await?;
        trouble += small::project::<BulkJobRow>(tx, batch.bulk_jobs.list()).await?;
        trouble += audit::project(tx, batch.commands.list(), batch.audits.list()).await?;
        trouble += executions::project(log, tx, &mut self.cache, batch.executions.list()).await?;
        Ok(trouble)
    }
}
