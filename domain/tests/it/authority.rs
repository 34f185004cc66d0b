//! Who may do what: the judgement, conditions of grants, and authorities held against folded state.

use domain::access::{Authority, Grant, Permission, Reach, Resource, SharedWith, judge};
use domain::audit::command::AuditCommand;
use domain::bulk::command::BulkCommand;
use domain::command::Command;
use domain::decision::{Decision, Need, NodeRun};
use domain::event::{Event, ExecutionEvent, WorkflowEvent};
use domain::execution::command::{ExecutionCommand, ForkExecution, StartExecution};
use domain::execution::event::{Effects, ExecutionStarted, Trigger};
use domain::execution::{ExecutionState, evolve};
use domain::facts::{Fact, Origin, WorkflowHead};
use domain::identity::api_key::command::ApiKeyCommand;
use domain::identity::role::command::RoleCommand;
use domain::identity::tenant::command::TenantCommand;
use domain::identity::user::command::UserCommand;
use domain::rejection::RejectionKind;
use domain::variables::command::VariablesCommand;
use domain::workflow::command::WorkflowCommand;
use domain::workflow::event::{ShareAccess, Visibility, WorkflowCreated, WorkflowShared};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;

use crate::given::{Given, given, now, right};
use crate::scenario::id;

fn ada() -> Uuid {
    id(101)
}

fn bob() -> Uuid {
    id(102)
}

fn document(name: &str) -> Value {
    json!({"name": name, "nodes": [{"id": "start", "type": "start"}, {"id": "end", "type": "end"}],
        "edges": [{"source": "start", "target": "end"}]})
}

fn workflow_of(owner: Option<Uuid>) -> Event {
    let definition = document("payroll");
    let created =
        WorkflowCreated { name: "payroll".to_owned(), definition, definition_hash: String::new(), owner };
    Event::Workflow(WorkflowEvent::Created(created))
}

fn shared(users: &[Uuid], access: ShareAccess) -> WorkflowShared {
    WorkflowShared { visibility: Visibility::Private, users: users.to_vec(), access }
}

fn started(owner: Option<Uuid>) -> ExecutionStarted {
    ExecutionStarted {
        workflow_id: id(3),
        workflow_name: "payroll".to_owned(),
        workflow_version: 1,
        definition_hash: String::new(),
        input: Value::Null,
        trigger: Trigger { kind: "api".to_owned() },
        vars_version: 0,
        priority: 5,
        attributes: json!({"region": "eu"}).as_object().cloned().unwrap_or_default(),
        deadline: None,
        parent: None,
        owner,
    }
}

fn execution_of(owner: Option<Uuid>) -> Event {
    Event::Execution(ExecutionEvent::Started(started(owner)))
}

fn head(owner: Option<Uuid>, shared: WorkflowShared) -> WorkflowHead {
    WorkflowHead {
        name: "payroll".to_owned(),
        published_version: Some(1),
        latest_version: 1,
        enabled: true,
        deleted: false,
        owner,
        shared,
    }
}

fn start() -> Command {
    Command::Execution(ExecutionCommand::Start(StartExecution {
        workflow_id: id(3),
        workflow_version: None,
        input: Value::Null,
        trigger: Trigger { kind: "api".to_owned() },
        priority: None,
        attributes: Map::new(),
        parent: None,
        owner: None,
    }))
}

fn cancel() -> Command {
    Command::Execution(ExecutionCommand::Cancel { reason: None })
}

fn when(condition: &str, permission: Permission) -> Authority {
    let condition = Some(condition.to_owned());
    let grants = vec![Grant { permission, reach: Reach::Any, condition }];
    Authority { grants, ..right(ada(), permission, Reach::Any) }
}

/// Whether a command gets past the judgement: what its decider says of it does not matter here.
fn admitted(given: &mut Given, command: Command) -> bool {
    match given.decide(command) {
        Err(refused) if refused.kind == RejectionKind::Forbidden => {
            assert_eq!(refused.code, "forbidden");
            false
        }
        Ok(_) | Err(_) => true,
    }
}

