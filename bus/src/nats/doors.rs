//! Where an owner takes the commands of its partitions.

use async_nats::{Message, Subscriber};
use async_trait::async_trait;
use futures::StreamExt;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Mutex as AsyncMutex, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use domain::ids::Partition;

use super::commands::SEND_HEADER;
use super::connect::{HAND_OVER, Link};
use super::lifetime::Lifetime;
use super::{subjects, wire};
use crate::commands::{CommandDoors, CommandError, CommandHandler, CommandReply};
use crate::error::BusError;

/// Commands that a process has under way for others at once.
const AT_ONCE: usize = 1_024;
/// How long commands that had come in before a door was closed may take.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// How long the server may take to end a subscription.
const UNSUBSCRIBE: Duration = Duration::from_secs(1);
/// Room for headers in a reply.
const HEADERS: usize = 1_024;

/// Takes commands over NATS.
pub(super) struct NatsDoors {
    shared: Arc<Shared>,
    lifetime: Lifetime,
    doors: AsyncMutex<HashMap<Partition, Door>>,
}

struct Shared {
    link: Link,
    permits: Arc<Semaphore>,
    /// The sends that are being decided: a further attempt of one of them has nothing to add.
    deciding: Mutex<HashSet<String>>,
}

struct Door {
    closing: CancellationToken,
    closed: CancellationToken,
}

impl NatsDoors {
    pub(super) fn new(link: Link, lifetime: Lifetime) -> Self {
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        Self {
            shared: Arc::new(Shared { link, permits, deciding: Mutex::default() }),
            lifetime,
            doors: AsyncMutex::default(),
        }
    }
}

#[async_trait]
impl CommandDoors for NatsDoors {
    async fn open(&self, partition: Partition, handler: Arc<dyn CommandHandler>) -> Result<(), BusError> {
        let mut doors = self.doors.lock().await;
        if let Some(old) = doors.remove(&partition) {
            old.closing.cancel();
        }
        let link = &self.shared.link;
        let operation = || format!("take the commands of partition {partition}");
        let subscribed =
            tokio::time::timeout(HAND_OVER, link.client.subscribe(subjects::command(partition))).await;
        let subscriber = subscribed.map_err(BusError::of(operation()))?.map_err(BusError::of(operation()))?;
        // Without a connection the subscription is made as soon as there is one, and until then nobody asks.
        if link.connected()
            && let Err(error) = link.round_trip().await
            && link.connected()
        {
            return Err(error);
        }
        let door = Door { closing: self.lifetime.stop.child_token(), closed: CancellationToken::new() };
        let (closing, closed) = (door.closing.clone(), door.closed.clone());
        let shared = self.shared.clone();
        self.lifetime.spawn(async move {
            serve(shared, handler, subscriber, closing).await;
            closed.cancel();
        });
        doors.insert(partition, door);
        Ok(())
    }

    async fn close(&self, partition: Partition) {
        let door = self.doors.lock().await.remove(&partition);
        if let Some(door) = door {
            door.closing.cancel();
            door.closed.cancelled().await;
        }
    }
}

async fn serve(
    shared: Arc<Shared>,
    handler: Arc<dyn CommandHandler>,
    mut subscriber: Subscriber,
    closing: CancellationToken,
) {
    let under_way = TaskTracker::new();
    loop {
        let message = tokio::select! {
            message = subscriber.next() => message,
            () = closing.cancelled() => break,
        };
        match message {
            Some(message) => shared.take(&handler, message, &under_way).await,
            None => break,
        }
    }
    let rest = async {
        if subscriber.drain().await.is_ok() {
            while let Some(message) = subscriber.next().await {
                shared.take(&handler, message, &under_way).await;
            }
        }
    };
    let _ = tokio::time::timeout(UNSUBSCRIBE, rest).await;
    under_way.close();
    // What takes longer is still answered; the door does not wait for it.
    let _ = tokio::time::timeout(LAST_ANSWERS, under_way.wait()).await;
}

impl Shared {
    async fn take(
        self: &Arc<Self>,
        handler: &Arc<dyn CommandHandler>,
        message: Message,
        under_way: &TaskTracker,
    ) {
        let Some(reply) = message.reply.as_ref().map(ToString::to_string) else {
            return;
        };
        let send = message.headers.as_ref().and_then(|headers| headers.get(SEND_HEADER));
        let send = send.map_or_else(|| reply.clone(), ToString::to_string);
        if !self.deciding().insert(send.clone()) {
            return;
        }
        let deciding = Deciding { shared: self.clone(), send };
        match self.permits.clone().try_acquire_owned() {
            Ok(permit) => {
                under_way.spawn(decide(deciding, handler.clone(), message, reply, permit));
            }
            Err(_) => self.answer(reply, Err(CommandError::Overloaded)).await,
        }
    }

    async fn answer(&self, reply: String, result: Result<CommandReply, CommandError>) {
        let limit = self.link.client.max_payload().saturating_sub(HEADERS);
        if !self.link.publish(reply, wire::encode_reply(result, limit)).await {
            tracing::debug!("a command's answer could not be sent; its sender asks again");
        }
    }

    fn deciding(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.deciding.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A send that is being decided, until it is answered or given up.
struct Deciding {
    shared: Arc<Shared>,
    send: String,
}

impl Drop for Deciding {
    fn drop(&mut self) {
        self.shared.deciding().remove(&self.send);
    }
}

async fn decide(
    deciding: Deciding,
    handler: Arc<dyn CommandHandler>,
    message: Message,
    reply: String,
    _permit: OwnedSemaphorePermit,
) {
    let result = match wire::decode_command(&message.payload) {
        Ok(command) => handler.handle(command).await,
        Err(error) => {
            tracing::error!("a command from another process was not read: {error}");
            Err(CommandError::Unknown(error.to_string().into()))
        }
    };
    deciding.shared.answer(reply, result).await;
}
