//! Every role in one process, on the embedded store and the in-process bus.
//!
//! ```text
//!   start:  listener ─ store ─ admin ─ projections ─ command-service ─ workers ─ gateway
//!   stop:   gateway (drains) ─ workers ─ command-service ─ projections ─ store
//! ```
//!
//! Used by `everline dev`, `everline serve all`, `everline run --local`, tests and benchmarks. Invariants: the
//! port is bound before anything is created, so that a start that fails for it leaves nothing behind; nobody is
//! answered before every part runs; a part that ends takes the process with it. Deliberately absent: decisions
//! about configuration layers (`config`) and anything that the parts do.

use agents::{AgentsConfig, EgressConfig, WorkerRuntime};
use anyhow::Context;
use bus::in_process::{InProcessCommands, InProcessFeed, InProcessTasks};
use bus::{Commands, CommitFeed, TaskQueue};
use command_service::{CommandService, CommandServiceConfig, CommandServicePorts};
use domain::time::Clock;
use event_store::sqlite::{SqliteLog, SqliteOptions};
use event_store::{Blobs, Log, LogReader};
use gateway::{Gateway, GatewayConfig, GatewayPorts};
use projection_service::{ProjectionConfig, ProjectionHandle, ProjectionService};
use read_models::ReadModels;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;

use crate::admin::{self, AdminKey};
use crate::clock::SystemClock;
use crate::config::{Config, ConfigError, admin_key_path};
use crate::readiness;
use crate::secret::Secret;
use crate::supervision::Parts;

/// Where the data is.
#[derive(Debug, Clone)]
pub enum Storage {
    /// In temporary directories that go with the process; nothing is made durable.
    Temporary,
    /// In files, created as needed.
    Files {
        /// The log's database.
        log: PathBuf,
        /// The read models' database.
        read_models: PathBuf,
        /// Where the first start saves the admin's API key.
        admin_key: PathBuf,
    },
}

/// What a process is started with.
#[derive(Clone)]
pub struct EmbeddedOptions {
    /// Where the data is.
    pub storage: Storage,
    /// Where HTTP is served; port 0 takes any free port.
    pub listen: SocketAddr,
    /// Partitions of a log that is created; `None`: 16, or what an existing log has.
    pub partitions: Option<u16>,
    /// E-mail address of the admin that the first start creates.
    pub admin_email: String,
    /// Their password; a random one if absent.
    pub admin_password: Option<Secret>,
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
}

impl EmbeddedOptions {
    /// What a configuration says; `allow_private` where it says nothing about that.
    pub fn from_config(config: &Config, allow_private: bool) -> Self {
        let allow_private = config.egress.allow_private.unwrap_or(allow_private);
        Self {
            storage: Storage::Files {
                log: config.log_path(),
                read_models: config.read_models_path(),
                admin_key: config.admin_key_path(),
            },
            listen: config.http_addr,
            partitions: config.partitions.map(|partitions| partitions.get()),
            admin_email: config.bootstrap_admin_email.clone(),
            admin_password: config.bootstrap_admin_password.clone(),
            shutdown_timeout: Duration::from_millis(u64::from(config.shutdown_timeout_ms)),
            clock: Arc::new(SystemClock),
            command_service: config.command_service.clone(),
            projections: ProjectionConfig::default(),
            agents: AgentsConfig { egress: EgressConfig { allow_private }, ..config.agents.clone() },
            gateway: config.gateway.clone(),
        }
    }

    /// Defaults on a free local port, with a store that goes with the process and access to private addresses:
    /// for tests, benchmarks and `everline run --local`.
    pub fn temporary() -> Self {
        let options = Self::from_config(&Config::default(), true);
        Self { storage: Storage::Temporary, listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), ..options }
    }

    /// As [`EmbeddedOptions::temporary`], but with the store in a directory.
    pub fn in_directory(data_dir: &Path) -> Self {
        let storage = Storage::Files {
            log: data_dir.join("log.db"),
            read_models: data_dir.join("read-models.db"),
            admin_key: admin_key_path(data_dir),
        };
        Self { storage, ..Self::temporary() }
    }
}

/// A running process's worth of Everline.
///
/// Dropping it cuts everything off, as a crash would; the log continues at the next start.
pub struct Embedded {
    /// Where it is served, such as `http://127.0.0.1:7070`.
    pub url: String,
    /// The address that it listens on.
    pub address: SocketAddr,
    /// The first admin.
    pub admin: AdminKey,
    /// The log.
    pub log: Arc<SqliteLog>,
    /// The read models.
    pub read_models: ReadModels,
    /// How far the projections are.
    pub projections: ProjectionHandle,
    parts: Parts,
    shutdown_timeout: Duration,
}

