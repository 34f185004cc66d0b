//! Large values beside the log's database, as users meet them: runs with megabytes of input, on a folder and on a bucket,
//! through a crash and an outage, and `doctor` and `log copy` over them.

use axum::Router;
use axum::body::Bytes;
use axum::routing::post;
use event_store::LogReader;
use event_store::sqlite::{SqliteLog, SqliteOptions};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use test_services::{S3Fault, S3Server};
use testkit::{Cluster, ClusterOptions, EverlineProcess};

use crate::command_line::{everline, output, text};
use crate::harness::{Client, Target, eventually, install_tls};

const MEGABYTES: usize = 5 * 1024 * 1024;
/// A body of them is larger than the gateway takes by default.
const ROOM: (&str, &str) = ("EVERLINE_GATEWAY__MAX_BODY_BYTES", "8388608");

async fn start(directory: &Path, variables: &[(&str, &str)]) -> (EverlineProcess, Client) {
    install_tls();
    let program = Path::new(env!("CARGO_BIN_EXE_everline"));
    let process = EverlineProcess::spawn(program, &["dev"], variables, directory).await.unwrap();
    let client = Client::new(&process.url, &process.key);
    (process, client)
}

/// Starts with its values in a bucket, whose key is in a file.
async fn start_on(server: &S3Server, directory: &Path) -> (EverlineProcess, Client) {
    let key = directory.join("key");
    std::fs::write(&key, S3Server::SECRET_ACCESS_KEY).unwrap();
    let variables = [
        ("EVERLINE_BLOB_URL", "s3://values/everline"),
        ("EVERLINE_BLOBS__ENDPOINT", server.url()),
        ("EVERLINE_BLOBS__ALLOW_HTTP", "true"),
        ("EVERLINE_BLOBS__REGION", S3Server::REGION),
        ("EVERLINE_BLOBS__ACCESS_KEY_ID", S3Server::ACCESS_KEY_ID),
        ("EVERLINE_BLOBS__SECRET_ACCESS_KEY_FILE", key.to_str().unwrap()),
        ROOM,
    ];
    start(directory, &variables).await
}

/// Answers how long the body of a request is.
async fn counting() -> Target {
    let count = |body: Bytes| async move { axum::Json(json!({"bytes": body.len()})) };
    let router = Router::new().route("/", post(count));
    Target::serve(router.layer(axum::extract::DefaultBodyLimit::disable())).await
}

/// Hands its input through the engine, to a worker, and back to the caller.
fn carrying(url: &str) -> Value {
    json!({
        "name": "carrying",
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "wrap", "type": "transform", "config": {"output": {"inner": "{{ input.text }}", "n": "{{ input.n + 1 }}"}}},
            {"id": "call", "type": "http_request",
             "config": {"method": "POST", "url": url, "body": "{{ nodes.wrap.output }}"}, "timeout_ms": 20_000},
            {"id": "end", "type": "end",
             "config": {"output": {"text": "{{ nodes.wrap.output.inner }}", "seen": "{{ nodes.call.output.body.bytes }}"}}},
        ],
        "edges": [
            {"source": "start", "target": "wrap"},
            {"source": "wrap", "target": "call"},
            {"source": "call", "target": "end"},
        ],
    })
}

fn input(seed: char) -> Value {
    json!({"text": seed.to_string().repeat(MEGABYTES / seed.len_utf8() + 1), "n": 1})
}

/// Runs the workflow and checks everything that can be read of it.
async fn run_and_read(client: &Client, workflow: &str, input: &Value) -> String {
    let body = json!({"input": input, "wait_ms": 25_000});
    let answer = client.post(&format!("/workflows/{workflow}/execute"), &body).await;
    assert_eq!(
        (answer.status, &answer.body["status"]),
        (StatusCode::OK, &json!("completed")),
        "{:.500}",
        answer.body
    );
    let id = answer.body["execution_id"].as_str().unwrap().to_owned();
    assert!(answer.body["output"]["text"] == input["text"], "the answer has the value itself");
    assert!(answer.body["output"]["seen"].as_u64().unwrap() as usize > MEGABYTES, "the worker had it too");
    read(client, &id, input).await;
    id
}

