//! The registry, by itself.

use super::*;
use crate::event_waits::index::tests::event;
use domain::ids::{Slot, new_id};
use domain::time::Timestamp;
use serde_json::json;

fn execution(number: u64) -> Uuid {
    new_id(Timestamp::from_unix_ms(1), Slot::from_bits(number), number)
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

fn paid() -> Vec<Wanted> {
    vec![Wanted { condition: 0, event_type: "x".to_owned(), key: None, since: Timestamp::default() }]
}

fn registry() -> Registry {
    Registry::new(2, 100)
}

#[test]
fn a_wait_that_comes_in_notes_how_far_events_were_followed() {
    let mut registry = registry();
    registry.open(&tenant(), execution(1), "w", 1, paid());
    assert!(registry.take_fresh(10).is_empty(), "nothing is followed yet");
    registry.activate(vec![7, 9]);
    let event_at = |offset| event("default", "x", &json!({}), 5, offset);
    assert!(registry.follow(&event_at(9)).is_none(), "offset 8 is missing");
    assert_eq!(registry.follow(&event_at(8)).map(|found| found.len()), Some(1));
    assert!(registry.follow(&event_at(8)).is_none(), "once");
    registry.open(&tenant(), execution(2), "w", 1, paid());
    let fresh = registry.take_fresh(10);
    let until: Vec<_> = fresh.iter().map(|(_, wait)| wait.until.as_deref().map(<[u64]>::to_vec)).collect();
    assert_eq!(until, [Some(vec![7, 9]), Some(vec![8, 9])]);
    assert!(registry.take_fresh(10).is_empty());
}

#[test]
fn what_ends_while_the_log_is_read_is_not_taken_from_it() {
    let mut registry = registry();
    let partition = Partition::of(execution(1), 2);
    registry.load(partition);
    let (_, reading) = registry.next_to_load().expect("a reading");
    registry.close(execution(1), "w");
    let wait = |number| Wait {
        execution: execution(number),
        path: "w".into(),
        run: 1,
        tenant: tenant(),
        wanted: paid(),
        until: None,
    };
    registry.found(partition, reading, wait(1));
    assert!(registry.is_empty());
    registry.found(partition, reading, wait(3));
    assert!(!registry.is_empty());
    registry.loaded(partition, reading);
    registry.found(partition, reading, wait(5));
    assert_eq!(registry.waits.len(), 1, "a reading that is over finds nothing");
    registry.drop_partition(partition);
    assert!(registry.is_empty() && registry.is_idle());
}

#[test]
fn a_condition_that_is_met_is_found_no_more_and_a_later_run_is_a_wait_of_its_own() {
    let mut registry = registry();
    registry.activate(vec![0, 0]);
    registry.open(&tenant(), execution(1), "w", 1, paid());
    registry.open(&tenant(), execution(1), "w", 1, paid());
    assert_eq!(registry.waits.len(), 1);
    registry.met(execution(1), "w", 0);
    let found = |registry: &mut Registry, offset| {
        registry.follow(&event("default", "x", &json!({}), 5, offset)).expect("the next").len()
    };
    assert_eq!(found(&mut registry, 1), 0);
    registry.open(&tenant(), execution(1), "w", 2, paid());
    assert_eq!(found(&mut registry, 2), 1);
    registry.end(execution(1));
    assert_eq!(found(&mut registry, 3), 0);
    assert!(registry.deactivate());
}

#[test]
fn there_is_a_limit_and_what_found_no_room_is_read_when_there_is_some() {
    let mut registry = Registry::new(2, 2);
    for number in 1..=3 {
        registry.open(&tenant(), execution(number), "w", 1, paid());
    }
    assert!(registry.overflowed && !registry.has_room_again());
    registry.end(execution(1));
    registry.end(execution(2));
    assert!(registry.has_room_again());
}
