//! The audit: what gateways note and what the log says meet in one row.

use uuid::Uuid;

use domain::audit::event::{AuditEntry, AuditRecorded, AuditResult};
use domain::event::{AuditEvent, RecordedEvent};
use domain::ids::{Actor, Position};
use read_models::{AuditFilter, AuditRow};

use crate::identity::{at, commanded};
use crate::support::{Backend, World, deaf_to_time, execution, fresh_id, on_every_backend, recorded, tenant};

on_every_backend!(
    an_entry_and_the_first_event_of_its_command_meet_in_one_row_in_any_order,
    what_nobody_has_sent_is_not_audited,
    an_audit_is_filtered_and_paged_without_a_gap,
);

pub(crate) fn entry(id: Uuid) -> AuditEntry {
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

pub(crate) fn audit(stream: Uuid, version: u64, entries: Vec<AuditEntry>) -> RecordedEvent {
    let event = recorded(stream, version, AuditEvent::from(AuditRecorded { entries }));
    RecordedEvent { actor: Actor::system("gateway"), ..event }
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
