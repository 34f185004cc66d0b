//! What viewers see of what is theirs, shared, public, or somebody else's, page by page.

use serde_json::json;
use uuid::Uuid;

use domain::access::Reach;
use domain::execution::ExecutionStatus;
use domain::execution::view::ExecutionView;
use domain::ids::Partition;
use domain::workflow::event::{ShareAccess, Visibility};
use read_models::{
    DeadLetterFilter, ExecutionFilter, ExecutionRow, NodeRow, ReadModels, Viewer, WorkflowRow,
    WorkflowVersionRow,
};

use crate::{Backend, id, models, on_every_backend, tenant, view, workflow};

on_every_backend!(
    a_list_of_what_is_shared_has_no_gap_and_nothing_twice,
    who_sees_many_workflows_has_the_same_list,
    versions_nodes_and_dead_letters_are_seen_as_what_they_belong_to,
);

/// An execution with the number of its owner, 0 for nobody, and that of its workflow.
type Stored = (Uuid, u64, u64);

/// Executions by four users of so many workflows, of which the first is public and the first `shared` are shared with
/// user 1.
async fn stored(models: &ReadModels, workflows: u64, shared: u64) -> Vec<Stored> {
    let mut tx = models.begin().await.unwrap();
    for number in 0..workflows {
        let flow = 10_000 + number;
        let visibility = if number == 0 { Visibility::Public } else { Visibility::Private };
        let shared_access = ShareAccess::Read;
        let row = WorkflowRow { owner: Some(id(4)), visibility, shared_access, ..workflow(flow) };
        tx.put_workflow(&row).await.unwrap();
        let users: Vec<Uuid> = (number < shared).then(|| id(1)).into_iter().collect();
        tx.put_workflow_shares(&tenant(), id(flow), &users).await.unwrap();
    }
    let mut all = Vec::new();
    let mut rows = Vec::new();
    for number in 0..240 {
        let owner = if number % 7 == 0 { 0 } else { 1 + number % 4 };
        let flow = number % workflows;
        let status = if number % 5 == 0 { ExecutionStatus::Failed } else { ExecutionStatus::Running };
        let view = ExecutionView { workflow_id: id(10_000 + flow), status, ..view(20_000 + number) };
        let row = ExecutionRow::new(&tenant(), Partition(1), &view).unwrap();
        rows.push(row.owned_by((owner > 0).then(|| id(owner))));
        all.push((view.id, owner, flow));
    }
    tx.put_executions(rows).await.unwrap();
    tx.commit().await.unwrap();
    all
}

async fn paged(models: &ReadModels, viewer: &Viewer, filter: &ExecutionFilter) -> Vec<Uuid> {
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = models.executions(viewer, filter, cursor, 7).await.unwrap();
        assert!(page.items.len() <= 7);
        seen.extend(page.items.iter().map(|view| view.id));
        cursor = page.next;
        if cursor.is_none() {
            return seen;
        }
    }
}

async fn lists_are_right(models: &ReadModels, all: &[Stored], shared: u64) {
    for user in 1..=4 {
        let viewer = |reach| Viewer { tenant: tenant(), user: id(user), reach };
        let visible = |flow: u64| flow == 0 || (user == 1 && flow < shared);
        let expected = |keep: &dyn Fn(u64, u64) -> bool| -> Vec<Uuid> {
            let kept = all.iter().rev().filter(|(_, owner, flow)| keep(*owner, *flow));
            kept.map(|(id, ..)| *id).collect()
        };
        let none = ExecutionFilter::default();
        let seen = paged(models, &viewer(Reach::Shared), &none).await;
        assert_eq!(seen, expected(&|owner, flow| owner == user || visible(flow)), "user {user}");
        assert_eq!(paged(models, &viewer(Reach::Own), &none).await, expected(&|owner, _| owner == user));
        assert_eq!(paged(models, &viewer(Reach::Any), &none).await, expected(&|_, _| true));
        // A search, too, shows only what is seen.
        let failed =
            ExecutionFilter { statuses: vec![ExecutionStatus::Failed], ..ExecutionFilter::default() };
        let searched = paged(models, &viewer(Reach::Shared), &failed).await;
        assert!(!searched.is_empty() && searched.iter().all(|id| seen.contains(id)));
        let others = ExecutionFilter { owner: Some(id(3)), ..ExecutionFilter::default() };
        let of_three = expected(&|owner, flow| owner == 3 && (user == 3 || visible(flow)));
        assert_eq!(paged(models, &viewer(Reach::Shared), &others).await, of_three);
    }
}

