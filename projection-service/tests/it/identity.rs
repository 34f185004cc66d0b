//! Users, keys, tenants, jobs, owners, sharing and the audit.

use bytes::Bytes;
use serde_json::json;
use uuid::Uuid;

use domain::access::{Authority, Permission, Reach, SharedWith};
use domain::audit::event::{AuditEntry, AuditRecorded, AuditResult};
use domain::bulk::event::{BulkAction, BulkCompleted, BulkFailure, BulkLeased, BulkProgressed, BulkStarted};
use domain::bulk::state::BulkStatus;
use domain::event::{
    ApiKeyEvent, AuditEvent, BulkEvent, Event, RecordedEvent, TenantEvent, UserEvent, WorkflowEvent,
};
use domain::identity::api_key::event::{ApiKeyCreated, ApiKeyRevoked};
use domain::identity::tenant::event::{TenantCreated, TenantSettings, TenantSuspended};
use domain::identity::user::UserStatus;
use domain::identity::user::event::{UserCreated, UserDisabled, UserIdentityLinked, UserRoleChanged};
use domain::ids::{Actor, Position, event_id};
use domain::time::Timestamp;
use domain::workflow::event::{ShareAccess, Visibility, WorkflowCreated, WorkflowShared};
use projection_service::{ProjectionConfig, rebuild};
use read_models::{
    ApiKeyFilter, AuditFilter, AuditRow, BulkJobFilter, ExecutionFilter, MAIN_PROJECTION, UserFilter, Viewer,
};

use crate::support::{
    Backend, World, deaf_to_time, everything, execution, fresh_id, on_every_backend, recorded, tenant,
};

on_every_backend!(
    users_keys_tenants_and_jobs_follow_their_events,
    a_user_that_cannot_be_folded_is_parked_alone,
    an_execution_stays_whose_it_is_and_is_shared_as_its_workflow,
    an_entry_and_the_first_event_of_its_command_meet_in_one_row_in_any_order,
    what_nobody_has_sent_is_not_audited,
    an_audit_is_filtered_and_paged_without_a_gap,
    rebuilt_rows_of_identities_equal_live_ones,
);

fn at(ms: i64) -> Timestamp {
    Timestamp::from_unix_ms(1_795_000_000_000 + ms)
}

/// An event of a command of its own, as the command service records it.
pub(crate) fn commanded(
    stream: Uuid,
    version: u64,
    command: Uuid,
    actor: &Actor,
    event: impl Into<Event>,
) -> RecordedEvent {
    let event = recorded(stream, version, event);
    let id = event_id(event.recorded_at, stream, command, version);
    RecordedEvent { id, causation_id: command, actor: actor.clone(), ..event }
}

/// A stream of one event after another, each of a command of a user's.
fn stream_of<E: Into<Event>>(stream: Uuid, events: impl IntoIterator<Item = E>) -> Vec<RecordedEvent> {
    let actor = Actor::new("user", fresh_id(3));
    let events = (1..).zip(events);
    events.map(|(version, event)| commanded(stream, version, fresh_id(0), &actor, event)).collect()
}

fn user(stream: Uuid) -> Vec<RecordedEvent> {
    let created = UserCreated {
        email: "ann@example.org".to_owned(),
        name: Some("Ann".to_owned()),
        role: "USER".to_owned(),
        invited: false,
        operator: false,
    };
    let linked =
        |provider: &str| UserIdentityLinked { provider: provider.to_owned(), fingerprint: "00".repeat(32) };
    let events: [UserEvent; 5] = [
        created.into(),
        UserRoleChanged { role: "ADMIN".to_owned() }.into(),
        linked("works").into(),
        linked("corp").into(),
        UserDisabled {}.into(),
    ];
    stream_of(stream, events)
}

fn key(stream: Uuid, owner: Uuid) -> Vec<RecordedEvent> {
    let created = ApiKeyCreated {
        name: "ci".to_owned(),
        owner,
        fingerprint: "0123456789abcdef".to_owned(),
        scopes: vec!["workflow:*".to_owned()],
        expires_at: Some(at(1)),
    };
    let events: [ApiKeyEvent; 2] = [created.into(), ApiKeyRevoked {}.into()];
    stream_of(stream, events)
}

fn tenant_events(stream: Uuid) -> Vec<RecordedEvent> {
    let settings = TenantSettings { requests_per_minute: Some(7) };
    let events: [TenantEvent; 2] = [
        TenantCreated { name: "Everyone".to_owned(), settings }.into(),
        TenantSuspended { reason: None }.into(),
    ];
    stream_of(stream, events)
}

