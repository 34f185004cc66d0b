//! `http_request`: a call to an HTTP server.
//!
//! Owns the client, the redirects and how a failed call is told. Invariants: every hop passes the egress guard;
//! a redirect to another origin carries nothing of the caller's but content negotiation, no body either; errors name an origin,
//! never a path, query or userinfo, which may hold secrets; every hop is counted for or against its target. Absent: retries (the engine's), cookies, proxies.
//!
//! Read on in [`call`] (configuration to request) and [`answer`] (response to output).

mod answer;
mod call;
mod decoding;

use async_trait::async_trait;
use domain::execution::event::{ErrorKind, NodeError};
use domain::ids::TenantId;
use reqwest::header::{
    ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH,
    CONTENT_TYPE, HeaderMap, HeaderName, LOCATION, USER_AGENT,
};
use reqwest::{Certificate, Client, Method, Request, Response, StatusCode, Url};
use serde_json::{Value, json};
use std::error::Error as _;
use std::num::NonZeroUsize;
use std::time::Duration;
use tokio::time::Instant;

use crate::circuit::{Called, Circuits};
use crate::egress::{EgressConfig, Guard, Refused};
use crate::error::Error;
use crate::failure;

use super::{NodeContext, NodeExecutor};
use call::Call;
use decoding::Decoding;

/// Redirects that are followed; the next one fails the node.
const MAX_REDIRECTS: usize = 10;
/// Time to connect, within the attempt's. Long enough for two lost SYNs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connections that nobody uses are closed after this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);
/// What a redirect to another origin keeps: nothing that could tell who the caller is.
const KEPT_ACROSS_ORIGINS: [HeaderName; 7] =
    [ACCEPT, ACCEPT_ENCODING, ACCEPT_LANGUAGE, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_TYPE, USER_AGENT];

/// Carries out `http_request` nodes, all with one client and its pool of connections.
pub struct HttpRequestExecutor {
    client: Client,
    guard: Guard,
    circuits: Circuits,
    decoding: Decoding,
}

impl HttpRequestExecutor {
    /// An executor for up to `concurrent` requests at once.
    pub(crate) fn new(
        egress: &EgressConfig,
        concurrent: NonZeroUsize,
        circuits: Circuits,
    ) -> Result<Self, Error> {
        Self::guarded(Guard::new(*egress), concurrent, circuits)
    }

    fn guarded(guard: Guard, concurrent: NonZeroUsize, circuits: Circuits) -> Result<Self, Error> {
        let builder = || {
            Client::builder()
                .user_agent(concat!("everline/", env!("CARGO_PKG_VERSION")))
                // A proxy would connect for us, to addresses that nobody checked.
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .dns_resolver(guard)
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(concurrent.get())
        };
        let client = match builder().build() {
            Ok(client) => client,
            // A bare machine or container has no certificates, and the client is not made without any.
            Err(error) => {
                tracing::warn!(
                    error = %error,
                    "the system's CA certificates cannot be read; the certificates in the program are used"
                );
                builder().tls_certs_only(bundled_certificates()).build().map_err(Error::HttpClient)?
            }
        };
        Ok(Self { client, guard, circuits, decoding: Decoding::new() })
    }

    /// Makes a call, unless its target is left alone. The call is still to be judged by what becomes of the response.
    async fn send(&self, request: Request, attempt: &Attempt<'_>) -> Result<(Response, Called), NodeError> {
        self.guard.check(request.url())?;
        let origin = origin_of(request.url());
        let called = self.circuits.admit(attempt.tenant, &origin, attempt.deadline)?;
        match self.client.execute(request).await {
            Ok(response) => Ok((response, called)),
            Err(error) => {
                let error = failed_call(&error, &origin);
                called.ended(Err(&error));
                Err(error)
            }
        }
    }
}

/// Whose call it is, and until when.
struct Attempt<'a> {
    tenant: &'a TenantId,
    deadline: Instant,
}

/// Mozilla's certificates as of this build.
fn bundled_certificates() -> Vec<Certificate> {
    let certificates = webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter();
    certificates.filter_map(|der| Certificate::from_der(der).ok()).collect()
}

#[async_trait]
impl NodeExecutor for HttpRequestExecutor {
    async fn execute(&self, context: NodeContext<'_>) -> Result<Value, NodeError> {
        let Call { mut request, follow_redirects, max_response_bytes, secrets } =
            Call::read(context.config, &self.client, self.guard)?;
        let attempt = Attempt { tenant: &context.task.tenant, deadline: context.deadline };
        for _ in 0..=MAX_REDIRECTS {
            let method = request.method().clone();
            let url = request.url().clone();
            // Without redirects the request is needed once, so it is not copied.
            let next = if follow_redirects { request.try_clone() } else { None };
            let (response, called) = self.send(request, &attempt).await?;
            let hop = next.and_then(|next| Some((next, redirect_of(&response, &url)?)));
            let Some((next, target)) = hop else {
                let origin = origin_of(&url);
                let read = answer::read(response, &method, &origin, max_response_bytes, &secrets).await;
                called.ended(read.as_ref().map(|_| ()));
                return self.decoding.output(read?, &origin).await;
            };
            called.ended(Ok(()));
            request = redirected(next, response.status(), target?)?;
        }
        let message = format!("the server redirected more than {MAX_REDIRECTS} times");
        Err(failure::custom(message, json!({ "redirects": MAX_REDIRECTS })))
    }
}

