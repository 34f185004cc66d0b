//! Nodes inside loops, forks and dead letters: rows of their own, the same whichever way they came about.

use serde_json::json;
use uuid::Uuid;

use domain::execution::ExecutionStatus;
use domain::execution::view::{Bodies, ExecutionView, NodeView, NodeViewStatus, Replay};
use event_store::LogReader;
use projection_service::{ProjectionConfig, rebuild};
use read_models::{DeadLetterFilter, MAIN_PROJECTION, Table};

use crate::histories::{History, eventful};
use crate::support::{Backend, World, deaf_to_time, everything, fresh_id, on_every_backend, tenant};

on_every_backend!(
    rows_are_what_the_log_folds_to_at_every_version,
    a_fork_begins_with_what_its_origin_was_and_goes_its_own_way,
    a_fork_whose_origin_is_not_there_is_parked,
    a_dead_letter_waits_until_its_node_is_tried_again,
    an_event_of_one_iteration_does_not_write_the_others,
);

/// The execution as the log says.
async fn folded(world: &World, stream: Uuid) -> (ExecutionView, Bodies) {
    let mut replay = Replay::of(stream, u64::MAX);
    while let Some(page) = replay.wants() {
        // Small pages, so that more than one is read.
        let events = world.log.read_stream(page.stream, page.after, page.limit).await.unwrap();
        replay.give(&events).unwrap();
    }
    let history = replay.history();
    (history.view.unwrap(), history.bodies)
}

/// All nodes inside a container as the tables have them, two at a time.
async fn nodes_of(world: &World, stream: Uuid, parent: &str) -> Vec<NodeView> {
    let mut nodes = Vec::new();
    let mut cursor = None;
    loop {
        let page = world.models.nodes_of(&everything(), stream, parent, cursor, 2).await.unwrap();
        nodes.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return nodes;
        }
    }
}

async fn assert_rows_say_what_the_log_says(world: &World, stream: Uuid) {
    let (view, bodies) = folded(world, stream).await;
    assert_eq!(world.models.execution(&tenant(), stream).await.unwrap(), Some(view));
    let mut stored = nodes_of(world, stream, "loop").await;
    for iteration in 0..3 {
        stored.extend(nodes_of(world, stream, &format!("loop/{iteration}/inner")).await);
    }
    stored.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let expected: Vec<NodeView> = bodies.nodes().cloned().collect();
    assert_eq!(stored, expected);
}

async fn rows_are_what_the_log_folds_to_at_every_version(backend: Backend) {
    let mut world = World::on(backend).await;
    let running = world.start(ProjectionConfig { cache_bytes: 1, ..deaf_to_time() });
    let history = eventful(fresh_id(1));
    for event in &history.events {
        world.commit(vec![event.clone()]).await;
        world.settled().await;
        assert_rows_say_what_the_log_says(&world, history.stream).await;
    }
    assert!(world.models.parked(MAIN_PROJECTION).await.unwrap().is_empty());
    let ids: Vec<String> =
        nodes_of(&world, history.stream, "loop").await.into_iter().map(|node| node.id).collect();
    let in_order =
        ["loop/0/fetch", "loop/0/inner", "loop/1/fetch", "loop/1/inner", "loop/2/fetch", "loop/2/inner"];
    assert_eq!(ids, in_order);

    let live = world.rows().await;
    rebuild(&*world.log, &world.models, &ProjectionConfig::default()).await.unwrap();
    assert_eq!(world.rows().await, live, "in one batch as one by one");
    running.stop().await;
}

async fn a_fork_begins_with_what_its_origin_was_and_goes_its_own_way(backend: Backend) {
    let mut world = World::on(backend).await;
    let running = world.start(deaf_to_time());
    let mut origin = History::begun(fresh_id(1));
    origin.node("started", "loop", 1, json!({"count": 2}));
    origin.scheduled("loop/0/fetch", 1).completed("loop/0/fetch", 1).iteration("loop/0", 1);
    origin.scheduled("loop/1/fetch", 1);
    let at = origin.events.len() as u64;
    origin.completed("loop/1/fetch", 1).iteration("loop/1", 1).completed("loop", 1).ended();
    world.commit(origin.events.clone()).await;

    let mut fork = History::forked(fresh_id(2), &origin, at);
    fork.scheduled("loop/1/fetch", 1);
    let second = History::forked(fresh_id(3), &fork, 1);
    world.commit(fork.events.clone()).await;
    world.commit(second.events.clone()).await;
    world.settled().await;

    for history in [&origin, &fork, &second] {
        assert_rows_say_what_the_log_says(&world, history.stream).await;
    }
    let view = world.models.execution(&tenant(), fork.stream).await.unwrap().unwrap();
    assert_eq!((view.status, view.version, view.workflow_version), (ExecutionStatus::Running, 2, 2));
    let from = view.forked_from.unwrap();
    assert_eq!((from.execution_id, from.at_version), (origin.stream, at));
    let nodes = nodes_of(&world, fork.stream, "loop").await;
    assert_eq!(nodes[0].status, NodeViewStatus::Completed);
    assert_eq!(nodes[0].output, json!("another"));
    assert!(nodes[0].finished_at.is_some());
    assert_eq!(nodes[1].status, NodeViewStatus::Scheduled);
    let nodes = nodes_of(&world, second.stream, "loop").await;
    assert_eq!(nodes[1].status, NodeViewStatus::Pending, "what was in flight begins anew");
    let forks = read_models::ExecutionFilter { origin: Some(origin.stream), ..Default::default() };
    let page = world.models.executions(&everything(), &forks, None, 10).await.unwrap();
    assert_eq!(page.items.iter().map(|view| view.id).collect::<Vec<_>>(), [fork.stream]);

    let live = world.rows().await;
    let small = ProjectionConfig { batch_events: 1, page_events: 1, ..ProjectionConfig::default() };
    rebuild(&*world.log, &world.models, &small).await.unwrap();
    assert_eq!(world.rows().await, live);
    running.stop().await;
}

