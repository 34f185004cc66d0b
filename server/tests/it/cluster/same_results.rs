//! The same workflows do the same embedded and on a cluster.

use reqwest::StatusCode;
use serde_json::{Value, json};
use std::path::Path;
use testkit::{Cluster, ClusterOptions, EverlineProcess, HttpTarget};

use crate::harness::{Client, eventually, install_tls, types};

/// What can be said of an execution wherever it ran.
#[derive(Debug, PartialEq)]
struct Told {
    name: String,
    status: Value,
    output: Value,
    error: Value,
    nodes: Vec<Value>,
    events: Vec<String>,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workflows_end_alike_with_the_same_events_embedded_and_on_a_cluster() {
    install_tls();
    let program = Path::new(env!("CARGO_BIN_EXE_everline"));
    let target = HttpTarget::start().await.unwrap();
    let mut cases = examples();
    cases.extend(everything(&target.url));

    let folder = tempfile::tempdir().unwrap();
    let embedded = EverlineProcess::start(program, folder.path()).await.unwrap();
    let on_one = tell_all(&Client::new(&embedded.url, &embedded.key), &cases).await;
    embedded.stop().await.unwrap();

    let mut cluster = Cluster::start(program, ClusterOptions::default()).await.unwrap();
    let on_five = tell_all(&Client::new(&cluster.url(), cluster.key()), &cases).await;
    for (one, five) in on_one.iter().zip(&on_five) {
        assert_eq!(one, five);
    }
    let statuses: Vec<_> = on_five.iter().map(|told| (&*told.name, told.status.as_str().unwrap())).collect();
    println!("{statuses:?}");
    cluster.ensure_all_alive().await.unwrap();
    cluster.stop_all().await.unwrap();
}

/// Every example with its input.
fn examples() -> Vec<(Value, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let read = |path: &Path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut examples: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    examples.sort();
    examples.retain(|example| example.join("workflow.json").exists());
    assert!(examples.len() >= 3);
    let case = |example: &std::path::PathBuf| {
        (read(&example.join("workflow.json")), read(&crate::examples::input_of(example)))
    };
    examples.iter().map(case).collect()
}

/// Conditions, a delay, a signal, branches side by side, failures of every handling, and large values.
fn everything(target: &str) -> Vec<(Value, Value)> {
    let nodes = json!([
        {"id": "start", "type": "start"},
        {"id": "large", "type": "condition", "config": {"expression": "size(input.text) > 65536"}},
        {"id": "left", "type": "transform", "config": {"output": {"text": "{{ input.text }}"}}},
        {"id": "right", "type": "transform", "config": {"output": "{{ size(input.text) }}"}},
        {"id": "rest", "type": "delay", "config": {"duration_ms": 1000}},
        {"id": "call", "type": "http_request", "config": {"method": "POST", "url": target, "body": "{{ input }}"}},
        {"id": "refused", "type": "http_request", "on_error": "continue",
         "config": {"method": "GET", "url": "http://127.0.0.1:1/"}},
        {"id": "again", "type": "http_request", "on_error": "route",
         "config": {"method": "GET", "url": "http://127.0.0.1:1/"},
         "retry": {"max_attempts": 3, "initial_interval_ms": 10, "jitter": false}},
        {"id": "small", "type": "end", "config": {"output": "small"}},
        {"id": "end", "type": "end", "config": {"output": {
            "left": "{{ nodes.left.output.text }}", "right": "{{ nodes.right.output }}",
            "ok": "{{ nodes.call.output.body.ok }}", "refused": "{{ nodes.refused.output.error.kind }}",
            "again": "{{ nodes.again.output.error.kind }}"}}},
    ]);
    let edges = json!([
        {"source": "start", "target": "large"},
        {"source": "large", "source_handle": "false", "target": "small"},
        {"source": "large", "source_handle": "true", "target": "left"},
        {"source": "large", "source_handle": "true", "target": "right"},
        {"source": "left", "target": "rest"}, {"source": "right", "target": "rest"},
        {"source": "rest", "target": "call"}, {"source": "call", "target": "refused"},
        {"source": "refused", "target": "again"},
        {"source": "again", "source_handle": "error", "target": "end"},
    ]);
    let all = json!({"name": "everything", "nodes": nodes, "edges": edges});
    let failing = |name: &str, node: Value| {
        json!({"name": name, "nodes": [{"id": "start", "type": "start"}, node, {"id": "end", "type": "end"}],
            "edges": [{"source": "start", "target": "fails"}, {"source": "fails", "target": "end"}]})
    };
    let worker = json!({"id": "fails", "type": "http_request", "config": {"method": "GET", "url": "http://127.0.0.1:1/"},
        "retry": {"max_attempts": 2, "initial_interval_ms": 10, "jitter": false}});
    let engine =
        json!({"id": "fails", "type": "transform", "config": {"output": "{{ input.n / input.zero }}"}});
    vec![
        (all.clone(), json!({"text": "x".repeat(100_000)})),
        (all, json!({"text": "x"})),
        (failing("failing worker", worker), json!({})),
        (failing("failing engine", engine), json!({"n": 1, "zero": 0})),
    ]
}

async fn tell_all(client: &Client, cases: &[(Value, Value)]) -> Vec<Told> {
    let mut workflows: Vec<(String, String)> = Vec::new();
    let mut told = Vec::new();
    for (definition, input) in cases {
        let name = definition["name"].as_str().unwrap().to_owned();
        let known = workflows.iter().find(|(known, _)| *known == name).map(|(_, id)| id.clone());
        let id = match known {
            Some(id) => id,
            None => client.create(definition).await,
        };
        workflows.push((name.clone(), id.clone()));
        told.push(tell(client, name, &id, input).await);
    }
    told
}

async fn tell(client: &Client, name: String, workflow: &str, input: &Value) -> Told {
    let execution = client.start(workflow, input.clone()).await;
    if name == "everything" && input["text"] != "x" {
        // While it rests: the same place in its history everywhere.
        eventually("the delay", || async {
            let events = client.events(&execution).await;
            types(&events).contains(&"execution.timer.started").then_some(())
        })
        .await;
        let path = format!("/executions/{execution}/signals/hello");
        let answer = client.post(&path, &json!({"text": "y".repeat(70_000)})).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
    }
    let view = client.ended(&execution).await;
    let events = client.events(&execution).await;
    let events = types(&events).into_iter().map(str::to_owned).collect();
    let node = |node: &Value| json!([node["id"], node["status"], node["run"], node["attempt"]]);
    let nodes = view["nodes"].as_array().unwrap().iter().map(node).collect();
    let part = |part: &str| view[part].clone();
    Told { name, status: part("status"), output: part("output"), error: part("error"), nodes, events }
}
