//! A row of every kind, of two tenants.

use serde_json::json;
use uuid::Uuid;

use domain::access::{Authority, Permission, Reach};
use domain::audit::event::AuditResult;
use domain::bulk::event::BulkAction;
use domain::bulk::state::BulkStatus;
use domain::execution::view::{ExecutionView, NodeView};
use domain::identity::tenant::event::TenantSettings;
use domain::identity::user::UserStatus;
use domain::ids::{Partition, Slot, TenantId, derived_id};
use domain::time::Timestamp;
use domain::workflow::event::{ShareAccess, Visibility};

use crate::store::ReadModels;
use crate::viewer::Viewer;
use crate::write::WriteTx;
use crate::{
    ApiKeyRow, AuditRow, BulkJobRow, DeadLetter, ExecutionFilter, ExecutionRow, NodeRow, TenantRow, UserRow,
    WorkflowRow, WorkflowVersionRow,
};

pub(super) const A: &str = "a";
pub(super) const B: &str = "b";
fn at() -> Timestamp {
    Timestamp::from_unix_ms(1_795_000_000_000)
}

pub(super) fn tenant(name: &str) -> TenantId {
    TenantId::try_from(name.to_owned()).unwrap()
}

pub(super) fn is_of(name: &str, found: &TenantId) -> bool {
    found.as_str() == name
}

/// The id of a tenant's thing of a kind.
pub(super) fn id(name: &str, kind: &str) -> Uuid {
    derived_id(at(), Slot::from_bits(1), &[name.as_bytes(), kind.as_bytes()])
}

/// Writes a row of every kind, first for tenant `a` and then for `b`.
pub(super) async fn of_both(tx: &mut WriteTx) {
    for name in [A, B] {
        workflows(tx, name).await;
        executions(tx, name).await;
        identities(tx, name).await;
        jobs_and_audit(tx, name).await;
    }
}

/// Whether tenant `a` finds its own, of any reach.
pub(super) async fn own_are_found(models: &ReadModels) -> bool {
    for reach in [Reach::Own, Reach::Shared, Reach::Any] {
        let viewer = Viewer { tenant: tenant(A), user: id(A, "user"), reach };
        let executions = models.executions(&viewer, &ExecutionFilter::default(), None, 50).await.unwrap();
        let nodes = models.nodes_of(&viewer, id(A, "execution"), "loop", None, 50).await.unwrap();
        let workflows = models.workflows(&viewer, None, 50).await.unwrap();
        if [executions.items.len(), nodes.items.len(), workflows.items.len()] != [1, 1, 1] {
            return false;
        }
    }
    models.user(&tenant(A), id(A, "user")).await.unwrap().is_some()
}

async fn workflows(tx: &mut WriteTx, name: &str) {
    let row = WorkflowRow {
        tenant: tenant(name),
        id: id(name, "workflow"),
        name: "orders".to_owned(),
        description: None,
        latest_version: 1,
        published_version: Some(1),
        enabled: true,
        deleted: false,
        etag: 1,
        created_at: at(),
        updated_at: at(),
        created_by: "user:1".to_owned(),
        definition: "{}".to_owned(),
        owner: Some(id(name, "user")),
        visibility: Visibility::Public,
        shared_access: ShareAccess::Read,
    };
    tx.put_workflow(&row).await.unwrap();
    let version = WorkflowVersionRow {
        tenant: tenant(name),
        workflow_id: row.id,
        version: 1,
        hash: "00".to_owned(),
        created_at: at(),
        created_by: "user:1".to_owned(),
        definition: "{}".to_owned(),
    };
    tx.put_workflow_version(&version).await.unwrap();
    tx.put_workflow_shares(&tenant(name), row.id, &[id(name, "user")]).await.unwrap();
}

