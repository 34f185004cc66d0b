//! The bus between processes: NATS and JetStream.

use std::sync::Arc;
use std::time::Duration;

use crate::commands::{CommandDoors, Commands};
use crate::error::BusError;
use crate::events::EventPublisher;
use crate::feed::CommitFeed;
use crate::tasks::TaskQueue;

/// How the bus is reached and what its streams keep.
#[derive(Clone)]
pub struct NatsOptions {
    /// `nats://[user:password@|token@]host:port`, several separated by commas; `tls://` for TLS. Never shown.
    pub url: String,
    /// What the server shows as the name of the connections, for people.
    pub name: String,
    /// Partitions of the log.
    pub partitions: u16,
    /// How long a command is sent again while nobody answers for its partition.
    pub command_deadline: Duration,
    /// How long `EVERLINE_EVENTS` keeps an event.
    pub events_max_age: Duration,
    /// The most bytes of `EVERLINE_EVENTS`; the oldest events go first.
    pub events_max_bytes: u64,
    /// Copies of each stream in a JetStream cluster.
    pub replicas: u8,
}

impl NatsOptions {
    /// Defaults for a URL.
    pub fn new(url: impl Into<String>, partitions: u16) -> Self {
        Self {
            url: url.into(),
            name: "everline".to_owned(),
            partitions,
            command_deadline: Duration::from_secs(15),
            events_max_age: Duration::from_secs(7 * 24 * 60 * 60),
            events_max_bytes: 8 * 1024 * 1024 * 1024,
            replicas: 1,
        }
    }
}

/// A connection to NATS with everything that Everline does over it. Cheap to clone.
#[derive(Clone)]
pub struct NatsBus {}

/// What is known of the connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BusStatus {
    /// Whether the server answers now.
    pub connected: bool,
    /// The server's version, such as `2.9.10`.
    pub server_version: String,
}

impl NatsBus {
    /// Connects, and creates and checks the streams. Fails if the server cannot be reached, has no JetStream, or holds
    /// a stream of the same name with a configuration that cannot be made ours.
    pub async fn connect(_options: NatsOptions) -> Result<Self, BusError> {
        Err(BusError { operation: "SKELETON".to_owned(), source: "SKELETON".into() })
    }

    /// Sends commands to whoever has opened the door of their partition.
    pub fn commands(&self) -> Arc<dyn Commands> {
        unimplemented!()
    }

    /// Where this process takes commands.
    pub fn doors(&self) -> Arc<dyn CommandDoors> {
        unimplemented!()
    }

    /// The commit feed.
    pub fn feed(&self) -> Arc<dyn CommitFeed> {
        unimplemented!()
    }

    /// The task queue, for owners and workers.
    pub fn tasks(&self) -> Arc<dyn TaskQueue> {
        unimplemented!()
    }

    /// The stream of published events, with a connection of its own.
    pub fn events(&self) -> Arc<dyn EventPublisher> {
        unimplemented!()
    }

    /// Whether the server answers, and which it is.
    pub fn status(&self) -> BusStatus {
        unimplemented!()
    }

    /// Sends what is waiting and closes.
    pub async fn close(&self) {}
}
