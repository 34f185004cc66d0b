//! Executions to their end, repeated keys, large values.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use super::harness::{Harness, echo, text, waiting};

#[tokio::test]
async fn an_execution_is_answered_with_its_outcome() {
    let h = Harness::start().await;
    let workflow = h.create(&echo("echo")).await;
    let body = json!({"input": {"n": 1}, "wait_ms": 5_000});
    let answer = h.post(&format!("/api/v1/workflows/{workflow}/execute"), &body).await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(answer.headers().contains_key("everline-position"));
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(answer["status"], "completed");
    assert_eq!(answer["output"], json!({"got": {"n": 1}}));
    assert_eq!(answer["error"], Value::Null);
    let state = h.get_json(&format!("/api/v1/executions/{}/events", text(&answer, "execution_id"))).await;
    let items = state["items"].as_array().expect("items");
    assert_eq!(items[0]["type"], "execution.started");
    assert_eq!(items.last().expect("an event")["type"], "execution.completed");
}

#[tokio::test]
async fn a_start_that_does_not_end_in_time_is_accepted() {
    let h = Harness::start().await;
    let workflow = h.create(&waiting("slow")).await;
    let answer = h.post(&format!("/api/v1/workflows/{workflow}/execute"), &json!({"wait_ms": 50})).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let answer: Value = answer.json().await.expect("JSON");
    assert_eq!(answer["status"], "waiting");
    let id = text(&answer, "execution_id");
    let cancelled = h.post(&format!("/api/v1/executions/{id}/cancel"), &json!({"reason": "enough"})).await;
    assert_eq!(cancelled.status(), StatusCode::ACCEPTED);
    let again = h.post(&format!("/api/v1/executions/{id}/cancel"), &json!({})).await;
    assert_eq!(again.status(), StatusCode::CONFLICT);
    let signal = h.post(&format!("/api/v1/executions/{id}/signals/go"), &json!({"a": 1})).await;
    assert_eq!(signal.status(), StatusCode::CONFLICT);
}

#[tokio::test]
async fn a_repeated_key_has_one_effect_and_the_same_answer() {
    let h = Harness::start().await;
    let workflow = h.create(&echo("once")).await;
    let path = format!("/api/v1/workflows/{workflow}/execute");
    let send = |key: &'static str, body: Value| {
        let request = h.request(Method::POST, &path).header("idempotency-key", key).json(&body);
        async move { request.send().await.expect("an answer") }
    };
    let body = json!({"input": {"a": 1, "b": 2}, "wait_ms": 5_000});
    let first: Value = send("k1", body.clone()).await.json().await.expect("JSON");
    let again: Value = send("k1", body).await.json().await.expect("JSON");
    assert_eq!(first, again);
    assert_eq!(first["status"], "completed");
    let other = send("k1", json!({"input": {"a": 2}})).await;
    assert_eq!(other.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(other.json::<Value>().await.expect("JSON")["code"], "idempotency_key_reused");
    let second: Value = send("k2", json!({"input": {"a": 1}})).await.json().await.expect("JSON");
    assert_ne!(first["execution_id"], second["execution_id"]);

    let create = |key: &'static str| {
        let request =
            h.request(Method::POST, "/api/v1/workflows").header("idempotency-key", key).json(&echo("twice"));
        async move { request.send().await.expect("an answer") }
    };
    let (one, two) = (create("w").await, create("w").await);
    assert_eq!((one.status(), two.status()), (StatusCode::CREATED, StatusCode::CREATED));
    assert_eq!(one.headers()["etag"], two.headers()["etag"]);
    assert_eq!(one.json::<Value>().await.expect("JSON"), two.json::<Value>().await.expect("JSON"));
    let taken = create("w2").await;
    assert_eq!(taken.status(), StatusCode::CONFLICT, "the name is taken");
}

#[tokio::test]
async fn a_large_value_travels_by_reference_and_comes_back_whole() {
    let h = Harness::start().await;
    let mut definition = echo("large");
    definition["nodes"][1]["config"]["output"] = json!("{{ input.number }}");
    definition["nodes"][2]["config"]["output"] = json!("{{ input }}");
    let workflow = h.create(&definition).await;
    let input = json!({"number": 1, "text": "x".repeat(200_000)});
    let body = json!({"input": input, "wait_ms": 5_000});
    let answer: Value =
        h.post(&format!("/api/v1/workflows/{workflow}/execute"), &body).await.json().await.expect("JSON");
    assert_eq!(answer["output"], input);
    let events = h.get_json(&format!("/api/v1/executions/{}/events", text(&answer, "execution_id"))).await;
    assert!(events["items"][0]["data"]["input"]["$blob"]["sha256"].is_string());
}

#[tokio::test]
async fn a_reference_from_outside_is_refused() {
    let h = Harness::start().await;
    let workflow = h.create(&echo("reserved")).await;
    let forged = json!({"$blob": {"sha256": "00", "bytes": 1, "media_type": "application/json"}});
    let answer = h.post(&format!("/api/v1/workflows/{workflow}/execute"), &json!({"input": forged})).await;
    assert_eq!(answer.status(), StatusCode::UNPROCESSABLE_ENTITY);
    let problem: Value = answer.json().await.expect("JSON");
    assert_eq!(
        (&problem["code"], &problem["errors"][0]["pointer"]),
        (&json!("reserved_value"), &json!("/input"))
    );
    let nested = h.post(&format!("/api/v1/workflows/{workflow}/execute"), &json!({"input": [forged]})).await;
    assert_eq!(nested.status(), StatusCode::ACCEPTED, "inside a value it is data");
}
