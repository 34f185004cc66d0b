//! What only a server can do to the read models: two writers, long readers, restarts.

use sqlx::{Connection, PgConnection, Row};
use std::time::{Duration, Instant};

use domain::ids::Partition;
use read_models::{
    AttributeFilter, ExecutionFilter, MAIN_PROJECTION, PostgresOptions, ReadModelError, ReadModels, Table,
    WriteTx, inspect_postgres,
};
use test_services::{Durability, PostgresServer, database};

use crate::{Backend, LONG, Place, everything, id, models, put, tenant, view, workflow, write};

const P5: Partition = Partition(5);

async fn open(url: &str) -> ReadModels {
    ReadModels::open_postgres(PostgresOptions::new(url)).await.unwrap()
}

async fn texts(on: &mut PgConnection, sql: &'static str) -> Vec<String> {
    let rows = sqlx::query(sql).fetch_all(on).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// A shadow with one execution, as far as P5 at 1.
async fn shadow(models: &ReadModels) -> WriteTx {
    models.start_rebuild().await.unwrap();
    let mut tx = models.begin_shadow().await.unwrap();
    put(&mut tx, &[view(1)]).await;
    tx.advance_checkpoint(MAIN_PROJECTION, P5, 0, 1).await.unwrap();
    tx
}

async fn start_at_once(backend: Backend) {
    let place = std::sync::Arc::new(Place::new(backend).await);
    let starts = (0..6).map(|_| {
        let place = place.clone();
        tokio::spawn(async move { place.open().await })
    });
    for start in starts.collect::<Vec<_>>() {
        assert_eq!(start.await.unwrap().checkpoints(MAIN_PROJECTION).await.unwrap(), []);
    }
}

#[tokio::test]
async fn several_processes_may_start_at_once_on_an_empty_database() {
    start_at_once(Backend::Postgres).await;
    start_at_once(Backend::Pooled).await;
}

#[tokio::test]
async fn of_two_writers_exactly_one_takes_each_step_and_the_other_is_told() {
    let url = database().await.unwrap();
    let writers = [open(&url).await, open(&url).await].map(|models| {
        tokio::spawn(async move {
            let (mut taken, mut lost) = (0, 0);
            loop {
                let known = models.checkpoints(MAIN_PROJECTION).await.unwrap();
                let from = known.first().map_or(0, |(_, offset)| *offset);
                if from == 60 {
                    return (taken, lost);
                }
                let mut tx = models.begin().await.unwrap();
                match tx.advance_checkpoint(MAIN_PROJECTION, P5, from, from + 1).await {
                    Ok(()) => taken += 1,
                    Err(ReadModelError::Conflict { .. }) => {
                        lost += 1;
                        continue;
                    }
                    Err(error) => panic!("{error}"),
                }
                put(&mut tx, &[view(from)]).await;
                tx.commit().await.unwrap();
            }
        })
    });
    let mut steps = 0;
    for writer in writers {
        steps += writer.await.unwrap().0;
    }
    assert_eq!(steps, 60);
    assert_eq!(open(&url).await.dump_rows(Table::Executions).await.unwrap().len(), 60);
}

#[tokio::test]
async fn a_rebuild_goes_on_beside_a_live_writer_and_readers_lose_nothing() {
    let url = database().await.unwrap();
    let models = open(&url).await;
    let live = tokio::spawn({
        let models = models.clone();
        async move {
            for to in 1..=80 {
                let mut tx = models.begin().await.unwrap();
                tx.advance_checkpoint(MAIN_PROJECTION, P5, to - 1, to).await.unwrap();
                put(&mut tx, &[view(to)]).await;
                tx.commit().await.unwrap();
            }
        }
    });
    let readers = open(&url).await;
    let reader = tokio::spawn(async move {
        let mut known = 0;
        while known < 80 {
            let filter = ExecutionFilter { workflow_id: Some(id(1_000)), ..ExecutionFilter::default() };
            let page = readers.executions(&everything(), &filter, None, 100).await.unwrap();
            assert!(page.items.len() >= known, "{} after {known}", page.items.len());
            known = page.items.len();
        }
    });
    let other = open(&url).await;
    let mut rebuilds = 0;
    while !live.is_finished() || rebuilds < 3 {
        other.start_rebuild().await.unwrap();
        let mut tx = other.begin_shadow().await.unwrap();
        let live = tx.live_checkpoints().await.unwrap();
        let until = live.first().map_or(0, |(_, offset)| *offset);
        put(&mut tx, &(1..=until).map(view).collect::<Vec<_>>()).await;
        tx.advance_checkpoint(MAIN_PROJECTION, P5, 0, until).await.unwrap();
        tx.swap_in().await.unwrap();
        tx.commit().await.unwrap();
        rebuilds += 1;
    }
    live.await.unwrap();
    tokio::time::timeout(LONG, reader).await.unwrap().unwrap();
    assert_eq!(models.generation(MAIN_PROJECTION).await.unwrap(), rebuilds);
}

#[tokio::test]
async fn shadow_tables_are_written_while_a_live_transaction_is_open() {
    let url = database().await.unwrap();
    let models = open(&url).await;
    let live = models.begin().await.unwrap();
    let tx = tokio::time::timeout(LONG, shadow(&models)).await.unwrap();
    tx.commit().await.unwrap();
    live.commit().await.unwrap();
}

#[tokio::test]
async fn a_swap_gives_up_before_readers_queue_behind_it_and_succeeds_after_the_long_read() {
    let url = database().await.unwrap();
    let models = open(&url).await;
    write(&models, &[view(7)]).await;
    let mut dump = PgConnection::connect(&url).await.unwrap();
    let mut long_read = dump.begin().await.unwrap();
    sqlx::query("lock table everline_read.executions in access share mode")
        .execute(&mut *long_read)
        .await
        .unwrap();

    let reader = tokio::spawn({
        let models = open(&url).await;
        async move {
            let mut slowest = Duration::ZERO;
            let end = Instant::now() + Duration::from_millis(1_500);
            while Instant::now() < end {
                let begun = Instant::now();
                assert!(models.execution(&tenant(), id(7)).await.unwrap().is_some());
                slowest = slowest.max(begun.elapsed());
            }
            slowest
        }
    });
    shadow(&models).await.commit().await.unwrap();
    let mut tx = models.begin_shadow().await.unwrap();
    let busy = tx.swap_in().await;
    assert!(matches!(busy, Err(ReadModelError::Busy)), "{busy:?}");
    drop(tx);
    let slowest = reader.await.unwrap();
    assert!(slowest < Duration::from_millis(800), "{slowest:?}");
    assert_eq!(models.generation(MAIN_PROJECTION).await.unwrap(), 0);

    long_read.rollback().await.unwrap();
    let mut tx = models.begin_shadow().await.unwrap();
    tx.swap_in().await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(models.execution(&tenant(), id(7)).await.unwrap(), None);
    assert_eq!(models.execution(&tenant(), id(1)).await.unwrap(), Some(view(1)));
}

#[tokio::test]
async fn indexes_keep_their_names_through_rebuilds() {
    let url = database().await.unwrap();
    let models = open(&url).await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let indexes = "select indexdef from pg_indexes where schemaname = 'everline_read' order by 1";
    let before = texts(&mut connection, indexes).await;
    assert!(before.iter().any(|index| index.contains("executions_by_workflow")), "{before:?}");
    for _ in 0..3 {
        let mut tx = shadow(&models).await;
        tx.swap_in().await.unwrap();
        tx.commit().await.unwrap();
        assert_eq!(texts(&mut connection, indexes).await, before);
    }
}

#[tokio::test]
async fn both_databases_keep_the_same_rows() {
    let file = models(Backend::Sqlite).await;
    let server = models(Backend::Postgres).await;
    for models in [&file, &server] {
        let mut quoted = view(3);
        quoted.workflow_name = "it's \\ 'quoted'; ü".to_owned();
        write(models, &[view(1), quoted]).await;
        let mut tx = models.begin().await.unwrap();
        for number in [4, 9, 5] {
            let mut flow = workflow(number);
            flow.description = None;
            flow.enabled = number == 9;
            tx.put_workflow(&flow).await.unwrap();
        }
        let position = domain::ids::Position { partition: P5, offset: 2 };
        tx.park_stream(MAIN_PROJECTION, id(8), position, "a reason").await.unwrap();
        tx.advance_checkpoint(MAIN_PROJECTION, P5, 0, 10).await.unwrap();
        tx.advance_checkpoint(MAIN_PROJECTION, Partition(11), 0, 3).await.unwrap();
        tx.commit().await.unwrap();
    }
    for table in Table::ALL {
        assert_eq!(file.dump_rows(table).await.unwrap(), server.dump_rows(table).await.unwrap(), "{table:?}");
    }
}

#[tokio::test]
async fn a_nul_in_a_text_stops_neither_the_batch_nor_a_filter() {
    let models = models(Backend::Postgres).await;
    let mut odd = view(1);
    odd.workflow_name = "a\0b".to_owned();
    odd.attributes = serde_json::from_str(r#"{"k": "x\u0000y"}"#).unwrap();
    write(&models, &[odd.clone(), view(2)]).await;
    assert_eq!(models.execution(&tenant(), id(1)).await.unwrap(), Some(odd), "the view itself is whole");
    for filter in [
        ExecutionFilter { q: Some("a\0b".to_owned()), ..ExecutionFilter::default() },
        ExecutionFilter {
            attributes: vec![AttributeFilter::equal("k", "x\0y")],
            ..ExecutionFilter::default()
        },
    ] {
        let page = models.executions(&everything(), &filter, None, 10).await.unwrap();
        assert_eq!(page.items.len(), 1, "{filter:?}");
    }
}

#[tokio::test]
async fn a_begin_that_is_cancelled_leaves_no_transaction_open() {
    let url = database().await.unwrap();
    let models = open(&url).await;
    for micros in (0..2_000).step_by(40) {
        let _ = tokio::time::timeout(Duration::from_micros(micros), models.begin()).await;
    }
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let open =
        "select state from pg_stat_activity where datname = current_database() and state ~ 'transaction'";
    let begun = Instant::now();
    while !texts(&mut connection, open).await.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    write(&models, &[view(1)]).await;
}

#[tokio::test]
async fn read_models_go_on_after_their_server_was_away() {
    let mut server = PostgresServer::start(Durability::Fast).await.unwrap();
    let url = server.create_database().await.unwrap();
    let models = open(&url).await;
    write(&models, &[view(1)]).await;
    server.stop_immediately().await.unwrap();

    let options = PostgresOptions::new(&url);
    let (tenant_id, read) = (tenant(), id(1));
    let (read, begun, inspected) =
        tokio::join!(models.execution(&tenant_id, read), models.begin(), inspect_postgres(&options));
    for away in [read.unwrap_err(), begun.err().unwrap(), inspected.unwrap_err()] {
        assert!(away.is_outage() && away.is_transient(), "{away:?}");
    }

    server.start_again().await.unwrap();
    write(&models, &[view(2)]).await;
    assert_eq!(models.execution(&tenant(), id(2)).await.unwrap(), Some(view(2)));
}

#[tokio::test]
async fn a_transaction_that_the_server_takes_down_is_an_outage_and_leaves_nothing() {
    let url = database().await.unwrap();
    let models = open(&url).await;
    let mut tx = models.begin().await.unwrap();
    put(&mut tx, &[view(1)]).await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let kill = "select pg_terminate_backend(pid)::text from pg_stat_activity \
                where datname = current_database() and state = 'idle in transaction'";
    assert_eq!(texts(&mut connection, kill).await, ["true"]);
    let error = tx.commit().await.unwrap_err();
    assert!(error.is_outage(), "{error:?}");
    assert_eq!(models.execution(&tenant(), id(1)).await.unwrap(), None);
    write(&models, &[view(1)]).await;
}

#[tokio::test]
async fn a_doctor_sees_the_versions_without_changing_anything() {
    let url = database().await.unwrap();
    let options = PostgresOptions::new(&url);
    for _ in 0..2 {
        let facts = inspect_postgres(&options).await.unwrap();
        assert_eq!(facts.schema_version, None);
        assert!(facts.server_version.starts_with(|first: char| first.is_ascii_digit()), "{facts:?}");
    }
    open(&url).await;
    let facts = inspect_postgres(&PostgresOptions { pooled: true, ..options }).await.unwrap();
    assert_eq!(facts.schema_version, Some(facts.newest_schema_version));
    assert!(facts.passes_walls, "tests are superusers");
}

#[tokio::test]
async fn read_models_that_must_be_there_are_not_created() {
    let url = database().await.unwrap();
    let refused = ReadModels::open_postgres_existing(PostgresOptions::new(&url)).await;
    assert!(matches!(refused, Err(ReadModelError::NotThere { found: None, .. })), "{refused:?}");
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let schemas = "select nspname::text from pg_namespace where nspname like 'everline%'";
    assert!(texts(&mut connection, schemas).await.is_empty());
    write(&open(&url).await, &[view(1)]).await;
    let models = ReadModels::open_postgres_existing(PostgresOptions::new(&url)).await.unwrap();
    assert_eq!(models.checkpoints(MAIN_PROJECTION).await.unwrap(), []);
}

#[tokio::test]
async fn a_schema_of_a_newer_everline_is_refused() {
    let url = database().await.unwrap();
    open(&url).await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let newer = "insert into everline_read.schema_versions (version) values (99)";
    sqlx::query(newer).execute(&mut connection).await.unwrap();
    let refused = ReadModels::open_postgres(PostgresOptions::new(&url)).await;
    assert!(matches!(refused, Err(ReadModelError::Migration(_))), "{refused:?}");
}

/// A network between a test and its server, which can swallow everything on the connections that are open.
struct Network {
    port: u16,
    swallows: std::sync::Arc<tokio::sync::watch::Sender<bool>>,
}

impl Network {
    async fn before(server_port: u16) -> Self {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let swallows = std::sync::Arc::new(tokio::sync::watch::Sender::new(false));
        let own = swallows.clone();
        tokio::spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let mut swallowed = own.subscribe();
                swallowed.mark_unchanged();
                tokio::spawn(async move {
                    let mut server =
                        tokio::net::TcpStream::connect(("127.0.0.1", server_port)).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut client, &mut server) => {}
                        // Both stay open, and nothing passes any more.
                        _ = swallowed.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { port, swallows }
    }

    fn swallow(&self) {
        self.swallows.send_replace(true);
    }
}

#[tokio::test]
async fn a_cancelled_query_on_a_dead_path_costs_the_next_ones_no_connection() {
    let server = PostgresServer::start(Durability::Fast).await.unwrap();
    let url = server.create_database().await.unwrap();
    let network = Network::before(server.port()).await;
    let through = url.replace(&format!(":{}/", server.port()), &format!(":{}/", network.port));
    assert_ne!(through, url);
    let options = PostgresOptions { connections: 1, ..PostgresOptions::new(through) };
    let models = ReadModels::open_postgres(options).await.unwrap();
    write(&models, &[view(1)]).await;

    // The query is under way, at the server, when the path dies and its caller gives up.
    let mut other = PgConnection::connect(&url).await.unwrap();
    let mut lock = other.begin().await.unwrap();
    sqlx::query("lock table everline_read.executions in access exclusive mode")
        .execute(&mut *lock)
        .await
        .unwrap();
    let filter = ExecutionFilter::default();
    let viewer = everything();
    let mut query = Box::pin(models.executions(&viewer, &filter, None, 10));
    let waits = "select query from pg_stat_activity where wait_event_type = 'Lock'";
    let mut watcher = PgConnection::connect(&url).await.unwrap();
    let begun = Instant::now();
    while texts(&mut watcher, waits).await.is_empty() {
        assert!(begun.elapsed() < LONG);
        let _ = tokio::time::timeout(Duration::from_millis(1), &mut query).await;
    }
    network.swallow();
    drop(query);
    lock.rollback().await.unwrap();

    // Its place in the pool, the only one, is free again before a caller's patience ends.
    let page = models.executions(&viewer, &filter, None, 10).await.unwrap();
    assert_eq!(page.items.len(), 1);
}
