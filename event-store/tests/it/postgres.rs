//! The contract run against Postgres, and what is its own.

use async_trait::async_trait;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};
use std::time::Duration;
use uuid::Uuid;

use domain::ids::{Partition, TenantId, birth_bucket};
use domain::time::Timestamp;
use event_store::log::WakeupCursor;
use event_store::ownership::{Membership, NodeBeat, PartitionOwner};
use event_store::postgres::{PostgresLog, PostgresOptions, inspect};
use event_store::{AppendError, Log, LogReader, Ownership, Refusal, StoreError};

use crate::contract::contract;
use crate::support::{Owner, PARTITIONS, Store, append, at, damage, only, partition, stream, wakeup};

/// A database of its own.
pub(crate) struct PostgresStore {
    pub(crate) url: String,
    pub(crate) pooled: bool,
}

impl PostgresStore {
    pub(crate) fn at(url: String) -> Self {
        Self { url, pooled: false }
    }

    pub(crate) fn options(&self) -> PostgresOptions {
        PostgresOptions {
            partitions: Some(PARTITIONS),
            pooled: self.pooled,
            ..PostgresOptions::new(self.url.clone())
        }
    }

    pub(crate) async fn try_open(&self, partitions: Option<u16>) -> Result<PostgresLog, StoreError> {
        PostgresLog::open(PostgresOptions { partitions, ..self.options() }).await
    }

    /// A connection past the log, as somebody with access to the database has it.
    pub(crate) async fn raw(&self) -> PgConnection {
        let mut raw = PgConnection::connect(&self.url).await.unwrap();
        sqlx::query("set search_path = everline_log").execute(&mut raw).await.unwrap();
        raw
    }
}

#[async_trait]
impl Store for PostgresStore {
    type Log = PostgresLog;

    async fn create() -> Self {
        Self::at(test_services::database().await.unwrap())
    }

    async fn open(&self) -> PostgresLog {
        self.try_open(Some(PARTITIONS)).await.unwrap()
    }

    async fn damage_value(&self, tenant: &TenantId, sha256: &str) {
        let text = "update blobs set content = '\\x7b7d' where tenant = $1 and sha256 = $2";
        let done = sqlx::query(text).bind(tenant.as_str()).bind(sha256).execute(&mut self.raw().await).await;
        assert_eq!(done.unwrap().rows_affected(), 1);
    }
}

contract!(PostgresStore);

