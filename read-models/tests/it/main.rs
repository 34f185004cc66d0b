//! The read models against real files and real Postgres servers, directly and through a pooler.

#![expect(clippy::unwrap_used, reason = "a test that fails to set up has failed")]

mod migrations;
mod nodes;
mod pooler;
mod postgres;
mod queries;
mod sharing;
mod transactions;

use std::time::Duration;
use uuid::Uuid;

use domain::execution::view::ExecutionView;
use domain::ids::{Partition, Slot, TenantId, new_id};
use domain::time::Timestamp;
use domain::workflow::event::{ShareAccess, Visibility};
use read_models::{ExecutionRow, PostgresOptions, ReadModels, Viewer, WorkflowRow, WriteTx};

use crate::pooler::Pooler;

const LONG: Duration = Duration::from_secs(20);

/// What the read models are kept in.
#[derive(Debug, Clone, Copy)]
enum Backend {
    Sqlite,
    Postgres,
    Pooled,
}

/// A database that can be opened more than once.
enum Place {
    File(tempfile::TempDir),
    Server { options: PostgresOptions, _pooler: Box<Option<Pooler>> },
}

impl Place {
    async fn new(backend: Backend) -> Self {
        match backend {
            Backend::Sqlite => Self::File(tempfile::tempdir().unwrap()),
            Backend::Postgres => {
                let options = PostgresOptions::new(test_services::database().await.unwrap());
                Self::Server { options, _pooler: Box::default() }
            }
            Backend::Pooled => {
                let pooler = Pooler::start(&test_services::database().await.unwrap()).await;
                let options = PostgresOptions { pooled: true, ..PostgresOptions::new(pooler.url()) };
                Self::Server { options, _pooler: Box::new(Some(pooler)) }
            }
        }
    }

    async fn open(&self) -> ReadModels {
        match self {
            Self::File(folder) => ReadModels::open(folder.path().join("read-models.db")).await.unwrap(),
            Self::Server { options, .. } => ReadModels::open_postgres(options.clone()).await.unwrap(),
        }
    }
}

/// Makes a test of each function that takes a [`Backend`].
macro_rules! on_every_backend {
    ($($test:ident),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test] async fn $test() { super::$test(crate::Backend::Sqlite).await })*
        }
        mod postgres {
            $(#[tokio::test] async fn $test() { super::$test(crate::Backend::Postgres).await })*
        }
        mod pooled {
            $(#[tokio::test] async fn $test() { super::$test(crate::Backend::Pooled).await })*
        }
    };
}
use on_every_backend;

/// Read models with their place.
struct Models {
    models: ReadModels,
    _place: Place,
}

impl std::ops::Deref for Models {
    type Target = ReadModels;

    fn deref(&self) -> &ReadModels {
        &self.models
    }
}

async fn models(backend: Backend) -> Models {
    let place = Place::new(backend).await;
    Models { models: place.open().await, _place: place }
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
}

/// Who sees all of the tenant.
fn everything() -> Viewer {
    Viewer::any(&tenant())
}

fn id(number: u64) -> Uuid {
    new_id(Timestamp::from_unix_ms(1_795_000_000_000 + number as i64), Slot::from_bits(3), number)
}

fn view(number: u64) -> ExecutionView {
    serde_json::from_value(serde_json::json!({
        "id": id(number), "workflow_id": id(1_000), "workflow_name": "orders", "workflow_version": 1,
        "status": "running", "input": {"n": number}, "output": null, "error": null, "cancel_reason": null,
        "started_at": Timestamp::from_unix_ms(number as i64), "finished_at": null, "duration_ms": null,
        "priority": 5, "attributes": {}, "version": 1, "started_by": "user:1", "ends": [], "nodes": [],
    }))
    .unwrap()
}

fn row(view: &ExecutionView) -> ExecutionRow {
    ExecutionRow::new(&tenant(), Partition(3), view).unwrap()
}

fn workflow(number: u64) -> WorkflowRow {
    WorkflowRow {
        tenant: tenant(),
        id: id(number),
        name: format!("workflow {number}"),
        description: Some("takes orders".to_owned()),
        latest_version: 1,
        published_version: None,
        enabled: true,
        deleted: false,
        etag: 1,
        created_at: Timestamp::from_unix_ms(1),
        updated_at: Timestamp::from_unix_ms(2),
        created_by: "user:1".to_owned(),
        definition: r#"{"nodes":[]}"#.to_owned(),
        owner: None,
        visibility: Visibility::Private,
        shared_access: ShareAccess::Read,
    }
}

async fn write(models: &ReadModels, views: &[ExecutionView]) {
    let mut tx = models.begin().await.unwrap();
    put(&mut tx, views).await;
    tx.commit().await.unwrap();
}

async fn put(tx: &mut WriteTx, views: &[ExecutionView]) {
    tx.put_executions(views.iter().map(row).collect()).await.unwrap();
}