async fn executions(tx: &mut WriteTx, name: &str) {
    let view = json!({
        "id": id(name, "execution"), "workflow_id": id(name, "workflow"), "workflow_name": "orders",
        "workflow_version": 1, "status": "running", "input": null, "output": null, "error": null,
        "cancel_reason": null, "started_at": at(), "finished_at": null, "duration_ms": null, "priority": 5,
        "attributes": {}, "version": 1, "started_by": "user:1", "ends": [], "nodes": [],
    });
    let view: ExecutionView = serde_json::from_value(view).unwrap();
    let row = ExecutionRow::new(&tenant(name), Partition(0), &view).unwrap();
    tx.put_executions(vec![row.owned_by(Some(id(name, "user")))]).await.unwrap();
    let node = json!({
        "id": "loop/0/x", "type": "transform", "status": "completed", "run": 1, "attempt": 1,
        "started_at": null, "finished_at": null, "duration_ms": null, "output": null, "error": null,
    });
    let node: NodeView = serde_json::from_value(node).unwrap();
    tx.put_nodes(vec![NodeRow::new(&tenant(name), view.id, &node).unwrap().unwrap()]).await.unwrap();
    let letter = json!({
        "id": id(name, "letter"), "execution_id": view.id, "workflow_id": view.workflow_id,
        "workflow_name": "orders", "node_id": "pay", "run": 1, "attempt": 1, "node_type": "http_request",
        "error": {"kind": "connection", "message": "no", "retryable": true, "details": null},
        "dead_lettered_at": at(),
    });
    let letter: DeadLetter = serde_json::from_value(letter).unwrap();
    tx.put_dead_letter(&tenant(name), &letter).await.unwrap();
}

async fn identities(tx: &mut WriteTx, name: &str) {
    let row = TenantRow {
        tenant: tenant(name),
        stream: id(name, "tenant"),
        name: name.to_owned(),
        settings: TenantSettings::default(),
        suspended: false,
        version: 1,
        created_at: at(),
        updated_at: at(),
    };
    tx.put_tenant(&row).await.unwrap();
    let user = UserRow {
        tenant: tenant(name),
        id: id(name, "user"),
        email: format!("{name}@example.org"),
        name: None,
        role: "USER".to_owned(),
        status: UserStatus::Active,
        operator: false,
        email_verified: false,
        totp: false,
        providers: Vec::new(),
        version: 1,
        created_at: at(),
        updated_at: at(),
        created_by: "user:1".to_owned(),
    };
    tx.put_user(&user).await.unwrap();
    let key = ApiKeyRow {
        tenant: tenant(name),
        id: id(name, "key"),
        name: "ci".to_owned(),
        owner: user.id,
        fingerprint: "00".to_owned(),
        scopes: vec!["*".to_owned()],
        expires_at: None,
        revoked_at: None,
        version: 1,
        created_at: at(),
        created_by: "user:1".to_owned(),
    };
    tx.put_api_key(&key).await.unwrap();
}

async fn jobs_and_audit(tx: &mut WriteTx, name: &str) {
    let acting = Authority {
        user: id(name, "user"),
        email: format!("{name}@example.org"),
        role: "USER".to_owned(),
        permission: Permission::ExecutionBulk,
        grants: Vec::new(),
    };
    let job = BulkJobRow {
        tenant: tenant(name),
        id: id(name, "bulk"),
        status: BulkStatus::Running,
        action: BulkAction::Cancel,
        filter: json!({}),
        reason: "a test".to_owned(),
        per_second: 10,
        found: 1,
        upper: Uuid::max(),
        acting,
        lease: None,
        cursor: None,
        done: 0,
        failed: 0,
        failures: Vec::new(),
        version: 1,
        created_at: at(),
        updated_at: at(),
        finished_at: None,
        created_by: "user:1".to_owned(),
    };
    tx.put_bulk_job(&job).await.unwrap();
    let noted = AuditRow {
        tenant: tenant(name),
        id: id(name, "audit"),
        at: at(),
        logged: true,
        noted: true,
        actor: "user:1".to_owned(),
        user: Some(id(name, "user")),
        action: "CancelExecution".to_owned(),
        permission: None,
        route: None,
        resource: None,
        result: AuditResult::Accepted,
        code: None,
        position: None,
        ip: None,
        user_agent: None,
        count: 1,
    };
    tx.put_audit(vec![noted]).await.unwrap();
}
