//! Sub-workflows over the real log: starts and cancellations go down, ends and failures go up, restarts in between.

use serde_json::{Value, json};
use uuid::Uuid;

use domain::command::Command;
use domain::event::{Event, ExecutionEvent};
use domain::execution::command::ExecutionCommand;
use domain::execution::event::{ChildStarted, ExecutionFailed};

use crate::harness::{Service, chain, fresh, request, start, transform};

fn sub(workflow: &str, more: &Value) -> Value {
    let mut config = json!({"workflow": workflow, "input": "{{ input }}"});
    if let (Some(config), Some(more)) = (config.as_object_mut(), more.as_object()) {
        config.extend(more.clone());
    }
    json!({"id": "sub", "type": "sub_workflow", "config": config})
}

async fn typed(service: &Service, execution: Uuid) -> Vec<ExecutionEvent> {
    let events = service.events(execution).await.into_iter();
    let typed = events.filter_map(|recorded| match recorded.decode().expect("an event") {
        Event::Execution(event) => Some(event),
        _ => None,
    });
    typed.collect()
}

async fn child_of(service: &Service, parent: Uuid) -> ChildStarted {
    service.wait_for(parent, "execution.child.started").await;
    let mut events = typed(service, parent).await.into_iter();
    let child = events.find_map(|event| match event {
        ExecutionEvent::ChildStarted(e) => Some(e),
        _ => None,
    });
    child.expect("a child")
}

async fn output(service: &Service, execution: Uuid) -> Value {
    service.wait_for(execution, "execution.completed").await;
    let ends = typed(service, execution).await.into_iter();
    let mut outputs = ends.filter_map(|event| match event {
        ExecutionEvent::Completed(e) => Some(e.output),
        _ => None,
    });
    outputs.next().expect("an output")
}

