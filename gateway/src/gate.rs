//! The outermost layer: every request passes here, in and out.
//!
//! In: a trace, a place among the requests under way, and the caller (deny by default: [`crate::access`]). Out: problems written, panics turned into problems, counters. It is the only place that
//! writes error bodies, also for errors that the router makes itself.

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tracing::Instrument;

use crate::access::{self, Rule};
use crate::app::App;
use crate::failure::Failure;
use crate::limits;
use crate::request::is_known;
use crate::status;
use crate::trace_context::TraceContext;

/// The routes that are answered however much there is to do.
const HEALTH: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Where a connection may send its token as its first message.
const WEBSOCKET: &str = "/api/v1/ws";

/// Passes a request in and its answer out.
pub(crate) async fn gate(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let trace = TraceContext::of(request.headers());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let known = known_tags(&request);
    request.extensions_mut().insert(trace.clone());

    let span = tracing::info_span!(
        "request",
        http.request.method = %method,
        http.route = route,
        trace_id = trace.trace_id()
    );
    let work = async {
        // Whoever watches the process must get an answer when it is busiest.
        let _in_flight = if HEALTH.contains(&route) { None } else { Some(app.admit()?) };
        authenticate(&app, matched.as_ref(), &mut request).await?;
        AssertUnwindSafe(next.run(request)).catch_unwind().await.map_err(|_| {
            app.metrics.panics.fetch_add(1, Ordering::Relaxed);
            tracing::error!(
                "a request's handler panicked; this is a bug, please report it with the trace id"
            );
            Failure::new(status::INTERNAL, "something went wrong here; report it with the trace id")
        })
    };
    let answered: Result<Response, Failure> = work.instrument(span.clone()).await;
    let mut response = match answered {
        Ok(response) => unless_known(write_problem(response, &method, &path, &trace), known.as_ref()),
        Err(failure) => failure.render(&path, trace.trace_id()),
    };
    if let Ok(value) = HeaderValue::try_from(trace.as_str()) {
        response.headers_mut().insert("traceparent", value);
    }
    let took = started.elapsed();
    let status = response.status();
    app.metrics.answered(&method, route, status.as_u16(), took);
    let _entered = span.enter();
    tracing::debug!(
        http.response.status_code = status.as_u16(),
        duration_ms = took.as_millis() as u64,
        "request answered"
    );
    response
}

/// Finds out who calls, and whether they may use the route at all.
async fn authenticate(
    app: &App,
    matched: Option<&MatchedPath>,
    request: &mut Request,
) -> Result<(), Failure> {
    // What matches no route is answered 404, which tells nothing.
    let Some(route) = matched.map(MatchedPath::as_str) else { return Ok(()) };
    let rule = access::rule_of(request.method(), route);
    // Which methods there are is in the public document.
    if rule == Some(Rule::Public) || request.method() == Method::OPTIONS {
        return Ok(());
    }
    let headers = request.headers();
    if route == WEBSOCKET && !headers.contains_key(header::AUTHORIZATION) && wants_websocket(headers) {
        return Ok(());
    }
    let principal = app.auth.authenticate(headers).await?;
    // What the route does not take is answered by the router.
    if rule.is_some() {
        limits::admit_principal(app, &principal)?;
        let found = access::authorize(&principal, request.method(), route);
        #[cfg(debug_assertions)]
        let found = app.weakness.apply(&principal, (request.method(), route), found);
        if let Some(authority) = found? {
            request.extensions_mut().insert(authority);
        }
    }
    request.extensions_mut().insert(principal);
    Ok(())
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Writes the body of a failure, and of errors that have none of ours.
fn write_problem(mut response: Response, method: &Method, path: &str, trace: &TraceContext) -> Response {
    if let Some(failure) = response.extensions_mut().remove::<Arc<Failure>>() {
        return failure.render(path, trace.trace_id());
    }
    let status = response.status();
    if method == Method::OPTIONS && status == StatusCode::METHOD_NOT_ALLOWED {
        return options(&response);
    }
    let ours = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if ours || !(status.is_client_error() || status.is_server_error()) {
        return response;
    }
    let shown: String = path.chars().take(200).collect();
    let detail = match status {
        StatusCode::NOT_FOUND => format!("there is nothing at {shown}"),
        StatusCode::METHOD_NOT_ALLOWED => format!("{shown} does not take {method}; see the `Allow` header"),
        StatusCode::UPGRADE_REQUIRED => format!("{shown} is a WebSocket; connect with an upgrade"),
        _ => format!("the request was refused: {status}"),
    };
    let mut failure = Failure::new(status::of_bare_status(status), detail);
    failure.status = status;
    let mut problem = failure.render(path, trace.trace_id());
    if let Some(allow) = response.headers_mut().remove(header::ALLOW) {
        problem.headers_mut().insert(header::ALLOW, allow);
    }
    problem
}

/// The tags that a reader has already.
fn known_tags(request: &Request) -> Option<HeaderMap> {
    if !request.headers().contains_key(header::IF_NONE_MATCH) || !request.method().is_safe() {
        return None;
    }
    let values = request.headers().get_all(header::IF_NONE_MATCH).iter();
    Some(values.map(|value| (header::IF_NONE_MATCH, value.clone())).collect())
}

/// 304 instead of what the caller has.
fn unless_known(response: Response, known: Option<&HeaderMap>) -> Response {
    let Some(tag) = response.headers().get(header::ETAG) else { return response };
    if response.status() != StatusCode::OK || !known.is_some_and(|known| is_known(known, tag)) {
        return response;
    }
    let (mut parts, _) = response.into_parts();
    parts.status = StatusCode::NOT_MODIFIED;
    parts.headers.remove(header::CONTENT_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, axum::body::Body::empty())
}

/// The answer to `OPTIONS` (RFC 9110): what the route takes, as the router says of a method that it does not.
fn options(refused: &Response) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let allow =
        refused.headers().get(header::ALLOW).and_then(|allow| allow.to_str().ok()).unwrap_or_default();
    let allow = if allow.is_empty() { "OPTIONS".to_owned() } else { format!("{allow},OPTIONS") };
    if let Ok(allow) = HeaderValue::try_from(allow) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
