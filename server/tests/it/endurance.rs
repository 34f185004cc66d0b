//! What tests that end processes at random share: chance, clients that do not give up, and what must be left at the end.

use domain::event::{Event, ExecutionEvent};
use event_store::LogReader;
use projection_service::{ProjectionConfig, rebuild};
use read_models::{ReadModels, Table};
use reqwest::RequestBuilder;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{RwLock, Semaphore};
use tokio::task::JoinHandle;

/// What only a defect reaches.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);
/// How long one request may take before it is sent again.
const REQUEST_TIME: Duration = Duration::from_secs(10);
/// An execution that takes longer has its history printed.
const SLOW: Duration = Duration::from_secs(10);
/// Nodes of [`workflow`] that are completed.
pub(crate) const NODES: usize = 4;

/// A number from the environment.
pub(crate) fn setting(name: &str, default: usize) -> usize {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A small generator (xorshift64*), so that a failing run can be repeated from its printed seed.
pub(crate) struct Chance(u64);

impl Chance {
    /// The seed that the variable names, or one of this process. Printed.
    pub(crate) fn from_setting(name: &str) -> Self {
        let seed = setting(name, std::process::id() as usize) as u64 | 1;
        println!("{name}={seed}");
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % limit
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.below(end as u64 + 1) as usize);
        }
    }
}

/// The address and key of whichever process serves now.
#[derive(Clone)]
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) key: String,
}

/// A client that sends until there is an answer that is not an outage.
#[derive(Clone)]
pub(crate) struct Insistent {
    http: reqwest::Client,
    current: Arc<RwLock<Server>>,
}

impl Insistent {
    pub(crate) fn new(url: &str, key: &str) -> Self {
        crate::harness::install_tls();
        let http = reqwest::Client::builder().timeout(REQUEST_TIME).no_proxy().tls_certs_only([]);
        let current = Server { url: url.to_owned(), key: key.to_owned() };
        Self { http: http.build().unwrap(), current: Arc::new(RwLock::new(current)) }
    }

    /// The server is somewhere else from now on.
    pub(crate) async fn moved(&self, url: &str, key: &str) {
        *self.current.write().await = Server { url: url.to_owned(), key: key.to_owned() };
    }

