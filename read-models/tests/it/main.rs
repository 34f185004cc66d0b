//! The read models against real files.

#![expect(clippy::unwrap_used, reason = "a test that fails to set up has failed")]

mod queries;
mod transactions;

use std::time::Duration;
use uuid::Uuid;

use domain::execution::view::ExecutionView;
use domain::ids::{Partition, Slot, TenantId, new_id};
use domain::time::Timestamp;
use read_models::{ExecutionRow, ReadModels, WorkflowRow, WriteTx};

const LONG: Duration = Duration::from_secs(20);

async fn models() -> ReadModels {
    ReadModels::open_temporary().await.unwrap()
}

fn tenant() -> TenantId {
    TenantId::default_tenant()
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
