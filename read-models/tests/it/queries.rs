//! What queries find, and what they must not.

use serde_json::json;
use uuid::Uuid;

use domain::execution::ExecutionStatus;
use domain::execution::event::{ErrorKind, NodeError};
use domain::execution::view::{ExecutionError, ExecutionView};
use domain::ids::{Partition, TenantId};
use domain::time::Timestamp;
use read_models::{
    AttributeFilter, Compare, ExecutionFilter, ExecutionRow, ReadModelError, ReadModels, Table, Viewer,
    WorkflowVersionRow,
};

use crate::{Backend, everything, id, models, on_every_backend, row, tenant, view, workflow, write};

on_every_backend!(
    a_view_reads_back_as_it_was_written,
    pages_follow_on_newest_first_without_a_gap_or_a_repetition,
    filters_hold_together,
    attributes_compare_by_their_text,
    attributes_compare_in_order_as_numbers_or_as_texts,
    one_of_several_statuses_is_enough,
    sql_in_names_and_searches_is_data,
    filters_of_unbounded_size_are_refused,
    a_tenant_sees_nothing_of_another,
    a_deleted_workflow_is_found_by_id_and_hidden_from_lists,
    versions_of_a_workflow_are_listed_newest_first,
    a_batch_of_any_size_is_written_and_read_whole,
    a_row_says_in_which_partition_its_stream_lives,
);

async fn find(models: &ReadModels, filter: ExecutionFilter) -> Vec<Uuid> {
    let page = models.executions(&everything(), &filter, None, 50).await.unwrap();
    page.items.into_iter().map(|view| view.id).collect()
}

fn failed(number: u64, message: &str) -> ExecutionView {
    let error = NodeError {
        kind: ErrorKind::Custom,
        message: message.to_owned(),
        retryable: false,
        details: json!({"code": 7}),
    };
    let error = Some(ExecutionError { node_id: Some("pay".to_owned()), error });
    ExecutionView { status: ExecutionStatus::Failed, error, ..view(number) }
}

async fn a_view_reads_back_as_it_was_written(backend: Backend) {
    let models = models(backend).await;
    let written = failed(1, "no money");
    write(&models, std::slice::from_ref(&written)).await;
    assert_eq!(models.execution(&tenant(), id(1)).await.unwrap(), Some(written));
    assert_eq!(models.execution(&tenant(), id(2)).await.unwrap(), None);
}