fn job(stream: Uuid, owner: Uuid) -> Vec<RecordedEvent> {
    let acting = Authority {
        user: owner,
        email: "ann@example.org".to_owned(),
        role: "ADMIN".to_owned(),
        permission: Permission::ExecutionBulk,
        grants: Vec::new(),
    };
    let started = BulkStarted {
        action: BulkAction::Cancel,
        filter: json!({"status": "running"}),
        reason: "a bad release".to_owned(),
        per_second: 10,
        found: 2,
        upper: stream,
        acting,
    };
    let progressed = BulkProgressed {
        cursor: stream,
        done: 1,
        failed: 1,
        failures: vec![BulkFailure { execution_id: stream, code: "forbidden".to_owned() }],
        until: at(9),
    };
    let events: [BulkEvent; 4] = [
        started.into(),
        BulkLeased { runner: owner, until: at(5) }.into(),
        progressed.into(),
        BulkCompleted {}.into(),
    ];
    stream_of(stream, events)
}

fn entry(id: Uuid) -> AuditEntry {
    AuditEntry {
        id,
        at: at(3),
        actor: Actor::new("key", "0123456789abcdef"),
        user: Some(fresh_id(1)),
        action: "CancelExecution".to_owned(),
        permission: Some("execution:cancel".to_owned()),
        route: "POST /api/v1/executions/{id}/cancel".to_owned(),
        resource: None,
        result: AuditResult::Accepted,
        code: None,
        position: None,
        ip: Some("192.0.2.7".to_owned()),
        user_agent: Some("curl/8".to_owned()),
        request_id: None,
        count: 1,
    }
}

fn audit(stream: Uuid, version: u64, entries: Vec<AuditEntry>) -> RecordedEvent {
    let event = recorded(stream, version, AuditEvent::from(AuditRecorded { entries }));
    RecordedEvent { actor: Actor::system("gateway"), ..event }
}

fn shared(users: Vec<Uuid>, visibility: Visibility) -> WorkflowEvent {
    WorkflowShared { visibility, users, access: ShareAccess::Execute }.into()
}

fn owned_workflow(owner: Uuid) -> WorkflowEvent {
    WorkflowEvent::from(WorkflowCreated {
        name: "orders".to_owned(),
        definition: json!({"name": "orders", "nodes": []}),
        definition_hash: "01".repeat(32),
        owner: Some(owner),
    })
}

/// Streams that have a row in every table of who there is.
pub(crate) fn streams() -> Vec<Vec<RecordedEvent>> {
    let owner = fresh_id(2);
    let flow = fresh_id(1);
    vec![
        user(fresh_id(0)),
        key(fresh_id(1), owner),
        tenant_events(fresh_id(2)),
        job(fresh_id(3), owner),
        stream_of(flow, [owned_workflow(owner), shared(vec![owner, fresh_id(0)], Visibility::Private)]),
        vec![audit(fresh_id(1), 1, vec![entry(fresh_id(0)), entry(fresh_id(0))])],
    ]
}

