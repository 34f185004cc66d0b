//! The component: its ports, and its life from the first connection to the last answer.

use async_trait::async_trait;
use axum::Router;
use axum::middleware::from_fn_with_state;
use bus::{Commands, CommitFeed};
use bytes::Bytes;
use domain::time::Clock;
use event_store::blobs::Blobs;
use event_store::log::LogReader;
use event_store::rate_counters::RateCounters;
use event_store::sealing::MasterKey;
use event_store::verifiers::Verifiers;
use read_models::ReadModels;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::config::{GatewayConfig, ms};
use crate::listener::BoundedListener;
use crate::scripts::ScriptEvaluator;
use crate::{bulk, directory, gate, openapi, routes, serving};

/// What the gateway needs from the rest of the process.
#[derive(Clone)]
pub struct GatewayPorts {
    /// The log, to read.
    pub log: Arc<dyn LogReader>,
    /// Large values.
    pub blobs: Arc<dyn Blobs>,
    /// By what secrets are recognised.
    pub verifiers: Arc<dyn Verifiers>,
    /// What rate limits share with other gateways, if there may be others.
    pub rates: Option<Arc<dyn RateCounters>>,
    /// What seals signing keys and seeds: the same for all gateways of an installation.
    pub master_key: MasterKey,
    /// The owners of partitions.
    pub commands: Arc<dyn Commands>,
    /// Committed events as they come.
    pub feed: Arc<dyn CommitFeed>,
    /// Read models.
    pub models: ReadModels,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What the process depends on.
    pub readiness: Arc<dyn Readiness>,
    /// Who evaluates expressions that are not CEL.
    pub scripts: Arc<dyn ScriptEvaluator>,
}

/// Whether the process can serve, and what else it counts.
#[async_trait]
pub trait Readiness: Send + Sync {
    /// Each dependency by name. Called for every `/readyz`; must be cheap, and is given 2 seconds.
    async fn check(&self) -> Vec<Dependency>;

    /// Further Prometheus text for `/metrics`, each line ended.
    fn metrics(&self) -> String {
        String::new()
    }
}

/// A thing that the process depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dependency {
    /// Its name, for instance `log`.
    pub name: &'static str,
    /// Whether it works.
    pub ready: bool,
    /// What is wrong with it. Shown to anybody: no addresses, no secrets.
    pub detail: Option<String>,
}

/// The gateway stopped for a reason of its own.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The listener failed.
    #[error("the HTTP listener failed")]
    Serve(#[source] std::io::Error),
}

/// The public surface of one process.
pub struct Gateway {
    app: Arc<App>,
    feed: Arc<dyn CommitFeed>,
    router: Router,
}

impl Gateway {
    /// For tests: what takes a guard of this gateway away.
    #[cfg(debug_assertions)]
    pub fn weakness(&self) -> crate::access::Weakness {
        self.app.weakness.clone()
    }

    /// Wires the routes. Nothing runs yet.
    pub fn new(config: GatewayConfig, ports: GatewayPorts) -> Self {
        let feed = ports.feed.clone();
        let (routes, document) = document();
        let app = Arc::new(App::new(config, ports, document));
        let router = routes.layer(from_fn_with_state(app.clone(), gate::gate)).with_state(app.clone());
        Self { app, feed, router }
    }

    /// Reads the counters of HTTP as Prometheus text, without a request that would be counted itself.
    pub fn counters(&self) -> impl Fn() -> String + Send + Sync + use<> {
        let metrics = self.app.metrics.clone();
        move || metrics.render()
    }

    /// Serves until the shutdown, then drains: `/readyz` fails and answers end their connections; after the notice streams
    /// and WebSockets are closed, and requests under way get their time.
    pub async fn run(self, listener: TcpListener, shutdown: CancellationToken) -> Result<(), GatewayError> {
        let Self { app, feed, router } = self;
        // The subscription exists before the first request, so that nothing a request causes is missed.
        let subscription = feed.subscribe();
        let hub_stop = CancellationToken::new();
        let stop_accepting = CancellationToken::new();
        let listener = BoundedListener::new(listener, app.config.max_connections);
        let serve = serving::serve(listener, router, stop_accepting.clone());
        let hub = app.hub.clone();
        let follow = hub.follow(subscription, &app.executions, hub_stop.clone());
        let audit = app.audit.run(&*app.commands, &*app.clock, hub_stop.clone());

        let drain = async {
            shutdown.cancelled().await;
            tracing::info!("the gateway is draining");
            app.draining.cancel();
            tokio::time::sleep(ms(app.config.drain_notice_ms)).await;
            // Whoever is sent away now, and comes back through a load balancer, does not come back to this process.
            app.leaving.cancel();
            app.sockets.close();
            stop_accepting.cancel();
            tokio::time::sleep(ms(app.config.drain_timeout_ms)).await;
            tracing::warn!("requests were still under way when the time to drain was over");
        };
        let served = async {
            serve.await;
            app.sockets.close();
            app.sockets.wait().await;
            Ok(())
        };
        let first_administrator = async {
            directory::bootstrap(&app).await;
            std::future::pending::<std::convert::Infallible>().await
        };
        let ended = async {
            tokio::select! {
                served = served => served,
                () = drain => Ok(()),
                never = app.sessions.sweep() => match never {},
                never = first_administrator => match never {},
                never = app.limits.exchange_counts() => match never {},
            }
        };
        let bulk = bulk::run(app.clone());
        // The hub follows for as long as anybody may wait for news; the audit records for as long as anybody acts.
        let (ended, (), (), ()) = tokio::join!(
            async {
                let ended = ended.await;
                app.draining.cancel();
                app.sessions.write_last_uses().await;
                hub_stop.cancel();
                ended
            },
            follow,
            audit,
            bulk
        );
        ended
    }
}

/// The routes and the finished document.
fn document() -> (Router<Arc<App>>, Bytes) {
    let (routes, document) = routes::router();
    let text = openapi::complete(&document).to_string();
    (routes, Bytes::from(text))
}

/// The OpenAPI 3.1 document as JSON, for snapshots and clients.
pub fn openapi_document() -> Bytes {
    document().1
}
