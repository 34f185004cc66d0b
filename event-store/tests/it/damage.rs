//! Every kind of damage, done past the log by somebody who has dropped the triggers, is found and named.

use sqlx::{AssertSqlSafe, Executor};

use domain::ids::Partition;
use event_store::LogReader;
use event_store::sqlite::SqliteLog;

use crate::sqlite::SqliteStore;
use crate::support::{Owner, Store, append, damage, stream};

pub(crate) const UNLOCK: &str = "drop trigger events_refuse_update; drop trigger events_refuse_delete;
                      drop trigger commits_refuse_update; drop trigger commits_refuse_delete;";

/// A log whose partition 1 has the commits 1–3, 4–6, … 28–30, changed by `sql`, and what is found.
async fn found_after(sql: &'static str) -> String {
    let store = SqliteStore::create().await;
    let mut owner: Owner<SqliteLog> = Owner::of(&store).await;
    for _ in 0..10 {
        owner.append(vec![append(stream(1), 0, 2), append(stream(1), 0, 1)]).await.unwrap();
    }
    owner.log.verify_chain(Partition(1)).await.unwrap();
    let mut raw = store.raw().await;
    raw.execute(AssertSqlSafe(format!("{UNLOCK} {sql}"))).await.unwrap();
    damage(owner.log.verify_chain(Partition(1))).await
}

#[tokio::test]
async fn altered_data_is_found() {
    let found = found_after("update events set data = x'7b7d' where offset = 11").await;
    assert_eq!(found, "events 1:10 to 1:12 are not those that were committed");
}

#[tokio::test]
async fn altered_metadata_is_found() {
    for sql in [
        "update events set tenant = 'other' where offset = 5",
        "update events set type = 'execution.failed' where offset = 5",
        "update events set actor = 'user:mallory' where offset = 5",
        "update events set recorded_at = recorded_at + 1 where offset = 5",
        "update events set version = 9 where offset = 5",
        "update events set traceparent = null where offset = 5",
        "update events set key_id = 'k' where offset = 5",
        "update events set schema_version = 2 where offset = 5",
        "update events set id = correlation_id where offset = 5",
    ] {
        assert_eq!(found_after(sql).await, "events 1:4 to 1:6 are not those that were committed", "{sql}");
    }
}

#[tokio::test]
async fn a_value_that_cannot_be_is_found_and_named() {
    let found = found_after("update events set tenant = 'NOT A TENANT' where offset = 5").await;
    assert!(found.starts_with("event 1:5 does not read"), "{found}");
    let found = found_after("update events set codec = 9 where offset = 5").await;
    assert!(found.contains("event 1:5") && found.contains("codec 9"), "{found}");
}

#[tokio::test]
async fn a_removed_event_is_found() {
    assert_eq!(found_after("delete from events where offset = 5").await, "event 1:5 is missing");
    assert_eq!(found_after("delete from events where offset = 30").await, "event 1:30 is missing");
}

#[tokio::test]
async fn a_removed_commit_is_found() {
    let found = found_after("delete from commits where head = 6").await;
    assert!(found.starts_with("the commit that begins with event 1:4 is missing"), "{found}");
    let found = found_after("delete from commits where head = 30").await;
    assert_eq!(found, "event 1:28 stands in no commit");
    let found =
        found_after("delete from commits where head = 6; delete from events where offset in (4, 5, 6)").await;
    assert!(found.starts_with("the commit that begins with event 1:4 is missing"), "{found}");
}

#[tokio::test]
async fn reordered_events_are_found() {
    let swap =
        "update events set offset = 99 where offset = 5; update events set offset = 5 where offset = 6;
                update events set offset = 6 where offset = 99;";
    assert_eq!(found_after(swap).await, "events 1:4 to 1:6 are not those that were committed");
}

#[tokio::test]
async fn an_altered_commit_is_found() {
    for sql in [
        "update commits set epoch = 9 where head = 9",
        "update commits set committed_at = 1 where head = 9",
        "update commits set hash = zeroblob(32) where head = 9",
    ] {
        let found = found_after(sql).await;
        assert_eq!(found, "the commit of events 1:7 to 1:9 does not follow from the one before it", "{sql}");
    }
    let found = found_after("update commits set merkle_root = zeroblob(32) where head = 9").await;
    assert_eq!(found, "events 1:7 to 1:9 are not those that were committed");
    let found = found_after("update commits set event_count = 2 where head = 9").await;
    assert!(found.starts_with("the commit that begins with event 1:7 is missing"), "{found}");
}

#[tokio::test]
async fn an_event_put_in_after_the_last_commit_is_found_and_is_in_the_way() {
    let store = SqliteStore::create().await;
    let mut owner: Owner<SqliteLog> = Owner::of(&store).await;
    owner.append(vec![append(stream(1), 0, 1)]).await.unwrap();
    let add = "create temp table copy as select * from events; update copy set offset = 2, version = 9;
               insert into events select * from copy";
    store.raw().await.execute(add).await.unwrap();
    assert_eq!(damage(owner.log.verify_chain(Partition(1))).await, "event 1:2 stands in no commit");
    let error = owner.append(vec![append(stream(1), 0, 1)]).await.unwrap_err();
    assert!(error.to_string().contains("verify the chain of partitions 1"), "{error}");
}

#[tokio::test]
async fn a_reader_is_not_handed_a_gap() {
    let store = SqliteStore::create().await;
    let mut owner: Owner<SqliteLog> = Owner::of(&store).await;
    owner.append(vec![append(stream(1), 0, 5)]).await.unwrap();
    let sql = AssertSqlSafe(format!("{UNLOCK} delete from events where offset = 3"));
    store.raw().await.execute(sql).await.unwrap();
    assert_eq!(damage(owner.log.read_partition(Partition(1), 0, 10)).await, "event 1:3 is missing");
    assert_eq!(owner.log.read_partition(Partition(1), 3, 10).await.unwrap().len(), 2);
}