/// Whether something becomes true soon.
pub(crate) async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !check().await {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn five_processes_may_start_at_once() {
    let store = PostgresStore::create().await;
    let open = || store.try_open(None);
    let (a, b, c, d, e) = tokio::join!(open(), open(), open(), open(), open());
    for log in [a, b, c, d, e] {
        assert_eq!(log.unwrap().heads().await.unwrap().len(), 16);
    }
}

#[tokio::test]
async fn a_log_keeps_the_partitions_it_was_created_with() {
    let store = PostgresStore::create().await;
    assert!(matches!(store.try_open(Some(0)).await.unwrap_err(), StoreError::Unfit { .. }));
    assert_eq!(store.try_open(Some(7)).await.unwrap().partitions(), 7);
    assert_eq!(store.try_open(None).await.unwrap().partitions(), 7);
    let error = store.try_open(Some(8)).await.unwrap_err();
    assert!(error.to_string().contains("created with 7 partitions"), "{error}");
}

#[tokio::test]
async fn a_log_of_a_newer_release_is_not_opened() {
    let store = PostgresStore::create().await;
    drop(store.open().await);
    let newer = "insert into schema_version (version) values (99)";
    sqlx::query(newer).execute(&mut store.raw().await).await.unwrap();
    let error = store.try_open(None).await.unwrap_err();
    assert!(error.to_string().contains("version 99"), "{error}");
    let report = inspect(&store.options()).await.unwrap();
    assert_eq!(report.schema_version, Some(99));
    assert!(report.newest_schema < 99, "{report:?}");
}

#[tokio::test]
async fn a_log_that_must_be_there_is_neither_created_nor_migrated() {
    for pooled in [false, true] {
        let store = PostgresStore { pooled, ..PostgresStore::create().await };
        let open = || PostgresLog::open_existing(PostgresOptions { partitions: None, ..store.options() });
        let error = open().await.unwrap_err().to_string();
        assert!(
            error.contains("there is no log at ") && error.contains("everline migrate --create"),
            "{error}"
        );
        assert_eq!(inspect(&store.options()).await.unwrap().schema_version, None);

        let mut owner = Owner::of(&store).await;
        owner.append(vec![append(stream(1), 0, 2)]).await.unwrap();
        let found = open().await.unwrap();
        assert_eq!((found.partitions(), partition(&found, 1).await.len()), (PARTITIONS, 2));
        let other = PostgresOptions { partitions: Some(PARTITIONS + 1), ..store.options() };
        let error = PostgresLog::open_existing(other).await.unwrap_err();
        assert!(error.to_string().contains("was created with"), "{error}");

        let mut raw = store.raw().await;
        for (version, remedy) in [(99, "start a newer release"), (0, "there is no log at ")] {
            sqlx::query("delete from schema_version").execute(&mut raw).await.unwrap();
            let text = "insert into schema_version (version) values ($1)";
            sqlx::query(text).bind(version).execute(&mut raw).await.unwrap();
            let error = open().await.unwrap_err();
            assert!(error.to_string().contains(remedy), "{error}");
        }
    }
}

#[tokio::test]
async fn a_server_that_is_not_there_is_named_without_its_password() {
    let options = PostgresOptions::new("postgres://somebody:hush@127.0.0.1:1/log");
    for error in [PostgresLog::open(options.clone()).await.unwrap_err(), inspect(&options).await.unwrap_err()]
    {
        assert_eq!(error.to_string(), "cannot reach the log's Postgres at 127.0.0.1:1/log");
        assert!(!format!("{error:?}{options:?}").contains("hush"));
    }
    let error = PostgresLog::open(PostgresOptions::new("hush")).await.unwrap_err();
    assert!(!format!("{error:?}").contains("hush"), "{error:?}");
}

#[tokio::test]
async fn looking_at_a_server_creates_nothing() {
    let store = PostgresStore::create().await;
    for pooled in [false, true] {
        let report = inspect(&PostgresOptions { pooled, ..store.options() }).await.unwrap();
        assert_eq!(report.schema_version, None);
        assert!(report.version_number >= 150_000 && report.max_connections > 0 && !report.is_in_recovery);
        assert!(report.clock_ahead_ms.abs() < 1_000, "{report:?}");
    }
    let mut raw = PgConnection::connect(&store.url).await.unwrap();
    let there = "select to_regnamespace('everline_log') is null";
    assert!(sqlx::query_scalar::<_, bool>(there).fetch_one(&mut raw).await.unwrap());
    drop(store.open().await);
    let report = inspect(&store.options()).await.unwrap();
    assert_eq!(report.schema_version, Some(report.newest_schema));
}

#[tokio::test]
async fn events_and_commits_are_never_changed() {
    let store = PostgresStore::create().await;
    let mut owner = Owner::of(&store).await;
    owner.append(vec![append(stream(1), 0, 3)]).await.unwrap();
    let mut raw = store.raw().await;
    let bucket = birth_bucket(stream(1));
    let of_bucket = [
        format!("update events_{bucket} set data = ''"),
        format!("delete from events_{bucket}"),
        format!("truncate events_{bucket}"),
    ];
    let statements = [
        "update events set data = ''",
        "update events set bucket = 1",
        "delete from events where \"offset\" = 3",
        "truncate events",
        "truncate events_early",
        "update commits set epoch = 9",
        "delete from commits",
        "truncate commits",
    ];
    for statement in statements.into_iter().map(str::to_owned).chain(of_bucket) {
        let error = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut raw).await.unwrap_err();
        assert!(error.to_string().contains("are never changed"), "{error}");
    }
    assert_eq!(partition(&*owner.log, 1).await.len(), 3);
}

#[tokio::test]
async fn an_event_altered_past_the_triggers_is_found() {
    let store = PostgresStore::create().await;
    let mut owner = Owner::of(&store).await;
    for _ in 0..4 {
        owner.append(vec![append(stream(1), 0, 3)]).await.unwrap();
    }
    let mut raw = store.raw().await;
    sqlx::query("set session_replication_role = replica").execute(&mut raw).await.unwrap();
    let alter = async |raw: &mut PgConnection, sql: &'static str| {
        sqlx::query(sql).execute(raw).await.unwrap();
    };
    alter(&mut raw, "update events set actor = 'user:mallory' where \"offset\" = 5").await;
    let found = damage(owner.log.verify_chain(Partition(1))).await;
    assert_eq!(found, "events 1:4 to 1:6 are not those that were committed");
    alter(&mut raw, "delete from events where \"offset\" = 5").await;
    assert_eq!(damage(owner.log.verify_chain(Partition(1))).await, "event 1:5 is missing");
    assert_eq!(damage(owner.log.read_partition(Partition(1), 0, 10)).await, "event 1:5 is missing");
}

