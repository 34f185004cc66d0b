//! Each role with its ports, in the order of the start.

use agents::{AgentsConfig, CircuitCounts, WorkerRuntime};
use anyhow::Context;
use command_service::{
    ClusterPorts, CommandService, CommandServiceHandle, CommandServicePorts, ReactorPorts, RelayPorts,
};
use event_store::sealing::MasterKey;
use gateway::{Gateway, GatewayPorts, HealthServer};
use projection_service::{ProjectionHandle, ProjectionService};
use read_models::ReadModels;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::connections::Connections;
use super::scripts::Scripts;
use super::storage::Stores;
use super::{ProcessOptions, Role, only_node};
use crate::readiness;
use crate::supervision::Parts;

/// What the roles are made of.
pub(super) struct Wiring<'a> {
    pub(super) options: &'a ProcessOptions,
    pub(super) name: String,
    pub(super) stores: &'a Stores,
    pub(super) connections: &'a Connections,
    /// Of a process with a gateway.
    pub(super) master_key: Option<MasterKey>,
}

impl Wiring<'_> {
    /// Starts the parts of every role.
    pub(super) fn start(
        &self,
        parts: &mut Parts,
        listener: TcpListener,
        draining: &CancellationToken,
    ) -> anyhow::Result<Option<ProjectionHandle>> {
        let has = |role| self.options.roles.has(role);
        let service = has(Role::CommandService).then(|| self.command_service());
        let owner = service.as_ref().map(CommandService::handle);
        let projections = has(Role::ProjectionService).then(|| self.projections()).transpose()?;
        let handle = projections.as_ref().map(ProjectionService::handle);
        let workers = has(Role::Agents).then(|| self.workers()).transpose()?;
        let circuits = workers.as_ref().map(WorkerRuntime::circuits);
        let readiness = Arc::new(self.readiness(handle.clone(), owner, circuits));
        // Health lives longer than the parts that it tells of. A gateway tells it by itself.
        let mut listener = Some(listener);
        if !has(Role::Gateway)
            && let Some(listener) = listener.take()
        {
            let health = HealthServer::new(readiness.clone(), draining.clone());
            parts.start("health server", |stop| async move {
                health.run(listener, stop).await;
                Ok(())
            });
        }
        if let Some(projections) = projections {
            parts.start("projections", |stop| async move { projections.run(stop).await.map_err(Into::into) });
        }
        if let Some(service) = service {
            self.start_command_service(service, parts);
        }
        if let Some(workers) = workers {
            parts.start("workers", |stop| async move {
                workers.run(stop).await;
                Ok(())
            });
        }
        if let Some(listener) = listener {
            let gateway = self.gateway(readiness)?;
            parts.start(
                "gateway",
                |stop| async move { gateway.run(listener, stop).await.map_err(Into::into) },
            );
        }
        Ok(handle)
    }

    fn projections(&self) -> anyhow::Result<ProjectionService> {
        let (store, feed) = (&self.stores.store, &self.connections.feed);
        let models = self.read_models()?;
        Ok(ProjectionService::new(
            self.options.projections.clone(),
            store.reader.clone(),
            feed.clone(),
            models,
        ))
    }

    fn command_service(&self) -> CommandService {
        let (store, connections) = (&self.stores.store, self.connections);
        let ports = CommandServicePorts {
            log: store.log.clone(),
            feed: connections.feed.clone(),
            tasks: connections.tasks.clone(),
            clock: self.options.clock.clone(),
            cluster: store.ownership.clone().map(|ownership| ClusterPorts {
                name: self.name.clone(),
                ownership,
                doors: connections.doors.clone(),
            }),
            relay: connections
                .events
                .clone()
                .map(|events| RelayPorts { events, checkpoints: store.checkpoints.clone() }),
            reactor: Some(ReactorPorts {
                commands: connections.commands.clone(),
                checkpoints: store.checkpoints.clone(),
            }),
        };
        CommandService::new(self.options.command_service.clone(), ports)
    }

    fn start_command_service(&self, service: CommandService, parts: &mut Parts) {
        self.connections.serve(service.handler());
        parts.start("command-service", |stop| async move { service.run(stop).await.map_err(Into::into) });
        let ownership = self.stores.store.ownership.clone();
        if let Some(ownership) = ownership.filter(|_| !self.options.is_member()) {
            let name = self.name.clone();
            parts.start("watch for other nodes", |stop| only_node::watch(ownership, name, stop));
        }
    }

    fn workers(&self) -> anyhow::Result<WorkerRuntime> {
        let configured = self.options.agents.clone();
        // A worker's name is unique among running workers, so in a cluster the default will not do.
        let named = !self.options.is_member() || configured.worker != AgentsConfig::default().worker;
        let worker = if named { configured.worker.clone() } else { Arc::from(&*self.name) };
        let sandbox = self.options.sandbox.clone();
        WorkerRuntime::new(
            AgentsConfig { worker, sandbox, ..configured },
            self.connections.tasks.clone(),
            self.connections.commands.clone(),
            self.stores.store.blobs.clone(),
            self.options.clock.clone(),
        )
        .context("the workers cannot start")
    }

    fn gateway(&self, readiness: Arc<readiness::Parts>) -> anyhow::Result<Gateway> {
        let (store, connections) = (&self.stores.store, self.connections);
        let ports = GatewayPorts {
            commands: connections.commands.clone(),
            log: store.reader.clone(),
            feed: connections.feed.clone(),
            models: self.read_models()?,
            readiness,
            blobs: store.blobs.clone(),
            verifiers: store.verifiers.clone(),
            rates: store.rates.clone(),
            master_key: self.master_key.clone().context("a gateway needs the master key")?,
            clock: self.options.clock.clone(),
            scripts: Arc::new(Scripts::new(&self.options.sandbox)),
        };
        Ok(Gateway::new(self.options.gateway.clone(), ports))
    }

    fn readiness(
        &self,
        projections: Option<ProjectionHandle>,
        owner: Option<CommandServiceHandle>,
        circuits: Option<CircuitCounts>,
    ) -> readiness::Parts {
        // Projections follow the log without NATS too, and an embedded process only publishes there.
        let carries = [Role::CommandService, Role::Gateway, Role::Agents];
        let carries = self.options.is_member() && carries.iter().any(|role| self.options.roles.has(*role));
        readiness::Parts {
            store: self.stores.store.clone(),
            read_models: self.stores.read_models.clone(),
            projections,
            nats: self.connections.nats.clone(),
            bus: if carries { readiness::Bus::Needed } else { readiness::Bus::Useful },
            owner,
            circuits,
        }
    }

    fn read_models(&self) -> anyhow::Result<ReadModels> {
        self.stores.read_models.clone().context("this role needs the read models, which are not open")
    }
}
