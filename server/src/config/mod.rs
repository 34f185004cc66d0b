//! The one typed configuration of the process.
//!
//! ```text
//!   defaults ◄── everline.toml ◄── EVERLINE_* (and *_FILE) ◄── flags        later layers win, key by key
//! ```
//!
//! Owns: every setting, its type, its default. Invariants: an unknown key or an unusable value of any layer
//! is reported with the layer that holds it, all of them at once, before anything is opened or bound; a secret
//! is never printed. Keys of later releases are known and refused, so that nobody believes that they work.
//! Deliberately absent: what the settings do; [`crate::embedded`] hands them to the crates.

mod blobs;
mod cluster;
mod environment;
mod error;
mod keys;
mod layers;
#[cfg(test)]
mod tests;
mod urls;
mod values;

use agents::AgentsConfig;
use command_service::CommandServiceConfig;
use event_store::blobs::BlobOptions;
use event_store::sealing::MasterKey;
use gateway::GatewayConfig;
use sandbox::SandboxConfig;
use serde::Deserialize;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub use blobs::{BlobUrl, BlobsConfig};
pub use cluster::{NatsConfig, PostgresConfig, Replicas};
pub use environment::{CLIENT_VARIABLES, injected_by_kubernetes};
pub use error::{ConfigError, ConfigProblem};
pub use keys::known_keys;
pub use layers::{Flag, Sources, load};
pub use urls::{DatabaseUrl, NatsUrl, PostgresUrl};
pub use values::{LogFormat, Partitions};

use crate::secret::Secret;

/// The default file: every key, documented, commented out.
pub const DEFAULT_FILE: &str = include_str!("../../everline.default.toml");

/// Everything that can be set. One field per key of `everline.toml`; `EVERLINE_<KEY>` in the environment.
#[derive(Debug, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where the embedded store and `admin.key` live.
    pub data_dir: PathBuf,
    /// The log's database, `sqlite://<path>` or `postgres://…`; `<data_dir>/log.db` if absent.
    pub database_url: Option<DatabaseUrl>,
    /// The read models' database, of the same kind as the log's. Absent: `<data_dir>/read-models.db`, or with a log
    /// on Postgres the same database.
    pub read_model_url: Option<DatabaseUrl>,
    /// NATS, `nats://…` or `tls://…`, several separated by commas. Absent: nothing leaves this process.
    pub nats_url: Option<NatsUrl>,
    /// Where large values live, `file:///<folder>` or `s3://<bucket>/<prefix>`. Absent or empty: the log's database.
    #[serde(deserialize_with = "blobs::optional_url")]
    pub blob_url: Option<BlobUrl>,
    /// Partitions of the log, fixed when it is created: 16 if absent, or what an existing log has.
    pub partitions: Option<Partitions>,
    /// Where HTTP is served.
    pub http_addr: SocketAddr,
    /// Filter of log lines, in the syntax of `tracing`.
    pub log: String,
    /// Shape of log lines.
    pub log_format: LogFormat,
    /// E-mail address of the admin that the first start creates.
    pub bootstrap_admin_email: String,
    /// Password of the admin that the first start creates; a random one if absent.
    pub bootstrap_admin_password: Option<Secret>,
    /// How long each part may take to stop, in milliseconds, before it is cut off. More than what the parts give
    /// their own work (`gateway.drain_*_ms`, `agents.shutdown_grace_ms`).
    pub shutdown_timeout_ms: u32,
    /// How long a start waits for Postgres and NATS, in milliseconds.
    pub startup_timeout_ms: u32,
    /// How Postgres is used.
    pub postgres: PostgresConfig,
    /// How NATS is used.
    pub nats: NatsConfig,
    /// How large values are kept where `blob_url` says.
    pub blobs: BlobsConfig,
    /// What workers may reach.
    pub egress: Egress,
    /// The only writer of the log.
    pub command_service: CommandServiceConfig,
    /// The worker runtime.
    pub agents: AgentsConfig,
    /// The HTTP surface.
    pub gateway: GatewayConfig,
    /// Where foreign code runs.
    pub sandbox: SandboxConfig,
    /// Qdrant; refused until the vector release.
    #[serde(deserialize_with = "values::vector_release")]
    pub qdrant_url: Option<Secret>,
    /// Where gRPC is served; refused until the gRPC release.
    #[serde(deserialize_with = "values::grpc_release")]
    pub grpc_addr: Option<Secret>,
    /// The key that seals signing keys and second factors: 32 bytes, the same for all processes. Absent: with the
    /// embedded store `<data_dir>/master.key`, which the first start makes, and on Postgres one in the database.
    #[serde(deserialize_with = "values::master_key")]
    pub master_key: Option<MasterKey>,
    /// Where traces are sent; refused until the telemetry release.
    #[serde(deserialize_with = "values::telemetry_release")]
    pub otlp_endpoint: Option<Secret>,
}

/// What workers may reach.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Egress {
    /// Whether nodes may call loopback and private addresses. Absent: yes in `everline dev` and
    /// `everline run --local`, no in `everline serve`.
    pub allow_private: Option<bool>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from(".everline"),
            database_url: None,
            read_model_url: None,
            nats_url: None,
            blob_url: None,
            partitions: None,
            http_addr: SocketAddr::from((Ipv4Addr::LOCALHOST, 7070)),
            log: "info".to_owned(),
            log_format: LogFormat::Pretty,
            bootstrap_admin_email: "admin@everline.local".to_owned(),
            bootstrap_admin_password: None,
            shutdown_timeout_ms: 15_000,
            startup_timeout_ms: 30_000,
            postgres: PostgresConfig::default(),
            nats: NatsConfig::default(),
            blobs: BlobsConfig::default(),
            egress: Egress::default(),
            command_service: CommandServiceConfig::default(),
            agents: AgentsConfig::default(),
            gateway: GatewayConfig::default(),
            sandbox: SandboxConfig::default(),
            qdrant_url: None,
            grpc_addr: None,
            master_key: None,
            otlp_endpoint: None,
        }
    }
}

impl Config {
    /// Where the log is: `database_url`, else a file in the data directory.
    pub fn log_database(&self) -> DatabaseUrl {
        self.database_url.clone().unwrap_or_else(|| DatabaseUrl::Sqlite(self.data_dir.join("log.db")))
    }

    /// Where the read models are: `read_model_url`, else beside the log.
    pub fn read_model_database(&self) -> DatabaseUrl {
        match (&self.read_model_url, &self.database_url) {
            (Some(url), _) => url.clone(),
            (None, Some(DatabaseUrl::Postgres(url))) => DatabaseUrl::Postgres(url.clone()),
            (None, _) => DatabaseUrl::Sqlite(self.data_dir.join("read-models.db")),
        }
    }

    /// Where large values are kept, if not in the log's database.
    ///
    /// # Errors
    /// What the place needs is not set; the layers have seen to that.
    pub fn blobs(&self) -> Result<Option<BlobOptions>, ConfigError> {
        self.blob_url.as_ref().map(|url| self.blobs.options(url)).transpose()
    }

    /// Where the first start saves the admin's API key, and the command line finds it.
    pub fn admin_key_path(&self) -> PathBuf {
        admin_key_path(&self.data_dir)
    }
}

/// Where the master key of a data directory is, unless one is configured.
pub fn master_key_path(data_dir: &Path) -> PathBuf {
    data_dir.join("master.key")
}

/// Where the admin's API key of a data directory is.
pub fn admin_key_path(data_dir: &Path) -> PathBuf {
    data_dir.join("admin.key")
}
