//! Events that cannot be folded, and a log that cannot be read.

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::event::RecordedEvent;
use projection_service::ProjectionConfig;
use read_models::MAIN_PROJECTION;

use crate::support::{FlakyLog, World, deaf_to_time, execution, fresh_id, tenant, workflow};

fn poisoned(mut event: RecordedEvent) -> RecordedEvent {
    event.data = Bytes::from_static(b"{\"node_id\": 7}");
    event
}

#[tokio::test]
async fn a_poisoned_stream_is_parked_alone_and_its_later_events_are_counted() {
    let mut world = World::new().await;
    let running = world.start(deaf_to_time());
    let mut bad = execution(fresh_id(0), 6);
    bad[3] = poisoned(bad[3].clone());
    let good = execution(fresh_id(0), 6);
    let id = bad[0].stream;
    for part in 0..4 {
        let range = part * 2..part * 2 + 2;
        let mut events = bad[range.clone()].to_vec();
        events.extend_from_slice(&good[range]);
        world.commit(events).await;
        world.settled().await;
    }
    let parked = world.models.parked(MAIN_PROJECTION).await.unwrap();
    assert_eq!(parked.len(), 1);
    assert_eq!((parked[0].stream, parked[0].skipped), (id, 4));
    assert!(parked[0].reason.contains("does not decode"), "{}", parked[0].reason);
    assert_eq!((running.handle.parked(), running.handle.skipped()), (1, 4));

    let view = world.models.execution(&tenant(), id).await.unwrap().unwrap();
    assert_eq!(view.version, 3, "what came before the poison stays");
    let view = world.models.execution(&tenant(), good[0].stream).await.unwrap().unwrap();
    assert_eq!(view.version, 8);
    running.stop().await;
}

#[tokio::test]
async fn a_stream_stays_parked_after_a_restart() {
    let mut world = World::new().await;
    let mut bad = execution(fresh_id(1), 3);
    bad[0] = poisoned(bad[0].clone());
    let mut flow = workflow(fresh_id(1));
    flow[1] = poisoned(flow[1].clone());
    for part in 0..3 {
        let running = world.start(deaf_to_time());
        world.commit(vec![bad[part].clone(), flow[part].clone()]).await;
        world.settled().await;
        running.stop().await;
    }
    let mut parked = world.models.parked(MAIN_PROJECTION).await.unwrap();
    parked.sort_by_key(|parked| parked.stream);
    let counts: Vec<_> = parked.iter().map(|parked| (parked.stream, parked.skipped)).collect();
    assert_eq!(counts, [(bad[0].stream, 2), (flow[0].stream, 1)]);
    assert_eq!(world.models.execution(&tenant(), bad[0].stream).await.unwrap(), None);
    assert_eq!(world.models.workflow(&tenant(), flow[0].stream).await.unwrap().unwrap().etag, 1);
}

#[tokio::test]
async fn an_event_of_a_newer_everline_parks_its_execution_and_other_aggregates_pass() {
    let mut world = World::new().await;
    let running = world.start(deaf_to_time());
    let mut newer = execution(fresh_id(2), 1);
    newer[1].event_type = "execution.teleported".into();
    let mut other = execution(fresh_id(2), 0);
    other.iter_mut().for_each(|event| event.event_type = "agent.run.started".into());
    let id = newer[0].stream;
    newer.extend(other);
    world.commit(newer).await;
    world.settled().await;
    let parked = world.models.parked(MAIN_PROJECTION).await.unwrap();
    assert_eq!(parked.iter().map(|parked| parked.stream).collect::<Vec<_>>(), [id]);
    running.stop().await;
}

#[tokio::test]
async fn a_log_that_fails_for_a_while_delays_and_loses_nothing() {
    let mut world = World::new().await;
    let log = Arc::new(FlakyLog { log: world.log.clone(), fails: AtomicBool::new(false) });
    let running = world.start_with(deaf_to_time(), log.clone(), world.models.clone());
    let events = execution(fresh_id(0), 4);
    world.commit(events[..2].to_vec()).await;
    world.settled().await;

    log.fails.store(true, Ordering::Relaxed);
    world.append(events[2..4].to_vec()).await;
    world.commit(events[4..].to_vec()).await;
    while running.handle.failures() < 2 {
        tokio::task::yield_now().await;
    }
    log.fails.store(false, Ordering::Relaxed);
    world.settled().await;
    let view = world.models.execution(&tenant(), events[0].stream).await.unwrap().unwrap();
    assert_eq!((view.version, view.nodes.len()), (6, 4));
    assert_eq!(running.handle.failures(), 0);
    running.stop().await;
}

#[tokio::test]
async fn a_log_that_keeps_failing_ends_the_service_after_a_bounded_number_of_tries() {
    let world = World::new().await;
    let log = Arc::new(FlakyLog { log: world.log.clone(), fails: AtomicBool::new(true) });
    let config = ProjectionConfig { min_backoff: Duration::ZERO, max_failures: 3, ..deaf_to_time() };
    let running = world.start_with(config, log, world.models.clone());
    let handle = running.handle.clone();
    assert!(running.end().await.is_err());
    assert_eq!(handle.failures(), 4);
}
