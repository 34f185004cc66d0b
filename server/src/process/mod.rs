//! One process: any set of roles, over any stores and bus.
//!
//! ```text
//!   start:  listener ─ stores ─ bus ─ admin ─ [health] ─ projections ─ command-service ─ workers ─ gateway
//!   stop:   gateway (drains) ─ workers ─ command-service (gives its partitions up) ─ projections ─ [health] ─ bus ─ stores
//! ```
//!
//! | stores   | bus        | roles      |                                                                            |
//! |----------|------------|------------|----------------------------------------------------------------------------|
//! | SQLite   | in-process | all        | the embedded process                                                       |
//! | SQLite   | NATS       | all        | the same, and events are published on NATS for subscribers                 |
//! | Postgres | in-process | all        | the only process; a second one is refused                                  |
//! | Postgres | NATS       | any        | a member of a cluster                                                      |
//!
//! Invariants: the port is bound before anything is created, so that a start that fails for it leaves nothing behind;
//! nobody is answered before every part runs; a part that ends takes the process with it. Deliberately absent:
//! decisions about configuration layers ([`crate::config`]) and anything that the parts do.

mod connections;
mod first_admin;
mod master_key;
mod only_node;
mod patience;
mod roles;
mod scripts;
mod storage;
mod wiring;

use agents::{AgentsConfig, EgressConfig};
use anyhow::Context;
use command_service::CommandServiceConfig;
use domain::time::Clock;
use event_store::blobs::BlobOptions;
use event_store::sealing::MasterKey;
use event_store::sqlite::SqliteLog;
use gateway::GatewayConfig;
use projection_service::{ProjectionConfig, ProjectionHandle};
use read_models::ReadModels;
use sandbox::SandboxConfig;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use connections::NatsTarget;
pub(crate) use patience::Patience;
pub use roles::{Role, Roles};
pub use storage::Storage;
pub(crate) use storage::{Extent, Missing, Stores, create_parent, create_private};

use crate::admin::AdminKey;
use crate::clock::SystemClock;
use crate::config::{Config, ConfigError, admin_key_path};
use crate::secret::Secret;
use crate::supervision::Parts;
use connections::Connections;
use first_admin::Wanted;

/// What the start of a process cannot do anything about.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Something that it needs does not answer.
    #[error(
        "{what} could not be used within {waited_ms} ms (startup_timeout_ms): {reason}; start it, or correct its URL"
    )]
    Unavailable {
        /// What it is, without secrets.
        what: String,
        /// How long it was waited for.
        waited_ms: u128,
        /// What was said last.
        reason: String,
    },
    /// The store has another owner, and there is no NATS to share it over.
    #[error(
        "another node lives on this database: `{name}`; stop it, or set nats_url for both so that they share the work"
    )]
    AnotherNode {
        /// Its name.
        name: String,
    },
}

/// What a process is started with.
#[derive(Clone)]
pub struct ProcessOptions {
    /// What it does.
    pub roles: Roles,
    /// Where the data is.
    pub storage: Storage,
    /// Where large values are kept; `None`: in the log's database.
    pub blobs: Option<BlobOptions>,
    /// The bus between processes; `None`: nothing leaves this one.
    pub nats: Option<NatsTarget>,
    /// Where HTTP is served; port 0 takes any free port.
    pub listen: SocketAddr,
    /// Partitions of a log that is created; `None`: 16, or what an existing log has.
    pub partitions: Option<u16>,
    /// E-mail address of the admin that the first start creates.
    pub admin_email: String,
    /// Their password; a random one if absent.
    pub admin_password: Option<Secret>,
    /// What seals signing keys and seeds; `None`: the one beside an embedded store, made by its first start.
    pub master_key: Option<MasterKey>,
    /// How long the start waits for Postgres and NATS.
    pub startup_timeout: Duration,
    /// How long each part may take to stop.
    pub shutdown_timeout: Duration,
    /// Where the time is read.
    pub clock: Arc<dyn Clock>,
    /// The only writer of the log.
    pub command_service: CommandServiceConfig,
    /// The projections.
    pub projections: ProjectionConfig,
    /// The workers, with what they may reach.
    pub agents: AgentsConfig,
    /// The HTTP surface.
    pub gateway: GatewayConfig,
    /// Where foreign code runs. Without a program it does not run at all; see [`ProcessOptions::with_scripts`].
    pub sandbox: SandboxConfig,
}

