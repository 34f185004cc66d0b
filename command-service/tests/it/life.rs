//! From a command to the end of an execution.

use domain::command::Command;
use domain::decision::NodeRun;
use domain::execution::command::ExecutionCommand;
use event_store::LogReader;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Service, chain, delay, fresh, request, start, transform};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_engine_only_execution_is_complete_when_its_start_is_answered() {
    let folder = folder();
    let service = Service::start(folder.path()).await;
    let workflow =
        service.create_workflow(chain("a", json!([transform("t", json!("{{ input + 1 }}"))]))).await;
    let execution = fresh();
    let reply = service.send(execution, start(workflow, json!(150))).await.expect("accepted");
    assert_eq!(reply.answer, json!({"execution_id": execution, "status": "completed"}));
    let events = service.log.read_stream(execution, 0, 10).await.expect("events");
    let last: Value = serde_json::from_slice(&events[2].data).expect("JSON");
    assert_eq!(last["output"], 151);
    assert_eq!(reply.position, Some(events[2].position));
    service.check_log().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_node_goes_out_as_a_task_and_its_result_comes_back_as_a_command() {
    let folder = folder();
    let service = Service::start(folder.path()).await;
    let workflow = service.create_workflow(chain("a", json!([request("a"), request("b")]))).await;
    let execution = fresh();
    let reply = service.send(execution, start(workflow, json!("x"))).await.expect("accepted");
    assert_eq!(reply.answer["status"], "running");
    let first = service.task().await;
    assert_eq!(first.config["url"], "http://127.0.0.1:1/x");
    service.complete(&first, json!({"n": 1})).await.expect("accepted");
    let second = service.task().await;
    assert_eq!(second.task.node.node_id, "b");
    let reply = service.complete(&second, json!({"n": 2})).await.expect("accepted");
    assert_eq!(reply.answer["status"], "completed");
    let stale = service.complete(&first, json!({"n": 3})).await.expect_err("stale");
    assert!(stale.to_string().contains("not in flight"), "{stale}");
    service.check_log().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delay_and_a_retry_fire_by_themselves() {
    let folder = folder();
    let service = Service::start(folder.path()).await;
    let mut node = request("a");
    node["retry"] = json!({"max_attempts": 2, "initial_interval_ms": 20, "jitter": false});
    let workflow = service.create_workflow(chain("a", json!([delay("pause", 30), node]))).await;
    let execution = fresh();
    let reply = service.send(execution, start(workflow, Value::Null)).await.expect("accepted");
    assert_eq!(reply.answer["status"], "waiting");
    let task = service.task().await;
    let error = domain::execution::event::NodeError {
        kind: domain::execution::event::ErrorKind::Connection,
        message: "refused".to_owned(),
        retryable: true,
        details: Value::Null,
    };
    let failed = ExecutionCommand::CompleteNode { node: task.task.node.clone(), result: Err(error) };
    service.send(execution, Command::Execution(failed)).await.expect("accepted");
    let again = service.task().await;
    assert_eq!(again.task.node, NodeRun { node_id: "a".to_owned(), run: 1, attempt: 2 });
    service.complete(&again, json!("done")).await.expect("accepted");
    service.wait_for(execution, "execution.completed").await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_that_nobody_answers_times_out() {
    let folder = folder();
    let service = Service::start(folder.path()).await;
    let mut node = request("a");
    node["timeout_ms"] = json!(50);
    let workflow = service.create_workflow(chain("a", json!([node]))).await;
    let execution = fresh();
    service.send(execution, start(workflow, Value::Null)).await.expect("accepted");
    service.wait_for(execution, "execution.failed").await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_published_version_counts_for_the_next_start() {
    use domain::workflow::command::WorkflowCommand;
    let folder = folder();
    let service = Service::start(folder.path()).await;
    let workflow = service.create_workflow(chain("a", json!([transform("t", json!(1))]))).await;
    for version in 2..20_u64 {
        service.send(fresh(), start(workflow, Value::Null)).await.expect("accepted");
        let definition = chain("a", json!([transform("t", json!(version))]));
        let update = WorkflowCommand::Update { definition, publish: true, expected_version: None };
        service.send(workflow, Command::Workflow(update)).await.expect("accepted");
        let execution = fresh();
        service.send(execution, start(workflow, Value::Null)).await.expect("accepted");
        let events = service.log.read_stream(execution, 0, 1).await.expect("events");
        let started: Value = serde_json::from_slice(&events[0].data).expect("JSON");
        assert_eq!(started["workflow_version"], version);
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_executions_at_once_keep_the_log_dense_and_each_answer_right() {
    let folder = folder();
    let service = Service::start(folder.path()).await;
    let workflow = service.create_workflow(chain("a", json!([transform("t", json!("{{ input }}"))]))).await;
    let started = join_all((0..500).map(|number| {
        let service = &service;
        async move {
            let execution = fresh();
            let reply = service.send(execution, start(workflow, json!(number))).await.expect("accepted");
            assert_eq!(reply.answer["execution_id"], json!(execution));
        }
    }));
    started.await;
    assert_eq!(service.check_log().await, 2 + 500 * 3);
    service.stop().await;
}
