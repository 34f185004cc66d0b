//! Who there is, over the real log: an e-mail is one user's in the whole installation, children belong to whom their
//! parent belongs to, and a right is judged where the command is decided.

use serde_json::{Value, json};
use uuid::Uuid;

use bus::{CommandError, CommandReply};
use domain::access::{Authority, Grant, Permission, Reach};
use domain::command::{Command, CommandEnvelope};
use domain::event::{Event, ExecutionEvent};
use domain::execution::command::{ExecutionCommand, ForkExecution};
use domain::execution::event::Effects;
use domain::identity::user::EMAIL_CLAIM;
use domain::identity::user::command::UserCommand;
use domain::identity::users_slot;
use domain::ids::{Actor, TenantId, new_id};
use domain::time::Clock;
use domain::workflow::command::WorkflowCommand;
use domain::workflow::event::{ShareAccess, Visibility, WorkflowShared};
use event_store::LogReader;

use crate::harness::{Service, WallClock, chain, fresh, start, transform, workflow_id};

/// A caller: a tenant, and perhaps a right.
struct Caller<'a> {
    service: &'a Service,
    tenant: &'a str,
    right: Option<(Uuid, Permission, Reach)>,
}

impl Caller<'_> {
    async fn send(&self, stream: Uuid, command: Command) -> Result<CommandReply, CommandError> {
        let id = fresh();
        let authority = self.right.map(|(user, permission, reach)| {
            let grants = vec![Grant { permission, reach, condition: None }];
            let (email, role) = ("ada@example.com".to_owned(), "USER".to_owned());
            Box::new(Authority { user, email, role, permission, grants })
        });
        let envelope = CommandEnvelope {
            id,
            tenant: TenantId::try_from(self.tenant.to_owned()).expect("a slug"),
            actor: Actor::new("user", "test"),
            stream,
            correlation_id: stream,
            causation_id: id,
            authority,
            traceparent: None,
            digest: None,
            command,
        };
        self.service.handler.handle(envelope).await
    }
}

fn code(answer: Result<CommandReply, CommandError>) -> String {
    match answer {
        Err(CommandError::Rejected(rejection)) => rejection.code.into_owned(),
        other => panic!("{other:?}"),
    }
}

fn user_id() -> Uuid {
    new_id(WallClock.now(), users_slot(), fresh().as_u64_pair().1)
}

