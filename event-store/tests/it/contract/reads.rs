//! Promises of the read-only face.

use bytes::Bytes;
use uuid::Uuid;

use domain::event::RecordedEvent;
use domain::ids::{Actor, Partition, Position};
use event_store::log::ChainReport;
use event_store::{Log, LogReader};

use crate::support::{Owner, PARTITIONS, Store, append, at, event, everything, partition, stream, tenant};

pub(crate) async fn a_stream_is_read_in_pages(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let (stream, other) = (stream(1), stream(1));
    for version in 0..7 {
        owner.append(vec![append(stream, version * 3, 3), append(other, version, 1)]).await.unwrap();
    }
    let mut versions = Vec::new();
    loop {
        let after = versions.last().copied().unwrap_or(0);
        let page = owner.log.read_stream(stream, after, 4).await.unwrap();
        assert!(page.iter().all(|event| event.stream == stream));
        versions.extend(page.iter().map(|event| event.version));
        if page.len() < 4 {
            break;
        }
    }
    assert_eq!(versions, (1..=21).collect::<Vec<_>>());
}

pub(crate) async fn a_partition_is_read_in_pages(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    for _ in 0..7 {
        owner.append((0..PARTITIONS).map(|p| append(stream(p), 0, 3)).collect()).await.unwrap();
    }
    let mut offsets = Vec::new();
    loop {
        let after = offsets.last().copied().unwrap_or(0);
        let page = owner.log.read_partition(Partition(2), after, 5).await.unwrap();
        assert!(page.iter().all(|event| event.position.partition == Partition(2)));
        offsets.extend(page.iter().map(|event| event.position.offset));
        if page.len() < 5 {
            break;
        }
    }
    assert_eq!(offsets, (1..=21).collect::<Vec<_>>());
}

pub(crate) async fn reopening_keeps_everything(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    for _ in 0..3 {
        owner.append((0..PARTITIONS).map(|p| append(stream(p), 0, 3)).collect()).await.unwrap();
    }
    let before = everything(&*owner.log).await;
    drop(owner);
    let log = store.open().await;
    assert_eq!(everything(&log).await, before);
    assert_eq!(log.partitions(), PARTITIONS);
    drop(log);
    // The chain goes on where it was.
    let mut owner = Owner::of(&store).await;
    let committed = owner.append(vec![append(stream(0), 0, 1)]).await.unwrap();
    assert_eq!(committed.positions[0].offset, 10);
    assert_eq!(owner.log.verify_chain(Partition(0)).await.unwrap(), ChainReport { commits: 4, events: 10 });
}

pub(crate) async fn an_old_schema_comes_back_byte_for_byte(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let stream = stream(1);
    let mut old = append(stream, 0, 2);
    let data = Bytes::from_static(b"{ \"trigger\" : \"manual\",\n\t\"input\":1.0, \"input\":2 }");
    old.streams[0].events[0] = RecordedEvent {
        event_type: "execution.started".into(),
        schema_version: 1,
        data: data.clone(),
        ..event(stream, 1)
    };
    old.streams[0].events[1].event_type = "of.another.release".to_owned().into();
    owner.append(vec![old]).await.unwrap();
    let read = owner.log.read_stream(stream, 0, 10).await.unwrap();
    assert_eq!((read[0].schema_version, &*read[0].event_type), (1, "execution.started"));
    assert_eq!(read[0].data, data);
    assert_eq!(&*read[1].event_type, "of.another.release");
}

pub(crate) async fn every_field_of_an_event_comes_back(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    let stream = stream(1);
    let full = RecordedEvent {
        position: Position { partition: Partition(1), offset: 1 },
        tenant: tenant("acme-2"),
        recorded_at: at(5),
        correlation_id: Uuid::from_u128(11),
        causation_id: Uuid::from_u128(12),
        actor: Actor::new("user", "ä"),
        traceparent: Some("".into()),
        key_id: Some("key-1".into()),
        data: Bytes::from_static(&[0, 255, 1]),
        ..event(stream, 1)
    };
    let bare = RecordedEvent {
        position: Position { partition: Partition(1), offset: 2 },
        recorded_at: at(5),
        traceparent: None,
        data: Bytes::new(),
        ..event(stream, 2)
    };
    let mut both = append(stream, 0, 0);
    both.streams[0].events = vec![full.clone(), bare.clone()];
    let committed = owner.append(vec![both]).await.unwrap();
    assert_eq!(committed.events, [full.clone(), bare.clone()]);
    assert_eq!(owner.log.read_stream(stream, 0, 10).await.unwrap(), [full.clone(), bare.clone()]);
    assert_eq!(partition(&*owner.log, 1).await, [full, bare]);
}

pub(crate) async fn the_chain_of_an_untouched_log_is_whole(store: impl Store) {
    let mut owner = Owner::of(&store).await;
    assert_eq!(owner.log.verify_chain(Partition(0)).await.unwrap(), ChainReport::default());
    for round in 0..30u64 {
        owner.append(vec![append(stream(0), 0, round * 10 + 1), append(stream(0), 0, 1)]).await.unwrap();
    }
    let report = owner.log.verify_chain(Partition(0)).await.unwrap();
    assert_eq!(report, ChainReport { commits: 30, events: owner.heads[&Partition(0)].offset });
}

pub(crate) async fn what_is_not_there_reads_as_nothing(store: impl Store) {
    let owner = Owner::of(&store).await;
    assert_eq!(owner.log.read_stream(stream(1), 0, 10).await.unwrap(), []);
    assert_eq!(owner.log.read_partition(Partition(1), 0, 10).await.unwrap(), []);
    assert_eq!(owner.log.read_partition(Partition(1), 99, 10).await.unwrap(), []);
    assert_eq!(owner.log.command_answer(Partition(1), stream(1)).await.unwrap(), None);
    assert_eq!(owner.log.claim_holder(&tenant("a"), "kind", "key").await.unwrap(), None);
    assert!(owner.log.take_over(Partition(PARTITIONS), uuid::Uuid::nil()).await.is_err());
}
