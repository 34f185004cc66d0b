//! Rows of nodes inside loops and branches, and of dead letters.

use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

use domain::execution::event::{ErrorKind, NodeError};
use domain::execution::view::{ExecutionView, NodePlace, NodeView};
use domain::ids::TenantId;
use domain::node_type::NodeType;
use domain::time::Timestamp;
use read_models::{DeadLetter, DeadLetterFilter, ExecutionFilter, NodeRow, ReadModels, Table, WriteTx};

use crate::{Backend, everything, id, models, on_every_backend, tenant, view, write};

on_every_backend!(
    nodes_of_a_container_are_paged_by_iteration_and_id,
    only_wanted_nodes_are_read_for_writing,
    what_lies_inside_a_container_is_found_at_any_depth_and_nothing_beside_it,
    a_batch_of_nodes_of_any_size_is_written_whole_and_again,
    a_top_level_node_has_no_row_of_its_own,
    children_and_forks_of_an_execution_are_listed,
    a_dead_letter_is_marked_once_and_only_for_its_node,
);

fn node(path: &str, output: Value) -> NodeView {
    serde_json::from_value(json!({
        "id": path, "type": "transform", "status": "completed", "run": 1, "attempt": 1, "started_at": null,
        "finished_at": null, "duration_ms": null, "output": output, "error": null,
    }))
    .unwrap()
}

async fn put(tx: &mut WriteTx, tenant: &TenantId, execution: Uuid, paths: &[String]) {
    let rows =
        paths.iter().map(|path| NodeRow::new(tenant, execution, &node(path, json!(path))).unwrap().unwrap());
    tx.put_nodes(rows.collect()).await.unwrap();
}

async fn stored(models: &ReadModels, execution: Uuid, paths: &[&str]) {
    let mut tx = models.begin().await.unwrap();
    let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
    put(&mut tx, &tenant(), execution, &paths).await;
    tx.commit().await.unwrap();
}

async fn listed(models: &ReadModels, execution: Uuid, parent: &str, limit: usize) -> Vec<String> {
    let (mut ids, mut cursor) = (Vec::new(), None);
    loop {
        let page = models.nodes_of(&everything(), execution, parent, cursor, limit).await.unwrap();
        assert!(page.items.len() <= limit);
        ids.extend(page.items.into_iter().map(|node| node.id));
        cursor = page.next;
        if cursor.is_none() {
            return ids;
        }
    }
}

fn ids(found: Vec<(Uuid, Result<NodeView, read_models::ReadModelError>)>) -> BTreeSet<(Uuid, String)> {
    found.into_iter().map(|(execution, node)| (execution, node.unwrap().id)).collect()
}

async fn nodes_of_a_container_are_paged_by_iteration_and_id(backend: Backend) {
    let models = models(backend).await;
    stored(&models, id(1), &["loop/10/a", "loop/9/b", "loop/9/a", "loop/2/inner", "loop/2/inner/0/x"]).await;
    stored(&models, id(2), &["loop/0/a"]).await;
    let in_order = ["loop/2/inner", "loop/9/a", "loop/9/b", "loop/10/a"];
    for limit in 1..=5 {
        assert_eq!(listed(&models, id(1), "loop", limit).await, in_order);
    }
    assert_eq!(listed(&models, id(1), "loop/2/inner", 50).await, ["loop/2/inner/0/x"]);
    assert!(listed(&models, id(1), "loo%", 50).await.is_empty());
    let other = TenantId::try_from("other".to_owned()).unwrap();
    assert!(
        models
            .nodes_of(&read_models::Viewer::any(&other), id(1), "loop", None, 50)
            .await
            .unwrap()
            .items
            .is_empty()
    );
}

async fn only_wanted_nodes_are_read_for_writing(backend: Backend) {
    let models = models(backend).await;
    stored(&models, id(1), &["loop/0/a", "loop/1/a", "loop/1/b"]).await;
    stored(&models, id(2), &["loop/0/a", "par/0/a"]).await;
    let place = |path: &str| NodePlace::of(path).unwrap();
    let wanted = [
        (id(1), place("loop/1/b")),
        (id(2), place("par/0/a")),
        (id(2), place("loop/1/b")),
        (id(3), place("loop/0/a")),
    ];
    let mut tx = models.begin().await.unwrap();
    let found = ids(tx.nodes(&tenant(), &wanted).await.unwrap());
    let expected = [(id(1), "loop/1/b".to_owned()), (id(2), "par/0/a".to_owned())];
    assert_eq!(found, BTreeSet::from(expected));
    assert!(tx.nodes(&tenant(), &[]).await.unwrap().is_empty());
}

async fn what_lies_inside_a_container_is_found_at_any_depth_and_nothing_beside_it(backend: Backend) {
    let models = models(backend).await;
    let inside = ["loop/0/a", "loop/3/inner", "loop/3/inner/1/x", "loop/12/inner/0/deep/7/y"];
    let beside = ["loop2/0/a", "loo/0/a", "loop_b/0/a", "par/0/loop/0/a"];
    stored(&models, id(1), &[&inside[..], &beside[..]].concat()).await;
    let mut tx = models.begin().await.unwrap();
    let found = ids(tx.nodes_inside(&tenant(), id(1), "loop").await.unwrap());
    assert_eq!(found, inside.iter().map(|path| (id(1), (*path).to_owned())).collect());
}

