//! Why a connection ends, and how the client is told.

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::app::App;

use super::outbox::Slow;
use super::{BROKEN_PROTOCOL, GOING_AWAY, NOT_UTF8, SLOW, TOO_LARGE, UNAUTHENTICATED};

/// How long a close frame may take to leave. A slow client gets long, so that it can still read why.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);
const SLOW_CLOSE_PATIENCE: Duration = Duration::from_secs(30);
/// How long a connection stays open after a message that could not be read. Its rest is never read, and closing
/// over unread bytes resets the connection, which can overtake the reason.
const LINGER: Duration = Duration::from_millis(200);

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The network ended it.
    Gone,
    /// The client closed it, and waits for the answer to that.
    Closed,
    /// The process stops.
    GoingAway,
    /// The client does not read.
    Slow,
    /// No valid token.
    Unauthenticated,
    /// A message has too many bytes.
    TooLarge,
    /// A text is not UTF-8.
    NotUtf8,
    /// What came is no WebSocket frame.
    BrokenProtocol,
}

impl From<Slow> for End {
    fn from(_: Slow) -> Self {
        Self::Slow
    }
}

impl From<axum::Error> for End {
    /// The cause's type is private to axum's own version of tungstenite, so its text is what tells them apart; should
    /// that text change, the connection still ends, only without a reason.
    fn from(error: axum::Error) -> Self {
        let text = error.to_string();
        if text.starts_with("Space limit exceeded") {
            Self::TooLarge
        } else if text.starts_with("UTF-8 encoding error") {
            Self::NotUtf8
        } else if text.starts_with("WebSocket protocol error") {
            Self::BrokenProtocol
        } else {
            Self::Gone
        }
    }
}

impl End {
    /// The close frame's code and reason; `None` if the server has nothing to say.
    fn reason(self) -> Option<(u16, &'static str)> {
        match self {
            Self::Gone | Self::Closed => None,
            Self::GoingAway => Some((GOING_AWAY, "the server is stopping; connect again")),
            Self::Slow => Some((SLOW, "the client does not read; resume from the last event")),
            Self::Unauthenticated => Some((UNAUTHENTICATED, "send a valid key or token")),
            Self::TooLarge => Some((TOO_LARGE, "the message is too large")),
            Self::NotUtf8 => Some((NOT_UTF8, "the text is not UTF-8")),
            Self::BrokenProtocol => Some((BROKEN_PROTOCOL, "this is no WebSocket frame")),
        }
    }
}

/// Tells the client why, and lets it answer, so that the reason is not lost with the connection.
pub(super) async fn close(
    app: &App,
    mut sink: SplitSink<WebSocket, Message>,
    mut stream: SplitStream<WebSocket>,
    end: End,
) {
    if end == End::Slow {
        app.metrics.slow_clients.fetch_add(1, Ordering::Relaxed);
        tracing::info!("a WebSocket client was cut off because it did not read");
    }
    if let Some((code, reason)) = end.reason() {
        let frame = Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::from_static(reason) }));
        let send = async {
            tokio::select! {
                sent = sink.send(frame) => sent.is_ok(),
                // A process that stops does not wait for a client that does not read.
                () = async { app.leaving.cancelled().await; tokio::time::sleep(CLOSE_PATIENCE).await } => false,
            }
        };
        let patience = if end == End::Slow { SLOW_CLOSE_PATIENCE } else { CLOSE_PATIENCE };
        if !tokio::time::timeout(patience, send).await.unwrap_or(false) {
            return;
        }
    }
    match end {
        End::Gone => {}
        End::TooLarge | End::NotUtf8 | End::BrokenProtocol => tokio::time::sleep(LINGER).await,
        // The protocol layer has the answer to a close ready; reading on to the end is what sends it.
        End::Closed | End::GoingAway | End::Slow | End::Unauthenticated => {
            let answered = async {
                if sink.flush().await.is_ok() {
                    while let Some(Ok(_)) = stream.next().await {}
                }
            };
            let _ = tokio::time::timeout(CLOSE_PATIENCE, answered).await;
        }
    }
}