#[test]
fn reach_says_which_things_a_grant_is_for() {
    let read = ShareAccess::Read;
    let thing = |owner, shared| Resource { kind: "workflow", owner, shared, ..Resource::default() };
    let mine = thing(Some(ada()), SharedWith::Nobody);
    let theirs = thing(Some(bob()), SharedWith::Nobody);
    let nobodys = thing(None, SharedWith::Nobody);
    let shown = thing(Some(bob()), SharedWith::Them(read));
    let may =
        |reach, permission, thing: &Resource<'_>| judge(&right(ada(), permission, reach), thing).is_ok();
    let all = [&mine, &theirs, &nobodys, &shown];
    let seen = |reach, permission| all.map(|thing| may(reach, permission, thing));
    assert_eq!(seen(Reach::Own, Permission::WorkflowRead), [true, false, false, false]);
    assert_eq!(seen(Reach::Shared, Permission::WorkflowRead), [true, false, false, true]);
    assert_eq!(seen(Reach::Shared, Permission::WorkflowExecute), [true, false, false, false]);
    assert_eq!(seen(Reach::Any, Permission::WorkflowRead), [true; 4]);
    let lent = thing(Some(bob()), SharedWith::Them(ShareAccess::Execute));
    assert!(may(Reach::Shared, Permission::WorkflowExecute, &lent));
    assert!(!may(Reach::Own, Permission::WorkflowExecute, &lent));
}

#[test]
fn a_grant_for_another_permission_admits_nothing() {
    let mut authority = right(ada(), Permission::WorkflowRead, Reach::Any);
    authority.permission = Permission::WorkflowDelete;
    let thing = Resource { kind: "workflow", owner: Some(ada()), ..Resource::default() };
    assert!(judge(&authority, &thing).is_err());
    assert_eq!(authority.plain_reach(), None);
}

#[test]
fn a_condition_sees_the_thing_the_caller_and_the_act() {
    let attributes = json!({"region": "eu", "amount": 7});
    let thing = Resource {
        kind: "execution",
        id: Some(id(1)),
        owner: Some(bob()),
        shared: SharedWith::Them(ShareAccess::Execute),
        name: "payroll",
        workflow: Some(id(3)),
        status: Some("running"),
        attributes: attributes.as_object(),
    };
    let text = |id: Uuid| id.to_string();
    let holding = [
        "true".to_owned(),
        "resource.kind == 'execution' && resource.status == 'running'".to_owned(),
        "resource.name == 'payroll' && resource.shared == 'execute'".to_owned(),
        "resource.attributes.region in ['eu', 'uk'] && resource.attributes.amount < 10".to_owned(),
        "has(resource.attributes.region) && !has(resource.attributes.none)".to_owned(),
        format!("resource.id == '{}' && resource.workflow_id == '{}'", text(id(1)), text(id(3))),
        format!("resource.owner == '{}' && principal.id == '{}'", text(bob()), text(ada())),
        "principal.email == 'ada@example.com' && principal.role == 'operator'".to_owned(),
        "action == 'execution:cancel'".to_owned(),
    ];
    for condition in holding {
        let authority = when(&condition, Permission::ExecutionCancel);
        assert!(judge(&authority, &thing).is_ok(), "{condition}");
    }
}

#[test]
fn a_condition_that_is_not_true_denies_whatever_it_is_instead() {
    let attributes = json!({"text": "a".repeat(2_000), "list": vec![1; 500]});
    let thing = Resource {
        kind: "execution",
        name: "payroll",
        attributes: attributes.as_object(),
        ..Resource::default()
    };
    let denying = [
        "false",
        "'true'",
        "1",
        "null",
        "resource",
        "",
        "resource.name ==",
        "resource.none.none == 1",
        "nothing",
        "principal.password == ''",
        "credentials.admin == null",
        "1 / 0 == 1",
        "resource.status == 'running'",
        "resource.owner == principal.id",
        "now() > timestamp('2000-01-01T00:00:00Z')",
        "now() < timestamp('2000-01-01T00:00:00Z')",
        "true || now() == now()  ? now() == now() : false",
        "uuid() != ''",
        "resource.attributes.list.all(a, resource.attributes.list.all(b, resource.attributes.list.all(c, a == b)))",
        "size(resource.attributes.text.replace('a', resource.attributes.text)) > 0",
        "resource.attributes.text.matches('(a*)*b') || true == 1",
    ];
    for condition in denying {
        let begun = Instant::now();
        assert!(judge(&when(condition, Permission::ExecutionCancel), &thing).is_err(), "{condition}");
        assert!(begun.elapsed() < Duration::from_secs(2), "{condition}");
    }
    let deep = format!("{}true{}", "(".repeat(490), ")".repeat(490));
    let long = format!("true || '{}' == ''", "x".repeat(1_000));
    for condition in [deep, long] {
        assert!(judge(&when(&condition, Permission::ExecutionCancel), &thing).is_err());
    }
}

