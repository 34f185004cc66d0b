//! Read models of earlier releases, brought up to date where they are.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::borrow::Cow;
use uuid::Uuid;

use domain::access::{Reach, SharedWith};
use read_models::{ExecutionFilter, PostgresOptions, ReadModels, Viewer};

use crate::{everything, id, tenant, view};

/// A workflow and an execution as version 2 has them.
fn rows_of_version_2(literal: impl Fn(Uuid) -> String) -> String {
    let view = serde_json::to_string(&view(1)).unwrap();
    let (flow, run) = (literal(id(1_000)), literal(id(1)));
    format!(
        "insert into workflows (tenant, id, name, latest_version, enabled, deleted, etag, created_at, updated_at, \
         created_by, definition) values ('default', {flow}, 'orders', 1, true, false, 1, 1, 1, 'user:1', '{{}}'); \
         insert into executions (tenant, id, partition, workflow_id, workflow_name, status, started_at, priority, \
         version, attributes, view) values ('default', {run}, 3, {flow}, 'orders', 'running', 1, 5, 1, '{{}}', \
         '{view}')"
    )
}

/// What is there belongs to nobody: seen by those who see everything, and by nobody else.
async fn is_nobodys(models: &ReadModels) {
    let filter = ExecutionFilter::default();
    let all = models.executions(&everything(), &filter, None, 9).await.unwrap();
    assert_eq!(all.items, [view(1)]);
    let flow = models.workflow(&tenant(), id(1_000)).await.unwrap().unwrap();
    assert_eq!(flow.owner, None);
    for reach in [Reach::Own, Reach::Shared] {
        // Not even the nil user, whom nobody is.
        for user in [id(7), Uuid::nil()] {
            let viewer = Viewer { tenant: tenant(), user, reach };
            assert!(models.executions(&viewer, &filter, None, 9).await.unwrap().items.is_empty());
            assert!(models.workflows(&viewer, None, 9).await.unwrap().items.is_empty());
            let seen = models.execution_seen(&viewer, id(1)).await.unwrap().unwrap();
            assert_eq!((seen.owner, seen.shared, seen.is_within(&viewer)), (None, SharedWith::Nobody, false));
        }
    }
}

#[tokio::test]
async fn a_file_of_version_2_is_brought_up_to_date_where_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("read-models.db");
    let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let migrations = [
        (1, "read models", include_str!("../../migrations/sqlite/0001_read_models.sql")),
        (
            2,
            "nodes and dead letters",
            include_str!("../../migrations/sqlite/0002_nodes_and_dead_letters.sql"),
        ),
    ];
    let migrations = migrations.map(|(version, description, sql)| {
        let sql = sqlx::SqlStr::from_static(sql);
        Migration::new(version, Cow::Borrowed(description), MigrationType::Simple, sql, false)
    });
    Migrator::with_migrations(migrations.to_vec()).run_direct(None, &mut connection, false).await.unwrap();
    let rows = rows_of_version_2(|id| format!("x'{}'", id.simple()));
    sqlx::raw_sql(AssertSqlSafe(rows)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    for _ in 0..2 {
        is_nobodys(&ReadModels::open(&path).await.unwrap()).await;
    }
}

#[tokio::test]
async fn a_schema_of_version_2_is_brought_up_to_date_where_it_is() {
    let url = test_services::database().await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let rows = rows_of_version_2(|id| format!("'{id}'"));
    let sql = format!(
        "create schema everline_read; set search_path = everline_read; \
         create table schema_versions (version bigint not null primary key, \
         migrated_at timestamptz not null default now()); {} {} \
         insert into schema_versions (version) values (1), (2); {rows}",
        include_str!("../../migrations/postgres/0001_read_models.sql"),
        include_str!("../../migrations/postgres/0002_nodes_and_dead_letters.sql"),
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    for _ in 0..2 {
        let models = ReadModels::open_postgres(PostgresOptions::new(&url)).await.unwrap();
        is_nobodys(&models).await;
        models.close().await;
    }
}
