//! The same `Idempotency-Key` has one effect and one answer, also after a restart.

use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::harness::{Answer, Client, Server, doubling};

async fn execute_with_key(client: &Client, workflow: &str, key: &str, body: &Value) -> Answer {
    let request = client.request(Method::POST, &format!("/workflows/{workflow}/execute"));
    client.send(request.header("idempotency-key", key).json(body)).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeated_key_gives_the_same_execution_also_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let server = Server::in_directory(directory.path()).await;
    let workflow = server.client.create(&doubling()).await;
    let body = json!({"input": {"n": 3}, "wait_ms": 20_000});
    let first = execute_with_key(&server.client, &workflow, "order-17", &body).await;
    assert_eq!(first.status, StatusCode::OK, "{}", first.body);
    let again = execute_with_key(&server.client, &workflow, "order-17", &body).await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    server.stop().await;

    let server = Server::in_directory(directory.path()).await;
    let later = execute_with_key(&server.client, &workflow, "order-17", &body).await;
    assert_eq!((later.status, &later.body), (first.status, &first.body));
    let all = server.client.get("/executions").await;
    assert_eq!(all.body["items"].as_array().unwrap().len(), 1, "{}", all.body);

    let other = execute_with_key(&server.client, &workflow, "order-17", &json!({"input": {"n": 4}})).await;
    assert_eq!(other.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", other.body);
    assert_eq!(other.body["code"], "idempotency_key_reused");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workflow_is_created_once_per_key() {
    let server = Server::temporary().await;
    let create = || {
        let request = server.client.request(Method::POST, "/workflows");
        server.client.send(request.header("idempotency-key", "deploy-1").json(&doubling()))
    };
    let (first, again) = tokio::join!(create(), create());
    assert_eq!(
        (first.status, again.status),
        (StatusCode::CREATED, StatusCode::CREATED),
        "{first:?} {again:?}"
    );
    assert_eq!(first.body["id"], again.body["id"]);
    let all = server.client.get("/workflows").await;
    assert_eq!(all.body["items"].as_array().unwrap().len(), 1, "{}", all.body);
    server.stop().await;
}