#[test]
fn a_name_that_looks_like_code_is_only_a_name() {
    let thing = Resource { kind: "workflow", name: "' || true || '", ..Resource::default() };
    assert!(judge(&when("resource.name == 'payroll'", Permission::WorkflowDelete), &thing).is_err());
    let template = Resource { kind: "workflow", name: "{{ principal.id }}", ..Resource::default() };
    assert!(judge(&when("resource.name == principal.id", Permission::WorkflowDelete), &template).is_err());
}

#[test]
fn one_grant_that_admits_is_enough() {
    let mut authority = when("resource.name == 'other'", Permission::WorkflowDelete);
    let thing = Resource { kind: "workflow", name: "payroll", owner: Some(ada()), ..Resource::default() };
    assert!(judge(&authority, &thing).is_err());
    authority.grants.push(Grant {
        permission: Permission::WorkflowDelete,
        reach: Reach::Own,
        condition: None,
    });
    assert!(judge(&authority, &thing).is_ok());
    assert_eq!(authority.plain_reach(), Some(Reach::Own));
}

#[test]
fn a_workflow_belongs_to_whoever_creates_it_and_only_they_change_it() {
    let create = || {
        let definition = document("payroll");
        Command::Workflow(WorkflowCommand::Create { definition, publish: false })
    };
    let mut made = given([]).with_authority(right(ada(), Permission::WorkflowCreate, Reach::Any));
    let outcome = made.when(create()).expect("accepted");
    let Event::Workflow(WorkflowEvent::Created(created)) = &outcome.events[0] else { panic!() };
    assert_eq!(created.owner, Some(ada()));
    let delete = || Command::Workflow(WorkflowCommand::Delete { expected_version: None });
    let own = |user| right(user, Permission::WorkflowDelete, Reach::Own);
    let mut made = made.with_authority(own(bob()));
    assert_eq!(made.refused(delete()), "forbidden");
    assert_eq!(
        made.clone().of("other").refused(delete()),
        "workflow_not_found",
        "another tenant's is not there"
    );
    assert_eq!(made.with_authority(own(ada())).types(delete()), ["workflow.deleted"]);
}

#[test]
fn a_condition_on_the_name_holds_for_what_is_created_too() {
    let create = |definition| Command::Workflow(WorkflowCommand::Create { definition, publish: false });
    let only_dev = || when("resource.name.startsWith('dev-')", Permission::WorkflowCreate);
    let mut nothing = given([]).with_authority(only_dev());
    assert!(!admitted(&mut nothing, create(document("payroll"))));
    assert!(admitted(&mut nothing, create(document("dev-payroll"))));
    let reference =
        json!({"$blob": {"sha256": "a".repeat(64), "bytes": 70_000, "media_type": "application/json"}});
    let decision = nothing.decide(create(reference)).expect("it is fetched first");
    assert!(matches!(decision, Decision::Needs(needs) if matches!(needs[..], [Need::Blob(_)])));
}

#[test]
fn what_belongs_to_nobody_is_for_those_who_reach_everything() {
    let update = || Command::Workflow(WorkflowCommand::Disable { expected_version: None });
    let right_to = |reach| right(ada(), Permission::WorkflowUpdate, reach);
    let mut old = given([workflow_of(None)]).with_authority(right_to(Reach::Shared));
    assert_eq!(old.refused(update()), "forbidden");
    assert_eq!(old.with_authority(right_to(Reach::Any)).types(update()), ["workflow.disabled"]);
}

#[test]
fn what_is_not_there_is_not_found_whoever_asks() {
    for (permission, command) in [
        (Permission::WorkflowUpdate, Command::Workflow(WorkflowCommand::Enable { expected_version: None })),
        (Permission::ExecutionCancel, cancel()),
        (Permission::ApiKeyWrite, Command::ApiKey(ApiKeyCommand::Revoke)),
        (Permission::UserWrite, Command::User(UserCommand::Disable)),
        (Permission::ExecutionBulk, Command::Bulk(BulkCommand::Cancel { reason: None })),
    ] {
        let mut nothing = given([]).with_authority(right(ada(), permission, Reach::Own));
        let refused = nothing.when(command).expect_err("there is nothing");
        assert_eq!(refused.kind, RejectionKind::NotFound, "{}", refused.code);
    }
}

