//! Read models whose server goes away, and readers that hold it up.

use sqlx::{Connection, PgConnection};
use std::time::Duration;

use projection_service::{ProjectionConfig, rebuild};
use read_models::{ExecutionFilter, MAIN_PROJECTION, PostgresOptions};
use test_services::{Durability, PostgresServer};

use crate::support::{
    Backend, PARTITIONS, Place, World, deaf_to_time, everything, execution, fresh_id, tenant,
};

#[tokio::test]
async fn a_projection_waits_for_its_server_however_often_it_fails_and_then_goes_on_by_itself() {
    let mut server = PostgresServer::start(Durability::Fast).await.unwrap();
    let options = PostgresOptions::new(server.create_database().await.unwrap());
    let mut world = World::at(Place::Server(options)).await;
    // One failure that is not the server's absence would end it.
    let config = ProjectionConfig { max_failures: 0, ..deaf_to_time() };
    let running = world.start(config);
    let events = execution(fresh_id(0), 4);
    world.commit(events[..2].to_vec()).await;
    world.settled().await;

    server.stop_immediately().await.unwrap();
    world.commit(events[2..4].to_vec()).await;
    while running.handle.failures() < 2 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    world.commit(execution(fresh_id(1), 2)).await;
    server.start_again().await.unwrap();
    world.commit(events[4..].to_vec()).await;

    // A crash may have taken the last commits along: not what this process believes, but what is there now.
    while projection_service::lag(&*world.log, &world.models)
        .await
        .map_or(true, |lags| lags.iter().any(|lag| lag.events() > 0))
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let view = world.models.execution(&tenant(), events[0].stream).await.unwrap().unwrap();
    assert_eq!((view.version, view.nodes.len()), (6, 4));
    while running.handle.failures() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let live = world.rows().await;
    running.stop().await;
    rebuild(&*world.log, &world.models, &ProjectionConfig::default()).await.unwrap();
    assert_eq!(world.rows().await, live);
}

#[tokio::test]
async fn a_log_whose_server_is_away_is_waited_for_and_the_service_says_that_all_is_well_again() {
    let mut server = PostgresServer::start(Durability::Fast).await.unwrap();
    let mut options = event_store::postgres::PostgresOptions::new(server.create_database().await.unwrap());
    options.partitions = Some(PARTITIONS);
    let store = event_store::store::Store::postgres(options).await.unwrap();
    let world = World::new().await;
    let config = ProjectionConfig {
        max_failures: 0,
        silence: Duration::from_millis(20),
        ..ProjectionConfig::default()
    };
    let running = world.start_with(config, store.reader.clone(), world.models.clone());
    server.stop_immediately().await.unwrap();
    while running.handle.failures() < 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.start_again().await.unwrap();
    while running.handle.failures() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.stop().await;
    store.health.close().await;
}

#[tokio::test]
async fn what_a_crash_of_the_server_took_along_is_projected_again_though_nothing_new_happens() {
    let mut world = World::on(Backend::Postgres).await;
    let Place::Server(options) = &world.place else { unreachable!("it is on Postgres") };
    let mut server = PgConnection::connect(&options.url).await.unwrap();
    let config = ProjectionConfig { silence: Duration::from_millis(20), ..ProjectionConfig::default() };
    let running = world.start(config);
    world.commit(execution(fresh_id(0), 3)).await;
    world.commit(execution(fresh_id(2), 3)).await;
    world.settled().await;
    let rows = world.rows().await;

    let took_along = "with rows as (delete from everline_read.executions where partition = 2) \
                      update everline_read.checkpoints set last_offset = 0 where partition = 2";
    sqlx::query(took_along).execute(&mut server).await.unwrap();
    while world.rows().await != rows {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    running.stop().await;
}

#[tokio::test]
async fn a_rebuild_waits_for_the_end_of_a_long_read_while_the_projection_and_readers_go_on() {
    let mut world = World::on(Backend::Postgres).await;
    let Place::Server(options) = &world.place else { unreachable!("it is on Postgres") };
    let mut dump = PgConnection::connect(&options.url).await.unwrap();
    let running = world.start(ProjectionConfig::default());
    world.commit(execution(fresh_id(0), 3)).await;
    world.settled().await;
    let mut long_read = dump.begin().await.unwrap();
    let sql = "lock table everline_read.workflows in access share mode";
    sqlx::query(sql).execute(&mut *long_read).await.unwrap();

    let rebuilding = tokio::spawn({
        let (log, models) = (world.log.clone(), world.models.clone());
        async move { rebuild(&*log, &models, &ProjectionConfig::default()).await }
    });
    for number in 1..30 {
        world.commit(execution(fresh_id(number % 4), 3)).await;
        world.settled().await;
        let page =
            world.models.executions(&everything(), &ExecutionFilter::default(), None, 100).await.unwrap();
        assert_eq!(page.items.len(), usize::from(number) + 1);
        world.models.workflows(&everything(), None, 10).await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(!rebuilding.is_finished());
    assert_eq!(world.models.generation(MAIN_PROJECTION).await.unwrap(), 0);
    long_read.rollback().await.unwrap();
    assert_eq!(rebuilding.await.unwrap().unwrap().parked, 0);
    world.settled().await;
    assert_eq!(world.models.generation(MAIN_PROJECTION).await.unwrap(), 1);
    let page = world.models.executions(&everything(), &ExecutionFilter::default(), None, 100).await.unwrap();
    assert_eq!(page.items.len(), 30);
    running.stop().await;
}
