//! Server-sent events over the same tails as WebSockets.

use axum::extract::FromRequestParts;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::HeaderValue;
use http::request::Parts;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::access::{Followed, withdrawn};
use crate::app::App;
use crate::auth::Credential;
use crate::config::ms;
use crate::failure::Failure;
use crate::live::{FeedTail, StreamTail, Tail};
use crate::request::Caller;
use crate::status;

/// Events that may wait for the client to read; then the tail waits, holding nothing of the log's.
const WAITING: usize = 16;

/// A tail of either kind.
pub(crate) enum AnyTail {
    /// Of an execution.
    Stream(Box<StreamTail>),
    /// Of a tenant's log.
    Feed(Box<FeedTail>),
}

impl AnyTail {
    /// What comes next.
    pub(crate) async fn next(&mut self) -> Tail {
        match self {
            Self::Stream(tail) => tail.next().await,
            Self::Feed(tail) => tail.next().await,
        }
    }
}

/// What the caller of a stream is recognised by.
pub(crate) struct Token(Credential);

impl<S: Send + Sync> FromRequestParts<S> for Token {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Failure> {
        let credential = parts.extensions.get::<Credential>().cloned();
        credential
            .map(Self)
            .ok_or_else(|| Failure::new(status::UNAUTHENTICATED, "this needs an API key or access token"))
    }
}

/// The answer that tells a tail, for as long as the token is good and its caller may follow the thing. It is read hardly
/// faster than the client reads.
pub(crate) fn answer(
    app: &Arc<App>,
    caller: Caller,
    token: Token,
    followed: Followed,
    tail: AnyTail,
) -> Result<Response, Failure> {
    let place = app.stream_place()?;
    let counted = app.metrics.event_streams.count();
    let (sender, receiver) = mpsc::channel(WAITING);
    let shared = app.clone();
    let changes = app.rights.changes();
    // The tail has a task of its own: polled only when the client reads, it could keep a connection to the log that
    // it holds, or was just handed, from everybody else.
    let task = tokio::spawn(async move {
        tokio::select! {
            () = tell(tail, sender.clone()) => {}
            failure = withdrawn(&shared, caller.principal, &token.0, followed, changes) => {
                refuse(&shared, &failure, &sender).await;
            }
            // The client comes back with the last id, to another process or to this one's successor.
            () = shared.leaving.cancelled() => {}
        }
    });
    let guards = (AbortOnDropHandle::new(task), place, counted);
    let events = stream::unfold((receiver, guards), |(mut receiver, guards)| async move {
        let event = receiver.recv().await?;
        Some((Ok::<_, Infallible>(event), (receiver, guards)))
    });
    let keep_alive = KeepAlive::new().interval(ms(app.config.heartbeat_ms)).text("heartbeat");
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    // Proxies that collect answers would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// Tells a tail to its end, or until nobody listens.
async fn tell(mut tail: AnyTail, sender: mpsc::Sender<Event>) {
    loop {
        let event = match tail.next().await {
            Tail::Event { event, resume } => Event::default().id(resume.to_string()).data(&*event.json()),
            // An id without data is no message; it only says from where to come back.
            Tail::CaughtUp(resume) => Event::default().comment("caught up").id(resume.to_string()),
            Tail::Passed(resume) => Event::default().id(resume.to_string()),
            Tail::End => return,
            Tail::Failed(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "an event stream ended because the log did not answer"
                );
                return;
            }
        };
        if sender.send(event).await.is_err() {
            return;
        }
    }
}

/// Says why the stream ends: an event `error` whose data is the problem.
async fn refuse(app: &App, failure: &Failure, sender: &mpsc::Sender<Event>) {
    let problem = serde_json::to_string(&failure.body(None, None)).unwrap_or_default();
    let event = Event::default().event("error").data(problem);
    // A client that does not read is not waited for.
    let _ = tokio::time::timeout(ms(app.config.slow_client_ms), sender.send(event)).await;
}
