//! Forks over the real log: they begin with what their origin was, wherever that is read from.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use bus::CommandError;
use bus::tasks::Task;
use domain::command::{Command, CommandEnvelope};
use domain::event::{Event, ExecutionEvent};
use domain::execution::command::{ExecutionCommand, ForkExecution, StartExecution};
use domain::execution::event::{Effects, ExecutionForked, ParentRef, Trigger};
use domain::ids::{Actor, TenantId};

use crate::harness::{Service, chain, fresh, request, start};

fn fork(origin: Uuid, at_version: u64, effects: Effects) -> Command {
    Command::Execution(ExecutionCommand::Fork(ForkExecution {
        origin,
        at_version,
        input: None,
        node_outputs: Map::new(),
        workflow_version: None,
        effects,
        parent: None,
        owner: None,
    }))
}

/// Two requests in a row; the output has both answers.
async fn workflow(service: &Service) -> Uuid {
    let mut definition = chain("a", json!([request("a"), request("b")]));
    definition["nodes"][3]["config"]["output"] = json!(["{{ nodes.a.output }}", "{{ nodes.b.output }}"]);
    service.create_workflow(definition).await
}

async fn task_of(service: &Service, execution: Uuid, node: &str) -> Task {
    loop {
        let task = service.task().await;
        if task.task.execution == execution && task.task.node.node_id == node {
            return task;
        }
    }
}

async fn output(service: &Service, execution: Uuid) -> Value {
    service.wait_for(execution, "execution.completed").await;
    for recorded in service.events(execution).await {
        if let Event::Execution(ExecutionEvent::Completed(end)) = recorded.decode().expect("an event") {
            return end.output;
        }
    }
    Value::Null
}