impl ProcessOptions {
    /// What a configuration says, for all roles; `allow_private` where it says nothing about that.
    pub fn from_config(config: &Config, allow_private: bool) -> Self {
        let allow_private = config.egress.allow_private.unwrap_or(allow_private);
        let nats = config.nats_url.clone().map(|url| NatsTarget { url, config: config.nats.clone() });
        Self {
            roles: Roles::All,
            storage: Storage::from_config(config),
            // What is not usable has been refused with the other defects.
            blobs: config.blobs().ok().flatten(),
            nats,
            listen: config.http_addr,
            partitions: config.partitions.map(|partitions| partitions.get()),
            admin_email: config.bootstrap_admin_email.clone(),
            admin_password: config.bootstrap_admin_password.clone(),
            master_key: config.master_key.clone(),
            startup_timeout: Duration::from_millis(u64::from(config.startup_timeout_ms)),
            shutdown_timeout: Duration::from_millis(u64::from(config.shutdown_timeout_ms)),
            clock: Arc::new(SystemClock),
            command_service: config.command_service.clone(),
            projections: ProjectionConfig::default(),
            agents: AgentsConfig { egress: EgressConfig { allow_private }, ..config.agents.clone() },
            gateway: config.gateway.clone(),
            sandbox: config.sandbox.clone(),
        }
    }

    /// For a process of the `everline` program itself: the workers that run foreign code are processes of the same.
    pub fn with_scripts(mut self) -> Self {
        self.sandbox.program = cfg!(feature = "js").then(own_program).flatten();
        self
    }

    /// Defaults on a free local port, with a store that goes with the process and access to private addresses:
    /// for tests, benchmarks and `everline run --local`.
    pub fn temporary() -> Self {
        let options = Self::from_config(&Config::default(), true);
        Self { storage: Storage::Temporary, listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..options }
    }

    /// As [`ProcessOptions::temporary`], but with the store in a directory.
    pub fn in_directory(data_dir: &Path) -> Self {
        let storage = Storage::Files {
            log: data_dir.join("log.db"),
            read_models: data_dir.join("read-models.db"),
            admin_key: admin_key_path(data_dir),
        };
        Self { storage, ..Self::temporary() }
    }

    /// Whether these roles can run on these stores and bus.
    ///
    /// # Errors
    /// Each key that is missing.
    pub fn check(&self) -> Result<(), ConfigError> {
        let Roles::Only(role) = self.roles else { return Ok(()) };
        let mut missing = Vec::new();
        if !self.storage.is_shared() {
            missing.push(("database_url", "Postgres: set it to postgres://user:password@host:port/database"));
        }
        if self.nats.is_none() {
            missing.push(("nats_url", "NATS: set it to nats://host:port"));
        }
        if missing.is_empty() {
            return Ok(());
        }
        let name = role.name();
        let problem = |(key, needed)| {
            ConfigError::single(
                key,
                format!("`everline serve {name}` needs {needed}, or use `everline serve all`"),
            )
            .problems
        };
        Err(ConfigError { problems: missing.into_iter().flat_map(problem).collect() })
    }

    fn first_admin(&self) -> Wanted<'_> {
        Wanted {
            email: &self.admin_email,
            password: self.admin_password.as_ref(),
            key_file: self.storage.admin_key(),
        }
    }

    /// Whether this process shares its work with others.
    fn is_member(&self) -> bool {
        self.storage.is_shared() && self.nats.is_some()
    }
}

/// A running process's worth of Everline.
///
/// Dropping it cuts everything off, as a crash would; the log continues at the next start.
pub struct Process {
    /// Where it is served, such as `http://127.0.0.1:7070`.
    pub url: String,
    /// The address that it listens on.
    pub address: SocketAddr,
    /// The first admin, where there is a gateway.
    pub admin: Option<AdminKey>,
    /// How far the projections are, where there are projections.
    pub projections: Option<ProjectionHandle>,
    parts: Parts,
    stores: Stores,
    connections: Connections,
    draining: CancellationToken,
    shutdown_timeout: Duration,
}