#[tokio::test]
async fn an_append_waits_for_the_disk_where_sessions_do_not() {
    let store = PostgresStore::create().await;
    drop(store.open().await);
    let mut raw = store.raw().await;
    sqlx::raw_sql("set synchronous_commit = off; begin").execute(&mut raw).await.unwrap();
    let call = format!("select everline_append({})", ["'{}'"; 49].join(", "));
    sqlx::raw_sql(AssertSqlSafe(call)).execute(&mut raw).await.unwrap();
    let now: String = sqlx::query_scalar("show synchronous_commit").fetch_one(&mut raw).await.unwrap();
    assert_eq!(now, "on");
    let serializable =
        "commit; begin isolation level serializable; select everline_take_over(1, gen_random_uuid())";
    let error = sqlx::raw_sql(serializable).execute(&mut raw).await.unwrap_err();
    assert!(error.to_string().contains("read committed"), "{error}");
}

#[tokio::test]
async fn a_text_that_postgres_cannot_store_is_the_callers_mistake() {
    let store = PostgresStore::create().await;
    let mut owner = Owner::of(&store).await;
    let mut strange = append(stream(1), 0, 1);
    strange.streams[0].events[0].traceparent = Some("a\0b".into());
    let outcome = owner.append(vec![append(stream(1), 0, 1), strange]).await;
    assert!(matches!(outcome, Err(AppendError::Malformed { index: 1, .. })), "{outcome:?}");
}

#[tokio::test]
async fn a_command_of_yesterday_is_known_today() {
    let store = PostgresStore::create().await;
    let mut owner = Owner::of(&store).await;
    let first = append(stream(1), 0, 1);
    owner.append(vec![first.clone()]).await.unwrap();
    let mut again = append(stream(1), 0, 1);
    again.command_id = first.command_id;
    again.decided_at = at(24 * 60 * 60);
    let refused = owner.refused(vec![append(stream(1), 0, 1), again]).await;
    assert!(matches!(only(refused), (1, Refusal::Duplicate(_))));
}

#[tokio::test]
async fn a_wakeup_in_the_past_is_found_after_later_ones_were_forgotten() {
    let store = PostgresStore::create().await;
    let mut owner = Owner::of(&store).await;
    let (early, late) = (stream(1), stream(1));
    owner.append(vec![wakeup(append(late, 0, 1), 50)]).await.unwrap();
    assert!(!owner.log.forget_past(Partition(1), at(60), at(60), 10).await.unwrap());
    let from_start = WakeupCursor::after_time(Timestamp::MIN);
    let due = async || owner.log.wakeups(Partition(1), &from_start, at(1_000), &[], 10).await.unwrap();
    assert_eq!(due().await, []);
    let mut past = wakeup(append(early, 0, 1), 20);
    past = wakeup(past, 70);
    owner.log.append(owner.batch(vec![past])).await.unwrap();
    let found: Vec<_> = due().await.iter().map(|row| (row.stream, row.wakeup.due_at)).collect();
    assert_eq!(found, [(early, at(20)), (early, at(70))]);
    assert!(!owner.log.forget_past(Partition(1), at(60), at(60), 10).await.unwrap());
    assert_eq!(due().await.len(), 1);
}

#[tokio::test]
async fn a_clock_that_is_ahead_forgets_nothing_that_is_not_past_by_the_databases() {
    let store = PostgresStore::create().await;
    let mut owner = Owner::of(&store).await;
    let mut raw = store.raw().await;
    let clock = "select (extract(epoch from clock_timestamp()) * 1000)::int8";
    let now: i64 = sqlx::query_scalar(clock).fetch_one(&mut raw).await.unwrap();
    let mut known = append(stream(1), 0, 1);
    known.decided_at = Timestamp::from_unix_ms(now - 23 * 60 * 60 * 1000);
    let second = (now - at(0).unix_ms()) / 1000;
    owner.append(vec![wakeup(known.clone(), second + 60)]).await.unwrap();
    let (until, ahead) = (at(second + 3_600), at(second + 10 * 24 * 60 * 60));
    assert!(!owner.log.forget_past(Partition(1), until, ahead, 10).await.unwrap());
    let from_start = WakeupCursor::after_time(Timestamp::MIN);
    assert_eq!(owner.log.wakeups(Partition(1), &from_start, until, &[], 10).await.unwrap().len(), 1);
    assert!(owner.log.command_answer(Partition(1), known.command_id).await.unwrap().is_some());
}

