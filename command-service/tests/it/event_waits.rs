//! Waits for events over the real log: before and after the wait, in any partition, over restarts.

use serde_json::{Value, json};
use uuid::Uuid;

use domain::command::Command;
use domain::event::{Event, ExecutionEvent};
use domain::workflow::command::WorkflowCommand;

use crate::harness::{Service, chain, fresh, request, start};

fn wait(config: Value) -> Value {
    json!({"id": "w", "type": "wait", "config": config})
}

fn paid() -> Value {
    wait(json!({"for": "event", "type": "order.paid", "key": "{{ input }}"}))
}

/// A workflow that emits `order.paid` with its input as the key.
async fn emitter(service: &Service) -> Uuid {
    let data = json!({"key": "{{ input }}", "total": 5});
    let emit = json!({"id": "e", "type": "emit_event", "config": {"type": "order.paid", "data": data}});
    service.create_workflow(chain("emitter", json!([emit]))).await
}

async fn emit(service: &Service, emitter: Uuid, key: &str) {
    let execution = fresh();
    service.send(execution, start(emitter, json!(key))).await.expect("accepted");
    assert!(service.types(execution).await.iter().any(|known| known == "execution.event.emitted"));
}

async fn output(service: &Service, execution: Uuid) -> Value {
    service.wait_for(execution, "execution.completed").await;
    for recorded in service.events(execution).await {
        if let Event::Execution(ExecutionEvent::Completed(e)) = recorded.decode().expect("an event") {
            return e.output;
        }
    }
    Value::Null
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_after_the_wait_satisfies_the_one_with_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let emitter = emitter(&service).await;
    let waiter = service.create_workflow(chain("waiter", json!([paid()]))).await;
    let (wanted, other) = (fresh(), fresh());
    service.send(wanted, start(waiter, json!("a"))).await.expect("accepted");
    service.send(other, start(waiter, json!("b"))).await.expect("accepted");
    service.wait_for(wanted, "execution.node.waiting").await;
    emit(&service, emitter, "a").await;
    assert_eq!(output(&service, wanted).await, json!({"key": "a", "total": 5}));
    assert_eq!(service.types(other).await.last().map(String::as_str), Some("execution.node.waiting"));
    service.check_log().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_before_the_wait_satisfies_it_but_not_one_from_before_the_start() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let emitter = emitter(&service).await;
    let waiter = service.create_workflow(chain("waiter", json!([request("first"), paid()]))).await;
    emit(&service, emitter, "late").await;
    let (early, late) = (fresh(), fresh());
    let mut tasks = Vec::new();
    for (execution, key) in [(early, "early"), (late, "late")] {
        service.send(execution, start(waiter, json!(key))).await.expect("accepted");
        tasks.push(service.task().await);
    }
    emit(&service, emitter, "early").await;
    for task in &tasks {
        service.complete(task, json!(1)).await.expect("accepted");
    }
    assert_eq!(output(&service, early).await["key"], "early");
    assert_eq!(service.types(late).await.last().map(String::as_str), Some("execution.node.waiting"));
    emit(&service, emitter, "late").await;
    assert_eq!(output(&service, late).await["key"], "late");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waits_and_events_of_all_partitions_find_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let emitter = emitter(&service).await;
    let waiter = service.create_workflow(chain("waiter", json!([paid()]))).await;
    let waiting: Vec<(Uuid, String)> = (0..60).map(|number| (fresh(), format!("order-{number}"))).collect();
    // Some events come while their wait is being made known, some before, some after.
    for (number, (execution, key)) in waiting.iter().enumerate() {
        service.send(*execution, start(waiter, json!(key))).await.expect("accepted");
        if number % 2 == 0 {
            emit(&service, emitter, key).await;
        }
    }
    for (_, key) in waiting.iter().skip(1).step_by(2) {
        emit(&service, emitter, key).await;
    }
    for (execution, key) in &waiting {
        assert_eq!(output(&service, *execution).await["key"], json!(key));
    }
    service.check_log().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_is_found_again_after_a_restart_and_so_is_an_event_that_nobody_offered() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let emitter = emitter(&service).await;
    let waiter = service.create_workflow(chain("waiter", json!([paid()]))).await;
    let (before, after) = (fresh(), fresh());
    service.send(before, start(waiter, json!("before"))).await.expect("accepted");
    service.send(after, start(waiter, json!("after"))).await.expect("accepted");
    emit(&service, emitter, "before").await;
    service.kill().await;
    let service = Service::start(folder.path()).await;
    assert_eq!(output(&service, before).await["key"], "before");
    emit(&service, emitter, "after").await;
    assert_eq!(output(&service, after).await["key"], "after");
    let satisfied = service.types(before).await;
    assert_eq!(satisfied.iter().filter(|known| *known == "execution.wait.satisfied").count(), 1);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_stored_type_can_be_waited_for_and_filters_and_all_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let emitter = emitter(&service).await;
    let both = wait(json!({"all": [
        {"for": "event", "type": "workflow.disabled"},
        {"for": "event", "type": "order.paid", "filter": "payload.key == 'right'"},
    ]}));
    let waiter = service.create_workflow(chain("waiter", json!([both]))).await;
    let execution = fresh();
    service.send(execution, start(waiter, json!("x"))).await.expect("accepted");
    emit(&service, emitter, "wrong").await;
    emit(&service, emitter, "right").await;
    service.wait_for(execution, "execution.wait.satisfied").await;
    let disable = Command::Workflow(WorkflowCommand::Disable { expected_version: None });
    service.send(waiter, disable).await.expect("accepted");
    assert_eq!(output(&service, execution).await[1]["key"], "right");
    service.stop().await;
}
