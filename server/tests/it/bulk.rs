//! Bulk jobs over everything that is wired: what they find, do, refuse, and survive.

use reqwest::StatusCode;
use serde_json::{Value, json};
use std::path::Path;
use testkit::EverlineProcess;

use crate::harness::{Client, Server, eventually, install_tls, types};

/// A workflow that waits for an hour.
fn waiting(name: &str) -> Value {
    json!({
        "name": name,
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "pause", "type": "delay", "config": {"duration_ms": 3_600_000}},
            {"id": "end", "type": "end"},
        ],
        "edges": [{"source": "start", "target": "pause"}, {"source": "pause", "target": "end"}],
    })
}

async fn start_all(client: &Client, workflow: &str, count: usize) -> Vec<String> {
    let mut started = Vec::new();
    for n in 0..count {
        started.push(client.start(workflow, json!({"n": n})).await);
    }
    started
}

/// Starts a job; its id.
async fn job(client: &Client, body: &Value) -> String {
    let answer = client.post("/executions/bulk", body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
    let id = answer.body["id"].as_str().expect("an id").to_owned();
    assert_eq!(answer.headers["location"].to_str().unwrap(), format!("/api/v1/executions/bulk/{id}"));
    id
}

/// Waits until a job has ended.
async fn ended(client: &Client, job: &str) -> Value {
    eventually("the end of the job", || async {
        let answer = client.get(&format!("/executions/bulk/{job}")).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        (answer.body["status"] != "running").then_some(answer.body)
    })
    .await
}

async fn statuses(client: &Client, executions: &[String]) -> Vec<String> {
    let mut found = Vec::new();
    for id in executions {
        found.push(client.get(&format!("/executions/{id}")).await.body["status"].as_str().unwrap().to_owned());
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_acts_on_all_that_its_filter_finds_and_on_nothing_else() {
    let server = Server::temporary().await;
    let client = &server.client;
    let (chosen, other) = (client.create(&waiting("chosen")).await, client.create(&waiting("other")).await);
    let mine = start_all(client, &chosen, 130).await;
    let spared = start_all(client, &other, 3).await;
    let body = |action: &str, dry_run: bool| {
        json!({"action": action, "filter": {"workflow_id": chosen, "status": "waiting,running,paused"},
            "reason": "a wrong price list", "per_second": 1000, "dry_run": dry_run})
    };
    let dry = client.post("/executions/bulk", &body("cancel", true)).await;
    assert_eq!(dry.status, StatusCode::OK, "{}", dry.body);
    assert_eq!((&dry.body["found"], &dry.body["found_at_least"]), (&json!(130), &json!(false)));
    assert_eq!(dry.body["sample"].as_array().map(Vec::len), Some(20));

    let paused = ended(client, &job(client, &body("pause", false)).await).await;
    assert_eq!((&paused["status"], &paused["done"], &paused["failed"]), (&json!("completed"), &json!(130), &json!(0)));
    let again = ended(client, &job(client, &body("cancel", false)).await).await;
    assert_eq!((&again["found"], &again["done"]), (&json!(130), &json!(130)), "{again}");
    assert!(statuses(client, &mine).await.iter().all(|status| status == "cancelled"));
    assert!(statuses(client, &spared).await.iter().all(|status| status == "waiting"));
    // Each act is recorded as its asker's, with the reason.
    let events = client.events(&mine[0]).await;
    let cancelled = events.iter().find(|event| event["type"] == "execution.cancelled").expect("cancelled");
    assert!(cancelled["actor"].as_str().unwrap().starts_with("key:"), "{cancelled}");
    assert_eq!(cancelled["data"]["reason"], "a wrong price list");

    // What refuses is told of.
    let finished = json!({"action": "cancel", "filter": {"workflow_id": chosen}, "reason": "again", "per_second": 1000});
    let refused = ended(client, &job(client, &finished).await).await;
    assert_eq!((&refused["done"], &refused["failed"]), (&json!(0), &json!(130)));
    assert_eq!(refused["failures"][0]["code"], "execution_finished");
    let list = client.get("/executions/bulk?status=completed&limit=2").await;
    assert_eq!(list.body["items"].as_array().map(Vec::len), Some(2));
    assert!(list.headers.contains_key("link"));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_starts_executions_again_once_each_and_can_be_stopped() {
    let server = Server::temporary().await;
    let client = &server.client;
    let workflow = client.create(&waiting("again")).await;
    start_all(client, &workflow, 12).await;
    let body = |per_second: u32| {
        json!({"action": "start", "filter": {"workflow_id": workflow}, "reason": "once more", "per_second": per_second})
    };
    assert_eq!(ended(client, &job(client, &body(1000)).await).await["done"], 12);
    let all = client.get(&format!("/executions?workflow_id={workflow}&limit=200")).await.body;
    assert_eq!(all["items"].as_array().map(Vec::len), Some(24), "what it started is not started again");

    let slow = job(client, &body(1)).await;
    let stop = client.post(&format!("/executions/bulk/{slow}/cancel"), &json!({"reason": "enough"})).await;
    assert_eq!((stop.status, &stop.body["status"]), (StatusCode::ACCEPTED, &json!("cancelled")), "{}", stop.body);
    let stopped = ended(client, &slow).await;
    assert_eq!(stopped["status"], "cancelled");
    assert!(stopped["done"].as_u64().unwrap() < 24, "{stopped}");
    let missing = client.get("/executions/bulk/0190b2c4-7d5e-7abc-8def-0123456789ab").await;
    assert_eq!((missing.status, &missing.body["code"]), (StatusCode::NOT_FOUND, &json!("bulk_not_found")));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_gateway_is_killed_goes_on_and_acts_once_on_each() {
    install_tls();
    let program = Path::new(env!("CARGO_BIN_EXE_everline"));
    let folder = tempfile::tempdir().expect("a folder");
    let settings = [("EVERLINE_GATEWAY__BULK_LEASE_MS", "1000")];
    let process = EverlineProcess::spawn(program, &["dev"], &settings, folder.path()).await.expect("a start");
    let client = Client::new(&process.url, &process.key);
    let workflow = client.create(&waiting("killed")).await;
    let started = start_all(&client, &workflow, 60).await;
    let signal = json!({"action": "signal", "signal": "go", "payload": {"n": 1}, "reason": "a kill",
        "filter": {"workflow_id": workflow}, "per_second": 40});
    let id = job(&client, &signal).await;
    eventually("the first signals", || async {
        let newest = client.events(started.last().expect("one")).await;
        types(&newest).contains(&"execution.signal.received").then_some(())
    })
    .await;
    process.kill().await.expect("killed");

    let process = EverlineProcess::spawn(program, &["dev"], &settings, folder.path()).await.expect("a start");
    let client = Client::new(&process.url, &process.key);
    let done = ended(&client, &id).await;
    assert_eq!((&done["status"], &done["failed"]), (&json!("completed"), &json!(0)), "{done}");
    for execution in &started {
        let events = client.events(execution).await;
        let signals = types(&events).iter().filter(|kind| **kind == "execution.signal.received").count();
        assert_eq!(signals, 1, "{execution}");
    }
    drop(client);
    process.stop().await.expect("a graceful end");
}