async fn users_keys_tenants_and_jobs_follow_their_events(backend: Backend) {
    let mut world = World::on(backend).await;
    let running = world.start(deaf_to_time());
    let [person, ci, slug, bulk] = [fresh_id(0), fresh_id(1), fresh_id(2), fresh_id(3)];
    let streams = [user(person), key(ci, person), tenant_events(slug), job(bulk, person)];
    for round in 0..5 {
        world.commit(streams.iter().filter_map(|stream| stream.get(round).cloned()).collect()).await;
        world.settled().await;
    }
    let models = &world.models;
    let row = models.user(&tenant(), person).await.unwrap().unwrap();
    assert_eq!(
        (row.email.as_str(), row.role.as_str(), row.status),
        ("ann@example.org", "ADMIN", UserStatus::Disabled)
    );
    assert_eq!((row.providers, row.version), (vec!["corp".to_owned(), "works".to_owned()], 5));
    let found =
        async |filter: UserFilter| models.users(&everything(), &filter, None, 9).await.unwrap().items.len();
    assert_eq!(found(UserFilter { role: Some("ADMIN".to_owned()), ..UserFilter::default() }).await, 1);
    assert_eq!(found(UserFilter { q: Some("ANN@".to_owned()), ..UserFilter::default() }).await, 1);
    assert_eq!(found(UserFilter { status: Some(UserStatus::Active), ..UserFilter::default() }).await, 0);

    let row = models.api_key(&tenant(), ci).await.unwrap().unwrap();
    assert_eq!((row.owner, row.revoked_at.is_some(), row.expires_at), (person, true, Some(at(1))));
    let keys = models.api_keys(&everything(), &ApiKeyFilter::default(), None, 9).await.unwrap();
    assert!(keys.items.is_empty(), "a revoked key is hidden");
    let all = ApiKeyFilter { revoked: true, ..ApiKeyFilter::default() };
    for (who, keys) in [(person, 1), (fresh_id(0), 0)] {
        let viewer = Viewer { user: who, reach: Reach::Own, ..everything() };
        assert_eq!(models.api_keys(&viewer, &all, None, 9).await.unwrap().items.len(), keys);
        let jobs = models.bulk_jobs(&viewer, &BulkJobFilter::default(), None, 9).await.unwrap();
        assert_eq!(jobs.items.len(), keys);
    }
    let row = models.tenant(&tenant()).await.unwrap().unwrap();
    assert_eq!(
        (row.name.as_str(), row.suspended, row.settings.requests_per_minute),
        ("Everyone", true, Some(7))
    );
    assert_eq!(models.tenants(None, 9).await.unwrap().items, [row]);
    assert!(models.tenants(Some("default"), 9).await.unwrap().items.is_empty());

    let row = models.bulk_job(&tenant(), bulk).await.unwrap().unwrap();
    assert_eq!((row.status, row.done, row.failed, row.failures.len()), (BulkStatus::Completed, 1, 1, 1));
    assert_eq!((row.lease, row.finished_at.is_some()), (Some((person, at(9))), true));
    assert!(models.unfinished_bulk_jobs(9).await.unwrap().is_empty());
    running.stop().await;
}

async fn a_user_that_cannot_be_folded_is_parked_alone(backend: Backend) {
    let mut world = World::on(backend).await;
    let running = world.start(deaf_to_time());
    let mut bad = user(fresh_id(0));
    bad[1].data = Bytes::from_static(b"[]");
    let mut audits = audit(fresh_id(1), 1, vec![entry(fresh_id(0))]);
    audits.data = Bytes::from_static(b"7");
    let good = user(fresh_id(0));
    let (bad_id, good_id) = (bad[0].stream, good[0].stream);
    world.commit(bad.into_iter().chain(good).chain([audits]).collect()).await;
    world.settled().await;
    let parked = world.models.parked(MAIN_PROJECTION).await.unwrap();
    assert_eq!(parked.len(), 2, "the user's stream and the audit's");
    assert_eq!(parked.iter().find(|parked| parked.stream == bad_id).unwrap().skipped, 3);
    assert_eq!(world.models.user(&tenant(), bad_id).await.unwrap().unwrap().version, 1);
    assert_eq!(world.models.user(&tenant(), good_id).await.unwrap().unwrap().version, 5);
    running.stop().await;
}

