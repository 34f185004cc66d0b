//! The component: what it needs, how it runs, how it ends.

use futures::future::join_all;
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use bus::tasks::TaskQueue;
use bus::{CommandDoors, CommandHandler, Commands, CommitFeed, EventPublisher};
use domain::ids::Partition;
use domain::time::Clock;
use event_store::{Checkpoints, Log, Ownership};

use crate::config::CommandServiceConfig;
use crate::dispatcher::Dispatcher;
use crate::error::CommandServiceError;
use crate::handle::CommandServiceHandle;
use crate::handler::Handler;
use crate::owned::{Lease, Owned};
use crate::ownership;
use crate::tenancy::{Household, Inbox};
use crate::wiring::{Parts, ended_early, start};

/// What the command-service needs from the rest of the process.
pub struct CommandServicePorts {
    /// The log.
    pub log: Arc<dyn Log>,
    /// Where commits are announced.
    pub feed: Arc<dyn CommitFeed>,
    /// The way to the workers.
    pub tasks: Arc<dyn TaskQueue>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// With whom partitions are shared; `None`: this process owns all of them for as long as it runs.
    pub cluster: Option<ClusterPorts>,
    /// Where events are published for subscribers outside; `None`: nowhere.
    pub relay: Option<RelayPorts>,
    /// How other streams hear of what concerns them; `None`: they do not, so lanes give no slots, children do not begin
    /// and parents do not hear of their ends.
    pub reactor: Option<ReactorPorts>,
}

impl CommandServicePorts {
    /// For a process that shares nothing, without a relay and a reactor.
    pub fn alone(
        log: Arc<dyn Log>,
        feed: Arc<dyn CommitFeed>,
        tasks: Arc<dyn TaskQueue>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { log, feed, tasks, clock, cluster: None, relay: None, reactor: None }
    }
}

/// Sharing partitions with other processes.
pub struct ClusterPorts {
    /// This process's name, for people.
    pub name: String,
    /// Who owns what.
    pub ownership: Arc<dyn Ownership>,
    /// Where commands come in.
    pub doors: Arc<dyn CommandDoors>,
}

/// Publishing events for subscribers outside.
pub struct RelayPorts {
    /// Where to.
    pub events: Arc<dyn EventPublisher>,
    /// How far it is.
    pub checkpoints: Arc<dyn Checkpoints>,
}

/// Carrying out what events mean for other streams.
pub struct ReactorPorts {
    /// The way to the owners of all streams, this process among them.
    pub commands: Arc<dyn Commands>,
    /// How far it is.
    pub checkpoints: Arc<dyn Checkpoints>,
}

/// The command-service before it runs.
pub struct CommandService {
    config: CommandServiceConfig,
    ports: CommandServicePorts,
    owned: Arc<Owned>,
    dispatcher: Arc<Dispatcher>,
    handler: Arc<Handler>,
    /// One per partition, for a process that shares nothing: its doors are open before it runs.
    inboxes: Vec<Inbox>,
}

impl CommandService {
    /// A service over a log. Where nothing is shared, commands are accepted at once and decided when it runs; otherwise
    /// they are answered `NotOwner` until their partition has been taken over.
    pub fn new(config: CommandServiceConfig, ports: CommandServicePorts) -> Self {
        let partitions = ports.log.partitions();
        let (lease, alone) = match ports.cluster {
            Some(_) => (Lease::Lapsed, 0),
            None => (Lease::Endless, partitions),
        };
        let owned = Arc::new(Owned::new(partitions, lease));
        let dispatcher = Arc::new(Dispatcher::new(config.clone(), ports.tasks.clone(), owned.clone()));
        let inboxes: Vec<Inbox> = (0..alone).map(|_| Household::inbox(&config)).collect();
        for (number, (door, _)) in inboxes.iter().enumerate() {
            owned.open(Partition(number as u16), door.clone());
        }
        let handler = Arc::new(Handler { owned: owned.clone(), dispatcher: dispatcher.clone() });
        Self { config, ports, owned, dispatcher, handler, inboxes }
    }

    /// The way in.
    pub fn handler(&self) -> Arc<dyn CommandHandler> {
        self.handler.clone()
    }

    /// A look into it while it runs.
    pub fn handle(&self) -> CommandServiceHandle {
        CommandServiceHandle { owned: self.owned.clone() }
    }

    /// Owns every partition of the store, or its share of them, until the shutdown; then finishes what was accepted.
    /// Whoever cannot wait for that drops the future, which ends everything.
    ///
    /// # Errors
    /// A partition could not be taken over or was lost, in a process that shares nothing; or a task of it panicked.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), CommandServiceError> {
        let Self { config, ports, owned, dispatcher, handler, inboxes } = self;
        let CommandServicePorts { log, feed, clock, cluster, relay, reactor, .. } = ports;
        let parts = Parts { config, log, feed, clock, owned, dispatcher, handler: handler.clone() };
        let (mut running, household, lost) = start(parts, relay, reactor, cluster.is_some());
        let owning = async {
            match cluster {
                Some(ports) => ownership::share(household, ports, handler, lost, shutdown).await,
                None => alone(household, inboxes, shutdown).await,
            }
        };
        let ended = tokio::select! {
            biased;
            error = running.failed() => Err(error),
            ended = owning => ended,
        };
        match ended {
            Ok(()) => running.end().await,
            Err(error) => {
                running.abort().await;
                Err(error)
            }
        }
    }
}

/// Owns every partition until the shutdown, then finishes what was accepted.
async fn alone(
    household: Household,
    inboxes: Vec<Inbox>,
    shutdown: CancellationToken,
) -> Result<(), CommandServiceError> {
    // All of them first: nothing is decided by a process that cannot have all.
    let mut takeovers = Vec::with_capacity(inboxes.len());
    for number in 0..inboxes.len() {
        let takeover = household.take_over(Partition(number as u16), Uuid::nil()).await;
        takeovers.push(takeover.map_err(|source| CommandServiceError::Start {
            operation: "take its partitions over",
            source,
        })?);
    }
    let mut tasks = JoinSet::new();
    let tenancies: Vec<_> = takeovers
        .into_iter()
        .zip(inboxes)
        .map(|(takeover, inbox)| household.move_in(takeover, inbox, &mut tasks))
        .collect();
    tokio::select! {
        Err(error) = ended_early(&mut tasks) => return Err(error),
        () = shutdown.cancelled() => {}
    }
    for tenancy in &tenancies {
        household.owned.close(tenancy.partition);
    }
    join_all(tenancies.into_iter().map(|tenancy| household.move_out(tenancy))).await;
    // What is still being looked for is found at the next start.
    tasks.shutdown().await;
    Ok(())
}
