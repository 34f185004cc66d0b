//! How this process is connected with itself and with others: the ports of the bus, whichever bus it is.

use async_trait::async_trait;
use bus::in_process::{InProcessCommands, InProcessFeed, InProcessTasks};
use bus::nats::NatsBus;
use bus::routed::RoutedCommands;
use bus::{BusError, CommandDoors, CommandHandler, Commands, CommitFeed, EventPublisher, TaskQueue};
use domain::ids::Partition;
use std::sync::Arc;

use super::patience::{Hope, Patience};
use crate::config::{NatsConfig, NatsUrl};

/// Which NATS, and how it is used.
#[derive(Debug, Clone)]
pub struct NatsTarget {
    /// Its servers.
    pub url: NatsUrl,
    /// How it is used.
    pub config: NatsConfig,
}

impl NatsTarget {
    /// Connects, within the patience of a start.
    pub(crate) async fn connect(
        &self,
        partitions: u16,
        name: &str,
        patience: Patience,
    ) -> anyhow::Result<NatsBus> {
        let what = format!("NATS at {}", self.url.shown());
        // No kind of failure tells a server that is not up yet from one that will never do.
        let hope = |_: &BusError| Hope::Yes;
        patience
            .wait_for(&what, hope, || NatsBus::connect(self.config.options(&self.url, partitions, name)))
            .await
    }
}

/// The ports of the bus.
pub(crate) struct Connections {
    /// The way to the owners.
    pub(crate) commands: Arc<dyn Commands>,
    /// The owner in this process, once there is one.
    local: InProcessCommands,
    /// Where the commands of others come in.
    pub(crate) doors: Arc<dyn CommandDoors>,
    pub(crate) feed: Arc<dyn CommitFeed>,
    pub(crate) tasks: Arc<dyn TaskQueue>,
    /// Where events are published, if anywhere.
    pub(crate) events: Option<Arc<dyn EventPublisher>>,
    pub(crate) nats: Option<NatsBus>,
}

impl Connections {
    /// Everything stays in this process; events are published all the same if there is a NATS for them.
    pub(crate) fn in_process(nats: Option<NatsBus>) -> Self {
        let local = InProcessCommands::new();
        Self {
            commands: Arc::new(local.clone()),
            local,
            doors: Arc::new(NoDoors),
            feed: Arc::new(InProcessFeed::new()),
            tasks: Arc::new(InProcessTasks::new()),
            events: nats.as_ref().map(NatsBus::events),
            nats,
        }
    }

    /// A member of a cluster.
    pub(crate) fn over(nats: NatsBus) -> Self {
        let local = InProcessCommands::new();
        Self {
            commands: Arc::new(RoutedCommands::new(Arc::new(local.clone()), nats.commands())),
            local,
            doors: nats.doors(),
            feed: nats.feed(),
            tasks: nats.tasks(),
            events: Some(nats.events()),
            nats: Some(nats),
        }
    }

    /// Says who takes commands in this process.
    pub(crate) fn serve(&self, handler: Arc<dyn CommandHandler>) {
        self.local.serve(handler);
    }

    /// Sends what is waiting and closes.
    pub(crate) async fn close(&self) {
        if let Some(nats) = &self.nats {
            nats.close().await;
        }
    }
}

/// For an owner whose commands all come from its own process.
struct NoDoors;

#[async_trait]
impl CommandDoors for NoDoors {
    async fn open(&self, _partition: Partition, _handler: Arc<dyn CommandHandler>) -> Result<(), BusError> {
        Ok(())
    }

    async fn close(&self, _partition: Partition) {}
}
