//! Postgres under stress: owners that believe the same, connections and servers that end, tables that come and go.

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use std::sync::Arc;
use std::time::{Duration, Instant};
use test_services::{Durability, PostgresServer};
use uuid::Uuid;

use domain::ids::{Partition, Slot, TenantId, birth_bucket, new_id};
use event_store::log::COMMAND_RETENTION_MS;
use event_store::postgres::PostgresLog;
use event_store::verifiers::{Verifier, VerifierKind, Verifiers};
use event_store::{Append, AppendError, Batch, Log, LogReader, StoreHealth};

use crate::postgres::{PostgresStore, eventually};
use crate::support::{Owner, Store, append, at, fresh, partition, stream};

/// The seconds of a month and some.
const MONTH: u64 = 32 * 24 * 60 * 60;

/// A new stream of partition 1 that was born so many months later than others.
fn stream_of_month(months: u64) -> Uuid {
    new_id(at(0).plus_ms(months * MONTH * 1000), Slot::from_bits(1), fresh())
}

/// The part of somebody who believes to own a partition: takes it over, appends until it is fenced, and so on. What
/// was acknowledged: stream and offset.
async fn believe(log: Arc<PostgresLog>, rounds: usize) -> (Vec<(Uuid, u64)>, usize) {
    let (mut acknowledged, mut fenced) = (Vec::new(), 0);
    for _ in 0..rounds {
        let mut head = log.take_over(Partition(1), Uuid::new_v4()).await.unwrap();
        for _ in 0..6 {
            let stream = stream(1);
            let batch = Batch { heads: vec![head], appends: vec![append(stream, 0, 3)] };
            match log.append(Arc::new(batch)).await {
                Ok(committed) => {
                    head = committed.heads[0];
                    acknowledged.push((stream, head.offset));
                }
                Err(AppendError::Fenced { .. }) => {
                    fenced += 1;
                    break;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }
    (acknowledged, fenced)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_that_believe_to_own_a_partition_the_stale_one_is_fenced_and_nothing_is_lost() {
    let store = PostgresStore::create().await;
    let (one, two) = (Arc::new(store.open().await), Arc::new(store.open().await));
    let (one, two) = tokio::join!(tokio::spawn(believe(one, 25)), tokio::spawn(believe(two, 25)));
    let ((mut acknowledged, fenced), (more, also_fenced)) = (one.unwrap(), two.unwrap());
    assert!(fenced + also_fenced > 0, "they never met");
    acknowledged.extend(more);
    let log = store.open().await;
    log.verify_chain(Partition(1)).await.unwrap();
    let events = partition(&log, 1).await;
    // Whatever was acknowledged is there, and nothing else.
    assert_eq!(events.len(), 3 * acknowledged.len());
    for (stream, last) in acknowledged {
        let event = &events[last as usize - 1];
        assert_eq!((event.stream, event.version, event.position.offset), (stream, 3, last));
    }
}

#[tokio::test]
async fn an_owner_that_was_away_is_fenced_whatever_it_remembers() {
    let store = PostgresStore::create().await;
    let mut away = Owner::of(&store).await;
    away.append(vec![append(stream(1), 0, 2)]).await.unwrap();
    let mut other = Owner::of(&store).await;
    other.append(vec![append(stream(1), 0, 1)]).await.unwrap();
    for _ in 0..2 {
        let outcome = away.append(vec![append(stream(1), 0, 1)]).await;
        assert!(matches!(outcome, Err(AppendError::Fenced { .. })), "{outcome:?}");
    }
    // Taken back: it goes on behind what the other wrote.
    let head = away.log.take_over(Partition(1), Uuid::nil()).await.unwrap();
    assert_eq!(head.offset, 3);
    away.heads.insert(Partition(1), head);
    assert_eq!(away.append(vec![append(stream(1), 0, 1)]).await.unwrap().positions[0].offset, 4);
}

/// A transaction that has the lock of partition 1.
async fn lock_partition(store: &PostgresStore) -> PgConnection {
    let mut blocker = store.raw().await;
    let lock = "begin; select pg_advisory_xact_lock(1163284301, 1)";
    sqlx::raw_sql(lock).execute(&mut blocker).await.unwrap();
    blocker
}

/// Ends the connection that waits in an append, once there is one.
async fn end_waiting_append(store: &PostgresStore) {
    let mut raw = store.raw().await;
    eventually("an append that waits", async || {
        let end = "select count(pg_terminate_backend(pid)) from pg_stat_activity
                   where datname = current_database() and wait_event = 'advisory' and query like '%everline_append%'";
        sqlx::query_scalar::<_, i64>(end).fetch_one(&mut raw).await.unwrap() == 1
    })
    .await;
}

#[tokio::test]
async fn a_connection_that_ends_in_the_middle_of_an_append_leaves_the_log_whole() {
    for pooled in [false, true] {
        let store = PostgresStore { pooled, ..PostgresStore::create().await };
        let mut owner = Owner::of(&store).await;
        owner.append(vec![append(stream(1), 0, 2)]).await.unwrap();
        let blocker = lock_partition(&store).await;
        let lost = append(stream(1), 0, 3);
        let (log, batch) = (Arc::clone(&owner.log), owner.batch(vec![lost.clone()]));
        let appending = tokio::spawn(async move { log.append(batch).await });
        end_waiting_append(&store).await;
        let outcome = appending.await.unwrap();
        assert!(matches!(outcome, Err(AppendError::Store(_))), "{outcome:?}");
        assert!(owner.log.last_write_failed().is_some());
        blocker.close().await.unwrap();
        assert_eq!(owner.log.refuses_writes().await, None, "it takes writes again");

        owner.append(vec![lost]).await.unwrap();
        assert_eq!(partition(&*owner.log, 1).await.len(), 5);
        owner.log.verify_chain(Partition(1)).await.unwrap();
    }
}

#[tokio::test]
async fn an_append_that_waits_too_long_for_a_partition_fails_and_others_go_on() {
    let store = PostgresStore::create().await;
    let options = event_store::postgres::PostgresOptions {
        statement_timeout: Duration::from_millis(500),
        ..store.options()
    };
    let log = Arc::new(PostgresLog::open(options).await.unwrap());
    let mut heads = std::collections::BTreeMap::new();
    for partition in (0..crate::support::PARTITIONS).map(Partition) {
        heads.insert(partition, log.take_over(partition, Uuid::nil()).await.unwrap());
    }
    let mut owner = Owner { log, heads };
    let blocker = lock_partition(&store).await;
    let refused = append(stream(1), 0, 1);
    let begun = Instant::now();
    let outcome = owner.append(vec![refused.clone()]).await;
    assert!(matches!(outcome, Err(AppendError::Store(_))), "{outcome:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    owner.append(vec![append(stream(2), 0, 1)]).await.unwrap();
    blocker.close().await.unwrap();
    owner.append(vec![refused]).await.unwrap();
}

#[tokio::test]
async fn tables_of_months_and_days_are_made_when_an_append_needs_them() {
    let store = PostgresStore::create().await;
    let mut owner = Owner::of(&store).await;
    let mut reader = store.raw().await;
    let reads = "begin; select count(*) from events; select count(*) from commands";
    sqlx::raw_sql(reads).execute(&mut reader).await.unwrap();
    for month in 1..=20 {
        let mut later = append(stream_of_month(month), 0, 1);
        later.decided_at = at((month * MONTH) as i64);
        owner.append(vec![later, append(stream(1), 0, 1)]).await.unwrap();
    }
    assert_eq!(partition(&*owner.log, 1).await.len(), 40);
    owner.log.verify_chain(Partition(1)).await.unwrap();
    drop(reader);

    // Somebody drops one that this process knows.
    let bucket = birth_bucket(stream_of_month(30));
    owner.append(vec![append(stream_of_month(29), 0, 1)]).await.unwrap();
    let other = store.open().await;
    let month = append(stream_of_month(30), 0, 1);
    owner.log.append(owner.unsure(vec![month])).await.unwrap();
    let drop_table = AssertSqlSafe(format!("alter table events detach partition events_{bucket}"));
    let rename = AssertSqlSafe(format!("alter table events_{bucket} rename to archived"));
    let mut raw = store.raw().await;
    sqlx::raw_sql(drop_table).execute(&mut raw).await.unwrap();
    sqlx::raw_sql(rename).execute(&mut raw).await.unwrap();
    let again = owner.unsure(vec![append(stream_of_month(30), 0, 1)]);
    owner.log.append(again).await.unwrap();
    drop(other);
}

#[tokio::test]
async fn no_append_makes_more_tables_than_a_few() {
    let store = PostgresStore::create().await;
    let mut owner = Owner::of(&store).await;
    let appends: Vec<Append> = (100..150).map(|month| append(stream_of_month(month), 0, 1)).collect();
    let outcome = owner.append(appends.clone()).await;
    assert!(matches!(outcome, Err(AppendError::Store(_))), "{outcome:?}");
    for half in appends.chunks(25) {
        owner.append(half.to_vec()).await.unwrap();
    }
    // Another process, which knows no tables, may touch all of them at once.
    let mut other = Owner::of(&store).await;
    let more = (100..150).map(|month| append(stream_of_month(month), 0, 1)).collect();
    other.append(more).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_may_need_the_same_new_table_at_once() {
    let store = PostgresStore::create().await;
    let (one, two) = (Arc::new(store.open().await), Arc::new(store.open().await));
    for month in 1..=15 {
        let write = async |log: &PostgresLog, number: u16| {
            let head = log.take_over(Partition(number), Uuid::nil()).await.unwrap();
            let stream =
                new_id(at(0).plus_ms(month * MONTH * 1000), Slot::from_bits(u64::from(number)), fresh());
            let batch = Batch { heads: vec![head], appends: vec![append(stream, 0, 1)] };
            log.append(Arc::new(batch)).await.unwrap();
        };
        tokio::join!(write(&one, 1), write(&two, 2));
    }
}

async fn tables_of_days(raw: &mut PgConnection) -> i64 {
    let count = "select count(*) from pg_inherits where inhparent = 'commands'::regclass";
    sqlx::query_scalar(count).fetch_one(raw).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_go_on_while_past_days_cannot_be_dropped() {
    let store = PostgresStore::create().await;
    let mut owner = Owner::of(&store).await;
    owner.append(vec![append(stream(1), 0, 1)]).await.unwrap();
    let mut raw = store.raw().await;
    let before = tables_of_days(&mut raw).await;
    let mut reader = store.raw().await;
    sqlx::raw_sql("begin; select count(*) from commands").execute(&mut reader).await.unwrap();

    let log = Arc::clone(&owner.log);
    let later = |days: u64| at(0).plus_ms(COMMAND_RETENTION_MS * days);
    let forgetting = tokio::spawn(async move {
        log.forget_past(Partition(1), at(0), later(20), 100).await.unwrap();
    });
    let mut slowest = Duration::ZERO;
    while !forgetting.is_finished() {
        let begun = Instant::now();
        owner.append(vec![append(stream(1), 0, 1)]).await.unwrap();
        slowest = slowest.max(begun.elapsed());
    }
    forgetting.await.unwrap();
    assert!(slowest < Duration::from_secs(2), "an append took {slowest:?}");
    // Four were made ahead of the later time, none was dropped.
    assert_eq!(tables_of_days(&mut raw).await, before + 4);

    // A transaction that is open for longer is not even waited for.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let begun = Instant::now();
    owner.log.forget_past(Partition(1), at(0), later(21), 100).await.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(2));
    sqlx::raw_sql("rollback").execute(&mut reader).await.unwrap();
    owner.log.forget_past(Partition(1), at(0), later(22), 100).await.unwrap();
    let left = tables_of_days(&mut raw).await;
    // Four ahead of the database's clock, and those from the last that is kept to the last made ahead of `later`.
    assert!(left <= 9, "{left} days are left");
    owner.append(vec![append(stream(1), 0, 1)]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_acknowledged_survives_crashes_of_the_server() {
    let mut server = PostgresServer::start(Durability::Fsync).await.unwrap();
    let store = PostgresStore::at(server.create_database().await.unwrap());
    let log = Arc::new(store.open().await);
    let appending = tokio::spawn({
        let log = Arc::clone(&log);
        async move {
            let (mut acknowledged, mut failed) = (Vec::new(), 0);
            let mut head = None;
            while acknowledged.len() < 2_000 || failed < 3 {
                let stream = stream(1);
                let outcome = async {
                    let known = match head {
                        Some(head) => head,
                        None => log.take_over(Partition(1), Uuid::nil()).await?,
                    };
                    let batch = Batch { heads: vec![known], appends: vec![append(stream, 0, 2)] };
                    log.append(Arc::new(batch)).await
                };
                match outcome.await {
                    Ok(committed) => {
                        head = Some(committed.heads[0]);
                        acknowledged.push((stream, committed.positions[0].offset));
                    }
                    Err(AppendError::Store(_)) => {
                        head = None;
                        failed += 1;
                    }
                    Err(other) => panic!("{other:?}"),
                }
            }
            acknowledged
        }
    });
    for _ in 0..3 {
        let before = log.heads().await.unwrap()[1].offset;
        eventually("an append", async || log.heads().await.is_ok_and(|heads| heads[1].offset > before + 100))
            .await;
        server.stop_immediately().await.unwrap();
        server.start_again().await.unwrap();
        eventually("a read", async || log.heads().await.is_ok()).await;
    }
    let acknowledged = appending.await.unwrap();
    log.verify_chain(Partition(1)).await.unwrap();
    let events = partition(&*log, 1).await;
    for (stream, last) in acknowledged {
        assert_eq!((events[last as usize - 1].stream, events[last as usize - 1].version), (stream, 2));
    }
}

#[tokio::test]
async fn a_call_that_is_dropped_while_it_begins_takes_no_later_write_with_it() {
    let store = PostgresStore::create().await;
    let options = event_store::postgres::PostgresOptions { connections: 1, ..store.options() };
    let log = PostgresLog::open(options).await.unwrap();
    let verifier = |lookup: &str| Verifier {
        kind: VerifierKind::RefreshToken,
        lookup: lookup.to_owned(),
        tenant: TenantId::default_tenant(),
        principal: "user:ada".to_owned(),
        name: String::new(),
        hash: "hash".to_owned(),
        family: Some(Uuid::from_u128(1)),
        created_at: at(0),
        expires_at: None,
        used_at: None,
    };
    log.put(&verifier("warm")).await.unwrap();
    let other = store.open().await;
    // However far it got: each number of polls leaves it elsewhere.
    for polls in 1..=8 {
        let mut call = log.delete_family(Uuid::from_u128(2));
        for _ in 0..polls {
            if futures::poll!(call.as_mut()).is_ready() {
                call = log.delete_family(Uuid::from_u128(2));
            }
            // Not until the answer is there: it must be found in the middle.
            tokio::task::yield_now().await;
        }
        drop(call);
        log.put(&verifier(&format!("kept {polls}"))).await.unwrap();
        let found = other.find(VerifierKind::RefreshToken, &format!("kept {polls}")).await.unwrap();
        assert!(found.is_some(), "acknowledged after a call dropped at poll {polls}, and not there");
    }
}
