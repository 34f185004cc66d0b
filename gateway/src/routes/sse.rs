//! Server-sent events over the same tails as WebSockets.

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::stream;
use http::HeaderValue;
use std::convert::Infallible;

use crate::app::App;
use crate::config::ms;
use crate::failure::Failure;
use crate::live::{FeedTail, Resume, StreamTail, Tail};

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

/// The answer that tells a tail. It is read as fast as the client reads, never faster.
pub(crate) fn answer(app: &App, tail: AnyTail) -> Result<Response, Failure> {
    let place = app.stream_place()?;
    let counted = app.metrics.event_streams.count();
    let draining = app.draining.clone();
    let start = (tail, (place, counted, draining));
    let events = stream::unfold(start, |(mut tail, guards)| async move {
        let next = tokio::select! {
            next = tail.next() => next,
            // The client comes back with the last id, to another process or to this one's successor.
            () = guards.2.cancelled() => Tail::End,
        };
        let event = match next {
            Tail::Event { event, resume } => {
                let id = match resume {
                    Resume::Version(version) => version.to_string(),
                    Resume::Token(token) => token.to_string(),
                };
                Event::default().id(id).data(&*event.json())
            }
            Tail::CaughtUp => Event::default().comment("caught up"),
            Tail::End => return None,
            Tail::Failed(error) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "an event stream ended because the log did not answer"
                );
                return None;
            }
        };
        Some((Ok::<_, Infallible>(event), (tail, guards)))
    });
    let keep_alive = KeepAlive::new().interval(ms(app.config.heartbeat_ms)).text("heartbeat");
    let mut response = Sse::new(events).keep_alive(keep_alive).into_response();
    // Proxies that collect answers would hold events back.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}