async fn pages_follow_on_newest_first_without_a_gap_or_a_repetition(backend: Backend) {
    let models = models(backend).await;
    let views: Vec<_> = (0..300).map(view).collect();
    write(&models, &views).await;
    let mut seen = Vec::new();
    let mut cursor = None;
    loop {
        let filter = ExecutionFilter::default();
        let page = models.executions(&everything(), &filter, cursor, 70).await.unwrap();
        seen.extend(page.items.iter().map(|view| view.id));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(seen, (0..300).rev().map(id).collect::<Vec<_>>());
}

async fn filters_hold_together(backend: Backend) {
    let models = models(backend).await;
    let other = ExecutionView { workflow_id: id(2_000), workflow_name: "refunds".into(), ..view(2) };
    write(&models, &[view(1), other, failed(3, "Card refused"), view(4)]).await;
    let filter = ExecutionFilter::default;

    let of_workflow = ExecutionFilter { workflow_id: Some(id(2_000)), ..filter() };
    assert_eq!(find(&models, of_workflow).await, [id(2)]);
    let of_status = ExecutionFilter { statuses: vec![ExecutionStatus::Failed], ..filter() };
    assert_eq!(find(&models, of_status).await, [id(3)]);
    let between = ExecutionFilter {
        started_after: Some(Timestamp::from_unix_ms(1)),
        started_before: Some(Timestamp::from_unix_ms(4)),
        ..filter()
    };
    assert_eq!(find(&models, between).await, [id(3), id(2)]);
    let both = ExecutionFilter {
        workflow_id: Some(id(1_000)),
        statuses: vec![ExecutionStatus::Running],
        ..filter()
    };
    assert_eq!(find(&models, both).await, [id(4), id(1)]);
    let by_name = ExecutionFilter { q: Some("REFUND".to_owned()), ..filter() };
    assert_eq!(find(&models, by_name).await, [id(2)]);
    let by_error = ExecutionFilter { q: Some("card re".to_owned()), ..filter() };
    assert_eq!(find(&models, by_error).await, [id(3)]);
}

async fn attributes_compare_by_their_text(backend: Backend) {
    let models = models(backend).await;
    let with = |number, attributes: serde_json::Value| {
        let attributes = attributes.as_object().unwrap().clone();
        ExecutionView { attributes, ..view(number) }
    };
    write(
        &models,
        &[
            with(1, json!({"customer": "c-1", "a\"b.c": "quoted"})),
            with(2, json!({"customer": "c-2", "amount": 12, "vip": true})),
            with(3, json!({"half": 0.5, "whole": 3.0, "list": [1, {"a": "b"}], "nothing": null})),
        ],
    )
    .await;
    for (key, value, found) in [
        ("customer", "c-1", vec![id(1)]),
        ("a\"b.c", "quoted", vec![id(1)]),
        ("amount", "12", vec![id(2)]),
        ("vip", "true", vec![id(2)]),
        ("vip", "1", vec![]),
        ("missing", "null", vec![]),
        ("nothing", "null", vec![]),
        ("half", "0.5", vec![id(3)]),
        ("whole", "3.0", vec![id(3)]),
        ("list", r#"[1,{"a":"b"}]"#, vec![id(3)]),
    ] {
        let attributes = vec![AttributeFilter::equal(key, value)];
        let filter = ExecutionFilter { attributes, ..ExecutionFilter::default() };
        assert_eq!(find(&models, filter).await, found, "{key}={value}");
    }
}

async fn attributes_compare_in_order_as_numbers_or_as_texts(backend: Backend) {
    let models = models(backend).await;
    let with = |number, attributes: serde_json::Value| {
        let attributes = attributes.as_object().unwrap().clone();
        ExecutionView { attributes, ..view(number) }
    };
    write(
        &models,
        &[
            with(1, json!({"amount": 9, "due": "2026-11-21"})),
            with(2, json!({"amount": 10.5, "due": "2026-12-01"})),
            with(3, json!({"amount": "11", "due": null})),
            with(4, json!({"amount": true})),
        ],
    )
    .await;
    for (key, compare, value, found) in [
        ("amount", Compare::Greater, "9", vec![id(2)]),
        ("amount", Compare::AtLeast, "9", vec![id(2), id(1)]),
        ("amount", Compare::Less, "10.5", vec![id(1)]),
        ("amount", Compare::AtMost, "1e1", vec![id(1)]),
        // No number that there is: texts.
        ("amount", Compare::Greater, "1e400", vec![id(4), id(1)]),
        ("amount", Compare::NotEqual, "9", vec![id(4), id(3), id(2)]),
        ("due", Compare::Less, "2026-11-30", vec![id(1)]),
        ("due", Compare::AtLeast, "2026-11-21", vec![id(2), id(1)]),
        ("missing", Compare::NotEqual, "x", vec![]),
    ] {
        let attribute = AttributeFilter { key: key.to_owned(), compare, value: value.to_owned() };
        let filter = ExecutionFilter { attributes: vec![attribute], ..ExecutionFilter::default() };
        assert_eq!(find(&models, filter).await, found, "{key} {compare:?} {value}");
    }
}

async fn one_of_several_statuses_is_enough(backend: Backend) {
    let models = models(backend).await;
    let in_status = |number, status| ExecutionView { status, ..view(number) };
    write(
        &models,
        &[
            view(1),
            in_status(2, ExecutionStatus::Failed),
            in_status(3, ExecutionStatus::Cancelled),
            in_status(4, ExecutionStatus::Completed),
        ],
    )
    .await;
    let statuses = vec![ExecutionStatus::Failed, ExecutionStatus::Cancelled];
    let filter = ExecutionFilter { statuses, ..ExecutionFilter::default() };
    assert_eq!(find(&models, filter).await, [id(3), id(2)]);
}

async fn sql_in_names_and_searches_is_data(backend: Backend) {
    let models = models(backend).await;
    let name = "'; drop table executions; -- %_\\";
    let evil = ExecutionView { workflow_name: name.to_owned(), ..view(1) };
    write(&models, &[evil.clone(), view(2)]).await;
    let mut tx = models.begin().await.unwrap();
    let mut flow = workflow(9);
    flow.name = name.to_owned();
    tx.put_workflow(&flow).await.unwrap();
    tx.commit().await.unwrap();

    assert_eq!(models.execution(&tenant(), id(1)).await.unwrap(), Some(evil));
    assert_eq!(models.workflow(&tenant(), id(9)).await.unwrap(), Some(flow));
    for (text, found) in [
        (name, vec![id(1)]),
        ("%", vec![id(1)]),
        ("_", vec![id(1)]),
        ("\\", vec![id(1)]),
        ("' or 1=1 --", vec![]),
        ("o_ders", vec![]),
    ] {
        let filter = ExecutionFilter { q: Some(text.to_owned()), ..ExecutionFilter::default() };
        assert_eq!(find(&models, filter).await, found, "{text}");
    }
    let attributes = vec![AttributeFilter::equal("') or 1=1 --", "' or '1'='1")];
    let filter = ExecutionFilter { attributes, ..ExecutionFilter::default() };
    assert_eq!(find(&models, filter).await, Vec::<Uuid>::new());
}

async fn filters_of_unbounded_size_are_refused(backend: Backend) {
    let models = models(backend).await;
    let long = ExecutionFilter { q: Some("x".repeat(201)), ..ExecutionFilter::default() };
    let many = vec![AttributeFilter::equal("a", "b"); 17];
    let many = ExecutionFilter { attributes: many, ..ExecutionFilter::default() };
    for filter in [long, many] {
        let refused = models.executions(&everything(), &filter, None, 50).await;
        assert!(matches!(refused, Err(ReadModelError::Filter(_))), "{refused:?}");
    }
}

async fn a_tenant_sees_nothing_of_another(backend: Backend) {
    let models = models(backend).await;
    write(&models, &[view(1)]).await;
    let mut tx = models.begin().await.unwrap();
    tx.put_workflow(&workflow(2)).await.unwrap();
    tx.commit().await.unwrap();
    let other = TenantId::try_from("other".to_owned()).unwrap();
    assert_eq!(models.execution(&other, id(1)).await.unwrap(), None);
    assert_eq!(models.workflow(&other, id(2)).await.unwrap(), None);
    assert!(models.workflows(&Viewer::any(&other), None, 10).await.unwrap().items.is_empty());
    let filter = ExecutionFilter::default();
    assert!(models.executions(&Viewer::any(&other), &filter, None, 10).await.unwrap().items.is_empty());
}

async fn a_deleted_workflow_is_found_by_id_and_hidden_from_lists(backend: Backend) {
    let models = models(backend).await;
    let mut tx = models.begin().await.unwrap();
    for number in 0..5 {
        tx.put_workflow(&workflow(number)).await.unwrap();
    }
    let mut gone = workflow(2);
    gone.deleted = true;
    gone.published_version = Some(1);
    tx.put_workflow(&gone).await.unwrap();
    assert_eq!(tx.workflow(&tenant(), id(2)).await.unwrap(), Some(gone.clone()));
    tx.commit().await.unwrap();

    assert_eq!(models.workflow(&tenant(), id(2)).await.unwrap(), Some(gone));
    let first = models.workflows(&everything(), None, 3).await.unwrap();
    let ids: Vec<_> = first.items.iter().map(|row| row.id).collect();
    assert_eq!(ids, [id(4), id(3), id(1)]);
    let last = models.workflows(&everything(), first.next, 3).await.unwrap();
    assert_eq!(last.items, [workflow(0)]);
    assert_eq!(last.next, None);
}

async fn versions_of_a_workflow_are_listed_newest_first(backend: Backend) {
    let models = models(backend).await;
    let version = |version| WorkflowVersionRow {
        tenant: tenant(),
        workflow_id: id(1),
        version,
        hash: format!("hash {version}"),
        created_at: Timestamp::from_unix_ms(version as i64),
        created_by: "user:1".to_owned(),
        definition: format!(r#"{{"version":{version}}}"#),
    };
    let mut tx = models.begin().await.unwrap();
    for number in 1..=5 {
        tx.put_workflow_version(&version(number)).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(models.workflow_version(&tenant(), id(1), 3).await.unwrap(), Some(version(3)));
    assert_eq!(models.workflow_version(&tenant(), id(1), 6).await.unwrap(), None);
    let page = models.workflow_versions(&everything(), id(1), None, 3).await.unwrap();
    assert_eq!(page.items, [version(5), version(4), version(3)]);
    let page = models.workflow_versions(&everything(), id(1), page.next, 3).await.unwrap();
    assert_eq!(page.items, [version(2), version(1)]);
    assert_eq!(page.next, None);
}

async fn a_batch_of_any_size_is_written_and_read_whole(backend: Backend) {
    let models = models(backend).await;
    let views: Vec<_> = (0..1_337).map(view).collect();
    write(&models, &views).await;
    let ids: Vec<_> = views.iter().map(|view| view.id).collect();
    let mut tx = models.begin().await.unwrap();
    let mut found = tx.executions(&tenant(), &ids).await.unwrap();
    found.sort_by_key(|(id, _)| *id);
    let found: Vec<_> = found.into_iter().map(|(_, view)| view.unwrap()).collect();
    assert_eq!(found, views);
    drop(tx);

    let mut last = view(7);
    last.status = ExecutionStatus::Completed;
    last.version = 9;
    let mut tx = models.begin().await.unwrap();
    tx.put_executions(vec![row(&last), row(&view(8))]).await.unwrap();
    tx.commit().await.unwrap();
    assert_eq!(models.execution(&tenant(), id(7)).await.unwrap(), Some(last));
    assert_eq!(models.dump_rows(Table::Executions).await.unwrap().len(), 1_337);
}

async fn a_row_says_in_which_partition_its_stream_lives(backend: Backend) {
    let models = models(backend).await;
    let mut tx = models.begin().await.unwrap();
    let row = ExecutionRow::new(&tenant(), Partition(11), &view(1)).unwrap();
    tx.put_executions(vec![row]).await.unwrap();
    tx.commit().await.unwrap();
    let rows = models.dump_rows(Table::Executions).await.unwrap();
    assert_eq!(rows[0][2], "11");
}