fn create_user(email: &str) -> Command {
    Command::User(UserCommand::Create {
        email: email.to_owned(),
        name: None,
        role: "USER".to_owned(),
        invited: false,
        operator: false,
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_email_is_one_users_whatever_the_tenant_until_they_are_deleted() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let of = |tenant| Caller { service: &service, tenant, right: None };
    let (first, second) = (user_id(), user_id());
    let reply = of("acme").send(first, create_user("ada@example.com")).await.expect("accepted");
    assert_eq!(reply.answer["email"], "ada@example.com");
    let holder = service.log.installation_claim_holder(EMAIL_CLAIM, "ada@example.com").await.expect("a look");
    assert_eq!(holder, Some(first));
    let taken = of("globex").send(second, create_user("ada@example.com")).await;
    assert_eq!(code(taken), "email_taken");
    let hidden = of("globex").send(first, Command::User(UserCommand::Delete)).await;
    assert_eq!(code(hidden), "user_not_found");
    of("acme").send(first, Command::User(UserCommand::Delete)).await.expect("accepted");
    of("globex").send(second, create_user("ada@example.com")).await.expect("it is free again");
    service.check_log().await;
    service.stop().await;
}

/// Of two who want it at once, one gets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_who_take_an_email_at_once_one_gets_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let tenants = ["a", "b", "c", "d", "e", "f", "g", "h"];
    let sent = tenants.map(|tenant| {
        let caller = Caller { service: &service, tenant, right: None };
        async move { caller.send(user_id(), create_user("ada@example.com")).await }
    });
    let answers = futures::future::join_all(sent).await;
    let (made, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
    assert_eq!(made.len(), 1);
    assert!(refused.into_iter().all(|answer| code(answer) == "email_taken"));
    service.stop().await;
}

/// A workflow of one node, which calls another.
fn calling(name: &str, called: &str) -> Value {
    let sub = json!({"id": "sub", "type": "sub_workflow", "config": {"workflow": called, "input": null}});
    chain(name, json!([sub]))
}

async fn owner_of(service: &Service, execution: Uuid) -> Option<Uuid> {
    let first = service.events(execution).await.remove(0).decode().expect("an event");
    match first {
        Event::Execution(ExecutionEvent::Started(started)) => started.owner,
        Event::Execution(ExecutionEvent::Forked(forked)) => forked.owner,
        other => panic!("{other:?}"),
    }
}

async fn child_of(service: &Service, parent: Uuid) -> Uuid {
    service.wait_for(parent, "execution.completed").await;
    let events = service.events(parent).await.into_iter();
    let mut children = events.filter_map(|recorded| match recorded.decode().expect("an event") {
        Event::Execution(ExecutionEvent::ChildStarted(asked)) => Some(asked.child_id),
        _ => None,
    });
    children.next().expect("a child")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_user_starts_and_its_children_belong_to_them_and_a_fork_to_who_forks() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let (ada, bob) = (user_id(), user_id());
    let by = |user, permission, reach| Caller {
        service: &service,
        tenant: "default",
        right: Some((user, permission, reach)),
    };
    let creating = by(ada, Permission::WorkflowCreate, Reach::Any);
    let inner = chain("child", json!([transform("t", json!({"done": true}))]));
    let create = WorkflowCommand::Create { definition: inner, publish: true };
    creating.send(workflow_id(), Command::Workflow(create)).await.expect("accepted");
    let parent = workflow_id();
    let create = WorkflowCommand::Create { definition: calling("parent", "child"), publish: true };
    creating.send(parent, Command::Workflow(create)).await.expect("accepted");
    let execution = fresh();
    let ada_starts = by(ada, Permission::WorkflowExecute, Reach::Shared);
    ada_starts.send(execution, start(parent, Value::Null)).await.expect("her own");
    assert_eq!(owner_of(&service, execution).await, Some(ada));
    let child = child_of(&service, execution).await;
    assert_eq!(owner_of(&service, child).await, Some(ada), "a child belongs to whom its parent belongs to");
    let fork = |origin| {
        Command::Execution(ExecutionCommand::Fork(ForkExecution {
            origin,
            at_version: 1,
            input: None,
            node_outputs: serde_json::Map::new(),
            workflow_version: None,
            effects: Effects::Live,
            parent: None,
            owner: None,
        }))
    };
    let bob_forks = by(bob, Permission::ExecutionFork, Reach::Own);
    assert_eq!(code(bob_forks.send(fresh(), fork(execution)).await), "forbidden");
    let forked = fresh();
    by(bob, Permission::ExecutionFork, Reach::Any).send(forked, fork(execution)).await.expect("accepted");
    assert_eq!(owner_of(&service, forked).await, Some(bob));
    assert_eq!(owner_of(&service, child_of(&service, forked).await).await, Some(bob));
    service.check_log().await;
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_is_started_by_others_as_soon_as_it_is_shared_and_no_longer_than_that() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let (ada, bob) = (user_id(), user_id());
    let by = |user, permission, reach| Caller {
        service: &service,
        tenant: "default",
        right: Some((user, permission, reach)),
    };
    let workflow = workflow_id();
    let definition = chain("shared", json!([transform("t", json!(1))]));
    let create = Command::Workflow(WorkflowCommand::Create { definition, publish: true });
    by(ada, Permission::WorkflowCreate, Reach::Any).send(workflow, create).await.expect("accepted");
    let bob_starts = by(bob, Permission::WorkflowExecute, Reach::Shared);
    assert_eq!(code(bob_starts.send(fresh(), start(workflow, Value::Null)).await), "forbidden");
    let share = |users: Vec<Uuid>| {
        let shared = WorkflowShared { visibility: Visibility::Private, users, access: ShareAccess::Execute };
        Command::Workflow(WorkflowCommand::Share(shared))
    };
    let bob_shares = by(bob, Permission::WorkflowShare, Reach::Own);
    assert_eq!(code(bob_shares.send(workflow, share(vec![bob])).await), "forbidden");
    let ada_shares = by(ada, Permission::WorkflowShare, Reach::Own);
    assert_eq!(code(ada_shares.send(workflow, share(vec![bob, bob])).await), "invalid_share");
    ada_shares.send(workflow, share(vec![bob])).await.expect("her own");
    let execution = fresh();
    bob_starts.send(execution, start(workflow, Value::Null)).await.expect("shared with him");
    assert_eq!(owner_of(&service, execution).await, Some(bob));
    ada_shares.send(workflow, share(Vec::new())).await.expect("her own");
    assert_eq!(code(bob_starts.send(fresh(), start(workflow, Value::Null)).await), "forbidden");
    let elsewhere = Caller { tenant: "other", ..bob_starts };
    assert_eq!(code(elsewhere.send(fresh(), start(workflow, Value::Null)).await), "workflow_not_found");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_calls_what_its_owner_may_execute_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a folder");
    let service = Service::start(folder.path()).await;
    let (ada, bob, eve) = (user_id(), user_id(), user_id());
    let by = |user, permission, reach| Caller {
        service: &service,
        tenant: "default",
        right: Some((user, permission, reach)),
    };
    let itself = Caller { service: &service, tenant: "default", right: None };
    for (user, email) in [(ada, "ada@example.com"), (bob, "bob@example.com"), (eve, "eve@example.com")] {
        itself.send(user, create_user(email)).await.expect("accepted");
    }
    let (private, helpful, curious) = (workflow_id(), workflow_id(), workflow_id());
    for (user, workflow, definition) in [
        (ada, private, chain("private", json!([transform("t", json!("a secret"))]))),
        (ada, helpful, calling("helpful", "private")),
        (bob, curious, calling("curious", "private")),
    ] {
        let create = Command::Workflow(WorkflowCommand::Create { definition, publish: true });
        by(user, Permission::WorkflowCreate, Reach::Any).send(workflow, create).await.expect("accepted");
    }
    let bob_starts = by(bob, Permission::WorkflowExecute, Reach::Own);
    let execution = fresh();
    bob_starts.send(execution, start(curious, Value::Null)).await.expect("his own");
    service.wait_for(execution, "execution.failed").await;
    let said = service
        .events(execution)
        .await
        .iter()
        .any(|event| String::from_utf8_lossy(&event.data).contains("forbidden"));
    assert!(said, "the refusal names its reason");
    let share = |users: Vec<Uuid>| {
        let shared = WorkflowShared { visibility: Visibility::Private, users, access: ShareAccess::Execute };
        Command::Workflow(WorkflowCommand::Share(shared))
    };
    // Whoever may execute what ada has made need not know what it calls.
    let ada_shares = by(ada, Permission::WorkflowShare, Reach::Own);
    ada_shares.send(helpful, share(vec![eve])).await.expect("her own");
    let execution = fresh();
    let eve_starts = by(eve, Permission::WorkflowExecute, Reach::Shared);
    eve_starts.send(execution, start(helpful, Value::Null)).await.expect("shared with her");
    assert_eq!(owner_of(&service, child_of(&service, execution).await).await, Some(eve));
    ada_shares.send(private, share(vec![bob])).await.expect("her own");
    let execution = fresh();
    bob_starts.send(execution, start(curious, Value::Null)).await.expect("his own");
    assert_eq!(owner_of(&service, child_of(&service, execution).await).await, Some(bob));
    service.check_log().await;
    service.stop().await;
}
