//! The bus between processes: NATS and JetStream.
//!
//! ```text
//!   connection   carries                                            hears itself   comes back
//!   -commands    everline.cmd.<p>, request and reply                 yes            always
//!   -feed        everline.log.<p>                                    no             always
//!   -tasks       EVERLINE_TASKS, everline.beat.<p>, everline.cancel  no             always
//!   -events      EVERLINE_EVENTS                                     no             never: `reset` makes another
//! ```
//!
//! Nothing here is the truth, and nothing here stops a committer: what is published is queued, bounded, and either sent
//! again (tasks) or found missing by its reader (feed). NATS 2.9 is enough; what newer servers add is used after their
//! version was read, and the configuration is read back.

mod api;
mod commands;
mod connect;
mod doors;
mod events;
mod feed;
mod inspect;
mod lifetime;
mod requests;
mod streams;
mod subjects;
mod tasks;
mod wire;

pub use inspect::{NatsReport, StreamReport, inspect};

use std::sync::Arc;
use std::time::Duration;

use self::commands::NatsCommands;
use self::connect::{Echo, Endpoint, Link};
use self::doors::NatsDoors;
use self::events::NatsEvents;
use self::feed::NatsFeed;
use self::lifetime::Lifetime;
use self::requests::Requests;
use self::streams::{ensure_stream, events_stream, tasks_stream};
use self::tasks::NatsTasks;
use crate::commands::{CommandDoors, Commands};
use crate::error::BusError;
use crate::events::EventPublisher;
use crate::feed::CommitFeed;
use crate::tasks::TaskQueue;

/// How long closing waits for what is on its way.
const LAST_MESSAGES: Duration = Duration::from_secs(2);

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
            events_max_bytes: 1024 * 1024 * 1024,
            replicas: 1,
        }
    }
}

/// A connection to NATS with everything that Everline does over it. Cheap to clone.
#[derive(Clone)]
pub struct NatsBus {
    inner: Arc<Inner>,
}

struct Inner {
    options: NatsOptions,
    endpoint: Endpoint,
    lifetime: Lifetime,
    links: [Link; 3],
    commands: Arc<NatsCommands>,
    doors: Arc<NatsDoors>,
    feed: Arc<NatsFeed>,
    tasks: Arc<NatsTasks>,
}

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
    pub async fn connect(options: NatsOptions) -> Result<Self, BusError> {
        let endpoint = Endpoint::parse(&options.url)?;
        let lifetime = Lifetime::new();
        let connected = Inner::connect(options, endpoint, lifetime.clone()).await;
        if connected.is_err() {
            lifetime.end().await;
        }
        Ok(Self { inner: Arc::new(connected?) })
    }

    /// Sends commands to whoever has opened the door of their partition.
    pub fn commands(&self) -> Arc<dyn Commands> {
        self.inner.commands.clone()
    }

    /// Where this process takes commands.
    pub fn doors(&self) -> Arc<dyn CommandDoors> {
        self.inner.doors.clone()
    }

    /// The commit feed.
    pub fn feed(&self) -> Arc<dyn CommitFeed> {
        self.inner.feed.clone()
    }

    /// The task queue, for owners and workers.
    pub fn tasks(&self) -> Arc<dyn TaskQueue> {
        self.inner.tasks.clone()
    }

    /// The stream of published events, with a connection of its own.
    pub fn events(&self) -> Arc<dyn EventPublisher> {
        let Inner { endpoint, options, lifetime, .. } = &*self.inner;
        Arc::new(NatsEvents::new(endpoint.clone(), options.clone(), lifetime.clone()))
    }

    /// Whether the server answers, and which it is.
    pub fn status(&self) -> BusStatus {
        BusStatus {
            connected: self.inner.links.iter().all(Link::connected),
            server_version: self.inner.links[0].version(),
        }
    }

    /// Sends what is waiting, for [`LAST_MESSAGES`] at most, and closes. Who waits for a task, a beat or a commit is
    /// told that there are no more.
    pub async fn close(&self) {
        self.inner.tasks.flush(LAST_MESSAGES).await;
        self.inner.lifetime.end().await;
        for link in self.inner.links.iter().filter(|link| link.connected()) {
            let _ = tokio::time::timeout(LAST_MESSAGES, link.client.flush()).await;
            let _ = tokio::time::timeout(LAST_MESSAGES, link.client.drain()).await;
        }
    }
}

impl Inner {
    async fn connect(options: NatsOptions, endpoint: Endpoint, lifetime: Lifetime) -> Result<Self, BusError> {
        let first = Link::open(&endpoint, &options.connection_name("commands"), Echo::Yes).await?;
        first.check_version(&endpoint)?;
        let quiet = Link::open(&endpoint, &options.connection_name("feed"), Echo::No).await?;
        let queue = Link::open(&endpoint, &options.connection_name("tasks"), Echo::No).await?;
        let links = [first.clone(), quiet.clone(), queue.clone()];
        let requests = Arc::new(Requests::start(queue, &lifetime).await?);
        let stream = tasks_stream(&options);
        ensure_stream(&requests, &stream).await?;
        ensure_stream(&requests, &events_stream(&options, first.at_least(2, 10))).await?;
        let commands = NatsCommands {
            requests: Arc::new(Requests::start(first.clone(), &lifetime).await?),
            partitions: options.partitions,
            deadline: options.command_deadline,
        };
        tracing::info!(
            nats.server = %endpoint.shown, nats.version = %first.version(),
            "connected to NATS; the streams are as they must be"
        );
        Ok(Self {
            commands: Arc::new(commands),
            doors: Arc::new(NatsDoors::new(first, lifetime.clone())),
            feed: Arc::new(NatsFeed::start(quiet, lifetime.clone())),
            tasks: Arc::new(NatsTasks::start(requests, stream, options.partitions, lifetime.clone())),
            options,
            endpoint,
            lifetime,
            links,
        })
    }
}
