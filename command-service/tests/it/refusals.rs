//! What the store refuses, and what then happens to everything decided on it.

use bus::CommandError;
use command_service::CommandServiceError;
use domain::command::Command;
use domain::workflow::command::WorkflowCommand;
use event_store::LogReader;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Service, chain, fresh, start, transform, workflow_id};

fn create(name: &str) -> Command {
    let definition = chain(name, json!([transform("t", json!(1))]));
    Command::Workflow(WorkflowCommand::Create { definition, publish: true })
}

fn code(result: Result<bus::CommandReply, CommandError>) -> String {
    match result.expect_err("a refusal") {
        CommandError::Rejected(rejection) => rejection.code.into_owned(),
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_command_id_has_one_effect_and_the_same_answer_also_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let workflow = service.create_workflow(chain("a", json!([transform("t", json!(1))]))).await;
    let (execution, id, digest) = (fresh(), fresh(), Some([1; 32]));
    let first = service.send_as(id, digest, execution, start(workflow, Value::Null)).await.expect("accepted");
    let again = service.send_as(id, digest, execution, start(workflow, Value::Null)).await.expect("the same");
    assert_eq!((again.answer, again.repeated), (first.answer.clone(), true));
    let other = service.send_as(id, Some([2; 32]), execution, start(workflow, json!(5))).await;
    assert!(matches!(other, Err(CommandError::DigestMismatch)));
    service.stop().await;

    let service = Service::start(folder.path()).await;
    let again = service.send_as(id, digest, execution, start(workflow, Value::Null)).await.expect("the same");
    assert_eq!((again.answer, again.position, again.repeated), (first.answer, first.position, true));
    assert_eq!(service.types(execution).await.len(), 3);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_id_sent_many_times_at_once_has_one_effect() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let workflow = service.create_workflow(chain("a", json!([transform("t", json!(1))]))).await;
    let (execution, id) = (fresh(), fresh());
    // A repeated create may come with another fresh stream of the same slot: the first one counts.
    let answers =
        join_all((0..50).map(|_| service.send_as(id, None, execution, start(workflow, Value::Null)))).await;
    for answer in answers {
        assert_eq!(answer.expect("the same").answer["execution_id"], json!(execution));
    }
    assert_eq!(service.types(execution).await.len(), 3);
    service.check_log().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_is_taken_once_and_nothing_else_in_the_batch_suffers() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let workflow = service.create_workflow(chain("busy", json!([transform("t", json!(1))]))).await;
    let rivals = join_all((0..20).map(|_| service.send(workflow_id(), create("wanted"))));
    let others = join_all((0..200).map(|_| service.send(fresh(), start(workflow, Value::Null))));
    let (rivals, others) = tokio::join!(rivals, others);
    assert_eq!(rivals.iter().filter(|result| result.is_ok()).count(), 1);
    for loser in rivals.into_iter().filter(Result::is_err) {
        assert_eq!(code(loser), "workflow_name_taken");
    }
    for other in others {
        assert_eq!(other.expect("accepted").answer["status"], "completed");
    }
    service.check_log().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_decided_on_a_refused_one_are_decided_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    service.create_workflow(chain("taken", json!([transform("t", json!(1))]))).await;
    for _ in 0..20 {
        let id = workflow_id();
        // The create is refused by the store; the others were decided on its events and must not survive it.
        let results = tokio::join!(
            service.send(id, create("taken")),
            service.send(id, Command::Workflow(WorkflowCommand::Disable { expected_version: None })),
            service.send(id, Command::Workflow(WorkflowCommand::Enable { expected_version: None })),
        );
        assert_eq!(code(results.0), "workflow_name_taken");
        assert_eq!(code(results.1), "workflow_not_found");
        assert_eq!(code(results.2), "workflow_not_found");
        assert!(service.log.read_stream(id, 0, 10).await.expect("events").is_empty());
    }
    service.check_log().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_was_replaced_writes_nothing_and_stops() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let workflow = service.create_workflow(chain("a", json!([transform("t", json!(1))]))).await;
    let execution = fresh();
    service.steal(execution).await;
    let refused = service.send(execution, start(workflow, Value::Null)).await;
    assert!(matches!(refused, Err(CommandError::NotOwner)), "{refused:?}");
    assert!(service.types(execution).await.is_empty());
    assert!(matches!(service.ended().await, Err(CommandServiceError::Fenced { .. })));
}