async fn a_list_of_what_is_shared_has_no_gap_and_nothing_twice(backend: Backend) {
    let models = models(backend).await;
    let all = stored(&models, 6, 3).await;
    lists_are_right(&models, &all, 3).await;
}

async fn who_sees_many_workflows_has_the_same_list(backend: Backend) {
    let models = models(backend).await;
    let all = stored(&models, 60, 50).await;
    lists_are_right(&models, &all, 50).await;
}

/// A workflow of user 1, shared with user 2, with one execution that has a node in a loop and a dead letter.
async fn one_of_each(models: &ReadModels) {
    let mut tx = models.begin().await.unwrap();
    let row = WorkflowRow { owner: Some(id(1)), ..workflow(10) };
    tx.put_workflow(&row).await.unwrap();
    let version = WorkflowVersionRow {
        tenant: tenant(),
        workflow_id: id(10),
        version: 1,
        hash: "00".to_owned(),
        created_at: row.created_at,
        created_by: "user:1".to_owned(),
        definition: "{}".to_owned(),
    };
    tx.put_workflow_version(&version).await.unwrap();
    tx.put_workflow_shares(&tenant(), id(10), &[id(2)]).await.unwrap();
    let run = ExecutionView { workflow_id: id(10), ..view(20) };
    let run_row = ExecutionRow::new(&tenant(), Partition(1), &run).unwrap().owned_by(Some(id(1)));
    tx.put_executions(vec![run_row]).await.unwrap();
    let node = serde_json::from_value(json!({
        "id": "loop/0/x", "type": "transform", "status": "completed", "run": 1, "attempt": 1,
        "started_at": null, "finished_at": null, "duration_ms": null, "output": null, "error": null,
    }));
    let node = NodeRow::new(&tenant(), run.id, &node.unwrap()).unwrap().unwrap();
    tx.put_nodes(vec![node]).await.unwrap();
    let letter = serde_json::from_value(json!({
        "id": id(30), "execution_id": run.id, "workflow_id": id(10), "workflow_name": "orders",
        "node_id": "pay", "run": 1, "attempt": 1, "node_type": "http_request",
        "error": {"kind": "connection", "message": "no", "retryable": true, "details": null},
        "dead_lettered_at": row.created_at,
    }));
    tx.put_dead_letter(&tenant(), &letter.unwrap()).await.unwrap();
    tx.commit().await.unwrap();
}

async fn versions_nodes_and_dead_letters_are_seen_as_what_they_belong_to(backend: Backend) {
    let models = models(backend).await;
    one_of_each(&models).await;
    for (user, reach, seen) in [
        (1, Reach::Own, 1),
        (1, Reach::Shared, 1),
        (2, Reach::Own, 0),
        (2, Reach::Shared, 1),
        (3, Reach::Shared, 0),
        (3, Reach::Any, 1),
    ] {
        let viewer = Viewer { tenant: tenant(), user: id(user), reach };
        let versions = models.workflow_versions(&viewer, id(10), None, 9).await.unwrap().items.len();
        let nodes = models.nodes_of(&viewer, id(20), "loop", None, 9).await.unwrap().items.len();
        let filter = DeadLetterFilter::default();
        let letters = models.dead_letters(&viewer, &filter, None, 9).await.unwrap().items.len();
        assert_eq!([versions, nodes, letters], [seen; 3], "user {user} with {reach:?}");
        let letter = models.dead_letter_seen(&viewer, id(30)).await.unwrap().unwrap();
        assert_eq!((letter.owner, letter.is_within(&viewer)), (Some(id(1)), seen == 1));
    }
}
