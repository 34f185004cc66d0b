//! A new process goes on where the old one ended.

use command_service::CommandServiceConfig;
use serde_json::{Value, json};

use crate::harness::{Service, chain, delay, fresh, request, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_in_flight_are_handed_out_again_with_the_same_attempt() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let workflow = service.create_workflow(chain("a", json!([request("a"), request("b")]))).await;
    let execution = fresh();
    service.send(execution, start(workflow, json!("x"))).await.expect("accepted");
    let before = service.task().await;
    service.stop().await;

    let service = Service::start(folder.path()).await;
    let after = service.task().await;
    assert_eq!(after.task, before.task);
    assert_eq!(after.config, before.config);
    service.complete(&after, json!(1)).await.expect("accepted");
    let second = service.task().await;
    service.complete(&second, json!(2)).await.expect("accepted");
    service.wait_for(execution, "execution.completed").await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_that_came_due_while_nobody_ran_fires_at_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let workflow = service.create_workflow(chain("a", json!([delay("pause", 400)]))).await;
    let execution = fresh();
    service.send(execution, start(workflow, Value::Null)).await.expect("accepted");
    service.stop().await;
    let service = Service::start(folder.path()).await;
    service.wait_for(execution, "execution.completed").await;
    service.check_log().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wakeup_beyond_the_horizon_is_read_when_its_time_comes_near() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = CommandServiceConfig { timer_horizon_ms: 50, ..CommandServiceConfig::default() };
    let service = Service::start_with(folder.path(), config).await;
    let workflow = service.create_workflow(chain("a", json!([delay("pause", 200)]))).await;
    let execution = fresh();
    service.send(execution, start(workflow, Value::Null)).await.expect("accepted");
    service.wait_for(execution, "execution.completed").await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_window_still_lets_every_task_through() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = CommandServiceConfig { release_window: 2, ..CommandServiceConfig::default() };
    let service = Service::start_with(folder.path(), config).await;
    let workflow = service.create_workflow(chain("a", json!([request("a")]))).await;
    let executions: Vec<_> = (0..20).map(|_| fresh()).collect();
    for execution in &executions {
        service.send(*execution, start(workflow, json!("x"))).await.expect("accepted");
    }
    for _ in &executions {
        let task = service.task().await;
        service.complete(&task, json!(1)).await.expect("accepted");
    }
    for execution in executions {
        service.wait_for(execution, "execution.completed").await;
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_value_too_deep_to_be_read_back_fails_its_node_instead_of_the_stream() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let nest = |value: Value, levels: usize| (0..levels).fold(value, |value, _| json!([value]));
    let template = nest(json!("{{ input }}"), 50);
    let nodes = json!([crate::harness::transform("t", template), delay("d", 600_000)]);
    let workflow = service.create_workflow(chain("a", nodes)).await;
    let execution = fresh();
    service.send(execution, start(workflow, nest(json!(1), 90))).await.expect("accepted");
    service.wait_for(execution, "execution.failed").await;
    let too_deep = service.send(fresh(), start(workflow, nest(json!(1), 110))).await.expect_err("refused");
    assert!(too_deep.to_string().contains("nested"), "{too_deep}");

    let workflow = service.create_workflow(chain("b", json!([request("a"), request("b")]))).await;
    let execution = fresh();
    service.send(execution, start(workflow, json!("x"))).await.expect("accepted");
    let task = service.task().await;
    let reply =
        service.complete(&task, json!({"body": nest(json!(1), 120)})).await.expect("taken as a failure");
    assert_eq!(reply.answer["status"], "failed");
    service.stop().await;
    let service = Service::start(folder.path()).await;
    assert_eq!(service.types(execution).await.last().map(String::as_str), Some("execution.failed"));
    service.check_log().await;
    service.stop().await;
}