#[test]
fn a_workflow_is_started_by_its_owner_and_by_those_with_whom_it_is_shared_for_that() {
    let right_to = |reach| right(ada(), Permission::WorkflowExecute, reach);
    let may = |reach, owner, shared: WorkflowShared| {
        let head = head(owner, shared);
        admitted(&mut given([]).with_workflow(head).with_authority(right_to(reach)), start())
    };
    let nobody = || shared(&[], ShareAccess::Read);
    assert!(may(Reach::Own, Some(ada()), nobody()));
    assert!(!may(Reach::Own, Some(bob()), nobody()));
    assert!(!may(Reach::Shared, Some(bob()), shared(&[ada()], ShareAccess::Read)));
    assert!(may(Reach::Shared, Some(bob()), shared(&[ada()], ShareAccess::Execute)));
    assert!(!may(Reach::Shared, Some(bob()), shared(&[bob()], ShareAccess::Execute)));
    let public = WorkflowShared { visibility: Visibility::Public, ..shared(&[], ShareAccess::Execute) };
    assert!(may(Reach::Shared, None, public.clone()));
    assert!(!may(Reach::Own, None, public));
    assert!(may(Reach::Any, None, nobody()));
}

#[test]
fn a_start_is_not_decided_before_its_workflow_is_known() {
    let mut unknown = given([]).with_authority(right(ada(), Permission::WorkflowExecute, Reach::Own));
    let decision = unknown.decide(start()).expect("it is fetched first");
    let Decision::Needs(needs) = decision else { panic!("{decision:?}") };
    assert_eq!(needs, [Need::Workflow(id(3)), Need::Variables(None)]);
    unknown.workflow = Fact::Absent;
    assert_eq!(unknown.refused(start()), "workflow_not_found");
}

#[test]
fn an_execution_is_acted_on_by_its_owner_and_by_those_who_reach_everything() {
    let right_to = |reach| right(ada(), Permission::ExecutionCancel, reach);
    let may =
        |reach, owner| admitted(&mut given([execution_of(owner)]).with_authority(right_to(reach)), cancel());
    assert!(may(Reach::Own, Some(ada())));
    assert!(!may(Reach::Own, Some(bob())));
    assert!(!may(Reach::Shared, Some(bob())), "that its workflow is shared does not make it theirs to end");
    assert!(!may(Reach::Own, None));
    assert!(may(Reach::Any, None));
    let mut others = given([execution_of(Some(bob()))]).with_authority(right_to(Reach::Own));
    assert_eq!(others.clone().of("other").refused(cancel()), "execution_not_found");
    assert!(admitted(&mut others.clone().without_authority(), cancel()), "Everline itself needs no right");
    assert!(!admitted(&mut others, cancel()));
}

#[test]
fn a_condition_on_an_execution_is_judged_on_its_state() {
    let may = |condition: &str| {
        let authority = when(condition, Permission::ExecutionCancel);
        admitted(&mut given([execution_of(None)]).with_authority(authority), cancel())
    };
    assert!(may("resource.status == 'running' && resource.attributes.region == 'eu'"));
    assert!(!may("resource.status == 'waiting'"));
    assert!(!may("resource.attributes.region == 'us'"));
    assert!(may(&format!("resource.workflow_id == '{}' && resource.name == 'payroll'", id(3))));
}

#[test]
fn a_fork_is_judged_on_what_it_comes_from() {
    let fork = || {
        Command::Execution(ExecutionCommand::Fork(ForkExecution {
            origin: id(2),
            at_version: 1,
            input: None,
            node_outputs: Map::new(),
            workflow_version: None,
            effects: Effects::Live,
            parent: None,
            owner: None,
        }))
    };
    let from = |owner, reach| {
        let state = evolve(ExecutionState::default(), &started(owner).into(), now());
        let origin = Origin { state, latest_version: 1, depth: 0, children: HashMap::new() };
        let mut new = given([]).with_authority(right(ada(), Permission::ExecutionFork, reach));
        new.origin = Fact::Is(Arc::new(origin));
        admitted(&mut new, fork())
    };
    assert!(from(Some(ada()), Reach::Own));
    assert!(!from(Some(bob()), Reach::Own));
    assert!(from(Some(bob()), Reach::Any));
    let mut unknown = given([]).with_authority(right(ada(), Permission::ExecutionFork, Reach::Own));
    let decision = unknown.decide(fork()).expect("it is fetched first");
    assert!(matches!(decision, Decision::Needs(needs) if matches!(needs[..], [Need::Origin { .. }])));
}

#[test]
fn a_key_is_made_and_revoked_by_its_owner() {
    let create = |owner| {
        Command::ApiKey(ApiKeyCommand::Create {
            name: "ci".to_owned(),
            owner,
            fingerprint: "0123456789abcdef".to_owned(),
            scopes: vec!["*".to_owned()],
            expires_at: None,
        })
    };
    let own = |user| right(user, Permission::ApiKeyWrite, Reach::Own);
    assert!(
        !admitted(&mut given([]).with_authority(own(ada())), create(bob())),
        "nobody acts as somebody else"
    );
    let mut key = given([]).with_authority(own(ada()));
    key.when(create(ada())).expect("accepted");
    let revoke = || Command::ApiKey(ApiKeyCommand::Revoke);
    assert!(!admitted(&mut key.clone().with_authority(own(bob())), revoke()));
    assert_eq!(key.types(revoke()), ["api_key.revoked"]);
}

