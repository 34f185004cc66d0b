//! The outermost layer: every request passes here, in and out.
//!
//! In: preflights of browsers answered, a trace and the client, a place among the requests under way, limits, and the
//! caller (deny by default: [`crate::access`]). Out: problems written, panics turned into problems, headers that every
//! answer has, denials noted for the audit, counters. It is the only place that writes error bodies, also for errors
//! that the router makes itself.

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use futures::FutureExt;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Version, header};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use tracing::Instrument;

use crate::access::{self, Rule};
use crate::app::App;
use crate::audit;
use crate::auth::{Credential, Principal};
use crate::client::{Asks, Client, Peer};
use crate::config::ms;
use crate::failure::Failure;
use crate::headers::{self, Audience};
use crate::limits::{self, Standing};
use crate::request::is_known;
use crate::status;
use crate::trace_context::TraceContext;

/// The routes that are answered however much there is to do.
const HEALTH: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Where a connection may send its token as its first message.
const WEBSOCKET: &str = "/api/v1/ws";

/// What became known of a request on its way in.
#[derive(Default)]
struct Known {
    principal: Option<Arc<Principal>>,
    standing: Standing,
}

/// Passes a request in and its answer out.
pub(crate) async fn gate(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let trace = TraceContext::of(request.headers());
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or("unmatched", MatchedPath::as_str);
    let (method, version) = (request.method().clone(), request.version());
    let path = request.uri().path().to_owned();
    let tags = known_tags(&request);
    let origin = request.headers().get(header::ORIGIN).cloned();
    let client = client_of(&app, &request, matched.clone());
    request.extensions_mut().insert(trace.clone());
    request.extensions_mut().insert(client.clone());

    let span = tracing::info_span!(
        "request",
        http.request.method = %method,
        http.route = route,
        request.id = &*client.request_id,
        trace_id = trace.trace_id()
    );
    let mut known = Known::default();
    let mut response = match app.config.cors.preflight(&method, request.headers()) {
        Some(response) => response,
        None => {
            let work = answer(&app, &client, matched.as_ref(), request, next, &mut known);
            let (response, failure) = match work.instrument(span.clone()).await {
                Ok(response) if is_options(&method, &response) => (options(route), None),
                answered => written(answered, &method, &path, &trace),
            };
            let mut response = unless_known(response, tags.as_ref());
            app.config.cors.of_answer(origin.as_ref(), response.headers_mut());
            // A limit that refused has told of itself.
            if !response.headers().contains_key("ratelimit") {
                known.standing.write(response.headers_mut());
            }
            if let Some(failure) = failure {
                audit::note_denied(&app, &client, known.principal.as_deref(), &failure);
            }
            response
        }
    };
    let audience = if known.principal.is_some() { Audience::Caller } else { Audience::Anybody };
    finish(response.headers_mut(), &client, audience, &trace);
    if app.draining.is_cancelled() && version <= Version::HTTP_11 && is_whole(&response) {
        // A connection that is kept would be cut at some moment, perhaps just when the next request is on its way.
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
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

/// Whether an answer leaves its connection to HTTP.
fn is_whole(response: &Response) -> bool {
    response.status() != StatusCode::SWITCHING_PROTOCOLS
}

/// What every answer has.
fn finish(answer: &mut HeaderMap, client: &Client, audience: Audience, trace: &TraceContext) {
    headers::secure(answer);
    headers::of_request(answer, client, audience);
    if let Ok(value) = HeaderValue::try_from(trace.as_str()) {
        answer.insert("traceparent", value);
    }
}

fn client_of(app: &App, request: &Request, matched: Option<MatchedPath>) -> Client {
    let peer = request.extensions().get::<Peer>().copied();
    let client = Client::of(&app.config, peer, request.headers());
    Client { asks: Asks::Http(request.method().clone(), matched), ..client }
}

/// Lets a request through to its route.
async fn answer(
    app: &App,
    client: &Client,
    matched: Option<&MatchedPath>,
    mut request: Request,
    next: Next,
    known: &mut Known,
) -> Result<Response, Failure> {
    let is_health = matched.is_some_and(|route| HEALTH.contains(&route.as_str()));
    // Whoever watches the process must get an answer when it is busiest.
    let _in_flight = if is_health { None } else { Some(app.admit()?) };
    if !is_health {
        known.standing = limits::admit_address(app, client)?;
        authenticate(app, client, matched, &mut request, known).await?;
    }
    let handled = AssertUnwindSafe(next.run(request)).catch_unwind();
    let handled = tokio::time::timeout(ms(app.config.request_timeout_ms.max(1)), handled).await;
    let handled = handled.map_err(|_| {
        let detail = "the request took too long and was given up; whether it took effect is not known: send it again \
                      with the same Idempotency-Key";
        Failure::new(status::REQUEST_TOOK_TOO_LONG, detail)
    })?;
    handled.map_err(|_| {
        app.metrics.panics.fetch_add(1, Ordering::Relaxed);
        tracing::error!("a request's handler panicked; this is a bug, please report it with the trace id");
        Failure::new(status::INTERNAL, "something went wrong here; report it with the trace id")
    })
}

/// Finds out who calls, and whether they may use the route at all, and how often.
async fn authenticate(
    app: &App,
    client: &Client,
    matched: Option<&MatchedPath>,
    request: &mut Request,
    known: &mut Known,
) -> Result<(), Failure> {
    let anonymous = |known: &mut Known| {
        let standing = limits::admit_anonymous(app, client)?;
        known.standing = std::mem::take(&mut known.standing).or_tighter(standing);
        Ok(())
    };
    // What matches no route is answered 404, which tells nothing.
    let Some(route) = matched.map(MatchedPath::as_str) else { return anonymous(known) };
    let rule = access::rule_of(request.method(), route);
    // Which methods there are is in the public document.
    if rule == Some(Rule::Public) || request.method() == Method::OPTIONS {
        return anonymous(known);
    }
    let headers = request.headers();
    if route == WEBSOCKET && Credential::of(headers).is_none() && wants_websocket(headers) {
        return anonymous(known);
    }
    let (principal, credential) = match app.auth.authenticate(request.method(), request.uri(), headers).await
    {
        Ok(recognised) => recognised,
        Err(failure) => {
            if failure.status == StatusCode::UNAUTHORIZED {
                // Whoever tries tokens out is told to wait, whatever they try next.
                anonymous(known)?;
            }
            return Err(failure);
        }
    };
    known.principal = Some(principal.clone());
    // What the route does not take is answered by the router.
    if rule.is_some() {
        let standing = limits::admit_principal(app, &principal).await?;
        known.standing = std::mem::take(&mut known.standing).or_tighter(standing);
        let found = access::authorize(&principal, request.method(), route);
        #[cfg(debug_assertions)]
        let found = app.weakness.apply(&principal, (request.method(), route), found);
        if let Some(authority) = found? {
            request.extensions_mut().insert(authority);
        }
    }
    request.extensions_mut().insert(credential);
    request.extensions_mut().insert(principal);
    Ok(())
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The answer with the body of its failure, and the failure.
fn written(
    answered: Result<Response, Failure>,
    method: &Method,
    path: &str,
    trace: &TraceContext,
) -> (Response, Option<Arc<Failure>>) {
    let failure = match answered {
        Err(failure) => Arc::new(failure),
        Ok(mut response) => match response.extensions_mut().remove::<Arc<Failure>>() {
            Some(failure) => failure,
            None => return (write_bare_problem(response, method, path, trace), None),
        },
    };
    (failure.render(path, trace.trace_id()), Some(failure))
}

/// Writes the body of errors that have none of ours.
fn write_bare_problem(mut response: Response, method: &Method, path: &str, trace: &TraceContext) -> Response {
    let status = response.status();
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

/// Whether `OPTIONS` met a route that does not take it itself.
fn is_options(method: &Method, response: &Response) -> bool {
    method == Method::OPTIONS && response.status() == StatusCode::METHOD_NOT_ALLOWED
}

/// The answer to `OPTIONS` (RFC 9110): what the route takes.
fn options(route: &str) -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NO_CONTENT;
    let mut methods: Vec<_> = access::methods_of(route).collect();
    if methods.contains(&"GET") {
        methods.push("HEAD");
    }
    methods.push("OPTIONS");
    if let Ok(allow) = HeaderValue::try_from(methods.join(",")) {
        response.headers_mut().insert(header::ALLOW, allow);
    }
    response
}