async fn failure(service: &Service, execution: Uuid) -> ExecutionFailed {
    service.wait_for(execution, "execution.failed").await;
    let mut ends = typed(service, execution).await.into_iter();
    let failed = ends.find_map(|event| match event {
        ExecutionEvent::Failed(e) => Some(e),
        _ => None,
    });
    failed.expect("a failure")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_gives_its_output_to_the_node_that_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let doubled = transform("t", json!({"doubled": "{{ input * 2 }}"}));
    service.create_workflow(chain("child", json!([doubled]))).await;
    let parent = service.create_workflow(chain("parent", json!([sub("child", &json!({}))]))).await;
    let execution = fresh();
    service.send(execution, start(parent, json!(21))).await.expect("accepted");
    assert_eq!(output(&service, execution).await, json!({"doubled": 42}));
    let child = child_of(&service, execution).await.child_id;
    let ExecutionEvent::Started(started) = &typed(&service, child).await[0] else { panic!("a start") };
    let parent_ref = started.parent.as_ref().expect("a parent");
    assert_eq!((parent_ref.execution_id, parent_ref.depth), (execution, 1));
    assert_eq!(started.trigger.kind, "parent");
    service.check_log().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_runs_while_the_process_is_killed_still_gives_its_output() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut service = Service::start(folder.path()).await;
    let child = service.create_workflow(chain("child", json!([request("a")]))).await;
    let by_id = sub(&child.to_string(), &json!({}));
    let parent = service.create_workflow(chain("parent", json!([by_id]))).await;
    let execution = fresh();
    service.send(execution, start(parent, json!("x"))).await.expect("accepted");
    service.kill().await;
    service = Service::start(folder.path()).await;
    let task = service.task().await;
    service.kill().await;
    service = Service::start(folder.path()).await;
    let again = service.task().await;
    assert_eq!(again.task, task.task);
    service.complete(&again, json!("done")).await.expect("accepted");
    service.kill().await;
    service = Service::start(folder.path()).await;
    assert_eq!(output(&service, execution).await, json!("done"));
    let types = service.types(execution).await;
    assert_eq!(types.iter().filter(|known| *known == "execution.child.finished").count(), 1);
    service.check_log().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failure_goes_up_and_an_unknown_workflow_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let fail = json!({"id": "f", "type": "fail", "config": {"message": "out of stock"}});
    let broken = json!({"name": "child", "nodes": [{"id": "start", "type": "start"}, fail, {"id": "end", "type": "end"}],
        "edges": [{"source": "start", "target": "f"}, {"source": "f", "target": "end"}]});
    service.create_workflow(broken).await;
    for (workflow, message) in [("child", "out of stock"), ("nobody", "`nobody`")] {
        let name = format!("parent-of-{workflow}");
        let parent = service.create_workflow(chain(&name, json!([sub(workflow, &json!({}))]))).await;
        let execution = fresh();
        service.send(execution, start(parent, json!(1))).await.expect("accepted");
        let failed = failure(&service, execution).await;
        assert_eq!(failed.node_id.as_deref(), Some("sub"));
        assert!(failed.error.message.contains(message), "{}", failed.error.message);
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_whose_refusal_was_told_is_not_tried_again_by_the_next_owner() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let parent = service.create_workflow(chain("parent", json!([sub("late", &json!({}))]))).await;
    let execution = fresh();
    service.send(execution, start(parent, json!(1))).await.expect("accepted");
    failure(&service, execution).await;
    // Now it could be started; and the checkpoint has not passed the event yet.
    service.create_workflow(chain("late", json!([transform("t", json!(1))]))).await;
    service.kill().await;
    let service = Service::start(folder.path()).await;
    let again = fresh();
    service.send(again, start(parent, json!(1))).await.expect("accepted");
    assert_eq!(output(&service, again).await, json!(1));
    let child = child_of(&service, execution).await.child_id;
    assert!(service.types(child).await.is_empty(), "nobody waits for it any more");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cancellation_goes_down() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    service.create_workflow(chain("child", json!([crate::harness::delay("d", 600_000)]))).await;
    service.create_workflow(chain("middle", json!([sub("child", &json!({}))]))).await;
    let top = service.create_workflow(chain("top", json!([sub("middle", &json!({}))]))).await;
    for terminate in [false, true] {
        let execution = fresh();
        service.send(execution, start(top, json!(1))).await.expect("accepted");
        let middle = child_of(&service, execution).await.child_id;
        let child = child_of(&service, middle).await.child_id;
        service.wait_for(child, "execution.timer.started").await;
        let (command, end) = match terminate {
            true => (ExecutionCommand::Terminate { reason: None }, "execution.terminated"),
            false => (ExecutionCommand::Cancel { reason: None }, "execution.cancelled"),
        };
        service.send(execution, Command::Execution(command)).await.expect("accepted");
        for stream in [execution, middle, child] {
            service.wait_for(stream, end).await;
        }
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_that_calls_itself_ends_at_the_deepest_level_that_is_allowed() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let endless = service.create_workflow(chain("endless", json!([sub("endless", &json!({}))]))).await;
    let mut execution = fresh();
    service.send(execution, start(endless, json!(1))).await.expect("accepted");
    let root = failure(&service, execution).await;
    assert!(root.error.message.contains("32"), "{}", root.error.message);
    let mut depth = 0;
    while service.types(execution).await.iter().any(|known| known == "execution.child.started") {
        execution = child_of(&service, execution).await.child_id;
        depth += 1;
    }
    assert_eq!(depth, 32);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_child_that_nobody_waits_for_goes_its_own_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    service.create_workflow(chain("child", json!([request("a")]))).await;
    let alone = sub("child", &json!({"wait": false}));
    let parent = service.create_workflow(chain("parent", json!([alone]))).await;
    let execution = fresh();
    service.send(execution, start(parent, json!("x"))).await.expect("accepted");
    let child = child_of(&service, execution).await.child_id;
    assert_eq!(output(&service, execution).await, json!({"execution_id": child}));
    let task = service.task().await;
    assert_eq!(task.task.execution, child);
    service.complete(&task, json!(1)).await.expect("accepted");
    assert_eq!(output(&service, child).await, json!(1));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_completed_child_undoes_its_work_when_its_parent_fails() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let mut child = chain("child", json!([request("book")]));
    child["nodes"][1]["compensate"] = json!("unbook");
    child["nodes"].as_array_mut().expect("nodes").push(request("unbook"));
    service.create_workflow(child).await;
    let parent = chain("parent", json!([sub("child", &json!({})), request("pay")]));
    let parent = service.create_workflow(parent).await;
    let execution = fresh();
    service.send(execution, start(parent, json!("x"))).await.expect("accepted");
    let book = service.task().await;
    service.complete(&book, json!(1)).await.expect("accepted");
    let pay = service.task().await;
    assert_eq!(pay.task.execution, execution);
    service.fail(&pay, domain::execution::event::ErrorKind::Custom).await.expect("accepted");
    let unbook = service.task().await;
    assert_eq!((unbook.task.execution, unbook.task.node.node_id.as_str()), (book.task.execution, "unbook"));
    service.complete(&unbook, json!(1)).await.expect("accepted");
    service.wait_for(execution, "execution.failed").await;
    let types = service.types(execution).await;
    assert!(types.iter().any(|known| known == "execution.child.compensated"), "{types:?}");
    service.check_log().await;
    service.stop().await;
}
