//! Concurrency keys over the real log: whoever has a slot has it until its end, whatever happens to the process.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

use domain::command::Command;
use domain::event::{Event, ExecutionEvent, LaneEvent};
use domain::execution::command::ExecutionCommand;
use domain::ids::TenantId;
use domain::lane::{LaneState, evolve, stream_of};

use crate::harness::{Service, chain, delay, fresh, request, start};
use crate::shared::until;

fn limited(name: &str, nodes: Value, limit: u32, on_limit: &str) -> Value {
    let mut definition = chain(name, nodes);
    definition["concurrency"] = json!({"key": "{{ input.key }}", "limit": limit, "on_limit": on_limit});
    definition
}

fn start_with_priority(workflow: Uuid, priority: u8) -> Command {
    let Command::Execution(ExecutionCommand::Start(mut start)) = start(workflow, json!({"key": "k"})) else {
        unreachable!()
    };
    start.priority = Some(priority);
    Command::Execution(ExecutionCommand::Start(start))
}

fn lane(workflow: Uuid) -> Uuid {
    stream_of(&TenantId::default_tenant(), workflow, "k")
}

/// What a lane's log says: at every grant there is room; returns who was ever granted, and the state at the end.
async fn fold(service: &Service, lane: Uuid) -> (BTreeSet<Uuid>, LaneState) {
    let (mut state, mut granted) = (LaneState::default(), BTreeSet::new());
    for recorded in service.events(lane).await {
        let Event::Lane(event) = recorded.decode().expect("an event") else { panic!("{recorded:?}") };
        state = evolve(state, &event);
        if let LaneEvent::Granted(e) = event {
            assert!(
                state.holders.len() <= state.limit as usize,
                "{} at {}",
                state.holders.len(),
                recorded.version
            );
            assert!(granted.insert(e.execution_id), "a slot twice");
        }
    }
    (granted, state)
}

async fn is_at(service: &Service, execution: Uuid, event_type: &str) -> bool {
    service.types(execution).await.iter().any(|known| known == event_type)
}

async fn reason(service: &Service, execution: Uuid) -> Option<String> {
    service.wait_for(execution, "execution.cancelled").await;
    for recorded in service.events(execution).await {
        if let Event::Execution(ExecutionEvent::Cancelled(end)) = recorded.decode().expect("an event") {
            return end.reason;
        }
    }
    None
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_executions_share_three_slots_over_stops_and_kills() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut service = Service::start(folder.path()).await;
    let definition = limited("a", json!([delay("d", 2)]), 3, "queue");
    let workflow = service.create_workflow(definition).await;
    let executions: Vec<Uuid> = (0..200).map(|_| fresh()).collect();
    for (number, execution) in executions.iter().enumerate() {
        match number {
            50 | 150 => {
                service.kill().await;
                service = Service::start(folder.path()).await;
            }
            100 => {
                service.stop().await;
                service = Service::start(folder.path()).await;
            }
            _ => {}
        }
        service.send(*execution, start(workflow, json!({"key": "k"}))).await.expect("accepted");
    }
    let lane = lane(workflow);
    until("every slot is given back", async || {
        let types = service.types(lane).await;
        types.iter().filter(|known| *known == "lane.released").count() == executions.len()
    })
    .await;
    let (granted, state) = fold(&service, lane).await;
    assert_eq!(granted, executions.iter().copied().collect::<BTreeSet<Uuid>>(), "none is lost");
    assert!(state.holders.is_empty() && state.waiting.is_empty(), "none is stuck");
    for execution in executions {
        let types = service.types(execution).await;
        let count = |event_type: &str| types.iter().filter(|known| *known == event_type).count();
        assert_eq!(types[..2], ["execution.started", "execution.queued"]);
        assert_eq!((count("execution.admitted"), count("execution.completed")), (1, 1), "{types:?}");
    }
    service.check_log().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_execution_that_finds_no_slot_and_does_not_wait_ends_cancelled() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let workflow = service.create_workflow(limited("a", json!([request("a")]), 1, "drop")).await;
    let (first, second) = (fresh(), fresh());
    service.send(first, start(workflow, json!({"key": "k"}))).await.expect("accepted");
    let task = service.task().await;
    service.send(second, start(workflow, json!({"key": "k"}))).await.expect("accepted as pending");
    assert_eq!(reason(&service, second).await.as_deref(), Some("concurrency_limit"));
    service.complete(&task, json!(1)).await.expect("accepted");
    service.wait_for(first, "execution.completed").await;
    let third = fresh();
    until("the slot is free", async || fold(&service, lane(workflow)).await.1.holders.is_empty()).await;
    service.send(third, start(workflow, json!({"key": "k"}))).await.expect("accepted");
    service.wait_for(third, "execution.admitted").await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_oldest_is_cancelled_for_one_that_does_not_wait_its_turn() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let definition = limited("a", json!([delay("d", 600_000)]), 1, "cancel_running");
    let workflow = service.create_workflow(definition).await;
    let (first, second) = (fresh(), fresh());
    service.send(first, start(workflow, json!({"key": "k"}))).await.expect("accepted");
    service.wait_for(first, "execution.admitted").await;
    service.send(second, start(workflow, json!({"key": "k"}))).await.expect("accepted");
    assert_eq!(reason(&service, first).await.as_deref(), Some("cancel_running"));
    service.wait_for(second, "execution.admitted").await;
    assert!(!is_at(&service, second, "execution.cancelled").await);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn higher_priorities_go_first_and_other_keys_do_not_wait() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let workflow = service.create_workflow(limited("a", json!([request("a")]), 1, "queue")).await;
    let executions: Vec<Uuid> = (0..4).map(|_| fresh()).collect();
    for (execution, priority) in executions.iter().zip([5, 1, 9, 5]) {
        service.send(*execution, start_with_priority(workflow, priority)).await.expect("accepted");
        until("it is in the lane", async || {
            let state = fold(&service, lane(workflow)).await.1;
            state.holders.contains_key(execution) || state.places.contains_key(execution)
        })
        .await;
    }
    let other = fresh();
    service.send(other, start(workflow, json!({"key": "another"}))).await.expect("accepted");
    service.wait_for(other, "execution.admitted").await;
    let mut order = Vec::new();
    while order.len() < 5 {
        let task = service.task().await;
        order.push(task.task.execution);
        service.complete(&task, json!(1)).await.expect("accepted");
    }
    order.retain(|execution| *execution != other);
    assert_eq!(order, [executions[0], executions[2], executions[3], executions[1]]);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_cancelled_while_it_waits_never_begins() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let workflow = service.create_workflow(limited("a", json!([request("a")]), 1, "queue")).await;
    let (first, second, third) = (fresh(), fresh(), fresh());
    for execution in [first, second, third] {
        service.send(execution, start(workflow, json!({"key": "k"}))).await.expect("accepted");
        until("it is in the lane", async || {
            let state = fold(&service, lane(workflow)).await.1;
            state.holders.contains_key(&execution) || state.places.contains_key(&execution)
        })
        .await;
    }
    let cancel = Command::Execution(ExecutionCommand::Cancel { reason: None });
    service.send(second, cancel).await.expect("accepted");
    let task = service.task().await;
    service.complete(&task, json!(1)).await.expect("accepted");
    service.wait_for(third, "execution.admitted").await;
    assert!(!is_at(&service, second, "execution.admitted").await);
    service.stop().await;
}