async fn an_execution_stays_whose_it_is_and_is_shared_as_its_workflow(backend: Backend) {
    let mut world = World::on(backend).await;
    let running = world.start(deaf_to_time());
    let [owner, friend, stranger, flow] = [fresh_id(0), fresh_id(0), fresh_id(0), fresh_id(1)];
    let mut events = execution(flow, 3);
    // The fixture's execution is of a workflow with its own id.
    let started = events[0].decode().unwrap();
    let Event::Execution(domain::event::ExecutionEvent::Started(mut started)) = started else {
        unreachable!()
    };
    started.owner = Some(owner);
    let run = fresh_id(2);
    events.iter_mut().for_each(|event| event.stream = run);
    events[0].data = domain::event::ExecutionEvent::from(started).encode();
    world.commit(stream_of(flow, [owned_workflow(owner)])).await;
    world.commit(events[..2].to_vec()).await;
    world.settled().await;
    world.commit(events[2..].to_vec()).await;
    world.settled().await;

    let seen = async |user: Uuid, reach: Reach| -> (usize, usize, bool) {
        let viewer = Viewer { tenant: tenant(), user, reach };
        let models = &world.models;
        let runs = models.executions(&viewer, &ExecutionFilter::default(), None, 9).await.unwrap();
        let flows = models.workflows(&viewer, None, 9).await.unwrap();
        let one = models.execution_seen(&viewer, run).await.unwrap().unwrap();
        assert_eq!(one.owner, Some(owner));
        let flow = models.workflow_seen(&viewer, flow).await.unwrap().unwrap();
        assert_eq!(flow.is_within(&viewer), one.is_within(&viewer));
        (runs.items.len(), flows.items.len(), one.is_within(&viewer))
    };
    for reach in [Reach::Own, Reach::Shared, Reach::Any] {
        assert_eq!(seen(owner, reach).await, (1, 1, true), "{reach:?}");
    }
    for (reach, expected) in
        [(Reach::Own, (0, 0, false)), (Reach::Shared, (0, 0, false)), (Reach::Any, (1, 1, true))]
    {
        assert_eq!(seen(friend, reach).await, expected, "{reach:?}");
    }
    let share = |version, users, visibility| {
        commanded(flow, version, fresh_id(0), &Actor::new("user", owner), shared(users, visibility))
    };
    world.commit(vec![share(2, vec![friend], Visibility::Private)]).await;
    world.settled().await;
    let seen = async |user: Uuid, reach: Reach| -> (usize, usize, bool) {
        let viewer = Viewer { tenant: tenant(), user, reach };
        let runs = world.models.executions(&viewer, &ExecutionFilter::default(), None, 9).await.unwrap();
        let flows = world.models.workflows(&viewer, None, 9).await.unwrap();
        let one = world.models.execution_seen(&viewer, run).await.unwrap().unwrap();
        (runs.items.len(), flows.items.len(), one.is_within(&viewer))
    };
    assert_eq!(seen(friend, Reach::Shared).await, (1, 1, true));
    assert_eq!(seen(friend, Reach::Own).await, (0, 0, false));
    assert_eq!(seen(stranger, Reach::Shared).await, (0, 0, false));
    let access = world.models.sharing(&tenant(), flow, friend).await.unwrap();
    assert_eq!(access, SharedWith::Them(ShareAccess::Execute));
    assert_eq!(world.models.shared_users(&tenant(), flow).await.unwrap(), [friend]);

    world.commit(vec![share(3, vec![], Visibility::Public)]).await;
    world.settled().await;
    let viewer = |user| Viewer { tenant: tenant(), user, reach: Reach::Shared };
    for user in [friend, stranger] {
        let runs =
            world.models.executions(&viewer(user), &ExecutionFilter::default(), None, 9).await.unwrap();
        assert_eq!(runs.items.len(), 1, "what is public is everybody's to see");
    }
    assert!(world.models.shared_users(&tenant(), flow).await.unwrap().is_empty());

    world.commit(vec![share(4, vec![], Visibility::Private)]).await;
    world.settled().await;
    for user in [friend, stranger] {
        let runs =
            world.models.executions(&viewer(user), &ExecutionFilter::default(), None, 9).await.unwrap();
        assert!(runs.items.is_empty(), "nobody but the owner any more");
    }
    let of_owner = ExecutionFilter { owner: Some(owner), ..ExecutionFilter::default() };
    assert_eq!(world.models.executions(&everything(), &of_owner, None, 9).await.unwrap().items.len(), 1);
    running.stop().await;
}

async fn all(world: &World) -> Vec<AuditRow> {
    world.models.audit(&tenant(), &AuditFilter::default(), None, 50).await.unwrap().items
}

async fn an_entry_and_the_first_event_of_its_command_meet_in_one_row_in_any_order(backend: Backend) {
    let mut rows = Vec::new();
    let [command, run] = [fresh_id(0), fresh_id(1)];
    let person = Actor::new("user", fresh_id(2));
    let noted = entry(command);
    for order in 0..4 {
        let mut world = World::on(backend).await;
        let running = world.start(deaf_to_time());
        let two: Vec<_> = execution(run, 1)[..2]
            .iter()
            .map(|event| commanded(run, event.version, command, &person, event.decode().unwrap()))
            .collect();
        let [first, second] = [vec![two[0].clone()], vec![two[1].clone()]];
        let entries = vec![audit(fresh_id(3), 1, vec![noted.clone()])];
        let parts = match order {
            0 => vec![first, second, entries],
            1 => vec![entries, first, second],
            2 => vec![first, entries, second],
            _ => vec![[first, second, entries].concat()],
        };
        for part in parts {
            world.commit(part).await;
            world.settled().await;
        }
        rows.push(all(&world).await);
        running.stop().await;
    }
    for found in &rows {
        assert_eq!(found, &rows[0]);
        let [row] = &found[..] else { panic!("{found:?}") };
        assert_eq!(
            (row.id, row.action.as_str(), row.actor.as_str()),
            (command, "CancelExecution", noted.actor.as_str())
        );
        assert_eq!(
            (row.ip.as_deref(), row.at),
            (Some("192.0.2.7"), at(0)),
            "from the entry, at the log's time"
        );
        assert_eq!(row.resource.as_deref(), Some(run.to_string().as_str()), "which the entry does not say");
        assert_eq!(row.position.map(|Position { offset, .. }| offset), Some(1), "of the first event");
    }
}

