//! A rebuild ends in the rows that live projection has, and disturbs nobody.

use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use uuid::Uuid;

use domain::blob::BlobRef;
use domain::event::RecordedEvent;
use domain::ids::{Partition, TenantId};
use event_store::log::ChainReport;
use event_store::sqlite::SqliteLog;
use event_store::{AppendAnswer, LogReader, PartitionHead, StoreError};
use projection_service::{ProjectionConfig, ProjectionError, rebuild};
use read_models::{ExecutionFilter, ExecutionRow, MAIN_PROJECTION, ReadModels};

use crate::histories::eventful;
use crate::identity;
use crate::support::{
    Backend, PARTITIONS, World, deaf_to_time, everything, execution, fresh_id, on_every_backend, tenant,
    workflow,
};

on_every_backend!(
    live_rows_equal_rebuilt_rows_row_by_row,
    an_execution_that_is_cached_goes_on_from_the_exchanged_tables,
    a_rebuild_without_a_running_service_reads_the_log_to_its_end,
    readers_lose_nothing_while_tables_are_rebuilt_under_load,
    a_rebuild_whose_tables_another_one_has_emptied_exchanges_nothing,
    of_two_rebuilds_at_once_one_succeeds_and_the_other_says_why_not,
);

async fn live_rows_equal_rebuilt_rows_row_by_row(backend: Backend) {
    let mut world = World::on(backend).await;
    let running = world.start(deaf_to_time());
    let mut streams: Vec<_> = (0..24).map(|number| execution(fresh_id(number % 4), 7)).collect();
    streams.extend((0..4).map(|number| workflow(fresh_id(number))));
    streams.extend((0..4).map(|number| eventful(fresh_id(number)).events));
    streams.extend(identity::streams());
    streams[5][4].data = Bytes::from_static(b"[]");
    // Streams advance at different speeds, some end in the middle.
    for round in 0..24 {
        let mut events = Vec::new();
        for (index, stream) in streams.iter().enumerate() {
            let step = 1 + index % 3;
            let until = stream.len().min((round + 1) * step).min(if index % 7 == 6 { 4 } else { 99 });
            let from = until.min(round * step);
            events.extend_from_slice(&stream[from..until]);
        }
        world.commit(events).await;
        world.settled().await;
    }
    let live = world.rows().await;
    assert!(live.iter().all(|(_, rows)| !rows.is_empty()), "every table is compared with rows in it");
    let rebuilt = rebuild(&*world.log, &world.models, &ProjectionConfig::default()).await.unwrap();
    assert_eq!(world.rows().await, live);
    running.projected(rebuilt.events).await;
    assert_eq!(rebuilt.parked, 1);

    // The running service goes on, in the tables that took the place of its own.
    let next = execution(fresh_id(1), 2);
    world.commit(next.clone()).await;
    world.settled().await;
    assert!(world.models.execution(&tenant(), next[0].stream).await.unwrap().is_some());
    running.stop().await;
}

async fn an_execution_that_is_cached_goes_on_from_the_exchanged_tables(backend: Backend) {
    let mut world = World::on(backend).await;
    let running = world.start(deaf_to_time());
    let events = execution(fresh_id(1), 4);
    world.commit(events[..3].to_vec()).await;
    world.settled().await;

    // A newer build folds the same events to another row: the service must not go on with its own.
    let mut view = world.models.execution(&tenant(), events[0].stream).await.unwrap().unwrap();
    view.workflow_name = "as a newer build sees it".to_owned();
    world.models.start_rebuild().await.unwrap();
    let mut tx = world.models.begin_shadow().await.unwrap();
    let row = ExecutionRow::new(&tenant(), Partition(1), &view).unwrap();
    tx.put_executions(vec![row]).await.unwrap();
    tx.advance_checkpoint(MAIN_PROJECTION, Partition(1), 0, 3).await.unwrap();
    tx.swap_in().await.unwrap();
    tx.commit().await.unwrap();

    world.commit(events[3..].to_vec()).await;
    world.settled().await;
    let after = world.models.execution(&tenant(), events[0].stream).await.unwrap().unwrap();
    assert_eq!((after.version, after.nodes.len()), (6, 4));
    assert_eq!(after.workflow_name, view.workflow_name);
    running.stop().await;
}

async fn a_rebuild_without_a_running_service_reads_the_log_to_its_end(backend: Backend) {
    let mut world = World::on(backend).await;
    for number in 0..8 {
        world.append(execution(fresh_id(number % 4), 3)).await;
    }
    let config = ProjectionConfig { batch_events: 7, page_events: 3, ..ProjectionConfig::default() };
    let rebuilt = rebuild(&*world.log, &world.models, &config).await.unwrap();
    assert_eq!(rebuilt.events, 40);
    world.settled().await;
}