async fn a_fork_whose_origin_is_not_there_is_parked(backend: Backend) {
    let mut world = World::on(backend).await;
    let running = world.start(deaf_to_time());
    let mut origin = History::begun(fresh_id(1));
    origin.ended();
    let nowhere = History::begun(fresh_id(1));
    let short = History::forked(fresh_id(2), &origin, 3);
    let absent = History::forked(fresh_id(3), &nowhere, 1);
    for history in [&origin, &short, &absent] {
        world.commit(history.events.clone()).await;
    }
    world.settled().await;
    let parked = world.models.parked(MAIN_PROJECTION).await.unwrap();
    assert_eq!(parked.len(), 2);
    assert!(parked.iter().all(|stream| stream.reason.contains("origin")), "{parked:?}");
    assert_eq!(world.models.execution(&tenant(), short.stream).await.unwrap(), None);
    running.stop().await;
}

async fn a_dead_letter_waits_until_its_node_is_tried_again(backend: Backend) {
    let mut world = World::on(backend).await;
    let running = world.start(deaf_to_time());
    let mut history = History::begun(fresh_id(1));
    history.scheduled("fetch", 1).died("fetch", 1);
    world.commit(history.events.clone()).await;
    world.settled().await;
    let open = DeadLetterFilter::default();
    let done = DeadLetterFilter { redriven: true, ..DeadLetterFilter::default() };
    let page = world.models.dead_letters(&everything(), &open, None, 10).await.unwrap();
    let [letter] = page.items.as_slice() else { panic!("{page:?}") };
    assert_eq!(letter.id, history.events[3].id);
    assert_eq!((letter.node_id.as_str(), letter.workflow_name.as_str()), ("fetch", "orders"));
    assert_eq!(letter.error.message, "the shop is closed");
    assert_eq!(world.models.dead_letter(&tenant(), letter.id).await.unwrap().as_ref(), Some(letter));
    assert!(world.models.dead_letters(&everything(), &done, None, 10).await.unwrap().items.is_empty());

    // Another node's retry says nothing of it.
    let before = history.events.len();
    history.add("execution.retried", json!({"nodes": ["other"]}));
    world.commit(history.events[before..].to_vec()).await;
    world.settled().await;
    assert_eq!(world.models.dead_letters(&everything(), &open, None, 10).await.unwrap(), page);

    let before = history.events.len();
    history.add("execution.retried", json!({"nodes": ["fetch"]})).scheduled("fetch", 1).died("fetch", 1);
    world.commit(history.events[before..].to_vec()).await;
    world.settled().await;
    let redriven = world.models.dead_letters(&everything(), &done, None, 10).await.unwrap();
    assert_eq!(redriven.items.iter().map(|letter| letter.id).collect::<Vec<_>>(), [letter.id]);
    assert!(redriven.items[0].redriven_at.is_some());
    let open = world.models.dead_letters(&everything(), &open, None, 10).await.unwrap();
    assert_eq!(open.items.len(), 1, "the second death is a dead letter of its own");

    let live = world.rows().await;
    rebuild(&*world.log, &world.models, &ProjectionConfig::default()).await.unwrap();
    assert_eq!(world.rows().await, live);
    running.stop().await;
}

async fn an_event_of_one_iteration_does_not_write_the_others(backend: Backend) {
    let mut world = World::on(backend).await;
    let running = world.start(deaf_to_time());
    let mut history = History::begun(fresh_id(1));
    history.looped(1, 150);
    let size = |rows: Vec<Vec<String>>| rows.iter().flatten().map(String::len).sum::<usize>();
    world.commit(history.events[..20].to_vec()).await;
    world.settled().await;
    let early = size(world.models.dump_rows(Table::Executions).await.unwrap());
    world.commit(history.events[20..].to_vec()).await;
    world.settled().await;
    let late = size(world.models.dump_rows(Table::Executions).await.unwrap());
    assert!(late < early + 200, "the execution's own row has grown from {early} to {late} bytes");
    assert_eq!(world.models.dump_rows(Table::ExecutionNodes).await.unwrap().len(), 150 * 4);
    running.stop().await;
}
