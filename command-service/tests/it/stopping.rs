//! Workers that are asked to stop, and how long each may be silent.

use command_service::CommandServiceConfig;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

use bus::tasks::{Beat, Task, TaskQueue};
use domain::command::Command;
use domain::execution::command::ExecutionCommand;
use domain::execution::event::ErrorKind;

use crate::harness::{PATIENCE, Service, chain, fresh, request, start};

/// `slow`, which `undo` undoes, beside `bad`.
fn beside() -> Value {
    let mut slow = request("slow");
    slow["compensate"] = json!("undo");
    let mut definition = chain("saga", json!([slow]));
    let nodes = definition["nodes"].as_array_mut().expect("a list");
    nodes.extend([request("bad"), request("undo")]);
    let edges = definition["edges"].as_array_mut().expect("a list");
    edges.extend([json!({"source": "start", "target": "bad"}), json!({"source": "bad", "target": "end"})]);
    definition
}

/// Starts it, and returns its two tasks: `bad` first.
async fn both(service: &Service) -> (Uuid, Task, Task) {
    let workflow = service.create_workflow(beside()).await;
    let execution = fresh();
    service.send(execution, start(workflow, json!("x"))).await.expect("accepted");
    let (one, two) = (service.task().await, service.task().await);
    let (bad, slow) = if one.task.node.node_id == "bad" { (one, two) } else { (two, one) };
    (execution, bad, slow)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_compensation_asks_workers_to_stop_and_a_late_result_counts() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let mut asked = service.tasks.cancellations();
    let (execution, bad, slow) = both(&service).await;
    service.fail(&bad, ErrorKind::Custom).await.expect("accepted");
    loop {
        let task = tokio::time::timeout(PATIENCE, asked.recv()).await.expect("a request").expect("a request");
        if task == slow.task {
            break;
        }
    }
    service.complete(&slow, json!(1)).await.expect("the late result counts");
    let undo = service.task().await;
    assert_eq!(undo.task.node.node_id, "undo");
    service.complete(&undo, json!(2)).await.expect("accepted");
    service.wait_for(execution, "execution.failed").await;
    let types = service.types(execution).await;
    assert!(types.iter().any(|event| event == "execution.node.compensated"), "{types:?}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_stops_as_it_was_asked_to_has_nothing_to_undo() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let (execution, bad, slow) = both(&service).await;
    let began = Instant::now();
    service.fail(&bad, ErrorKind::Custom).await.expect("accepted");
    service.fail(&slow, ErrorKind::Cancelled).await.expect("accepted");
    service.wait_for(execution, "execution.failed").await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    let types = service.types(execution).await;
    assert!(!types.iter().any(|event| event == "execution.node.compensated"), "{types:?}");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_nobody_had_begun_is_taken_back_without_a_grace() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = CommandServiceConfig { release_window: 1, ..CommandServiceConfig::default() };
    let service = Service::start_with(folder.path(), config).await;
    let mut definition = beside();
    // Scheduled first, so that it is the one that is handed out.
    definition["edges"].as_array_mut().expect("a list").reverse();
    let workflow = service.create_workflow(definition).await;
    let execution = fresh();
    service.send(execution, start(workflow, json!("x"))).await.expect("accepted");
    let only = service.task().await;
    let began = Instant::now();
    service.fail(&only, ErrorKind::Custom).await.expect("accepted");
    service.wait_for(execution, "execution.failed").await;
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_was_asked_to_stop_is_not_begun_again_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let (execution, bad, slow) = both(&service).await;
    service.fail(&bad, ErrorKind::Custom).await.expect("accepted");
    service.kill().await;

    let service = Service::start(folder.path()).await;
    // Its worker has outlived the owner: the result still counts.
    service.complete(&slow, json!(1)).await.expect("accepted");
    let next = service.task().await;
    assert_eq!(next.task.node.node_id, "undo");
    service.complete(&next, json!(2)).await.expect("accepted");
    service.wait_for(execution, "execution.failed").await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminated_execution_has_its_workers_stop_and_its_timers_forgotten() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let mut asked = service.tasks.cancellations();
    let (execution, bad, slow) = both(&service).await;
    let end = Command::Execution(ExecutionCommand::Terminate { reason: None });
    let reply = service.send(execution, end).await.expect("accepted");
    assert_eq!(reply.answer["status"], "terminated");
    let mut stopped = Vec::new();
    while stopped.len() < 2 {
        let task = tokio::time::timeout(PATIENCE, asked.recv()).await.expect("a request").expect("a request");
        stopped.push(task);
    }
    assert!(stopped.contains(&bad.task) && stopped.contains(&slow.task), "{stopped:?}");
    service.fail(&slow, ErrorKind::Custom).await.expect_err("too late");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_says_itself_how_long_its_worker_may_be_silent() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let mut node = request("a");
    node["heartbeat_timeout_ms"] = json!(3_000);
    let workflow = service.create_workflow(chain("a", json!([node, request("b")]))).await;
    let patient = service.create_workflow(chain("b", json!([request("a")]))).await;
    let (quick, slow) = (fresh(), fresh());
    service.send(quick, start(workflow, json!("x"))).await.expect("accepted");
    let task = service.task().await;
    assert_eq!(task.heartbeat_timeout_ms, Some(3_000));
    service.send(slow, start(patient, json!("x"))).await.expect("accepted");
    let other = service.task().await;
    assert_eq!(other.heartbeat_timeout_ms, None);
    for held in [&task, &other] {
        service.tasks.beat(Beat { task: held.task.clone(), worker: "w".into() });
    }
    // Far below the setting, 30 s.
    let again = loop {
        let next = service.task().await;
        // The silence of the patient one is noticed too, but it is only handed out again.
        if next.task.execution == quick && next.task.node.attempt > 1 {
            break next;
        }
    };
    assert_eq!(again.task.node.node_id, "a");
    assert!(service.types(quick).await.iter().any(|event| event == "execution.node.failed"));
    assert!(!service.types(slow).await.iter().any(|event| event == "execution.node.failed"));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_execution_that_is_retried_has_timers_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let pause = json!({"id": "pause", "type": "delay", "config": {"duration_ms": 300}});
    let mut definition = chain("a", json!([request("a"), pause]));
    definition["timeout_ms"] = json!(600_000);
    let workflow = service.create_workflow(definition).await;
    let execution = fresh();
    service.send(execution, start(workflow, json!("x"))).await.expect("accepted");
    let task = service.task().await;
    service.fail(&task, ErrorKind::Custom).await.expect("accepted");
    service.wait_for(execution, "execution.failed").await;
    let retry = ExecutionCommand::Retry { reason: None, node_inputs: Default::default(), dead_letter: None };
    service.send(execution, Command::Execution(retry)).await.expect("accepted");
    let task = service.task().await;
    assert_eq!(task.task.node.attempt, 2);
    service.complete(&task, json!(1)).await.expect("accepted");
    service.wait_for(execution, "execution.completed").await;
    service.stop().await;
}