impl Embedded {
    /// Starts every role. Requests are answered when this returns.
    ///
    /// # Errors
    /// The address is taken, the store cannot be opened or is in use, or ([`ConfigError`]) the store does not fit
    /// the configuration.
    pub async fn start(options: EmbeddedOptions) -> anyhow::Result<Self> {
        let password = options.admin_password.as_ref().map(Secret::expose);
        gateway::check_admin(&options.admin_email, password).map_err(refused_or_failed)?;
        let listener = TcpListener::bind(options.listen).await.with_context(|| {
            format!("cannot listen on {}; stop the other program, or choose another port", options.listen)
        })?;
        let address = listener.local_addr().context("the listener has no address")?;
        let (log, read_models) = open_stores(&options.storage, options.partitions).await?;
        let log = Arc::new(log);
        let admin = ensure_admin(&log, &options).await?;

        let mut parts = Parts::default();
        let projections = start_parts(&mut parts, &options, &log, &read_models, listener)?;
        let url = format!("http://{address}");
        tracing::info!(url, "everline answers");
        let shutdown_timeout = options.shutdown_timeout;
        Ok(Self { url, address, admin, log, read_models, projections, parts, shutdown_timeout })
    }

    /// Waits until a part fails, which none should. Cancel-safe.
    pub async fn failure(&mut self) -> anyhow::Error {
        self.parts.failure().await
    }

    /// Stops every role in order, each within its time, and closes the store.
    ///
    /// # Errors
    /// The first part that failed, or had to be cut off. The others are stopped all the same.
    pub async fn shutdown(mut self) -> anyhow::Result<()> {
        let result = self.parts.stop(self.shutdown_timeout).await;
        self.read_models.close().await;
        self.log.close().await;
        result
    }
}

/// Opens both databases of a process, creating and migrating them as needed.
///
/// # Errors
/// A file or directory cannot be used, or another process has it.
pub async fn open_stores(
    storage: &Storage,
    partitions: Option<u16>,
) -> anyhow::Result<(SqliteLog, ReadModels)> {
    let options = SqliteOptions { partitions, ..SqliteOptions::default() };
    match storage {
        Storage::Temporary => {
            let log = SqliteLog::open_temporary(options).await.context("cannot open a temporary log")?;
            let models = ReadModels::open_temporary().await.context("cannot open temporary read models")?;
            Ok((log, models))
        }
        Storage::Files { log, read_models, admin_key } => {
            for file in [log, read_models, admin_key] {
                create_parent(file)?;
            }
            for file in [log, read_models] {
                create_private(file)?;
            }
            let models_path = read_models;
            let log = SqliteLog::open(log, options).await.map_err(unfit_or_failed)?;
            let models = ReadModels::open(models_path)
                .await
                .with_context(|| format!("cannot open the read models in {}", models_path.display()))?;
            Ok((log, models))
        }
    }
}

/// A log that does not fit the configuration is a matter of the configuration.
fn unfit_or_failed(error: event_store::StoreError) -> anyhow::Error {
    match error {
        event_store::StoreError::Unfit { .. } => ConfigError::single("partitions", error.to_string()).into(),
        error => anyhow::Error::new(error).context("cannot open the log"),
    }
}

/// An empty database for the owner alone, where there is none: SQLite would make one for everybody. It gives the
/// files beside a database the mode of the database.
fn create_private(file: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(file)
        .map(drop)
        .with_context(|| format!("cannot create {}", file.display()))
}

/// The directory of a file, for the owner alone: it holds a key.
fn create_parent(file: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    match file.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()) {
        None => Ok(()),
        Some(parent) => std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)
            .with_context(|| format!("cannot create the directory {}", parent.display())),
    }
}

/// An admin that cannot be is a matter of the configuration.
fn refused_or_failed(error: gateway::AdminError) -> anyhow::Error {
    match error {
        gateway::AdminError::Email(_) => {
            ConfigError::single("bootstrap_admin_email", error.to_string()).into()
        }
        gateway::AdminError::PasswordLength => {
            ConfigError::single("bootstrap_admin_password", error.to_string()).into()
        }
        error => anyhow::Error::new(error).context("cannot create the first admin"),
    }
}