async fn a_batch_of_nodes_of_any_size_is_written_whole_and_again(backend: Backend) {
    let models = models(backend).await;
    let paths: Vec<String> = (0..1_321).map(|number| format!("loop/{number}/a")).collect();
    for _ in 0..2 {
        let mut tx = models.begin().await.unwrap();
        put(&mut tx, &tenant(), id(1), &paths).await;
        tx.commit().await.unwrap();
    }
    assert_eq!(listed(&models, id(1), "loop", 1_000).await, paths);
    let mut tx = models.begin().await.unwrap();
    let changed = NodeRow::new(&tenant(), id(1), &node("loop/7/a", json!("changed"))).unwrap().unwrap();
    tx.put_nodes(vec![changed]).await.unwrap();
    let wanted: Vec<_> = paths.iter().map(|path| (id(1), NodePlace::of(path).unwrap())).collect();
    let found = tx.nodes(&tenant(), &wanted).await.unwrap();
    assert_eq!(found.len(), paths.len());
    let outputs: Vec<Value> = found.into_iter().map(|(_, node)| node.unwrap().output).collect();
    assert_eq!(outputs.iter().filter(|output| **output == json!("changed")).count(), 1);
}

async fn a_top_level_node_has_no_row_of_its_own(backend: Backend) {
    let models = models(backend).await;
    assert!(NodeRow::new(&tenant(), id(1), &node("fetch", Value::Null)).unwrap().is_none());
    assert!(models.dump_rows(Table::ExecutionNodes).await.unwrap().is_empty());
}

async fn children_and_forks_of_an_execution_are_listed(backend: Backend) {
    let models = models(backend).await;
    let with = |number: u64, field: &str, value: Value| -> ExecutionView {
        let mut json = serde_json::to_value(view(number)).unwrap();
        json[field] = value;
        serde_json::from_value(json).unwrap()
    };
    let parent = json!({"execution_id": id(1), "node_id": "child", "run": 1, "attempt": 1, "depth": 1});
    let fork = json!({"execution_id": id(1), "at_version": 3, "effects": "mute"});
    let views =
        [view(1), with(2, "parent", parent.clone()), with(3, "forked_from", fork), with(4, "parent", parent)];
    write(&models, &views).await;
    let found = async |filter: ExecutionFilter| -> Vec<Uuid> {
        let page = models.executions(&everything(), &filter, None, 50).await.unwrap();
        page.items.into_iter().map(|view| view.id).collect()
    };
    assert_eq!(found(ExecutionFilter { parent: Some(id(1)), ..Default::default() }).await, [id(4), id(2)]);
    assert_eq!(found(ExecutionFilter { origin: Some(id(1)), ..Default::default() }).await, [id(3)]);
    assert!(found(ExecutionFilter { parent: Some(id(2)), ..Default::default() }).await.is_empty());
}

async fn a_dead_letter_is_marked_once_and_only_for_its_node(backend: Backend) {
    let models = models(backend).await;
    let letter = |number: u64, node: &str| DeadLetter {
        id: id(number),
        execution_id: id(100),
        workflow_id: id(1_000),
        workflow_name: "orders".to_owned(),
        node_id: node.to_owned(),
        run: 1,
        attempt: 2,
        node_type: NodeType::HttpRequest,
        error: NodeError {
            kind: ErrorKind::Connection,
            message: "nul \0 in it".to_owned(),
            retryable: true,
            details: Value::Null,
        },
        dead_lettered_at: Timestamp::from_unix_ms(number as i64),
        redriven_at: None,
    };
    let mut tx = models.begin().await.unwrap();
    for (number, node) in [(1, "a"), (2, "loop/0/b"), (3, "c")] {
        tx.put_dead_letter(&tenant(), &letter(number, node)).await.unwrap();
    }
    let at = Timestamp::from_unix_ms(50);
    let nodes = ["a".to_owned(), "loop/0/b".to_owned()];
    tx.redrive_dead_letters(&tenant(), id(100), &nodes, at).await.unwrap();
    let later = Timestamp::from_unix_ms(60);
    tx.redrive_dead_letters(&tenant(), id(100), &nodes[..1], later).await.unwrap();
    tx.redrive_dead_letters(&tenant(), id(101), &["c".to_owned()], later).await.unwrap();
    tx.commit().await.unwrap();
    let found = async |filter: DeadLetterFilter| -> Vec<(Uuid, Option<Timestamp>)> {
        let page = models.dead_letters(&everything(), &filter, None, 50).await.unwrap();
        page.items.into_iter().map(|letter| (letter.id, letter.redriven_at)).collect()
    };
    assert_eq!(found(DeadLetterFilter::default()).await, [(id(3), None)]);
    let redriven = DeadLetterFilter { redriven: true, ..DeadLetterFilter::default() };
    assert_eq!(found(redriven.clone()).await, [(id(2), Some(at)), (id(1), Some(at))]);
    let since = DeadLetterFilter { after: Some(Timestamp::from_unix_ms(1)), ..redriven };
    assert_eq!(found(since).await, [(id(2), Some(at))]);
    assert_eq!(models.dead_letter(&tenant(), id(3)).await.unwrap(), Some(letter(3, "c")));
}
