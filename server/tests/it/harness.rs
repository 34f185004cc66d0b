//! A process to test, a client for it, and a target for its workers.

use axum::Router;
use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use server::{Embedded, EmbeddedOptions};
use std::path::Path;
use std::sync::Once;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What only a defect reaches.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Waits within [`LIMIT`].
pub(crate) async fn within<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.unwrap_or_else(|_| panic!("{what} took too long"))
}

/// Waits until a look at something gives a result.
pub(crate) async fn eventually<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut look: impl FnMut() -> F,
) -> T {
    within(what, async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

/// What reqwest needs before its first client, in whichever test that is.
pub(crate) fn install_tls() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
}

/// A running process and its admin's client.
pub(crate) struct Server {
    pub(crate) embedded: Embedded,
    pub(crate) client: Client,
}

impl Server {
    pub(crate) async fn temporary() -> Self {
        Self::with(EmbeddedOptions::temporary()).await
    }

    pub(crate) async fn in_directory(directory: &Path) -> Self {
        Self::with(EmbeddedOptions::in_directory(directory)).await
    }

    pub(crate) async fn with(mut options: EmbeddedOptions) -> Self {
        install_tls();
        options.gateway.drain_notice_ms = 0;
        let embedded = within("the start", Embedded::start(options)).await.unwrap();
        let key = embedded.admin.key.as_ref().expect("an admin key").expose().to_owned();
        let client = Client::new(&embedded.url, &key);
        Self { embedded, client }
    }

    pub(crate) async fn stop(self) {
        let Self { embedded, client } = self;
        // Connections that are kept open would be drained.
        drop(client);
        within("the shutdown", embedded.shutdown()).await.unwrap();
    }
}

/// An HTTP client with a key.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    pub(crate) key: String,
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Client {
    pub(crate) fn new(url: &str, key: &str) -> Self {
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(LIMIT).build().unwrap();
        Self { http, url: url.to_owned(), key: key.to_owned() }
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}/api/v1{path}", self.url)).bearer_auth(&self.key)
    }

    pub(crate) async fn send(&self, request: RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = response.bytes().await.unwrap();
        let body = if bytes.is_empty() { Value::Null } else { serde_json::from_slice(&bytes).unwrap() };
        Answer { status, headers, body }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Creates a workflow and gives its id.
    pub(crate) async fn create(&self, definition: &Value) -> String {
        let created = self.post("/workflows", definition).await;
        assert_eq!(created.status, StatusCode::CREATED, "{}", created.body);
        created.body["id"].as_str().unwrap().to_owned()
    }

    /// Starts an execution and waits for its end.
    pub(crate) async fn execute(&self, workflow: &str, input: Value) -> Value {
        let path = format!("/workflows/{workflow}/execute");
        let answer = self.post(&path, &json!({"input": input, "wait_ms": 20_000})).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
        answer.body
    }

    /// Starts an execution and gives its id.
    pub(crate) async fn start(&self, workflow: &str, input: Value) -> String {
        let answer = self.post(&format!("/workflows/{workflow}/execute"), &json!({"input": input})).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{}", answer.body);
        answer.body["execution_id"].as_str().unwrap().to_owned()
    }

    /// Waits until an execution is over.
    pub(crate) async fn ended(&self, execution: &str) -> Value {
        let path = format!("/executions/{execution}");
        eventually("the end of the execution", || async {
            let answer = self.get(&path).await;
            assert_eq!(answer.status, StatusCode::OK, "{}", answer.body);
            (!answer.body["finished_at"].is_null()).then_some(answer.body)
        })
        .await
    }

    /// The events of an execution.
    pub(crate) async fn events(&self, execution: &str) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            let after = events.last().map_or(0, version);
            let page =
                self.get(&format!("/executions/{execution}/events?after_version={after}&limit=200")).await;
            assert_eq!(page.status, StatusCode::OK, "{}", page.body);
            let items = page.body["items"].as_array().unwrap();
            if items.is_empty() {
                return events;
            }
            events.extend(items.iter().cloned());
        }
    }
}

/// The version of an event.
pub(crate) fn version(event: &Value) -> u64 {
    event["version"].as_u64().expect("a version")
}

/// The types of events.
pub(crate) fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().expect("a type")).collect()
}

/// A local HTTP server for workers to call.
pub(crate) struct Target {
    pub(crate) url: String,
    task: JoinHandle<()>,
}

impl Target {
    pub(crate) async fn serve(router: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { url, task }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A workflow of engine nodes only: doubles `input.n`, and says whether it is large.
pub(crate) fn doubling() -> Value {
    json!({
        "name": "doubling",
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "double", "type": "transform", "config": {"output": {"n": "{{ input.n * 2 }}"}}},
            {"id": "large", "type": "condition", "config": {"expression": "nodes.double.output.n > 10"}},
            {"id": "yes", "type": "end", "config": {"output": {"n": "{{ nodes.double.output.n }}", "large": true}}},
            {"id": "no", "type": "end", "config": {"output": {"n": "{{ nodes.double.output.n }}", "large": false}}},
        ],
        "edges": [
            {"source": "start", "target": "double"},
            {"source": "double", "target": "large"},
            {"source": "large", "source_handle": "true", "target": "yes"},
            {"source": "large", "source_handle": "false", "target": "no"},
        ],
    })
}

/// A workflow that posts its input to a URL and gives the answer's body.
pub(crate) fn posting(url: &str) -> Value {
    json!({
        "name": "posting",
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "call", "type": "http_request",
             "config": {"method": "POST", "url": url, "body": "{{ input }}"}, "timeout_ms": 20_000},
            {"id": "end", "type": "end", "config": {"output": "{{ nodes.call.output.body }}"}},
        ],
        "edges": [{"source": "start", "target": "call"}, {"source": "call", "target": "end"}],
    })
}

/// A workflow with so many delays that watching it takes a while.
pub(crate) fn ticking(ticks: usize) -> Value {
    let mut nodes = vec![json!({"id": "start", "type": "start"})];
    let mut edges = Vec::new();
    let mut last = "start".to_owned();
    for tick in 0..ticks {
        let id = format!("tick_{tick}");
        nodes.push(json!({"id": id, "type": "delay", "config": {"duration_ms": 5}}));
        edges.push(json!({"source": last, "target": id}));
        last = id;
    }
    nodes.push(json!({"id": "end", "type": "end", "config": {"output": "done"}}));
    edges.push(json!({"source": last, "target": "end"}));
    json!({"name": "ticking", "nodes": nodes, "edges": edges})
}