async fn what_nobody_has_sent_is_not_audited(backend: Backend) {
    let mut world = World::on(backend).await;
    let running = world.start(deaf_to_time());
    let [command, run, other] = [fresh_id(0), fresh_id(1), fresh_id(1)];
    let key = Actor::new("key", "0123456789abcdef");
    let mut events = execution(run, 2);
    events[0] = commanded(run, 1, command, &key, events[0].decode().unwrap());
    // A worker's result, and a part of Everline.
    events[1] = commanded(run, 2, fresh_id(0), &Actor::new("worker", "w1"), events[1].decode().unwrap());
    events[2] = commanded(run, 3, fresh_id(0), &Actor::system("reactor"), events[2].decode().unwrap());
    // An event that another event has caused, under the name of who began it.
    events[3].causation_id = events[0].id;
    let caused = RecordedEvent { causation_id: events[0].id, ..execution(other, 1)[0].clone() };
    world.commit(events.into_iter().chain([caused]).collect()).await;
    world.settled().await;
    let found = all(&world).await;
    let [row] = &found[..] else { panic!("{found:?}") };
    assert_eq!((row.id, row.action.as_str(), row.noted), (command, "execution.started", false));
    assert_eq!((row.result, row.user, row.route.as_deref()), (AuditResult::Accepted, None, None));
    running.stop().await;
}

async fn an_audit_is_filtered_and_paged_without_a_gap(backend: Backend) {
    let mut world = World::on(backend).await;
    let running = world.start(deaf_to_time());
    let stream = fresh_id(0);
    let entries: Vec<_> = (0..30)
        .map(|number| AuditEntry {
            // Several at one time.
            at: at(number / 4),
            result: if number % 3 == 0 { AuditResult::Denied } else { AuditResult::Accepted },
            resource: Some(format!("r{}", number % 5)),
            ..entry(fresh_id(0))
        })
        .collect();
    let user = entries[7].user;
    world.commit(vec![audit(stream, 1, entries.clone())]).await;
    world.settled().await;
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let page = world.models.audit(&tenant(), &AuditFilter::default(), cursor, 7).await.unwrap();
        seen.extend(page.items.iter().map(|row| (row.at, row.id)));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    let mut expected: Vec<_> = entries.iter().map(|entry| (entry.at, entry.id)).collect();
    expected.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(seen, expected);
    let count = async |filter: AuditFilter| {
        world.models.audit(&tenant(), &filter, None, 50).await.unwrap().items.len()
    };
    let filter = AuditFilter::default;
    assert_eq!(count(AuditFilter { result: Some(AuditResult::Denied), ..filter() }).await, 10);
    assert_eq!(count(AuditFilter { resource: Some("r1".to_owned()), ..filter() }).await, 6);
    assert_eq!(count(AuditFilter { user, ..filter() }).await, 1);
    assert_eq!(count(AuditFilter { after: Some(at(1)), before: Some(at(3)), ..filter() }).await, 4);
    assert_eq!(count(AuditFilter { ip: Some("192.0.2.8".to_owned()), ..filter() }).await, 0);
    assert_eq!(count(AuditFilter { action: Some("CancelExecution".to_owned()), ..filter() }).await, 30);
    assert_eq!(count(AuditFilter { actor: Some("key:0123456789abcdef".to_owned()), ..filter() }).await, 30);
    running.stop().await;
}

async fn rebuilt_rows_of_identities_equal_live_ones(backend: Backend) {
    let mut world = World::on(backend).await;
    let running = world.start(deaf_to_time());
    let streams = streams();
    for round in 0..5 {
        world.commit(streams.iter().filter_map(|stream| stream.get(round).cloned()).collect()).await;
        world.settled().await;
    }
    let live = world.rows().await;
    let config = ProjectionConfig { batch_events: 3, page_events: 2, ..ProjectionConfig::default() };
    rebuild(&*world.log, &world.models, &config).await.unwrap();
    assert_eq!(world.rows().await, live);
    running.stop().await;
}
