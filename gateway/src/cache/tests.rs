//! What is kept and what is not, in every order in which feed and readers can overtake each other.

use bus::CommittedBatch;
use domain::event::{Codec, RecordedEvent};
use domain::ids::{Actor, Partition, Position, TenantId};
use domain::time::Timestamp;
use std::sync::Arc;
use uuid::Uuid;

use super::{ExecutionCache, Found, Kept, Ticket};

const P: Partition = Partition(0);

fn stream(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

/// A batch from an offset on: streams with the versions of their events.
fn batch(first_offset: u64, events: &[(u128, u64)]) -> CommittedBatch {
    let event = |(index, (number, version)): (usize, &(u128, u64))| RecordedEvent {
        position: Position { partition: P, offset: first_offset + index as u64 },
        stream: stream(*number),
        version: *version,
        tenant: TenantId::default_tenant(),
        event_type: "test.happened".into(),
        schema_version: 1,
        id: Uuid::nil(),
        recorded_at: Timestamp::from_unix_ms(1),
        correlation_id: Uuid::nil(),
        causation_id: Uuid::nil(),
        actor: Actor::system("test"),
        traceparent: None,
        codec: Codec::Json,
        key_id: None,
        data: "{}".into(),
    };
    let events = events.iter().enumerate().map(event).map(Arc::new).collect();
    CommittedBatch { partition: P, first_offset, events }
}

fn kept(version: u64) -> Kept {
    Kept { tenant: TenantId::default_tenant(), version, body: format!("version {version}").into() }
}

fn ticket(cache: &ExecutionCache, number: u128) -> Ticket {
    match cache.look(P, &TenantId::default_tenant(), stream(number), 0) {
        Found::Nothing(ticket) => ticket,
        other => panic!("{other:?}"),
    }
}

/// The version that is found.
fn version(cache: &ExecutionCache, number: u128, needed: u64) -> Option<u64> {
    match cache.look(P, &TenantId::default_tenant(), stream(number), needed) {
        Found::Kept(kept) => Some(kept.version),
        Found::Nothing(_) | Found::Unknown => None,
    }
}

/// A cache whose feed has shown one event of stream 1.
fn fresh() -> ExecutionCache {
    let cache = ExecutionCache::new(1 << 20, 1);
    cache.committed(&batch(10, &[(1, 3)]));
    cache
}

#[test]
fn nothing_is_found_or_put_before_the_feed_was_heard() {
    let cache = ExecutionCache::new(1 << 20, 1);
    assert!(matches!(cache.look(P, &TenantId::default_tenant(), stream(1), 0), Found::Unknown));
    assert!(!cache.put(P, stream(1), kept(1), &Ticket { gaps: 0, floor: 0 }));
    cache.committed(&batch(5, &[]));
    let ticket = ticket(&cache, 1);
    assert_eq!(ticket.floor, 4, "a sign of life says how far the read model must be");
}

#[test]
fn an_event_makes_what_is_kept_of_its_stream_unusable_and_nothing_else() {
    let cache = fresh();
    let (one, two) = (ticket(&cache, 1), ticket(&cache, 2));
    assert!(cache.put(P, stream(1), kept(3), &one) && cache.put(P, stream(2), kept(7), &two));
    cache.committed(&batch(11, &[(1, 4)]));
    assert_eq!((version(&cache, 1, 0), version(&cache, 2, 0)), (None, Some(7)));
    // The reader may be ahead of the feed; then the event brings nothing new.
    let two = ticket(&cache, 1);
    assert!(cache.put(P, stream(1), kept(5), &two));
    cache.committed(&batch(12, &[(1, 5)]));
    assert_eq!(version(&cache, 1, 0), Some(5));
}

#[test]
fn what_was_read_before_an_event_is_not_put_after_it() {
    let cache = fresh();
    let (one, two) = (ticket(&cache, 1), ticket(&cache, 2));
    cache.committed(&batch(11, &[(1, 4), (2, 8)]));
    assert!(!cache.put(P, stream(1), kept(3), &one), "the read began before the event");
    assert!(!cache.put(P, stream(2), kept(7), &two));
    // A read model that is behind the feed gives the old version even to a read that began after the event.
    let late = ticket(&cache, 1);
    assert!(!cache.put(P, stream(1), kept(3), &late));
    assert!(cache.put(P, stream(1), kept(4), &late));
}

#[test]
fn an_event_that_was_forgotten_still_counts_for_readers_from_before() {
    let cache = fresh();
    let early = ticket(&cache, 1);
    cache.committed(&batch(11, &[(1, 4)]));
    for number in 0..3_000 {
        cache.committed(&batch(12 + number, &[(u128::from(number) + 100, 1)]));
    }
    assert!(!cache.put(P, stream(1), kept(3), &early), "it has not seen version 4");
    let late = ticket(&cache, 1);
    assert!(late.floor >= 11, "the read model must have it: {late:?}");
    assert!(cache.put(P, stream(1), kept(4), &late));
}

#[test]
fn a_gap_and_a_lag_empty_the_shelf_and_refuse_older_tickets() {
    let cache = fresh();
    let (kept_before, early) = (ticket(&cache, 1), ticket(&cache, 2));
    assert!(cache.put(P, stream(1), kept(3), &kept_before));
    cache.committed(&batch(13, &[(9, 1)]));
    assert_eq!(version(&cache, 1, 0), None, "offsets 11 and 12 may have been its");
    assert!(!cache.put(P, stream(2), kept(7), &early));
    let after = ticket(&cache, 1);
    assert_eq!(after.floor, 12);
    assert!(cache.put(P, stream(1), kept(4), &after));
    // A sign of life shows a gap as well as an event does.
    cache.committed(&batch(16, &[]));
    assert_eq!(version(&cache, 1, 0), None);
    let ticket = ticket(&cache, 1);
    cache.lagged();
    assert!(matches!(cache.look(P, &TenantId::default_tenant(), stream(1), 0), Found::Unknown));
    assert!(!cache.put(P, stream(1), kept(9), &ticket));
}

#[test]
fn messages_that_come_twice_or_late_change_nothing() {
    let cache = fresh();
    cache.committed(&batch(11, &[(1, 4), (2, 1)]));
    let one = ticket(&cache, 1);
    assert!(cache.put(P, stream(1), kept(4), &one));
    cache.committed(&batch(10, &[(1, 3)]));
    cache.committed(&batch(11, &[]));
    cache.committed(&batch(11, &[(1, 4), (2, 1)]));
    assert_eq!(version(&cache, 1, 12), Some(4));
}

#[test]
fn a_reader_who_needs_more_than_the_feed_has_shown_finds_nothing() {
    let cache = fresh();
    let one = ticket(&cache, 1);
    assert!(cache.put(P, stream(1), kept(3), &one));
    assert_eq!((version(&cache, 1, 10), version(&cache, 1, 11)), (Some(3), None));
}

#[test]
fn another_tenant_finds_nothing() {
    let cache = fresh();
    let one = ticket(&cache, 1);
    assert!(cache.put(P, stream(1), kept(3), &one));
    let other = TenantId::try_from("other".to_owned()).expect("a slug");
    assert!(matches!(cache.look(P, &other, stream(1), 0), Found::Unknown));
    assert_eq!(version(&cache, 1, 0), Some(3));
}

#[test]
fn the_bytes_are_bounded_and_what_was_not_asked_for_longest_goes_first() {
    let cache = ExecutionCache::new(8_192, 1);
    cache.committed(&batch(10, &[]));
    for number in 0..100 {
        let ticket = ticket(&cache, 1_000 + number);
        let body = Kept { body: vec![b'x'; 500].into(), ..kept(1) };
        assert!(cache.put(P, stream(1_000 + number), body, &ticket));
        assert!(cache.bytes() <= 8_192);
        assert_eq!(version(&cache, 1_000, 0), Some(1), "it is asked for again and again");
    }
    assert_eq!(version(&cache, 1_001, 0), None);
    let large = Kept { body: vec![b'x'; 5_000].into(), ..kept(1) };
    let ticket = ticket(&cache, 1);
    assert!(!cache.put(P, stream(1), large, &ticket), "one thing does not push out all others");
}