async fn completed_nodes(service: &Service, execution: Uuid) -> Vec<String> {
    let mut nodes = Vec::new();
    for recorded in service.events(execution).await {
        if let Event::Execution(ExecutionEvent::NodeCompleted(e)) = recorded.decode().expect("an event") {
            nodes.push(e.node_id);
        }
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_of_a_fork_goes_on_from_its_origins_after_the_process_was_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let workflow = workflow(&service).await;
    let (origin, first, second) = (fresh(), fresh(), fresh());
    service.send(origin, start(workflow, json!("x"))).await.expect("accepted");
    let task = service.task().await;
    service.complete(&task, json!("from the origin")).await.expect("accepted");
    let at = service.events(origin).await.len() as u64;
    service.send(first, fork(origin, at, Effects::Live)).await.expect("a fork");
    let of_fork = service.events(first).await.len() as u64;
    service.send(second, fork(first, of_fork, Effects::Live)).await.expect("a fork of a fork");
    service.kill().await;

    let service = Service::start(folder.path()).await;
    let mut open = vec![origin, first, second];
    while !open.is_empty() {
        let task = service.task().await;
        assert_eq!(task.task.node.node_id, "b", "`a` is done in all of them");
        open.retain(|execution| *execution != task.task.execution);
        let name = if task.task.execution == origin { "origin" } else { "fork" };
        service.complete(&task, json!(name)).await.expect("accepted");
    }
    assert_eq!(output(&service, origin).await, json!(["from the origin", "origin"]));
    for fork in [first, second] {
        assert_eq!(output(&service, fork).await, json!(["from the origin", "fork"]));
        assert_eq!(completed_nodes(&service, fork).await, ["b"], "nothing is copied");
        assert_eq!(service.types(fork).await[0], "execution.forked");
    }
    service.check_log().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_that_replays_takes_what_is_on_record_and_asks_no_worker() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let workflow = workflow(&service).await;
    let origin = fresh();
    service.send(origin, start(workflow, json!("x"))).await.expect("accepted");
    for answer in ["one", "two"] {
        let task = service.task().await;
        service.complete(&task, json!(answer)).await.expect("accepted");
    }
    let recorded = output(&service, origin).await;
    let replay = fresh();
    service.send(replay, fork(origin, 1, Effects::Replay)).await.expect("a fork");
    assert_eq!(output(&service, replay).await, recorded);
    // What the replay has recorded, and what it took over, is on record for a replay of it.
    let again = fresh();
    service.send(again, fork(replay, 1, Effects::Replay)).await.expect("a fork of it");
    assert_eq!(output(&service, again).await, recorded);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fork_is_made_once_however_often_it_is_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let workflow = workflow(&service).await;
    let (origin, copy, id) = (fresh(), fresh(), fresh());
    service.send(origin, start(workflow, json!("x"))).await.expect("accepted");
    let first = service.send_as(id, None, copy, fork(origin, 1, Effects::Live)).await.expect("a fork");
    let again = service.send_as(id, None, copy, fork(origin, 1, Effects::Live)).await.expect("the same");
    assert_eq!((again.answer, again.repeated), (first.answer, true));
    let other = service.send(copy, fork(origin, 1, Effects::Live)).await;
    assert!(matches!(other, Err(CommandError::Rejected(_))), "{other:?}");
    let task = task_of(&service, copy, "a").await;
    service.complete(&task, json!(1)).await.expect("accepted");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_forks_what_is_not_there_or_not_theirs() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let workflow = workflow(&service).await;
    let origin = fresh();
    service.send(origin, start(workflow, json!("x"))).await.expect("accepted");
    let last = service.events(origin).await.len() as u64;
    for (from, at) in [(origin, 0), (origin, last + 1), (fresh(), 1), (workflow, 1)] {
        let refused = service.send(fresh(), fork(from, at, Effects::Live)).await;
        assert!(matches!(refused, Err(CommandError::Rejected(_))), "{from} at {at}: {refused:?}");
    }
    let (id, stream) = (fresh(), fresh());
    let theirs = CommandEnvelope {
        id,
        tenant: TenantId::try_from("other".to_owned()).expect("a tenant"),
        actor: Actor::new("user", "mallory"),
        stream,
        correlation_id: stream,
        causation_id: id,
        traceparent: None,
        digest: None,
        command: fork(origin, 1, Effects::Live),
        authority: None,
    };
    let refused = service.handler.handle(theirs).await;
    assert!(matches!(refused, Err(CommandError::Rejected(_))), "{refused:?}");
    service.stop().await;
}

/// The first event of a fork.
async fn forked(service: &Service, execution: Uuid) -> ExecutionForked {
    let first = service.events(execution).await.remove(0);
    match first.decode().expect("an event") {
        Event::Execution(ExecutionEvent::Forked(forked)) => forked,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_child_is_forked_at_its_last_event_before_the_parents() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let inner = workflow(&service).await;
    let node = json!({"id": "sub", "type": "sub_workflow", "config": {"workflow": inner.to_string()}});
    let outer = service.create_workflow(chain("outer", json!([node]))).await;
    let parent = fresh();
    service.send(parent, start(outer, json!("x"))).await.expect("accepted");
    let before_the_child = service.events(parent).await.len() as u64;
    let asked =
        service.events(parent).await.into_iter().find_map(|event| match event.decode().expect("an event") {
            Event::Execution(ExecutionEvent::ChildStarted(asked)) => Some(asked),
            _ => None,
        });
    let asked = asked.expect("a child");
    // What the reactor sends, which this test does not need.
    let child = Command::Execution(ExecutionCommand::Start(StartExecution {
        workflow_id: inner,
        workflow_version: None,
        input: asked.input,
        trigger: Trigger { kind: "parent".to_owned() },
        priority: None,
        attributes: Map::new(),
        parent: Some(ParentRef {
            execution_id: parent,
            node_id: asked.node_id,
            run: asked.run,
            attempt: asked.attempt,
            depth: asked.depth,
            detached: false,
        }),
        owner: None,
    }));
    let _ = service.send(asked.child_id, child).await;
    let task = task_of(&service, asked.child_id, "a").await;
    let before_the_signal = service.events(asked.child_id).await.len() as u64;
    let signal = ExecutionCommand::Signal { name: "s".to_owned(), payload: Value::Null };
    service.send(parent, Command::Execution(signal)).await.expect("accepted");
    let at = service.events(parent).await.len() as u64;
    service.complete(&task, json!(1)).await.expect("accepted");
    assert!(service.events(asked.child_id).await.len() as u64 > before_the_signal);

    let (late, early) = (fresh(), fresh());
    service.send(late, fork(parent, at, Effects::Live)).await.expect("a fork");
    let children = forked(&service, late).await.children;
    let named: Vec<_> = children.iter().map(|child| (child.origin, child.at_version)).collect();
    assert_eq!(named, [(asked.child_id, before_the_signal)]);
    service.send(early, fork(parent, before_the_child, Effects::Live)).await.expect("a fork");
    assert!(forked(&service, early).await.children.is_empty(), "the child had no event yet");
    service.stop().await;
}
