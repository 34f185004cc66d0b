//! The log reaches the read models whole, whatever the feed does.

use std::time::Duration;

use bus::FeedMessage;
use domain::event::WorkflowEvent;
use domain::execution::ExecutionStatus;
use domain::workflow::event::{WorkflowDeleted, WorkflowDisabled};
use projection_service::{ProjectionConfig, lag};
use read_models::{MAIN_PROJECTION, Table};

use crate::support::{
    Backend, Place, World, deaf_to_time, execution, fresh_id, on_every_backend, recorded, tenant, workflow,
};

on_every_backend!(
    what_was_there_before_the_start_and_what_comes_after_is_projected_once,
    a_gap_in_the_feed_is_filled_from_the_log,
    a_subscriber_that_lagged_reads_the_log,
    a_sign_of_life_of_the_owner_sends_a_reader_that_missed_the_end_to_the_log,
    a_feed_that_falls_silent_delays_and_loses_nothing,
    messages_repeated_late_or_out_of_order_change_nothing,
    a_restart_goes_on_from_the_checkpoint_in_the_middle_of_an_execution,
    views_that_do_not_fit_the_cache_are_read_again,
    small_batches_and_pages_project_the_same_rows,
    a_workflow_row_follows_its_events_and_keeps_every_version,
    two_projections_of_the_same_tables_do_not_project_anything_twice,
    the_lag_can_be_told_without_the_service,
);

async fn what_was_there_before_the_start_and_what_comes_after_is_projected_once(backend: Backend) {
    let mut world = World::on(backend).await;
    let (old, new) = (fresh_id(0), fresh_id(1));
    world.append(execution(old, 3)).await;
    let running = world.start(deaf_to_time());
    world.settled().await;
    world.commit(execution(new, 40)).await;
    world.settled().await;
    for (id, nodes) in [(old, 3), (new, 40)] {
        let view = world.models.execution(&tenant(), id).await.unwrap().unwrap();
        assert_eq!(view.status, ExecutionStatus::Completed);
        assert_eq!(view.nodes.len(), nodes);
        assert_eq!(view.version, nodes as u64 + 2);
    }
    running.projected(5 + 42).await;
    assert!(running.handle.is_caught_up());
    running.stop().await;
}

async fn a_gap_in_the_feed_is_filled_from_the_log(backend: Backend) {
    let mut world = World::on(backend).await;
    let events = execution(fresh_id(2), 3);
    let running = world.start(deaf_to_time());
    world.commit(events[..1].to_vec()).await;
    world.settled().await;
    world.append(events[1..3].to_vec()).await;
    world.commit(events[3..].to_vec()).await;
    world.settled().await;
    let view = world.models.execution(&tenant(), events[0].stream).await.unwrap().unwrap();
    assert_eq!((view.version, view.nodes.len()), (5, 3));
    running.stop().await;
}

async fn a_subscriber_that_lagged_reads_the_log(backend: Backend) {
    let mut world = World::on(backend).await;
    let id = fresh_id(3);
    let running = world.start(deaf_to_time());
    world.commit(execution(fresh_id(3), 1)).await;
    world.settled().await;
    world.append(execution(id, 3)).await;
    world.feed.say(FeedMessage::Lagged);
    world.settled().await;
    assert!(world.models.execution(&tenant(), id).await.unwrap().is_some());
    running.stop().await;
}

async fn a_sign_of_life_of_the_owner_sends_a_reader_that_missed_the_end_to_the_log(backend: Backend) {
    let mut world = World::on(backend).await;
    let running = world.start(deaf_to_time());
    world.beat();
    world.commit(execution(fresh_id(3), 1)).await;
    world.settled().await;
    let id = fresh_id(3);
    world.append(execution(id, 3)).await;
    world.append(execution(fresh_id(1), 1)).await;
    world.beat();
    world.settled().await;
    assert!(world.models.execution(&tenant(), id).await.unwrap().is_some());
    // What is known already sends nobody anywhere, and what follows on is taken from the feed.
    world.beat();
    world.commit(execution(fresh_id(3), 1)).await;
    world.settled().await;
    running.projected(3 + 5 + 3 + 3).await;
    running.stop().await;
}

async fn the_lag_can_be_told_without_the_service(backend: Backend) {
    let mut world = World::on(backend).await;
    world.append(execution(fresh_id(3), 3)).await;
    let of = |lags: Vec<projection_service::PartitionLag>| -> Vec<_> {
        lags.iter().map(|lag| (lag.partition.0, lag.projected, lag.head, lag.events())).collect()
    };
    let lags = lag(&*world.log, &world.models).await.unwrap();
    assert_eq!(of(lags), [(0, 0, 0, 0), (1, 0, 0, 0), (2, 0, 0, 0), (3, 0, 5, 5)]);
    let running = world.start(deaf_to_time());
    world.settled().await;
    running.stop().await;
    world.append(execution(fresh_id(3), 0)).await;
    let lags = lag(&*world.log, &world.place.open().await).await.unwrap();
    assert_eq!(of(lags)[3], (3, 5, 7, 2));
}

