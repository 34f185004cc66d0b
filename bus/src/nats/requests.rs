//! Requests and their answers over one connection.
//!
//! async-nats has requests of its own; these differ in three ways. One that is given up leaves nothing behind (the
//! client keeps the place of an answer that never comes for ever), a lost connection ends all that are waiting at once
//! instead of after their timeout, and several may wait together whose order of sending matters. And a request may
//! have several answers: of those who listen on its subject, the first to answer need not be the one who is asked.

use async_nats::{HeaderMap, Message, PublishErrorKind, StatusCode};
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{Stream, StreamExt};
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use super::connect::{HAND_OVER, Link};
use super::lifetime::Lifetime;
use crate::error::BusError;

/// Answers to one request that may wait to be looked at: a process behind an open door gives one.
const ANSWERS: usize = 64;

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
    waiting: Mutex<HashMap<u64, mpsc::Sender<Message>>>,
    next: AtomicU64,
}

impl Pending {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u64, mpsc::Sender<Message>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, message: Message) {
        let token = message.subject.as_str().rsplit('.').next().and_then(|token| token.parse().ok());
        let mut waiting = self.waiting();
        // The place stays until the request is given up: a better answer may follow.
        if let Some(sender) = token.and_then(|token: u64| waiting.get_mut(&token)) {
            let _ = sender.try_send(message);
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

    /// Sends a request; what comes back awaits the answers. Requests that are sent one after the other reach the server
    /// in that order.
    pub(super) async fn send(
        &self,
        subject: String,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<Answers, AskError> {
        if !self.link.connected() {
            return Err(AskError::NotConnected);
        }
        let size = body.len();
        let token = self.pending.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mpsc::channel(ANSWERS);
        self.pending.waiting().insert(token, sender);
        let answers = Answers { receiver, token, ended: false, pending: self.pending.clone() };
        let reply = format!("{}.{token}", self.inbox);
        let sent = self.link.client.publish_with_reply_and_headers(subject, reply, headers, body);
        match tokio::time::timeout(HAND_OVER, sent).await {
            Ok(Ok(())) => Ok(answers),
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
        let answers = self.send(subject, headers, body).await?;
        tokio::time::timeout(patience, answers.first()).await.unwrap_or(Err(AskError::TimedOut))
    }
}

/// The answers to a request, as they come. The last word is that the connection was lost, or that nobody listens.
pub(super) struct Answers {
    receiver: mpsc::Receiver<Message>,
    token: u64,
    ended: bool,
    pending: Arc<Pending>,
}

impl Answers {
    /// The first one, where there is only one.
    pub(super) async fn first(mut self) -> Result<Message, AskError> {
        self.next().await.unwrap_or(Err(AskError::Lost))
    }
}

impl Stream for Answers {
    type Item = Result<Message, AskError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        Pin::new(&mut self.receiver).poll_next(context).map(|answer| match answer {
            Some(message) if message.status == Some(StatusCode::NO_RESPONDERS) => {
                self.ended = true;
                Some(Err(AskError::NoResponders))
            }
            Some(message) => Some(Ok(message)),
            None => {
                self.ended = true;
                Some(Err(AskError::Lost))
            }
        })
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        self.pending.waiting().remove(&self.token);
    }
}
