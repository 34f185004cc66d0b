//! Health, version and metrics: outside `/api/v1`, without credentials. The same for a gateway and for a process without
//! one ([`HealthServer`](crate::HealthServer)).

use axum::Router;
use axum::extract::{FromRef, State};
use axum::middleware::map_response;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, json};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

use crate::answer::json as answer_json;
use crate::app::App;
use crate::failure::Failure;
use crate::gateway::{Dependency, Readiness};
use crate::headers;
use crate::schemas;

/// How long dependencies have to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is told about a process.
#[derive(Clone)]
pub(crate) struct Health {
    pub(crate) readiness: Arc<dyn Readiness>,
    /// Cancelled when the process is asked to stop.
    pub(crate) draining: CancellationToken,
    /// Who else counts, where there is a gateway.
    pub(crate) gateway: Option<Arc<App>>,
}

impl FromRef<Arc<App>> for Health {
    fn from_ref(app: &Arc<App>) -> Self {
        Self { readiness: app.readiness.clone(), draining: app.draining.clone(), gateway: Some(app.clone()) }
    }
}

/// The routes for a process without a gateway, at the same paths.
pub(crate) fn alone(health: Health) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/version", get(version))
        .with_state(health)
        .layer(map_response(async |mut response: Response| {
            headers::secure(response.headers_mut());
            response
        }))
}

/// Whether the process lives. Asks nobody.
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, description = "It does.")))]
pub(crate) async fn livez() -> Result<Response, Failure> {
    answer_json(StatusCode::OK, &json!({ "status": "ok" }))
}

/// Whether requests can be served: each dependency by name; 503 while one fails or the process drains.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, description = "They can.", body = schemas::Readiness),
        (status = 503, description = "They cannot.", body = schemas::Readiness)))]
pub(crate) async fn readyz(State(health): State<Health>) -> Result<Response, Failure> {
    let checked = tokio::time::timeout(PATIENCE, health.readiness.check()).await;
    let dependencies = checked.unwrap_or_else(|_| {
        vec![Dependency { name: "readiness", ready: false, detail: Some("no answer within 2 s".to_owned()) }]
    });
    let draining = health.draining.is_cancelled();
    let ready = !draining && dependencies.iter().all(|dependency| dependency.ready);
    let status = match (draining, ready) {
        (true, _) => "draining",
        (false, true) => "ready",
        (false, false) => "not_ready",
    };
    let checks: Map<_, _> = dependencies
        .into_iter()
        .map(|dependency| {
            let state = if dependency.ready { "ok" } else { "failed" };
            (dependency.name.to_owned(), json!({ "status": state, "detail": dependency.detail }))
        })
        .collect();
    let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    answer_json(code, &json!({ "status": status, "checks": checks }))
}

/// Counters as Prometheus text.
#[utoipa::path(get, path = "/metrics", tag = "health",
    responses((status = 200, description = "Counters.", content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(State(health): State<Health>) -> Response {
    let mut text = health.gateway.map(|app| app.counters()).unwrap_or_default();
    text.push_str(&health.readiness.metrics());
    let mut response = text.into_response();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

/// What is running.
#[utoipa::path(get, path = "/version", tag = "health", responses((status = 200, description = "The version.", body = schemas::Version)))]
pub(crate) async fn version() -> Result<Response, Failure> {
    answer_json(
        StatusCode::OK,
        &json!({ "name": "everline", "version": env!("CARGO_PKG_VERSION"), "api": "v1" }),
    )
}
