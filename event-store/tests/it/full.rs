//! A disk without room: what does not fit is refused whole, and the log goes on as soon as there is room.

use bytes::Bytes;
use std::sync::Arc;

use domain::ids::Partition;
use event_store::sqlite::{SqliteLog, SqliteOptions};
use event_store::verifiers::{Verifier, VerifierKind, Verifiers};
use event_store::{Append, AppendError, Log, LogReader, StoreError};

use crate::sqlite::SqliteStore;
use crate::support::{Owner, PARTITIONS, Store, append, at, everything, partition, stream, tenant};

/// 800 KiB: enough for the tables and a few small appends.
const PAGES: u32 = 200;

/// A log that may have so many pages, and its owner.
async fn small(store: &SqliteStore, max_pages: Option<u32>) -> Owner<SqliteLog> {
    let options = SqliteOptions { partitions: Some(PARTITIONS), max_pages, ..SqliteOptions::default() };
    let log = Arc::new(store.open_with(options).await.unwrap());
    let mut heads = std::collections::BTreeMap::new();
    for partition in (0..PARTITIONS).map(Partition) {
        heads.insert(partition, log.take_over(partition, uuid::Uuid::nil()).await.unwrap());
    }
    Owner { log, heads }
}

/// An append of a megabyte in so many events.
fn large(events: u64) -> Append {
    let mut large = append(stream(1), 0, events);
    for event in &mut large.streams[0].events {
        event.data = Bytes::from(vec![b'x'; (1 << 20) / events as usize]);
    }
    large
}

fn is_full(error: &AppendError) -> bool {
    matches!(error, AppendError::Store(StoreError::Database { source, .. }) if source.to_string().contains("full"))
}

/// One row and many: SQLite takes more back or less. How a commit fails is in the tests of the writer itself.
#[tokio::test]
async fn an_append_without_room_leaves_no_trace_and_the_next_one_goes_in() {
    for events in [1, 16, 600] {
        let store = SqliteStore::create().await;
        let mut owner = small(&store, Some(PAGES)).await;
        let first = append(stream(1), 0, 2);
        owner.append(vec![first.clone()]).await.unwrap();
        let before = everything(&*owner.log).await;
        let refused = large(events);
        for _ in 0..3 {
            let error = owner.append(vec![append(stream(2), 0, 1), refused.clone()]).await.unwrap_err();
            assert!(is_full(&error), "{error:?}");
            assert!(owner.log.last_write_failed().unwrap().contains("full"));
        }
        assert_eq!(everything(&*owner.log).await, before);
        assert_eq!(owner.log.command_answer(Partition(1), refused.command_id).await.unwrap(), None);

        owner.append(vec![append(stream(1), 0, 1), append(stream(3), 0, 20)]).await.unwrap();
        assert_eq!(owner.log.last_write_failed(), None);
        assert_eq!(partition(&*owner.log, 1).await.len(), 3);
        for partition in (0..PARTITIONS).map(Partition) {
            owner.log.verify_chain(partition).await.unwrap();
        }
        assert!(owner.log.command_answer(Partition(1), first.command_id).await.unwrap().is_some());

        drop(owner);
        let mut owner = small(&store, Some(100 * PAGES)).await;
        owner.append(vec![refused]).await.unwrap();
        assert_eq!(partition(&*owner.log, 1).await.len(), 3 + events as usize);
    }
}

#[tokio::test]
async fn other_writes_go_on_after_an_append_without_room() {
    let store = SqliteStore::create().await;
    let mut owner = small(&store, Some(PAGES)).await;
    assert!(is_full(&owner.append(vec![large(1)]).await.unwrap_err()));
    let verifier = Verifier {
        kind: VerifierKind::Password,
        lookup: "a@example.org".to_owned(),
        tenant: tenant("a"),
        principal: "u1".to_owned(),
        name: String::new(),
        hash: "h".to_owned(),
        family: None,
        created_at: at(0),
        expires_at: None,
        used_at: None,
    };
    owner.log.put(&verifier).await.unwrap();
    assert_eq!(owner.log.find(VerifierKind::Password, "a@example.org").await.unwrap(), Some(verifier));
    owner.log.take_over(Partition(0), uuid::Uuid::nil()).await.unwrap();
}

#[tokio::test]
async fn whether_the_log_takes_writes_can_be_tried() {
    let store = SqliteStore::create().await;
    let mut owner = small(&store, Some(PAGES)).await;
    owner.log.try_write().await.unwrap();
    while owner.append(vec![append(stream(1), 0, 20)]).await.is_ok() {}
    let before = everything(&*owner.log).await;
    owner.log.try_write().await.unwrap_err();
    assert!(owner.log.last_write_failed().unwrap().contains("full"));
    drop(owner);
    let owner = small(&store, Some(2 * PAGES)).await;
    owner.log.try_write().await.unwrap();
    assert_eq!(owner.log.last_write_failed(), None);
    assert_eq!(everything(&*owner.log).await.1, before.1);
}
