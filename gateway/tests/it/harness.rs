//! A gateway on a free port, and a client for it.

use async_trait::async_trait;
use bus::in_process::InProcessFeed;
use bus::{Commands, CommitFeed};
use domain::time::{Clock, Timestamp};
use event_store::sealing::MasterKey;
use event_store::sqlite::{SqliteLog, SqliteOptions};
use gateway::{
    Dependency, Gateway, GatewayConfig, GatewayPorts, Readiness, ScriptError, ScriptEvaluator, prepare_admin,
};
use read_models::ReadModels;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::documented::Documented;
use super::owner::Owner;

pub(crate) const EMAIL: &str = "admin@example.test";
pub(crate) const PASSWORD: &str = "correct horse battery";

/// The system's clock.
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        Timestamp::from_unix_ms(since.as_millis() as i64)
    }
}

struct Ready;

#[async_trait]
impl Readiness for Ready {
    async fn check(&self) -> Vec<Dependency> {
        vec![Dependency { name: "log", ready: true, detail: None }]
    }
}

/// Scripts of one word, each of which ends as its word says.
struct Scripts;

#[async_trait]
impl ScriptEvaluator for Scripts {
    async fn evaluate(&self, source: &str, context: &Value) -> Result<Value, ScriptError> {
        match source {
            "echo" => Ok(context.clone()),
            "syntax" => Err(ScriptError::Syntax("no".to_owned())),
            "failed" => Err(ScriptError::Failed("no".to_owned())),
            "limit" => Err(ScriptError::Limit("no".to_owned())),
            "busy" => Err(ScriptError::Busy),
            _ => Err(ScriptError::Unavailable),
        }
    }
}

pub(crate) struct Harness {
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
    pub(crate) http: reqwest::Client,
    pub(crate) owner: Arc<Owner>,
    /// Nobody projects into them but the test.
    pub(crate) models: ReadModels,
    /// For further gateways beside the first.
    pub(crate) ports: GatewayPorts,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: JoinHandle<()>,
    /// Takes guards away.
    pub(crate) weakness: gateway::Weakness,
    _documented: Documented,
}

impl Harness {
    pub(crate) async fn start() -> Self {
        Self::with(GatewayConfig::default()).await
    }

    pub(crate) async fn with(config: GatewayConfig) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let log = Arc::new(SqliteLog::open_temporary(SqliteOptions::default()).await.expect("a log"));
        let feed: Arc<dyn CommitFeed> = Arc::new(InProcessFeed::new());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let owner = Arc::new(Owner::new(log.clone(), feed.clone(), clock.clone()).await);
        let admin = prepare_admin(&*log, &*clock, EMAIL, Some(PASSWORD.to_owned().into()));
        let admin = admin.await.expect("prepared").expect("the first administrator");
        admin.store(&*log).await.expect("stored");
        let master_key = MasterKey::generate().expect("a key");
        let models = ReadModels::open_temporary().await.expect("read models");
        let ports = GatewayPorts {
            log: log.clone(),
            blobs: log.clone(),
            verifiers: log.clone(),
            rates: None,
            master_key: master_key.clone(),
            commands: owner.clone() as Arc<dyn Commands>,
            feed,
            models: models.clone(),
            clock,
            readiness: Arc::new(Ready),
            scripts: Arc::new(Scripts),
        };
        let shutdown = CancellationToken::new();
        let served = serve(config, ports.clone(), shutdown.clone()).await;
        let Served { address, documented, weakness, running } = served;
        let http = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().expect("a client");
        let key = admin.api_key.to_string();
        Self { address, key, http, owner, models, ports, shutdown, running, weakness, _documented: documented }
    }

    /// A gateway whose read models follow the log.
    pub(crate) async fn projected(config: GatewayConfig) -> Self {
        let harness = Self::with(config).await;
        let ports = &harness.ports;
        let stop = harness.shutdown.clone();
        testkit::project(ports.log.clone(), ports.feed.clone(), ports.models.clone(), stop);
        harness
    }

    /// Waits until the first administrator is in the log.
    pub(crate) async fn settled(&self) {
        let user = format!("/api/v1/users/{}", domain::identity::bootstrap_admin_id());
        for _ in 0..1_000 {
            if self.get(&user).await.status() == StatusCode::OK {
                return;
            }
            tokio::task::yield_now().await;
        }
        panic!("the first administrator does not come");
    }

    /// The address of another gateway on the same log, which hears of commits by a feed of its own.
    pub(crate) async fn beside(&self, config: GatewayConfig, feed: Arc<dyn CommitFeed>) -> SocketAddr {
        let ports = GatewayPorts { feed, ..self.ports.clone() };
        serve(config, ports, self.shutdown.clone()).await.address
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A request without credentials.
    pub(crate) fn bare(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, self.url(path))
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.bare(method, path).bearer_auth(&self.key)
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Response {
        self.request(Method::POST, path).json(body).send().await.expect("an answer")
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.request(Method::GET, path).send().await.expect("an answer")
    }

    pub(crate) async fn get_json(&self, path: &str) -> Value {
        let response = self.get(path).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        response.json().await.expect("JSON")
    }

    /// A workflow; its id.
    pub(crate) async fn create(&self, definition: &Value) -> String {
        let response = self.post("/api/v1/workflows", definition).await;
        assert_eq!(response.status(), StatusCode::CREATED);
        text(&response.json().await.expect("JSON"), "id")
    }

    /// Starts a waiting execution; its id.
    pub(crate) async fn start_waiting(&self) -> String {
        let workflow = self.create(&waiting(&format!("waiting-{}", uuid::Uuid::now_v7()))).await;
        let started = self.post(&format!("/api/v1/workflows/{workflow}/execute"), &json!({})).await;
        assert_eq!(started.status(), StatusCode::ACCEPTED);
        text(&started.json().await.expect("JSON"), "execution_id")
    }
}

/// Runs a gateway on a free port.
/// A gateway that runs.
struct Served {
    address: SocketAddr,
    documented: Documented,
    weakness: gateway::Weakness,
    running: JoinHandle<()>,
}

async fn serve(
    config: GatewayConfig,
    ports: GatewayPorts,
    shutdown: CancellationToken,
) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let gateway = Gateway::new(config, ports);
    let documented = Documented(Box::new(gateway.counters()));
    let weakness = gateway.weakness();
    let run = gateway.run(listener, shutdown);
    let running = tokio::spawn(async move { run.await.expect("served") });
    Served { address, documented, weakness, running }
}

pub(crate) fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_else(|| panic!("no {field} in {value}")).to_owned()
}

/// A workflow that gives back its input, at once.
pub(crate) fn echo(name: &str) -> Value {
    json!({
        "name": name,
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "copy", "type": "transform", "config": {"output": {"got": "{{ input }}"}}},
            {"id": "end", "type": "end", "config": {"output": "{{ nodes.copy.output }}"}}
        ],
        "edges": [{"source": "start", "target": "copy"}, {"source": "copy", "target": "end"}]
    })
}

/// A workflow that waits for an hour.
pub(crate) fn waiting(name: &str) -> Value {
    json!({
        "name": name,
        "nodes": [
            {"id": "start", "type": "start"},
            {"id": "pause", "type": "delay", "config": {"duration_ms": 3_600_000}},
            {"id": "end", "type": "end"}
        ],
        "edges": [{"source": "start", "target": "pause"}, {"source": "pause", "target": "end"}]
    })
}