#[test]
fn what_nobody_owns_needs_reach_over_everything() {
    let role = domain::access::Role { name: "ops".to_owned(), description: None, grants: Vec::new() };
    let create_user = UserCommand::Create {
        email: "new@example.com".to_owned(),
        name: None,
        role: "USER".to_owned(),
        invited: true,
        operator: false,
    };
    let cases = [
        (
            Permission::VariableWrite,
            Command::Variables(VariablesCommand::Set { name: "a".to_owned(), value: json!(1) }),
        ),
        (Permission::UserWrite, Command::User(create_user.clone())),
        (Permission::TenantManage, Command::User(create_user)),
        (Permission::RoleWrite, Command::Role(RoleCommand::Define { role, new: true })),
        (
            Permission::TenantManage,
            Command::Tenant(TenantCommand::Create { name: "Acme".to_owned(), settings: Default::default() }),
        ),
    ];
    for (permission, command) in cases {
        for reach in [Reach::Own, Reach::Shared] {
            let mut there = given([]).with_authority(right(ada(), permission, reach));
            assert_eq!(there.refused(command.clone()), "forbidden", "{}", command.name());
        }
        let mut there = given([]).with_authority(right(ada(), permission, Reach::Any));
        assert_eq!(there.types(command.clone()).len(), 1, "{}", command.name());
    }
    let set =
        |name: &str| Command::Variables(VariablesCommand::Set { name: name.to_owned(), value: json!(1) });
    let some = || when("resource.name != 'api_url'", Permission::VariableWrite);
    assert!(admitted(&mut given([]).with_authority(some()), set("other")));
    assert!(!admitted(&mut given([]).with_authority(some()), set("api_url")));
}

/// Of every command from outside, the right to it is the only one with which it is decided.
#[test]
fn a_right_to_something_else_is_no_right() {
    let cases: Vec<(&[Permission], Command)> = vec![
        (
            &[Permission::WorkflowUpdate],
            Command::Workflow(WorkflowCommand::Enable { expected_version: None }),
        ),
        (
            &[Permission::WorkflowUpdate],
            Command::Workflow(WorkflowCommand::Publish { version: None, expected_version: None }),
        ),
        (
            &[Permission::WorkflowDelete],
            Command::Workflow(WorkflowCommand::Delete { expected_version: None }),
        ),
        (
            &[Permission::WorkflowDelete],
            Command::Workflow(WorkflowCommand::Restore { expected_version: None }),
        ),
        (&[Permission::WorkflowShare], Command::Workflow(WorkflowCommand::Share(WorkflowShared::default()))),
        (&[Permission::ExecutionCancel], cancel()),
        (&[Permission::WorkflowExecute], start()),
        (&[Permission::ExecutionPause], Command::Execution(ExecutionCommand::Resume { reason: None })),
        (&[Permission::ExecutionTerminate], Command::Execution(ExecutionCommand::Terminate { reason: None })),
        (&[Permission::UserWrite], Command::User(UserCommand::Delete)),
        (&[Permission::TenantManage], Command::Tenant(TenantCommand::Suspend { reason: None })),
        (&[Permission::ApiKeyWrite], Command::ApiKey(ApiKeyCommand::Revoke)),
        (&[Permission::ExecutionBulk], Command::Bulk(BulkCommand::Cancel { reason: None })),
        (&[], Command::Bulk(BulkCommand::Lease { runner: id(1), until: now() })),
        (&[], Command::Audit(AuditCommand::Record { entries: Vec::new() })),
        (&[], Command::Execution(ExecutionCommand::LoseWorker { node: node() })),
        (&[], Command::Execution(ExecutionCommand::CompleteNode { node: node(), result: Ok(Value::Null) })),
    ];
    for (fitting, command) in cases {
        for permission in Permission::ALL {
            let mut nothing = given([]).with_authority(right(ada(), *permission, Reach::Any));
            nothing.workflow = Fact::Absent;
            let code = nothing.decide(command.clone()).err().map(|refused| refused.code.into_owned());
            let mismatched = code.as_deref() == Some("authority_mismatch");
            assert_eq!(mismatched, !fitting.contains(permission), "{} {permission}", command.name());
        }
    }
}

fn node() -> NodeRun {
    NodeRun { node_id: "a".to_owned(), run: 1, attempt: 1 }
}
