//! From a request to an outcome.

use axum::routing::{get, post};
use axum::{Json, Router};
use reqwest::StatusCode;
use serde_json::{Value, json};
use server::EmbeddedOptions;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::harness::{Server, Target, doubling, posting, types, version};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn engine_nodes_answer_within_the_request() {
    let server = Server::temporary().await;
    let workflow = server.client.create(&doubling()).await;
    let answer = server.client.execute(&workflow, json!({"n": 21})).await;
    assert_eq!(answer["status"], "completed", "{answer}");
    assert_eq!(answer["output"], json!({"n": 42, "large": true}));

    let events = server.client.events(answer["execution_id"].as_str().unwrap()).await;
    assert_eq!(events.iter().map(version).collect::<Vec<_>>(), (1..=events.len() as u64).collect::<Vec<_>>());
    assert_eq!(types(&events).first(), Some(&"execution.started"));
    assert_eq!(types(&events).last(), Some(&"execution.completed"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_calls_out_and_its_answer_is_the_output() {
    let echo = Router::new()
        .route("/echo", post(|Json(body): Json<Value>| async move { Json(json!({"you_said": body})) }));
    let target = Target::serve(echo).await;
    let server = Server::temporary().await;
    let workflow = server.client.create(&posting(&format!("{}/echo", target.url))).await;
    let answer = server.client.execute(&workflow, json!({"order": 7})).await;
    assert_eq!(answer["status"], "completed", "{answer}");
    assert_eq!(answer["output"], json!({"you_said": {"order": 7}}));

    let execution = server.client.ended(answer["execution_id"].as_str().unwrap()).await;
    let call = execution["nodes"].as_array().unwrap().iter().find(|node| node["id"] == "call").unwrap();
    assert_eq!((&call["status"], &call["output"]["status"]), (&json!("completed"), &json!(200)), "{call}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_target_is_tried_again_and_then_fails_the_execution() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let broken = Router::new().route(
        "/broken",
        get(move || async move {
            counted.fetch_add(1, Ordering::SeqCst);
            StatusCode::INTERNAL_SERVER_ERROR
        }),
    );
    let target = Target::serve(broken).await;
    let server = Server::temporary().await;
    let workflow = server
        .client
        .create(&json!({
            "name": "broken",
            "nodes": [
                {"id": "start", "type": "start"},
                {"id": "call", "type": "http_request", "config": {"method": "GET", "url": format!("{}/broken", target.url)},
                 "retry": {"max_attempts": 3, "initial_interval_ms": 1, "max_interval_ms": 2, "jitter": false}},
                {"id": "end", "type": "end"},
            ],
            "edges": [{"source": "start", "target": "call"}, {"source": "call", "target": "end"}],
        }))
        .await;
    let answer = server.client.execute(&workflow, json!({})).await;
    assert_eq!(answer["status"], "failed", "{answer}");
    assert_eq!(answer["error"]["kind"], "http_5xx", "{answer}");
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_target_that_keeps_failing_is_left_alone_and_the_metrics_say_so() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = calls.clone();
    let broken = move || async move {
        counted.fetch_add(1, Ordering::SeqCst);
        StatusCode::BAD_GATEWAY
    };
    let target = Target::serve(Router::new().route("/broken", get(broken))).await;
    let mut options = EmbeddedOptions::temporary();
    options.agents.circuit_breaker_failures = 2;
    options.agents.circuit_breaker_cool_down_ms = 3_600_000;
    let server = Server::with(options).await;
    let workflow = server
        .client
        .create(&json!({
            "name": "broken",
            "nodes": [
                {"id": "start", "type": "start"},
                {"id": "call", "type": "http_request", "config": {"url": format!("{}/broken", target.url)},
                 "retry": {"max_attempts": 5, "initial_interval_ms": 1, "max_interval_ms": 2, "jitter": false}},
                {"id": "end", "type": "end"},
            ],
            "edges": [{"source": "start", "target": "call"}, {"source": "call", "target": "end"}],
        }))
        .await;
    let answer = server.client.execute(&workflow, json!({})).await;
    assert_eq!(
        (&answer["status"], &answer["error"]["kind"]),
        (&json!("failed"), &json!("connection")),
        "{answer}"
    );
    assert_eq!(answer["error"]["details"]["code"], "circuit_open", "{answer}");
    assert_eq!(calls.load(Ordering::SeqCst), 2);
    let metrics = server.client.http.get(format!("{}/metrics", server.client.url)).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for line in [
        "everline_circuit_opened_total 1",
        "everline_circuit_closed_total 0",
        "everline_circuit_refused_calls_total 3",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in:\n{metrics}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_execution_can_be_cancelled() {
    let server = Server::temporary().await;
    let workflow = server
        .client
        .create(&json!({
            "name": "patient",
            "nodes": [
                {"id": "start", "type": "start"},
                {"id": "rest", "type": "delay", "config": {"duration_ms": 3_600_000}},
                {"id": "end", "type": "end"},
            ],
            "edges": [{"source": "start", "target": "rest"}, {"source": "rest", "target": "end"}],
        }))
        .await;
    let execution = server.client.start(&workflow, json!({})).await;
    let cancelled =
        server.client.post(&format!("/executions/{execution}/cancel"), &json!({"reason": "enough"})).await;
    assert_eq!(cancelled.status, StatusCode::ACCEPTED, "{}", cancelled.body);
    assert_eq!(server.client.ended(&execution).await["status"], "cancelled");
    let late = server.client.post(&format!("/executions/{execution}/signals/go"), &json!(null)).await;
    assert_eq!(late.status, StatusCode::CONFLICT, "{}", late.body);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_under_way_goes_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::in_directory(directory.path()).await;
    let workflow = server.client.create(&crate::harness::ticking(40)).await;
    let execution = server.client.start(&workflow, json!({})).await;
    server.stop().await;

    let server = Server::in_directory(directory.path()).await;
    assert!(!server.embedded.admin.created);
    let ended = server.client.ended(&execution).await;
    assert_eq!((&ended["status"], &ended["output"]), (&json!("completed"), &json!("done")), "{ended}");
    server.stop().await;
}
