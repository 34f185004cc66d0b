//! Read models that are kept while their log is restored to an earlier state, or created anew.

use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use bus::in_process::InProcessFeed;
use domain::ids::Partition;
use event_store::sqlite::{SqliteLog, SqliteOptions};
use projection_service::{ProjectionConfig, ProjectionError, ProjectionService, rebuild};
use read_models::{MAIN_PROJECTION, ReadModels};

use crate::support::{LONG, Running, World, execution, fresh_id, tenant};

/// Read models in a file that have projected 8 events of a partition, and another log that has 4 there.
struct Restored {
    world: World,
    directory: tempfile::TempDir,
}

impl Restored {
    async fn new(partition: u16) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut before = World::new().await;
        before.models = open(&directory).await;
        before.append(execution(fresh_id(partition), 6)).await;
        let running = before.start(ProjectionConfig::default());
        before.settled().await;
        running.stop().await;
        before.models.close().await;

        let mut world = World::new().await;
        world.append(execution(fresh_id(partition), 2)).await;
        world.models = open(&directory).await;
        Self { world, directory }
    }
}

async fn open(directory: &tempfile::TempDir) -> ReadModels {
    ReadModels::open(directory.path().join("read-models.db")).await.unwrap()
}

async fn failure_of(running: Running) -> ProjectionError {
    let ended = tokio::time::timeout(Duration::from_secs(10), running.end());
    ended.await.expect("the service runs on").expect_err("the service ended well")
}

#[tokio::test]
async fn a_service_refuses_read_models_that_are_ahead_of_the_log() {
    let restored = Restored::new(2).await;
    let error = failure_of(restored.world.start(ProjectionConfig::default())).await;
    let ProjectionError::AheadOfLog { partition, projected, head } = error else { panic!("{error}") };
    assert_eq!((partition, projected, head), (Partition(2), 8, 4));
    let said = error.to_string();
    for part in
        ["partition 2", "offset 8", "ends at 4", "`everline projection rebuild`", "delete the read-model"]
    {
        assert!(said.contains(part), "`{part}` is not in: {said}");
    }
}

#[tokio::test]
async fn a_rebuild_brings_read_models_that_are_ahead_back_to_the_log_and_the_service_goes_on() {
    let Restored { mut world, directory } = Restored::new(1).await;
    let rebuilt = rebuild(&*world.log, &world.models, &ProjectionConfig::default()).await.unwrap();
    assert_eq!((rebuilt.events, rebuilt.parked), (4, 0));
    assert_eq!(world.models.checkpoints(MAIN_PROJECTION).await.unwrap(), [(Partition(1), 4)]);
    let rows = world.rows().await;
    let kept = std::mem::replace(&mut world.models, ReadModels::open_temporary().await.unwrap());
    rebuild(&*world.log, &world.models, &ProjectionConfig::default()).await.unwrap();
    assert_eq!(world.rows().await, rows, "nothing is left of the other log");

    // As the next start of a server: the rebuild was a process of its own.
    kept.close().await;
    world.models = open(&directory).await;
    let running = world.start(ProjectionConfig::default());
    let next = execution(fresh_id(1), 3);
    world.commit(next.clone()).await;
    world.settled().await;
    assert!(world.models.execution(&tenant(), next[0].stream).await.unwrap().is_some());
    running.stop().await;
}

#[tokio::test]
async fn read_models_of_a_partition_that_the_log_does_not_have_are_ahead_of_it() {
    let restored = Restored::new(3).await;
    let options = SqliteOptions { partitions: Some(2), ..SqliteOptions::default() };
    let log = Arc::new(SqliteLog::open_temporary(options).await.unwrap());
    let feed = Arc::new(InProcessFeed::new());
    let models = restored.world.models.clone();
    let service = ProjectionService::new(ProjectionConfig::default(), log.clone(), feed, models.clone());
    let ended = tokio::time::timeout(LONG, service.run(CancellationToken::new())).await.unwrap();
    assert!(
        matches!(ended, Err(ProjectionError::AheadOfLog { partition: Partition(3), projected: 8, head: 0 })),
        "{ended:?}"
    );
    rebuild(&*log, &models, &ProjectionConfig::default()).await.unwrap();
    assert_eq!(models.checkpoints(MAIN_PROJECTION).await.unwrap(), []);
}
