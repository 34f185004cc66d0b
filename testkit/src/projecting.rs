//! Read models that follow a log, for tests of what reads them.

use bus::CommitFeed;
use event_store::log::LogReader;
use projection_service::{ProjectionConfig, ProjectionService};
use read_models::ReadModels;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Projects a log into read models until the shutdown.
///
/// # Panics
/// The projection fails: the test that needs it would wait in vain.
pub fn project(
    log: Arc<dyn LogReader>,
    feed: Arc<dyn CommitFeed>,
    models: ReadModels,
    shutdown: CancellationToken,
) -> tokio::task::JoinHandle<()> {
    let service = ProjectionService::new(ProjectionConfig::default(), log, feed, models);
    tokio::spawn(async move { service.run(shutdown).await.expect("the projection runs") })
}