async fn a_feed_that_falls_silent_delays_and_loses_nothing(backend: Backend) {
    let mut world = World::on(backend).await;
    let config = ProjectionConfig { silence: Duration::from_millis(20), ..ProjectionConfig::default() };
    let running = world.start(config);
    for partition in 0..4 {
        world.append(execution(fresh_id(partition), 3)).await;
        world.settled().await;
    }
    running.stop().await;
}

async fn messages_repeated_late_or_out_of_order_change_nothing(backend: Backend) {
    let mut world = World::on(backend).await;
    let events = execution(fresh_id(0), 3);
    let running = world.start(deaf_to_time());
    let first = world.append(events[..2].to_vec()).await.remove(0);
    let second = world.append(events[2..].to_vec()).await.remove(0);
    for batch in [&second, &first, &second, &first] {
        world.feed.say(FeedMessage::Batch(std::sync::Arc::new(batch.clone())));
    }
    world.settled().await;
    let other = fresh_id(0);
    world.feed.say(FeedMessage::Batch(std::sync::Arc::new(first)));
    world.commit(execution(other, 1)).await;
    world.settled().await;
    running.projected(5 + 3).await;
    running.stop().await;
}

async fn a_restart_goes_on_from_the_checkpoint_in_the_middle_of_an_execution(backend: Backend) {
    let mut world = World::on(backend).await;
    let events = execution(fresh_id(1), 6);
    for part in events.chunks(3) {
        let running = world.start(deaf_to_time());
        world.commit(part.to_vec()).await;
        world.settled().await;
        running.projected(part.len() as u64).await;
        running.stop().await;
    }
    let view = world.models.execution(&tenant(), events[0].stream).await.unwrap().unwrap();
    assert_eq!((view.version, view.nodes.len()), (8, 6));
}

async fn views_that_do_not_fit_the_cache_are_read_again(backend: Backend) {
    let mut world = World::on(backend).await;
    let config = ProjectionConfig { cache_bytes: 0, ..deaf_to_time() };
    let running = world.start(config);
    let events = execution(fresh_id(1), 6);
    for event in events {
        world.commit(vec![event]).await;
        world.settled().await;
    }
    assert_eq!(running.handle.parked(), 0);
    running.stop().await;
}

async fn small_batches_and_pages_project_the_same_rows(backend: Backend) {
    let mut world = World::on(backend).await;
    let config = ProjectionConfig { batch_events: 3, page_events: 2, ..deaf_to_time() };
    for partition in 0..4 {
        world.append(execution(fresh_id(partition), 5)).await;
        world.append(workflow(fresh_id(partition))).await;
    }
    let running = world.start(config);
    world.settled().await;
    running.stop().await;
    let rows = world.rows().await;
    world.place = Place::new(backend).await;
    world.models = world.place.open().await;
    let running = world.start(ProjectionConfig::default());
    world.settled().await;
    running.stop().await;
    assert_eq!(world.rows().await, rows);
}

async fn a_workflow_row_follows_its_events_and_keeps_every_version(backend: Backend) {
    let mut world = World::on(backend).await;
    let id = fresh_id(2);
    let running = world.start(deaf_to_time());
    world.commit(workflow(id)).await;
    world.settled().await;
    let row = world.models.workflow(&tenant(), id).await.unwrap().unwrap();
    assert_eq!((row.latest_version, row.published_version, row.etag), (2, Some(1), 3));
    assert_eq!((row.name.as_str(), row.description), ("orders, new", None));
    let first = world.models.workflow_version(&tenant(), id, 1).await.unwrap().unwrap();
    assert!(first.definition.contains("takes orders"));

    let name = "orders, new".to_owned();
    world.commit(vec![recorded(id, 4, WorkflowEvent::from(WorkflowDisabled {}))]).await;
    world.commit(vec![recorded(id, 5, WorkflowEvent::from(WorkflowDeleted { name }))]).await;
    world.settled().await;
    let row = world.models.workflow(&tenant(), id).await.unwrap().unwrap();
    assert!(row.deleted && !row.enabled);
    assert_eq!(row.etag, 5);
    running.stop().await;
}

async fn two_projections_of_the_same_tables_do_not_project_anything_twice(backend: Backend) {
    let mut world = World::on(backend).await;
    let one =
        world.start(ProjectionConfig { commit_interval: Duration::ZERO, ..ProjectionConfig::default() });
    let models = world.place.open().await;
    let two = world.start_on(ProjectionConfig::default(), models);
    let streams: Vec<_> = (0..8).map(|number| execution(fresh_id(number % 4), 8)).collect();
    for version in 0..10 {
        world.commit(streams.iter().map(|events| events[version].clone()).collect()).await;
        world.settled().await;
    }
    one.stop().await;
    two.stop().await;
    assert_eq!(world.models.parked(MAIN_PROJECTION).await.unwrap(), []);
    let rows = world.models.dump_rows(Table::Executions).await.unwrap();
    assert_eq!(rows.len(), 8);
    for events in streams {
        let view = world.models.execution(&tenant(), events[0].stream).await.unwrap().unwrap();
        assert_eq!((view.version, view.nodes.len()), (10, 8));
    }
}
