//! Requests and their answers over one connection.
//!
//! async-nats has requests of its own; these differ in three ways. One that is given up leaves nothing behind (the
//! client keeps the place of an answer that never comes for ever), a lost connection ends all that are waiting at once
//! instead of after their timeout, and several may wait together whose order of sending matters.

use async_nats::{HeaderMap, Message, PublishErrorKind, StatusCode};
use bytes::Bytes;
use futures::StreamExt;
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::oneshot;

use super::connect::{HAND_OVER, Link};
use super::lifetime::Lifetime;
use crate::error::BusError;

/// Why a request was not sent, or not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum AskError {
    /// There is no connection; nothing was sent.
    #[error("there is no connection to NATS")]
    NotConnected,
    /// It is larger than the server takes.
    #[error("the message has {size} bytes and NATS takes {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The server's limit.
        limit: usize,
    },
    /// Nobody listens on the subject.
    #[error("nobody answers on the subject")]
    NoResponders,
    /// The connection was lost while the answer was awaited.
    #[error("the connection to NATS was lost")]
    Lost,
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
}

#[derive(Default)]
struct Pending {
    waiting: Mutex<HashMap<u64, oneshot::Sender<Message>>>,
    next: AtomicU64,
}

impl Pending {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Message>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, message: Message) {
        let token = message.subject.as_str().rsplit('.').next().and_then(|token| token.parse().ok());
        if let Some(sender) = token.and_then(|token: u64| self.waiting().remove(&token)) {
            // Given up meanwhile: the answer is not needed.
            let _ = sender.send(message);
        }
    }
}

/// Sends requests and awaits their answers.
pub(super) struct Requests {
    link: Link,
    inbox: String,
    pending: Arc<Pending>,
}

impl Requests {
    /// Subscribes to the answers.
    pub(super) async fn start(link: Link, lifetime: &Lifetime) -> Result<Self, BusError> {
        let inbox = link.client.new_inbox();
        let answers = link.client.subscribe(format!("{inbox}.*")).await;
        let mut answers = answers.map_err(BusError::of("subscribe to answers on NATS"))?;
        let pending = Arc::new(Pending::default());
        let (waiting, stop, mut losses) = (pending.clone(), lifetime.stop.clone(), link.losses());
        lifetime.spawn(async move {
            loop {
                tokio::select! {
                    answer = answers.next() => match answer {
                        Some(answer) => waiting.answer(answer),
                        None => break,
                    },
                    changed = losses.changed() => match changed {
                        // Whoever waits hears at once that no answer will come.
                        Ok(()) => waiting.waiting().clear(),
                        Err(_) => break,
                    },
                    () = stop.cancelled() => break,
                }
            }
            waiting.waiting().clear();
        });
        Ok(Self { link, inbox, pending })
    }

    /// The largest message, without its headers.
    pub(super) fn max_payload(&self) -> usize {
        self.link.client.max_payload()
    }

    /// The connection.
    pub(super) fn link(&self) -> &Link {
        &self.link
    }

    /// Sends a request; what comes back awaits the answer. Requests that are sent one after the other reach the server
    /// in that order.
    pub(super) async fn send(
        &self,
        subject: String,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answer, AskError> {
        if !self.link.connected() {
            return Err(AskError::NotConnected);
        }
        let size = body.len();
        let token = self.pending.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        self.pending.waiting().insert(token, sender);
        let answer = Answer { receiver, token, pending: self.pending.clone() };
        let reply = format!("{}.{token}", self.inbox);
        let sent = self.link.client.publish_with_reply_and_headers(subject, reply, headers, body);
        match tokio::time::timeout(HAND_OVER, sent).await {
            Ok(Ok(())) => Ok(answer),
            Ok(Err(error)) if error.kind() == PublishErrorKind::MaxPayloadExceeded => {
                Err(AskError::TooLarge { size, limit: self.max_payload() })
            }
            Ok(Err(_)) | Err(_) => Err(AskError::NotConnected),
        }
    }

    /// Sends a request and awaits the answer.
    pub(super) async fn ask(
        &self,
        subject: String,
        headers: HeaderMap,
        body: Bytes,
        patience: Duration,
    ) -> Result<Message, AskError> {
        let answer = self.send(subject, headers, body).await?;
        tokio::time::timeout(patience, answer).await.unwrap_or(Err(AskError::TimedOut))
    }
}

/// The answer to a request, when it comes.
pub(super) struct Answer {
    receiver: oneshot::Receiver<Message>,
    token: u64,
    pending: Arc<Pending>,
}

impl Future for Answer {
    type Output = Result<Message, AskError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver).poll(context).map(|answer| match answer {
            Ok(message) if message.status == Some(StatusCode::NO_RESPONDERS) => Err(AskError::NoResponders),
            Ok(message) => Ok(message),
            Err(_) => Err(AskError::Lost),
        })
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.pending.waiting().remove(&self.token);
    }
}
