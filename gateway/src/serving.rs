//! From accepted connections to the router, HTTP/1.1 and HTTP/2.
//!
//! Owns the connections' tasks: dropping [`serve`] cuts them off. Invariant: a connection that has not sent the
//! whole head of a request in time is closed, so that it cannot keep its place by saying nothing.

use axum::Router;
use axum::extract::Request;
use axum::serve::Listener;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::client::Peer;
use crate::listener::{BoundedListener, BoundedStream};

/// How long the head of a request may take, from the connection or the end of the answer before it. It is also how
/// long an HTTP/1.1 connection may be idle.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Serves until `stop`, then lets the requests under way finish.
pub(crate) async fn serve(mut listener: BoundedListener, router: Router, stop: CancellationToken) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            (stream, address) = listener.accept() => {
                connections.spawn(connection(stream, Peer(address), router.clone(), stop.clone()));
            }
            // What has ended is taken away as it ends.
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            () = stop.cancelled() => break,
        }
    }
    // Whoever connects from now on is refused rather than left waiting.
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn connection(stream: BoundedStream, peer: Peer, router: Router, stop: CancellationToken) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIME);
    // WebSockets over HTTP/2.
    builder.http2().timer(TokioTimer::new()).enable_connect_protocol();
    let spoken = Arc::new(AtomicBool::new(false));
    let service = router.map_request({
        let spoken = spoken.clone();
        move |request: http::Request<hyper::body::Incoming>| -> Request {
            spoken.store(true, Ordering::Relaxed);
            let mut request = request.map(axum::body::Body::new);
            request.extensions_mut().insert(peer);
            request
        }
    });
    let service = TowerToHyperService::new(service);
    let mut connection = pin!(builder.serve_connection_with_upgrades(TokioIo::new(stream), service));
    // The header timeout begins when the protocol is known, which takes up to 24 bytes; before that, and for the
    // first request of HTTP/2, this one counts.
    let mut silence = pin!(tokio::time::sleep(HEAD_TIME));
    let (mut listening, mut stopping) = (true, false);
    loop {
        tokio::select! {
            ended = connection.as_mut() => {
                if let Err(error) = ended {
                    tracing::trace!(%error, "a connection failed");
                }
                return;
            }
            () = silence.as_mut(), if listening => {
                if !spoken.load(Ordering::Relaxed) {
                    return;
                }
                listening = false;
            }
            () = stop.cancelled(), if !stopping => {
                connection.as_mut().graceful_shutdown();
                stopping = true;
            }
        }
    }
}