async fn readers_lose_nothing_while_tables_are_rebuilt_under_load(backend: Backend) {
    let mut world = World::on(backend).await;
    let running = world.start(ProjectionConfig::default());
    world.commit(execution(fresh_id(0), 3)).await;
    world.settled().await;
    let models = world.models.clone();
    let log = world.log.clone();
    let rebuilds = tokio::spawn(async move {
        let config = ProjectionConfig { batch_events: 50, page_events: 20, ..ProjectionConfig::default() };
        for _ in 0..4 {
            rebuild(&*log, &models, &config).await.unwrap();
        }
    });
    let mut known = 0;
    let mut written = 1;
    while !rebuilds.is_finished() || written < 40 {
        world.commit(execution(fresh_id(written % 4), 3)).await;
        written += 1;
        let filter = ExecutionFilter::default();
        let page = world.models.executions(&everything(), &filter, None, 1_000).await.unwrap();
        assert!(page.items.len() >= known.min(1_000), "{} executions after {known}", page.items.len());
        known = page.items.len();
    }
    rebuilds.await.unwrap();
    world.settled().await;
    assert_eq!(world.models.generation(MAIN_PROJECTION).await.unwrap(), 4);
    let live = world.rows().await;
    rebuild(&*world.log, &world.models, &ProjectionConfig::default()).await.unwrap();
    assert_eq!(world.rows().await, live);
    running.stop().await;
}

/// A log during whose reading another process begins a rebuild: at the first page without events, when the shadow
/// tables hold everything and the exchange comes next.
struct Meddling {
    log: Arc<SqliteLog>,
    other: ReadModels,
    done: AtomicBool,
}

#[async_trait]
impl LogReader for Meddling {
    fn partitions(&self) -> u16 {
        self.log.partitions()
    }

    async fn read_partition(
        &self,
        partition: Partition,
        after: u64,
        limit: usize,
    ) -> Result<Vec<RecordedEvent>, StoreError> {
        let events = self.log.read_partition(partition, after, limit).await?;
        if events.is_empty() && after > 0 && !self.done.swap(true, Ordering::Relaxed) {
            self.other.start_rebuild().await.unwrap();
        }
        Ok(events)
    }

    async fn heads(&self) -> Result<Vec<PartitionHead>, StoreError> {
        self.log.heads().await
    }

    async fn read_stream(&self, _: Uuid, _: u64, _: usize) -> Result<Vec<RecordedEvent>, StoreError> {
        unreachable!("a rebuild reads partitions")
    }

    async fn claim_holder(&self, _: &TenantId, _: &str, _: &str) -> Result<Option<Uuid>, StoreError> {
        unreachable!("a rebuild asks for no names")
    }

    async fn installation_claim_holder(&self, _: &str, _: &str) -> Result<Option<Uuid>, StoreError> {
        unreachable!("a rebuild asks for no names")
    }

    async fn command_answer(&self, _: Partition, _: Uuid) -> Result<Option<AppendAnswer>, StoreError> {
        unreachable!("a rebuild asks for no commands")
    }

    async fn read_blob(&self, _: &TenantId, _: &BlobRef) -> Result<Option<Bytes>, StoreError> {
        unreachable!("a rebuild reads no blobs")
    }

    async fn verify_chain(&self, _: Partition) -> Result<ChainReport, StoreError> {
        unreachable!("a rebuild verifies nothing")
    }
}

async fn a_rebuild_whose_tables_another_one_has_emptied_exchanges_nothing(backend: Backend) {
    let mut world = World::on(backend).await;
    let running = world.start(deaf_to_time());
    // One partition, so that the empty page is the last thing before the exchange.
    world.commit(execution(fresh_id(PARTITIONS - 1), 3)).await;
    world.settled().await;
    let live = world.rows().await;
    let log = Meddling { log: world.log.clone(), other: world.place.open().await, done: false.into() };
    let config = ProjectionConfig { batch_events: 1, page_events: 1, ..ProjectionConfig::default() };
    let refused = rebuild(&log, &world.models, &config).await;
    assert!(matches!(refused, Err(ProjectionError::AnotherRebuild)), "{refused:?}");
    assert!(log.done.into_inner());
    assert_eq!(world.rows().await, live);
    assert_eq!(world.models.generation(MAIN_PROJECTION).await.unwrap(), 0);
    // The next one is not hindered by what was left.
    rebuild(&*world.log, &world.models, &config).await.unwrap();
    assert_eq!(world.rows().await, live);
    running.stop().await;
}

async fn of_two_rebuilds_at_once_one_succeeds_and_the_other_says_why_not(backend: Backend) {
    let mut world = World::on(backend).await;
    let running = world.start(deaf_to_time());
    for number in 0..8 {
        world.commit(execution(fresh_id(number % 4), 3)).await;
    }
    world.settled().await;
    let live = world.rows().await;
    let other = world.place.open().await;
    let config = ProjectionConfig { batch_events: 3, page_events: 2, ..ProjectionConfig::default() };
    let (one, two) =
        tokio::join!(rebuild(&*world.log, &world.models, &config), rebuild(&*world.log, &other, &config));
    let succeeded = u64::from(one.is_ok()) + u64::from(two.is_ok());
    assert!(succeeded > 0, "{one:?} {two:?}");
    for ended in [one, two] {
        assert!(matches!(ended, Ok(_) | Err(ProjectionError::AnotherRebuild)), "{ended:?}");
    }
    assert_eq!(world.rows().await, live);
    assert_eq!(world.models.generation(MAIN_PROJECTION).await.unwrap(), succeeded);
    running.stop().await;
}