    /// Sends a request that is built anew for every attempt; what is in it stays the same, key included.
    pub(crate) async fn send(
        &self,
        build: impl Fn(&reqwest::Client, &str) -> RequestBuilder,
    ) -> (u16, Value) {
        let begun = Instant::now();
        loop {
            let server = self.current.read().await.clone();
            let api = format!("{}/api/v1", server.url);
            let outage = match build(&self.http, &api).bearer_auth(&server.key).send().await {
                Ok(response) => {
                    let status = response.status().as_u16();
                    match response.json().await {
                        Ok(body) if status < 500 => return (status, body),
                        Ok(body) => format!("{status} {body}"),
                        Err(error) => format!("{status} {error:?}"),
                    }
                }
                Err(error) => format!("{error:?}"),
            };
            assert!(begun.elapsed() < PATIENCE, "no answer in time; the last was {outage}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        self.send(|http, api| http.get(format!("{api}{path}"))).await
    }

    pub(crate) async fn post(&self, path: &str, key: &str, body: &Value) -> (u16, Value) {
        self.send(|http, api| http.post(format!("{api}{path}")).header("idempotency-key", key).json(body))
            .await
    }

    /// Creates a workflow; its id.
    pub(crate) async fn create(&self, definition: &Value) -> String {
        let name = definition["name"].as_str().unwrap();
        let (status, created) = self.post("/workflows", &format!("create-{name}"), definition).await;
        assert_eq!(status, 201, "{created}");
        created["id"].as_str().unwrap().to_owned()
    }

    /// Starts an execution of [`workflow`] under a key of its number; its id.
    pub(crate) async fn start(&self, workflow: &str, number: usize) -> String {
        let path = format!("/workflows/{workflow}/execute");
        let body = json!({"input": {"n": number}});
        let (status, answer) = self.post(&path, &format!("execution-{number}"), &body).await;
        assert_eq!(status, 202, "{answer}");
        answer["execution_id"].as_str().unwrap().to_owned()
    }

    /// Waits until an execution of [`workflow`] has completed with the output of its number. How long it took.
    pub(crate) async fn completed(&self, number: usize, id: &str) -> Duration {
        let begun = Instant::now();
        loop {
            let (status, view) = self.get(&format!("/executions/{id}")).await;
            assert_eq!(status, 200, "{view}");
            if view["status"] == "completed" {
                assert_eq!(view["output"], json!({"n": number, "ok": true}));
                return Duration::from_millis(view["duration_ms"].as_u64().expect("a duration"));
            }
            assert!(
                ["pending", "running", "waiting"].contains(&view["status"].as_str().unwrap_or("")),
                "{view}"
            );
            assert!(begun.elapsed() < PATIENCE, "execution {id} does not end: {view}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Insistent {
    /// What happened in an execution and when, for people.
    async fn history(&self, id: &str) -> String {
        let (_, page) = self.get(&format!("/executions/{id}/events?limit=200")).await;
        let line = |event: &Value| {
            let (at, data) = (event["recorded_at"].as_str().unwrap_or(""), &event["data"]);
            let kind = data["error"]["kind"].as_str().unwrap_or("");
            format!("  {at} {} {} {} {kind}", event["type"], data["node_id"], data["attempt"])
        };
        page["items"].as_array().into_iter().flatten().map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Three calls, tried again if the connection is cut, with a pause between them.
pub(crate) fn workflow(target: &str) -> Value {
    let call = |id: &str| {
        json!({"id": id, "type": "http_request", "config": {"method": "POST", "url": format!("{target}/{id}"), "body": "{{ input }}"},
            "retry": {"max_attempts": 5, "initial_interval_ms": 20}})
    };
    json!({"name": "endurance", "nodes": [
        {"id": "start", "type": "start"}, call("a"), call("b"), call("c"),
        {"id": "pause", "type": "delay", "config": {"duration_ms": 50}},
        {"id": "end", "type": "end", "config": {"output": {"n": "{{ input.n }}", "ok": "{{ nodes.c.output.body.ok }}"}}},
    ], "edges": [
        {"source": "start", "target": "a"}, {"source": "a", "target": "b"}, {"source": "b", "target": "pause"},
        {"source": "pause", "target": "c"}, {"source": "c", "target": "end"},
    ]})
}

/// Clients that start executions of [`workflow`], as many as they are allowed to.
pub(crate) struct Load {
    client: Insistent,
    workflow: String,
    allowed: Arc<Semaphore>,
    accepted: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<HashMap<usize, String>>>,
}

impl Load {
    /// Starts clients for this many executions. None begins before it is allowed.
    pub(crate) fn start(client: &Insistent, workflow: &str, executions: usize, clients: usize) -> Self {
        let (allowed, accepted) = (Arc::new(Semaphore::new(0)), Arc::new(AtomicUsize::new(0)));
        let next = Arc::new(AtomicUsize::new(0));
        let one = || {
            let (client, workflow) = (client.clone(), workflow.to_owned());
            let (allowed, accepted, next) = (allowed.clone(), accepted.clone(), next.clone());
            tokio::spawn(async move {
                let mut acknowledged = HashMap::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= executions {
                        return acknowledged;
                    }
                    allowed.acquire().await.unwrap().forget();
                    acknowledged.insert(number, client.start(&workflow, number).await);
                    accepted.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let clients = (0..clients).map(|_| one()).collect();
        Self { client: client.clone(), workflow: workflow.to_owned(), allowed, accepted, clients }
    }

    /// Allows further executions to be started.
    pub(crate) fn allow(&self, executions: usize) {
        self.allowed.add_permits(executions);
    }

    /// Executions that were accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Allows the rest, waits until every execution has completed, and sends every command once more: the answer must be
    /// the same. Execution ids by number.
    pub(crate) async fn finish(self) -> HashMap<usize, String> {
        self.allow(Semaphore::MAX_PERMITS >> 1);
        let mut acknowledged = HashMap::new();
        for client in self.clients {
            acknowledged.extend(client.await.expect("a client that ends"));
        }
        let mut longest = (Duration::ZERO, String::new());
        for (number, id) in &acknowledged {
            longest = longest.max((self.client.completed(*number, id).await, id.clone()));
            assert_eq!(self.client.start(&self.workflow, *number).await, *id, "the answer to the same key");
        }
        let (duration, id) = longest;
        println!("the longest of {} executions took {duration:?}", acknowledged.len());
        if duration > SLOW {
            println!("{}", self.client.history(&id).await);
        }
        acknowledged
    }
}

/// A sound log, in which every acknowledged execution of [`workflow`] has completed, and no other was started.
pub(crate) async fn check_log(log: &dyn LogReader, acknowledged: &HashMap<usize, String>) {
    let audit = testkit::audit(log).await.expect("a sound log");
    assert_eq!(audit.executions.len(), acknowledged.len(), "every key has one execution");
    for id in acknowledged.values() {
        let seen = &audit.executions[&id.parse::<uuid::Uuid>().expect("an id")];
        assert_eq!(seen.ended_by.as_deref(), Some("execution.completed"));
        assert_eq!(seen.completed.len(), NODES);
    }
    assert_eq!(starts(log).await, acknowledged.len());
}

/// Read models, which nobody writes any more, equal a rebuild row by row.
pub(crate) async fn check_read_models(log: &dyn LogReader, models: &ReadModels) {
    let mut live = Vec::new();
    for table in Table::ALL {
        live.push(models.dump_rows(table).await.expect("rows"));
    }
    rebuild(log, models, &ProjectionConfig::default()).await.expect("a rebuild");
    for (table, live) in Table::ALL.into_iter().zip(live) {
        let rebuilt = models.dump_rows(table).await.expect("rows");
        assert_eq!(live.len(), rebuilt.len(), "{table:?}");
        for (live, rebuilt) in live.iter().zip(&rebuilt) {
            assert_eq!(live, rebuilt, "{table:?}");
        }
    }
}

/// Executions that were started, over the whole log.
pub(crate) async fn starts(log: &dyn LogReader) -> usize {
    let mut count = 0;
    for head in log.heads().await.expect("heads") {
        for event in log.read_partition(head.partition, 0, usize::MAX >> 1).await.expect("events") {
            count += usize::from(matches!(event.decode(), Ok(Event::Execution(ExecutionEvent::Started(_)))));
        }
    }
    count
}