#[tokio::test]
async fn whoever_beats_sees_who_else_lives_and_owns() {
    let store = PostgresStore::create().await;
    let log = store.open().await;
    let (one, two) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let beat = |node, lease| NodeBeat {
        node,
        name: format!("host-{node}"),
        draining: false,
        lease: Duration::from_millis(lease),
    };
    let nodes = |membership: &Membership| membership.nodes.iter().map(|n| n.node).collect::<Vec<_>>();
    assert_eq!(nodes(&log.beat(&beat(one, 60_000)).await.unwrap()), [one]);
    assert_eq!(nodes(&log.beat(&beat(two, 60_000)).await.unwrap()), [one, two]);
    let head = log.take_over(Partition(3), two).await.unwrap();
    let draining = NodeBeat { draining: true, ..beat(one, 1) };
    let seen = log.beat(&draining).await.unwrap();
    assert!(seen.nodes[0].draining);
    assert_eq!(
        seen.owners[3],
        PartitionOwner { partition: Partition(3), epoch: head.epoch, node: Some(two) }
    );
    assert_eq!(seen.owners.len(), usize::from(PARTITIONS));
    eventually("the end of a lease", async || nodes(&log.membership().await.unwrap()) == [two]).await;

    log.release(Partition(3), head.epoch + 1).await.unwrap();
    assert_eq!(log.membership().await.unwrap().owners[3].node, Some(two), "it is another's by now");
    log.release(Partition(3), head.epoch).await.unwrap();
    assert_eq!(log.membership().await.unwrap().owners[3].node, None);
    log.leave(two).await.unwrap();
    assert_eq!(log.membership().await.unwrap().nodes, []);
}

#[tokio::test]
async fn nodes_that_were_silent_for_an_hour_are_forgotten() {
    let store = PostgresStore::create().await;
    let log = store.open().await;
    let mut raw = store.raw().await;
    let old = "insert into nodes (node, name, draining, alive_until)
               select gen_random_uuid(), 'old', false, clock_timestamp() - interval '2 hours' from generate_series(1, 9)";
    sqlx::query(old).execute(&mut raw).await.unwrap();
    let lease = Duration::from_secs(3);
    let beat = NodeBeat { node: Uuid::from_u128(1), name: String::new(), draining: false, lease };
    log.beat(&beat).await.unwrap();
    let left: i64 = sqlx::query_scalar("select count(*) from nodes").fetch_one(&mut raw).await.unwrap();
    assert_eq!(left, 1);
}

#[tokio::test]
async fn a_partition_that_does_not_exist_is_not_taken_over() {
    let store = PostgresStore::create().await;
    let log = store.open().await;
    let error = log.take_over(Partition(PARTITIONS), Uuid::nil()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unfit { .. }), "{error}");
    sqlx::query("delete from partitions where partition = 2").execute(&mut store.raw().await).await.unwrap();
    log.take_over(Partition(2), Uuid::nil()).await.unwrap_err();
}

#[tokio::test]
async fn a_transaction_that_stays_open_does_not_hold_up_reading() {
    let (store, other) = (PostgresStore::create().await, PostgresStore::create().await);
    let mut owner = Owner::of(&store).await;
    let mut elsewhere = PgConnection::connect(&other.url).await.unwrap();
    let writes = "begin; create table t (n int); insert into t values (1); select pg_current_xact_id()";
    sqlx::raw_sql(writes).execute(&mut elsewhere).await.unwrap();
    let mut here = store.raw().await;
    let writes = "begin; create table t (n int); insert into t values (1); select pg_current_xact_id()";
    sqlx::raw_sql(writes).execute(&mut here).await.unwrap();
    for round in 1..=20 {
        owner.append(vec![append(stream(1), 0, 1)]).await.unwrap();
        assert_eq!(partition(&*owner.log, 1).await.len(), round);
    }
    owner.log.verify_chain(Partition(1)).await.unwrap();
}