/// Where a response sends the caller, if it does.
fn redirect_of(response: &Response, url: &Url) -> Option<Result<Url, NodeError>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION)?;
    let target = std::str::from_utf8(location.as_bytes()).ok().and_then(|text| url.join(text).ok());
    let origin = origin_of(url);
    Some(target.ok_or_else(|| {
        failure::custom(format!("{origin} redirected to something that is not a URL"), Value::Null)
    }))
}

/// The request of the next hop, as browsers make it, except that a body stays with the origin it was written for:
/// what was meant for one server, secrets too, is not another's because the first says so.
fn redirected(mut request: Request, status: StatusCode, mut target: Url) -> Result<Request, NodeError> {
    let becomes_get = match status {
        StatusCode::SEE_OTHER => request.method() != Method::HEAD,
        StatusCode::MOVED_PERMANENTLY | StatusCode::FOUND => request.method() == Method::POST,
        _ => false,
    };
    if becomes_get {
        *request.method_mut() = Method::GET;
        *request.body_mut() = None;
        for name in [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_LANGUAGE] {
            request.headers_mut().remove(name);
        }
    }
    if target.origin() != request.url().origin() {
        if request.body().is_some() {
            let (from, to) = (origin_of(request.url()), origin_of(&target));
            let message = format!(
                "{from} redirected a request with a body to {to}, another origin, which is not given it; set `url` \
                 to where the request belongs"
            );
            return Err(failure::custom(message, json!({ "status": status.as_u16() })));
        }
        let headers = std::mem::take(request.headers_mut());
        let kept = headers.iter().filter(|(name, _)| KEPT_ACROSS_ORIGINS.contains(name));
        *request.headers_mut() =
            kept.map(|(name, value)| (name.clone(), value.clone())).collect::<HeaderMap>();
    }
    // A server does not get to choose the credentials that we send. These cannot fail on a URL with a host, and
    // the guard refuses others.
    let _ = target.set_username("");
    let _ = target.set_password(None);
    *request.url_mut() = target;
    Ok(request)
}

/// What may be told of a URL: scheme, host and port.
fn origin_of(url: &Url) -> String {
    url.origin().ascii_serialization()
}

/// Why a call has no response, or half of one. Of the error only its root is told: the layers above it name the
/// URL or repeat each other.
fn failed_call(error: &reqwest::Error, origin: &str) -> NodeError {
    let mut root: &(dyn std::error::Error + 'static) = match error.source() {
        Some(source) => source,
        None if error.is_timeout() => return call_timeout(origin),
        None => return failure::connection(format!("the request to {origin} failed")),
    };
    loop {
        if let Some(refused) = root.downcast_ref::<Refused>() {
            return refused.clone().into();
        }
        match root.source() {
            Some(source) => root = source,
            None => break,
        }
    }
    if error.is_timeout() {
        return call_timeout(origin);
    }
    if error.is_builder() {
        return failure::invalid_config(format!("the request cannot be made: {root}"));
    }
    failure::connection(format!("the request to {origin} failed: {root}"))
}

fn call_timeout(origin: &str) -> NodeError {
    NodeError {
        kind: ErrorKind::Timeout,
        message: format!("the connection to {origin} timed out"),
        retryable: true,
        details: Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::Router;
    use axum::response::Redirect;
    use axum::routing::get;
    use bus::{Task, TaskRef};
    use domain::decision::NodeRun;
    use domain::node_type::NodeType;
    use domain::time::Timestamp;
    use uuid::Uuid;

    async fn call(executor: &HttpRequestExecutor, url: &str) -> Result<Value, NodeError> {
        let node = NodeRun { node_id: "fetch".to_owned(), run: 1, attempt: 1 };
        let task = Task {
            task: TaskRef { execution: Uuid::nil(), node },
            tenant: TenantId::default_tenant(),
            node_type: NodeType::HttpRequest,
            config: Value::Null,
            deadline: Timestamp::MAX,
            heartbeat_timeout_ms: None,
            correlation_id: Uuid::nil(),
            causation_id: Uuid::nil(),
            traceparent: None,
        };
        let deadline = Instant::now() + Duration::from_secs(30);
        executor.execute(NodeContext { task: &task, config: json!({ "url": url }), deadline }).await
    }

    #[tokio::test]
    async fn a_redirect_from_the_internet_to_a_private_address_is_refused() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.2:0").await.unwrap();
        let public = listener.local_addr().unwrap();
        let private =
            ["127.0.0.1", "127.1", "2130706433", "[::ffff:127.0.0.1]", "localhost", "169.254.169.254"];
        let mut router = Router::new().route("/", get(|| async { "public" }));
        for (index, host) in private.into_iter().enumerate() {
            let target = format!("http://{host}:{}/", public.port());
            router = router.route(&format!("/{index}"), get(|| async move { Redirect::to(&target) }));
        }
        tokio::spawn(async move { axum::serve(listener, router).await });

        let circuits = Circuits::new(crate::circuit::Rules::of(&crate::AgentsConfig::default()));
        let mut guard = Guard::new(EgressConfig::default());
        guard.public = Some(public.ip());
        let executor = HttpRequestExecutor::guarded(guard, NonZeroUsize::MIN, circuits).unwrap();
        assert_eq!(call(&executor, &format!("http://{public}/")).await.unwrap()["body"], "public");
        for (index, host) in private.into_iter().enumerate() {
            let error = call(&executor, &format!("http://{public}/{index}")).await.expect_err(host);
            assert_eq!((error.kind, error.retryable), (ErrorKind::InvalidConfig, false), "{error:?}");
            assert!(error.message.contains("EVERLINE_EGRESS__ALLOW_PRIVATE"), "{}", error.message);
        }
    }
}
