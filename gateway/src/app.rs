//! What every route shares: the ports, and the gateway's own bounded state.

use bus::Commands;
use bytes::Bytes;
use domain::ids::Partition;
use domain::time::Clock;
use event_store::blobs::Blobs;
use event_store::log::LogReader;
use event_store::sealing::MasterKey;
use event_store::verifiers::Verifiers;
use read_models::ReadModels;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::access::{Rights, Things};
use crate::audit::Recorder;
use crate::auth::Authenticator;
use crate::auth::device::DeviceLogins;
use crate::auth::sessions::Sessions;
use crate::auth::signing::AccessTokens;
use crate::cache::{self, ExecutionCache};
use crate::config::{GatewayConfig, ms};
use crate::definitions::Definitions;
use crate::directory::Directory;
use crate::failure::Failure;
use crate::gateway::{GatewayPorts, Readiness};
use crate::limits::Limits;
use crate::live::Hub;
use crate::metrics::Metrics;
use crate::oidc::Providers;
use crate::scripts::ScriptEvaluator;
use crate::status;
use crate::variables::VariablesReader;

/// The shared state of all routes.
pub(crate) struct App {
    pub(crate) config: GatewayConfig,
    pub(crate) log: Arc<dyn LogReader>,
    pub(crate) blobs: Arc<dyn Blobs>,
    pub(crate) commands: Arc<dyn Commands>,
    pub(crate) models: ReadModels,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) readiness: Arc<dyn Readiness>,
    pub(crate) scripts: Arc<dyn ScriptEvaluator>,
    pub(crate) auth: Arc<Authenticator>,
    pub(crate) directory: Arc<Directory>,
    pub(crate) things: Arc<Things>,
    pub(crate) rights: Arc<Rights>,
    #[cfg(debug_assertions)]
    pub(crate) weakness: crate::access::Weakness,
    pub(crate) verifiers: Arc<dyn Verifiers>,
    /// Changes that a tenant's last administrator could be lost by take turns.
    pub(crate) admin_changes: tokio::sync::Mutex<()>,
    pub(crate) sessions: Sessions,
    pub(crate) devices: DeviceLogins,
    pub(crate) providers: Providers,
    pub(crate) master_key: MasterKey,
    pub(crate) limits: Limits,
    pub(crate) audit: Recorder,
    pub(crate) hub: Arc<Hub>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) definitions: Definitions,
    pub(crate) executions: ExecutionCache,
    pub(crate) variables: VariablesReader,
    /// Cancelled when the process is asked to stop: `/readyz` fails, and answers end their connections.
    pub(crate) draining: CancellationToken,
    /// Cancelled when load balancers have had time to see that: streams and WebSockets end, so that their clients come
    /// back somewhere else.
    pub(crate) leaving: CancellationToken,
    /// WebSocket connections, so that the gateway waits for their end.
    pub(crate) sockets: TaskTracker,
    /// The OpenAPI document, written once.
    pub(crate) openapi: Bytes,
    /// A bulk job was asked for.
    pub(crate) bulk_asked: Notify,
    streams: Arc<Semaphore>,
    evaluations: Arc<Semaphore>,
    /// One permit per byte of a body.
    bodies: Arc<Semaphore>,
    in_flight: AtomicU32,
}

/// A request that is being answered; counts until it is dropped.
pub(crate) struct InFlight<'a>(&'a AtomicU32);

