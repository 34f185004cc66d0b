//! `kill -9` at random, while executions with worker nodes run.
//!
//! Short by default; `EVERLINE_KILLS=50 EVERLINE_KILL_EXECUTIONS=500` is the full form.

use domain::event::{Event, ExecutionEvent};
use event_store::LogReader;
use event_store::sqlite::{SqliteLog, SqliteOptions};
use projection_service::{ProjectionConfig, rebuild};
use read_models::{ReadModels, Table};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use testkit::{EverlineProcess, HttpTarget};
use tokio::sync::RwLock;

const PATIENCE: Duration = Duration::from_secs(300);
/// Executions that are started at the same time.
const CLIENTS: usize = 8;

fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The address and key of whichever process runs now.
#[derive(Clone)]
struct Server {
    url: String,
    key: String,
}

type Current = Arc<RwLock<Server>>;

/// Sends until there is an answer that is not an outage. What was sent stays the same, key included.
async fn insist(
    http: &reqwest::Client,
    current: &Current,
    build: impl Fn(&reqwest::Client, &Server) -> reqwest::RequestBuilder,
) -> (u16, Value) {
    let begun = Instant::now();
    loop {
        let server = current.read().await.clone();
        if let Ok(response) = build(http, &server).bearer_auth(&server.key).send().await {
            let status = response.status().as_u16();
            if status < 500
                && let Ok(body) = response.json().await
            {
                return (status, body);
            }
        }
        assert!(begun.elapsed() < PATIENCE, "no answer in time");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Three calls in a row, tried again if the connection is cut, and a transform at the end.
fn workflow(target: &str) -> Value {
    let call = |id: &str| {
        json!({"id": id, "type": "http_request", "config": {"method": "POST", "url": format!("{target}/{id}"), "body": "{{ input }}"},
            "retry": {"max_attempts": 5, "initial_interval_ms": 20}})
    };
    json!({"name": "crash", "nodes": [
        {"id": "start", "type": "start"}, call("a"), call("b"), call("c"),
        {"id": "pause", "type": "delay", "config": {"duration_ms": 50}},
        {"id": "end", "type": "end", "config": {"output": {"n": "{{ input.n }}", "ok": "{{ nodes.c.output.body.ok }}"}}},
    ], "edges": [
        {"source": "start", "target": "a"}, {"source": "a", "target": "b"}, {"source": "b", "target": "pause"},
        {"source": "pause", "target": "c"}, {"source": "c", "target": "end"},
    ]})
}

/// A small generator (xorshift64*), so that a failing run can be repeated from its printed seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % limit
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_random_nothing_acknowledged_is_lost_and_nothing_happens_twice() {
    let kills = setting("EVERLINE_KILLS", 5);
    let executions = setting("EVERLINE_KILL_EXECUTIONS", 80);
    let seed = setting("EVERLINE_KILL_SEED", std::process::id() as usize) as u64 | 1;
    println!("{kills} kills, {executions} executions, EVERLINE_KILL_SEED={seed}");
    crate::harness::install_tls();
    let program = Path::new(env!("CARGO_BIN_EXE_everline"));
    let folder = tempfile::tempdir().expect("a folder");
    let target = HttpTarget::start().await.expect("a target");
    let first = EverlineProcess::start(program, folder.path()).await.expect("a start");
    let current = Arc::new(RwLock::new(Server { url: first.url.clone(), key: first.key.clone() }));
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .no_proxy()
        .tls_certs_only([])
        .build()
        .expect("a client");

    let document = workflow(&target.url);
    let (status, created) = insist(&http, &current, |http, server| {
        http.post(format!("{}/api/v1/workflows", server.url))
            .header("idempotency-key", "workflow")
            .json(&document)
    })
    .await;
    assert_eq!(status, 201, "{created}");
    let workflow_id = created["id"].as_str().expect("an id").to_owned();

    let accepted = Arc::new(AtomicUsize::new(0));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            let (http, current, workflow_id, accepted) =
                (http.clone(), current.clone(), workflow_id.clone(), accepted.clone());
            tokio::spawn(async move {
                let mut acknowledged = HashMap::new();
                for number in (client..executions).step_by(CLIENTS) {
                    let (status, answer) = insist(&http, &current, |http, server| {
                        http.post(format!("{}/api/v1/workflows/{workflow_id}/execute", server.url))
                            .header("idempotency-key", format!("execution-{number}"))
                            .json(&json!({"input": {"n": number}}))
                    })
                    .await;
                    assert_eq!(status, 202, "{answer}");
                    acknowledged.insert(number, answer["execution_id"].as_str().expect("an id").to_owned());
                    accepted.fetch_add(1, Ordering::Relaxed);
                }
                acknowledged
            })
        })
        .collect();

    let mut process = first;
    let mut chance = Chance(seed);
    for kill in 0..kills {
        // Spread over the whole run: the next kill comes when its share of executions is accepted, or a little later.
        let share = executions * kill / kills;
        while accepted.load(Ordering::Relaxed) < share {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        tokio::time::sleep(Duration::from_millis(chance.below(150))).await;
        process.kill().await.expect("killed");
        process = EverlineProcess::start(program, folder.path()).await.expect("a start after a kill");
        *current.write().await = Server { url: process.url.clone(), key: process.key.clone() };
    }

    let mut acknowledged = HashMap::new();
    for client in clients {
        acknowledged.extend(client.await.expect("a client that ends"));
    }
    for (number, id) in &acknowledged {
        wait_until_completed(&http, &current, *number, id).await;
        // The same key once more: the same answer, from whichever process.
        let (status, again) = insist(&http, &current, |http, server| {
            http.post(format!("{}/api/v1/workflows/{workflow_id}/execute", server.url))
                .header("idempotency-key", format!("execution-{number}"))
                .json(&json!({"input": {"n": number}}))
        })
        .await;
        assert_eq!((status, again["execution_id"].as_str()), (202, Some(id.as_str())));
    }
    process.stop().await.expect("a graceful end");
    check_what_is_left(folder.path(), &acknowledged).await;
    println!("{} calls reached the target for {} planned", target.calls(), executions * 3);
}

async fn wait_until_completed(http: &reqwest::Client, current: &Current, number: usize, id: &str) {
    let begun = Instant::now();
    loop {
        let (status, view) =
            insist(http, current, |http, server| http.get(format!("{}/api/v1/executions/{id}", server.url)))
                .await;
        assert_eq!(status, 200, "{view}");
        if view["status"] == "completed" {
            assert_eq!(view["output"], json!({"n": number, "ok": true}));
            return;
        }
        assert!(["running", "waiting"].contains(&view["status"].as_str().unwrap_or("")), "{view}");
        assert!(begun.elapsed() < PATIENCE, "execution {id} does not end: {view}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn check_what_is_left(folder: &Path, acknowledged: &HashMap<usize, String>) {
    let log = SqliteLog::open(&folder.join("log.db"), SqliteOptions::default()).await.expect("the log");
    let audit = testkit::audit(&log).await.expect("a sound log");
    assert_eq!(audit.executions.len(), acknowledged.len(), "every key has one execution");
    for id in acknowledged.values() {
        let seen = &audit.executions[&id.parse::<uuid::Uuid>().expect("an id")];
        assert_eq!(seen.ended_by.as_deref(), Some("execution.completed"));
        assert_eq!(seen.completed.len(), 4);
    }
    assert_eq!(starts(&log).await, acknowledged.len());

    let models = ReadModels::open(folder.join("read-models.db")).await.expect("the read models");
    let mut live = Vec::new();
    for table in Table::ALL {
        live.push(models.dump_rows(table).await.expect("rows"));
    }
    rebuild(&log, &models, &ProjectionConfig::default()).await.expect("a rebuild");
    for (table, live) in Table::ALL.into_iter().zip(live) {
        let rebuilt = models.dump_rows(table).await.expect("rows");
        assert_eq!(live.len(), rebuilt.len(), "{table:?}");
        for (live, rebuilt) in live.iter().zip(&rebuilt) {
            assert_eq!(live, rebuilt, "{table:?}");
        }
    }
}

/// Executions that were started, over the whole log.
async fn starts(log: &SqliteLog) -> usize {
    let mut count = 0;
    for head in log.heads().await.expect("heads") {
        for event in log.read_partition(head.partition, 0, usize::MAX >> 1).await.expect("events") {
            count += usize::from(matches!(event.decode(), Ok(Event::Execution(ExecutionEvent::Started(_)))));
        }
    }
    count
}