async fn ensure_admin(log: &SqliteLog, options: &EmbeddedOptions) -> anyhow::Result<AdminKey> {
    let password = options.admin_password.as_ref().map(|password| password.expose().to_owned().into());
    let prepared = gateway::prepare_admin(log, &*options.clock, &options.admin_email, password).await;
    let prepared = prepared.map_err(refused_or_failed)?;
    let key_file = match &options.storage {
        Storage::Temporary => None,
        Storage::Files { admin_key, .. } => Some(admin_key),
    };
    match prepared {
        Some(admin) => {
            let key = Secret::new(admin.api_key.as_str());
            // Saved before it is valid: a crash in between leaves a file that the next start replaces.
            if let Some(path) = key_file {
                admin::save_key(path, &key)?;
            }
            admin.store(log).await.context("cannot store the first admin")?;
            let password = admin.generated_password.map(|password| Secret::new(password.as_str()));
            Ok(AdminKey { email: admin.email, key: Some(key), password, created: true })
        }
        None => {
            let key = key_file.map_or(Ok(None), |path| admin::read_key(path))?;
            Ok(AdminKey { email: options.admin_email.clone(), key, password: None, created: false })
        }
    }
}

fn start_parts(
    parts: &mut Parts,
    options: &EmbeddedOptions,
    log: &Arc<SqliteLog>,
    read_models: &ReadModels,
    listener: TcpListener,
) -> anyhow::Result<ProjectionHandle> {
    let commands = InProcessCommands::new();
    let feed: Arc<dyn CommitFeed> = Arc::new(InProcessFeed::new());
    let tasks: Arc<dyn TaskQueue> = Arc::new(InProcessTasks::new());
    // Apart from the owner's connections, which are the command-service's: reads never keep a command waiting.
    let reader: Arc<dyn LogReader> = Arc::new(log.reader());

    let projections = ProjectionService::new(
        options.projections.clone(),
        reader.clone(),
        feed.clone(),
        read_models.clone(),
    );
    let handle = projections.handle();
    parts.start("projections", |stop| async move { projections.run(stop).await.map_err(Into::into) });

    let command_service = CommandService::new(
        options.command_service.clone(),
        CommandServicePorts::alone(
            log.clone() as Arc<dyn Log>,
            feed.clone(),
            tasks.clone(),
            options.clock.clone(),
        ),
    );
    commands.serve(command_service.handler());
    parts.start("command-service", |stop| async move { command_service.run(stop).await.map_err(Into::into) });

    let commands: Arc<dyn Commands> = Arc::new(commands);
    let blobs: Arc<dyn Blobs> = Arc::new(log.reader());
    let workers = WorkerRuntime::new(
        options.agents.clone(),
        tasks,
        commands.clone(),
        blobs.clone(),
        options.clock.clone(),
    )
    .context("the workers cannot start")?;
    parts.start("workers", |stop| async move {
        workers.run(stop).await;
        Ok(())
    });

    let readiness =
        readiness::Parts { log: log.clone(), read_models: read_models.clone(), projections: handle.clone() };
    let ports = GatewayPorts {
        commands,
        log: reader,
        feed,
        models: read_models.clone(),
        readiness: Arc::new(readiness),
        blobs,
        verifiers: log.clone(),
        clock: options.clock.clone(),
    };
    let gateway = Gateway::new(options.gateway.clone(), ports);
    parts.start("gateway", |stop| async move { gateway.run(listener, stop).await.map_err(Into::into) });
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn databases_in_a_directory_for_all_are_for_the_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let mode = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(directory.path(), mode).unwrap();
        let storage = EmbeddedOptions::in_directory(directory.path()).storage;
        let stores = open_stores(&storage, None).await.unwrap();
        let mut seen = 0;
        for entry in std::fs::read_dir(directory.path()).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_string_lossy().contains(".db") && !entry.path().ends_with("log.db.lock") {
                let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
                assert_eq!(mode, 0o600, "{}", entry.path().display());
                seen += 1;
            }
        }
        assert!(seen >= 4, "both databases, with their write-ahead logs");
        drop(stores);
    }

    #[tokio::test]
    async fn a_start_that_is_refused_for_its_admin_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        for (email, password) in [("nobody", None), ("a@example.test", Some(Secret::new("short")))] {
            let options = EmbeddedOptions::in_directory(&directory.path().join("data"));
            let options =
                EmbeddedOptions { admin_email: email.to_owned(), admin_password: password, ..options };
            assert!(Embedded::start(options).await.is_err());
            assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        }
    }
}