impl App {
    pub(crate) fn new(config: GatewayConfig, ports: GatewayPorts, openapi: Bytes) -> Self {
        let partitions = ports.log.partitions();
        let trusted = ms(config.auth_cache_ms / 2);
        let directory = Arc::new(Directory::new(ports.log.clone(), config.auth_cache_entries, trusted));
        let (verifiers, master_key) = (ports.verifiers.clone(), ports.master_key.clone());
        let tokens = Arc::new(AccessTokens::new(verifiers, ports.clock.clone(), master_key, &config));
        let auth = Arc::new(Authenticator::new(
            ports.verifiers.clone(),
            directory.clone(),
            (tokens.clone(), ports.master_key.clone()),
            ports.clock.clone(),
            &config,
            partitions,
        ));
        let master_key = ports.master_key;
        let sessions = Sessions::new(auth.clone(), tokens, master_key.clone(), &config);
        let things = Arc::new(Things::new(ports.log.clone(), trusted));
        let rights = Arc::new(Rights::new(auth.clone(), directory.clone(), things.clone()));
        let hub = Arc::new(Hub::new(ms(config.idle_reread_ms.max(10))));
        hub.listen(rights.clone());
        Self {
            auth,
            directory,
            things,
            rights,
            #[cfg(debug_assertions)]
            weakness: crate::access::Weakness::default(),
            verifiers: ports.verifiers.clone(),
            providers: Providers::new(&config),
            master_key,
            devices: DeviceLogins::new(ports.verifiers, ports.clock.clone()),
            admin_changes: tokio::sync::Mutex::new(()),
            sessions,
            limits: Limits::new(config.limits.clone(), config.login_failures_per_minute, ports.rates),
            audit: Recorder::new(config.audit_buffer_entries),
            hub,
            metrics: Arc::new(Metrics::default()),
            definitions: Definitions::new(),
            executions: ExecutionCache::new(config.cache_bytes as usize, partitions),
            variables: VariablesReader::new(),
            draining: CancellationToken::new(),
            leaving: CancellationToken::new(),
            sockets: TaskTracker::new(),
            openapi,
            bulk_asked: Notify::new(),
            streams: Arc::new(Semaphore::new(config.max_streams as usize)),
            evaluations: Arc::new(Semaphore::new(config.evaluations.max(1) as usize)),
            // A single body always fits.
            bodies: Arc::new(Semaphore::new(
                config.max_body_bytes_in_flight.max(config.max_body_bytes) as usize
            )),
            in_flight: AtomicU32::new(0),
            log: ports.log,
            blobs: ports.blobs,
            commands: ports.commands,
            models: ports.models,
            clock: ports.clock,
            readiness: ports.readiness,
            scripts: ports.scripts,
            config,
        }
    }

    /// Counts a request in, unless there are too many.
    pub(crate) fn admit(&self) -> Result<InFlight<'_>, Failure> {
        let guard = InFlight(&self.in_flight);
        if self.in_flight.fetch_add(1, Ordering::Relaxed) >= self.config.max_in_flight {
            return Err(Failure::new(status::OVERLOADED, "too many requests at once; try again shortly"));
        }
        Ok(guard)
    }

    /// A place for a stream or WebSocket connection.
    pub(crate) fn stream_place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        self.streams.clone().try_acquire_owned().map_err(|_| {
            Failure::new(status::OVERLOADED, "too many open streams; close some, or try again later")
        })
    }

    /// Room for the bytes of a body, until it is read.
    pub(crate) fn body_room(&self, bytes: u32) -> Result<OwnedSemaphorePermit, Failure> {
        self.bodies.clone().try_acquire_many_owned(bytes).map_err(|_| {
            Failure::new(status::OVERLOADED, "too many bytes of bodies at once; try again shortly")
        })
    }

    /// A turn for work that keeps a thread busy.
    pub(crate) async fn evaluation_turn(&self) -> Result<OwnedSemaphorePermit, Failure> {
        let overloaded =
            || Failure::new(status::OVERLOADED, "too many evaluations at once; try again shortly");
        let turn = self.evaluations.clone().acquire_owned();
        tokio::time::timeout(std::time::Duration::from_secs(5), turn)
            .await
            .map_err(|_| overloaded())?
            .map_err(|_| overloaded())
    }

    /// The gateway's counters as Prometheus text.
    pub(crate) fn counters(&self) -> String {
        let mut text = self.metrics.render();
        text.push_str(&cache::render(&[
            ("executions", &self.executions.counted),
            ("definitions", &self.definitions.counted),
            ("principals", self.auth.counted()),
        ]));
        let name = "everline_cache_bytes";
        let (help, bytes) = ("Bytes of rendered executions that are kept.", self.executions.bytes());
        text.push_str(&format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {bytes}\n"));
        text.push_str(&self.limits.metrics());
        text.push_str(&self.audit.metrics());
        text
    }

    /// The partition of a stream.
    pub(crate) fn partition_of(&self, stream: Uuid) -> Partition {
        Partition::of(stream, self.log.partitions())
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