/// Reads a run that is over.
async fn read(client: &Client, id: &str, input: &Value) {
    let execution = client.get(&format!("/executions/{id}")).await;
    assert_eq!(execution.status, StatusCode::OK);
    assert!(execution.body["output"]["text"] == input["text"], "{:.500}", execution.body);
    let events = client.events(id).await;
    let reference = &events[0]["data"]["input"]["$blob"];
    assert_eq!(reference["sha256"], json!(hash(input.to_string().as_bytes())), "{:.500}", events[0]);
    assert!(events.iter().all(|event| event.to_string().len() < 64 * 1024), "no event carries the value");
}

fn hash(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Every file of a folder of values; its name is the hash of its content.
fn values(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for shard in std::fs::read_dir(folder.join("default")).unwrap() {
        for file in std::fs::read_dir(shard.unwrap().path()).unwrap() {
            let path = file.unwrap().path();
            assert_eq!(path.file_name().unwrap().to_str().unwrap(), hash(&std::fs::read(&path).unwrap()));
            found.push(path);
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_with_megabytes_of_input_is_read_as_if_they_were_in_the_log_also_after_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("values");
    let url = format!("file://{}", folder.display());
    let variables = [("EVERLINE_BLOB_URL", url.as_str()), ROOM];
    let target = counting().await;
    let (process, client) = start(directory.path(), &variables).await;
    let workflow = client.create(&carrying(&target.url)).await;
    let (first, second) = (input('ü'), input('x'));
    let id = run_and_read(&client, &workflow, &first).await;
    let stored = values(&folder);
    assert!(stored.len() >= 3, "{stored:?}");

    process.kill().await.unwrap();
    let (process, client) = start(directory.path(), &variables).await;
    read(&client, &id, &first).await;
    run_and_read(&client, &workflow, &second).await;
    drop(client);
    process.stop().await.unwrap();

    // None of it is in the database.
    let size = std::fs::metadata(directory.path().join("log.db")).unwrap().len();
    assert!(size < MEGABYTES as u64 / 2, "the log has {size} bytes");

    // Another directory, whose values are in its database, has all of them, and so has the way back.
    let (copy, back) = (directory.path().join("copy"), directory.path().join("back"));
    let to = format!("sqlite://{}/log.db", copy.display());
    let arguments =
        ["log", "copy", "--to", &to, "--blobs-to", "database", "--with-verifiers", "--data-dir", "."];
    done(directory.path(), &arguments, &variables[..1]).await;
    let log = SqliteLog::open(&copy.join("log.db"), SqliteOptions::default()).await.unwrap();
    let tenant = domain::ids::TenantId::default_tenant();
    for path in values(&folder) {
        let sha256 = path.file_name().unwrap().to_str().unwrap().to_owned();
        let reference = domain::blob::BlobRef { sha256, bytes: 0, media_type: String::new() };
        let found = log.read_blob(&tenant, &reference).await.unwrap();
        assert!(found.is_some_and(|content| content == std::fs::read(&path).unwrap()));
    }
    log.close().await;
    drop(log);
    let (to, blobs) =
        (format!("sqlite://{}/log.db", back.display()), format!("file://{}/values", back.display()));
    let arguments =
        ["log", "copy", "--to", &to, "--blobs-to", &blobs, "--with-verifiers", "--data-dir", "copy"];
    done(directory.path(), &arguments, &[]).await;
    assert_eq!(values(&back.join("values")).len(), values(&folder).len());
    std::fs::copy(directory.path().join("admin.key"), back.join("admin.key")).unwrap();
    let (process, client) = start(&back, &[("EVERLINE_BLOB_URL", &blobs)]).await;
    read(&client, &id, &first).await;
    drop(client);
    process.stop().await.unwrap();
}

/// What a command that must succeed says.
async fn done(directory: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let mut command = everline(directory, arguments);
    command.envs(variables.iter().copied());
    let done = output(command).await;
    assert_eq!(done.status.code(), Some(0), "{arguments:?}: {}", text(&done.stderr));
    text(&done.stdout)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_processes_of_a_cluster_share_a_folder() {
    install_tls();
    let directory = tempfile::tempdir().unwrap();
    let folder = directory.path().join("values");
    let url = format!("file://{}", folder.display());
    let environment = vec![
        ("EVERLINE_BLOB_URL", url),
        ("EVERLINE_EGRESS__ALLOW_PRIVATE", "true".to_owned()),
        (ROOM.0, ROOM.1.to_owned()),
    ];
    let program = Path::new(env!("CARGO_BIN_EXE_everline"));
    let options = ClusterOptions { environment, ..ClusterOptions::default() };
    let mut cluster = Cluster::start(program, options).await.unwrap();
    let client = Client::new(&cluster.url(), cluster.key());
    let target = counting().await;
    let workflow = client.create(&carrying(&target.url)).await;
    run_and_read(&client, &workflow, &input('c')).await;
    assert!(values(&folder).len() >= 3);
    let count = cluster.sql("select count(*) from everline_log.blobs").await.unwrap();
    assert_eq!(count.trim(), "0", "the database has none");
    drop(client);
    cluster.ensure_all_alive().await.unwrap();
    cluster.stop_all().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_bucket_costs_a_repetition_and_loses_nothing() {
    let server = S3Server::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let target = counting().await;
    let (process, client) = start_on(&server, directory.path()).await;
    let workflow = client.create(&carrying(&target.url)).await;

    // Longer than the repetitions of one request: the caller is told, and nothing has begun.
    let path = format!("/workflows/{workflow}/execute");
    (0..4).for_each(|_| server.fail_next("PUT", S3Fault::Status(503)));
    let refused = client.post(&path, &json!({"input": input('x')})).await;
    assert_eq!(
        (refused.status, &refused.body["code"]),
        (StatusCode::SERVICE_UNAVAILABLE, &json!("store_unavailable"))
    );
    assert_eq!(client.get("/executions").await.body["items"], json!([]));

    // The input is stored, and what the engine makes of it is not: nothing is written, the same request does it later.
    server.fail_next("PUT", S3Fault::None);
    (0..40).for_each(|_| server.fail_next("PUT", S3Fault::Status(503)));
    let send = || {
        let body = json!({"input": input('x'), "wait_ms": 25_000});
        client.send(client.request(Method::POST, &path).header("idempotency-key", "once").json(&body))
    };
    let undecided = send().await;
    assert_eq!(undecided.body["code"], "command_undecided", "{:.500}", undecided.body);
    assert_eq!(client.get("/executions").await.body["items"], json!([]));
    server.heal();
    let answer = eventually("an answer after the outage", || async {
        let answer = send().await;
        let again = matches!(answer.body["code"].as_str(), Some("store_unavailable" | "command_undecided"));
        assert!(again || answer.status == StatusCode::OK, "{:.500}", answer.body);
        (!again).then_some(answer)
    })
    .await;
    assert_eq!(answer.body["status"], "completed", "{:.500}", answer.body);
    read(&client, answer.body["execution_id"].as_str().unwrap(), &input('x')).await;
    assert_eq!(
        client.get("/executions").await.body["items"].as_array().unwrap().len(),
        1,
        "one execution only"
    );
    assert!(server.keys().iter().all(|key| key.starts_with("everline/default/")), "{:?}", server.keys());

    // What is not what was stored is no data.
    for key in server.keys() {
        server.replace(&key, "{}");
    }
    let id = answer.body["execution_id"].as_str().unwrap();
    let damaged = client.get(&format!("/executions/{id}")).await;
    assert_eq!(damaged.status, StatusCode::SERVICE_UNAVAILABLE, "{:.500}", damaged.body);
    drop(client);
    process.stop().await.unwrap();
    let log = std::fs::read_to_string(directory.path().join("process.log")).unwrap();
    assert!(log.contains("is damaged: s3://values/everline"), "the log says which");
    assert!(!log.contains(S3Server::SECRET_ACCESS_KEY));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_killed_between_a_value_and_its_append_has_written_nothing_that_is_in_the_way() {
    let server = S3Server::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let target = counting().await;
    let (process, client) = start_on(&server, directory.path()).await;
    let workflow = client.create(&carrying(&target.url)).await;
    let send = |client: &Client| {
        let path = format!("/workflows/{workflow}/execute");
        let body = json!({"input": input('k'), "wait_ms": 25_000});
        client.request(Method::POST, &path).header("idempotency-key", "killed").json(&body)
    };
    server.fail_next("PUT", S3Fault::None);
    (0..20).for_each(|_| server.fail_next("PUT", S3Fault::DoneInSilence));
    let asked = tokio::spawn(send(&client).send());
    eventually("a value of the engine", || async { (server.keys().len() > 1).then_some(()) }).await;
    process.kill().await.unwrap();
    assert!(asked.await.unwrap().is_err(), "nothing was acknowledged");
    server.heal();

    let left = server.keys();
    let (process, client) = start_on(&server, directory.path()).await;
    assert_eq!(client.get("/executions").await.body["items"], json!([]));
    let answer = client.send(send(&client)).await;
    assert_eq!(
        (answer.status, &answer.body["status"]),
        (StatusCode::OK, &json!("completed")),
        "{:.500}",
        answer.body
    );
    read(&client, answer.body["execution_id"].as_str().unwrap(), &input('k')).await;
    assert!(
        left.iter().all(|key| server.keys().contains(key)),
        "values are found by their hash: the same again"
    );
    drop(client);
    process.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_timer_that_fires_while_the_bucket_is_away_is_carried_out_later() {
    let server = S3Server::start().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (process, client) = start_on(&server, directory.path()).await;
    let definition = json!({
        "name": "waiting",
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "wait", "type": "delay", "config": {"duration_ms": 300}},
            {"id": "double", "type": "transform", "config": {"output": "{{ input.text + input.text }}"}},
            {"id": "end", "type": "end", "config": {"output": "{{ nodes.double.output }}"}},
        ],
        "edges": [
            {"source": "start", "target": "wait"},
            {"source": "wait", "target": "double"},
            {"source": "double", "target": "end"},
        ],
    });
    let workflow = client.create(&definition).await;
    let value = "y".repeat(100_000);
    let id = client.start(&workflow, json!({"text": value})).await;
    let begun = server.requests().len();
    (0..200).for_each(|_| server.fail_next("PUT", S3Fault::Status(503)));
    // One append has been given up, and another is tried.
    eventually("a second try", || async {
        let tries = server.requests()[begun..].iter().filter(|request| request.starts_with("PUT")).count();
        (tries > 4).then_some(())
    })
    .await;
    let events = client.events(&id).await;
    assert!(events.iter().all(|event| event["data"]["node_id"] != "double"), "{events:?}");
    server.heal();
    let ended = client.ended(&id).await;
    assert_eq!((&ended["status"], &ended["output"]), (&json!("completed"), &json!(value.repeat(2))));
    drop(client);
    process.stop().await.unwrap();
}

#[tokio::test]
async fn the_doctor_tries_the_place_of_large_values() {
    let directory = tempfile::tempdir().unwrap();
    let server = S3Server::start().await.unwrap();
    let finding = async |variables: &[(&str, &str)]| {
        let mut command = everline(directory.path(), &["doctor", "--output", "json"]);
        command.envs(variables.iter().copied());
        let said = output(command).await;
        let lines: Vec<Value> =
            text(&said.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let found = lines.into_iter().find(|line| line["check"] == "blobs");
        let found = found.unwrap_or_else(|| panic!("{}{}", text(&said.stdout), text(&said.stderr)));
        (found["state"].as_str().unwrap().to_owned(), found["detail"].as_str().unwrap().to_owned())
    };
    let (state, detail) = finding(&[]).await;
    assert!(state == "ok" && detail.contains("in the log's database"), "{detail}");
    let mut variables = vec![
        ("EVERLINE_BLOB_URL", "s3://values"),
        ("EVERLINE_BLOBS__ENDPOINT", server.url()),
        ("EVERLINE_BLOBS__ALLOW_HTTP", "true"),
        ("EVERLINE_BLOBS__REGION", S3Server::REGION),
        ("EVERLINE_BLOBS__ACCESS_KEY_ID", S3Server::ACCESS_KEY_ID),
        ("EVERLINE_BLOBS__SECRET_ACCESS_KEY", S3Server::SECRET_ACCESS_KEY),
    ];
    let (state, detail) = finding(&variables).await;
    assert!(state == "ok" && detail.contains("can be written and read"), "{detail}");
    assert_eq!(server.keys(), [] as [&str; 0]);
    variables[5].1 = "hunter2";
    let (state, detail) = finding(&variables).await;
    assert!(state == "broken" && detail.contains("SignatureDoesNotMatch"), "{detail}");
    assert!(!detail.contains("hunter2"), "{detail}");
}
