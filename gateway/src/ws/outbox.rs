//! The messages that wait for a client: bounded in bytes, written in groups.

use axum::extract::ws::Message;
use futures::{Sink, SinkExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// What a message weighs beside its text.
const OVERHEAD: u32 = 64;
/// Messages that wait at most, however small.
const MESSAGES: usize = 4_096;
/// Messages written before the socket is flushed.
const GROUP: usize = 64;

/// The connection's side.
pub(super) struct Outbox {
    sender: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    limit: u32,
    patience: Duration,
}

/// The socket's side.
pub(super) struct Outgoing(mpsc::Receiver<Waiting>);

/// A message with its share of the room.
struct Waiting {
    message: Message,
    room: OwnedSemaphorePermit,
}

/// The client has read nothing for too long.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Slow;

/// An outbox for `limit` bytes.
pub(super) fn outbox(limit: u32, patience: Duration) -> (Outbox, Outgoing) {
    let (sender, receiver) = mpsc::channel(MESSAGES);
    let limit = limit.max(OVERHEAD);
    (Outbox { sender, room: Arc::new(Semaphore::new(limit as usize)), limit, patience }, Outgoing(receiver))
}

impl Outbox {
    /// Adds a message, waiting for room for a while.
    pub(super) async fn push(&self, message: Message) -> Result<(), Slow> {
        let length = match &message {
            Message::Text(text) => text.len(),
            Message::Binary(data) | Message::Ping(data) | Message::Pong(data) => data.len(),
            Message::Close(_) => 0,
        };
        // A message larger than the whole room takes all of it, and is alone.
        let weight = u32::try_from(length).unwrap_or(u32::MAX).saturating_add(OVERHEAD).min(self.limit);
        let room = match self.room.clone().try_acquire_many_owned(weight) {
            Ok(room) => room,
            Err(_) => {
                let room = self.room.clone().acquire_many_owned(weight);
                tokio::time::timeout(self.patience, room).await.map_err(|_| Slow)?.map_err(|_| Slow)?
            }
        };
        self.sender.send_timeout(Waiting { message, room }, self.patience).await.map_err(|_| Slow)
    }
}

impl Outgoing {
    /// Writes messages until the outbox or the socket is gone.
    pub(super) async fn write_to<S>(mut self, sink: &mut S)
    where
        S: Sink<Message> + Unpin,
    {
        let mut rooms = Vec::with_capacity(GROUP);
        while let Some(first) = self.0.recv().await {
            let mut next = Some(first);
            while let Some(Waiting { message, room }) = next {
                rooms.push(room);
                if sink.feed(message).await.is_err() {
                    return;
                }
                next = if rooms.len() < GROUP { self.0.try_recv().ok() } else { None };
            }
            if sink.flush().await.is_err() {
                return;
            }
            // Only what has left the process makes room.
            rooms.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_client_that_reads_nothing_is_slow_once_the_outbox_is_full() {
        let (outbox, outgoing) = outbox(1_000, Duration::from_millis(20));
        let text = |length: usize| Message::text("x".repeat(length));
        assert_eq!(outbox.push(text(500)).await, Ok(()));
        assert_eq!(outbox.push(text(300)).await, Ok(()));
        assert_eq!(outbox.push(text(300)).await, Err(Slow));
        drop(outgoing);
    }

    #[tokio::test]
    async fn what_was_written_makes_room_and_order_is_kept() {
        let (outbox, outgoing) = outbox(400, Duration::from_secs(5));
        let mut written = Vec::new();
        let write = async {
            let (sender, mut receiver) = futures::channel::mpsc::unbounded();
            let mut sender = sender.sink_map_err(|_| ());
            outgoing.write_to(&mut sender).await;
            drop(sender);
            while let Ok(message) = receiver.try_recv() {
                written.push(message);
            }
        };
        let push = async move {
            for number in 0..20 {
                outbox.push(Message::text(format!("{number:0200}"))).await.expect("room comes");
            }
        };
        tokio::join!(write, push);
        let texts: Vec<_> =
            written.iter().map(|m| m.to_text().expect("text").parse::<u32>().expect("a number")).collect();
        assert_eq!(texts, (0..20).collect::<Vec<_>>());
    }
}