impl Process {
    /// Starts the roles. Requests are answered when this returns.
    ///
    /// # Errors
    /// The address is taken, the store cannot be opened or is in use, a server is not there in time ([`StartError`]),
    /// or ([`ConfigError`]) the configuration does not fit the roles or the store.
    pub async fn start(options: ProcessOptions) -> anyhow::Result<Self> {
        options.check()?;
        let serves = options.roles.has(Role::Gateway);
        if serves {
            options.first_admin().check()?;
        }
        let listener = TcpListener::bind(options.listen).await.with_context(|| {
            format!("cannot listen on {}; stop the other program, or choose another port", options.listen)
        })?;
        let address = listener.local_addr().context("the listener has no address")?;
        let name = node_name(&options);
        let patience = Patience::new(options.startup_timeout);
        let extent = if options.roles.use_read_models() { Extent::LogAndReadModels } else { Extent::Log };
        let stores =
            options.storage.open(extent, options.partitions, &name, patience, Missing::Create).await?;
        let stores = stores.with_blobs(options.blobs.as_ref(), Missing::Create)?;
        let connections = connect(&options, &stores, &name, patience).await?;
        let (mut admin, mut sealing) = (None, None);
        if serves {
            let verifiers = &*stores.store.verifiers;
            sealing =
                Some(master_key::ensure(verifiers, options.master_key.as_ref(), &options.storage).await?);
            admin = Some(first_admin::ensure(verifiers, &*options.clock, options.first_admin()).await?);
        }

        let mut parts = Parts::default();
        let draining = CancellationToken::new();
        let wiring = wiring::Wiring {
            options: &options,
            name,
            stores: &stores,
            connections: &connections,
            master_key: sealing,
        };
        let projections = wiring.start(&mut parts, listener, &draining)?;
        let url = format!("http://{address}");
        tracing::info!(url, roles = %options.roles, "everline answers");
        let shutdown_timeout = options.shutdown_timeout;
        Ok(Self { url, address, admin, projections, parts, stores, connections, draining, shutdown_timeout })
    }

    /// The embedded log, where the store is on one.
    pub fn embedded_log(&self) -> Option<&Arc<SqliteLog>> {
        self.stores.embedded.as_ref()
    }

    /// The read models, where a role uses them.
    pub fn read_models(&self) -> Option<&ReadModels> {
        self.stores.read_models.as_ref()
    }

    /// Waits until a part fails, which none should. Cancel-safe.
    pub async fn failure(&mut self) -> anyhow::Error {
        self.parts.failure().await
    }

    /// Stops every part in order, each within its time, then closes the bus and the stores.
    ///
    /// # Errors
    /// The first part that failed, or had to be cut off. The others are stopped all the same.
    pub async fn shutdown(mut self) -> anyhow::Result<()> {
        self.draining.cancel();
        let result = self.parts.stop(self.shutdown_timeout).await;
        let close = async {
            self.connections.close().await;
            self.stores.close().await;
        };
        if tokio::time::timeout(self.shutdown_timeout, close).await.is_err() {
            tracing::warn!("the connections could not be closed in time");
        }
        result
    }
}

/// This process's program; the one that is running, also where another has been installed over it since.
fn own_program() -> Option<PathBuf> {
    let running = PathBuf::from("/proc/self/exe");
    if running.exists() { Some(running) } else { std::env::current_exe().ok() }
}

/// Connects with others, or refuses to have any.
async fn connect(
    options: &ProcessOptions,
    stores: &Stores,
    name: &str,
    patience: Patience,
) -> anyhow::Result<Connections> {
    let nats = match &options.nats {
        Some(target) => Some(target.connect(stores.store.reader.partitions(), name, patience).await?),
        None => None,
    };
    match (nats, &stores.store.ownership) {
        (Some(nats), Some(_)) => Ok(Connections::over(nats)),
        (nats, None) => Ok(Connections::in_process(nats)),
        (None, Some(ownership)) => {
            let lease = Duration::from_millis(options.command_service.lease_ms);
            only_node::wait(&**ownership, lease).await?;
            Ok(Connections::in_process(None))
        }
    }
}

/// Host name and process id, for people: in the table of nodes, and as the name of connections and workers.
fn node_name(options: &ProcessOptions) -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = Some(host.trim()).filter(|host| !host.is_empty()).unwrap_or("localhost");
    let alone = if options.storage.is_shared() && options.nats.is_none() { only_node::MARK } else { "" };
    // Containers may share a name and have the same process ids.
    let tail = &uuid::Uuid::new_v4().simple().to_string()[..4];
    format!("{host}:{}:{tail}{alone}", std::process::id())
}
