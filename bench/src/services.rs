//! What the server under test runs on: nothing, or a private Postgres (durable) and a private nats-server.

use anyhow::Result;
use clap::ValueEnum;
use test_services::{Durability, NatsServer, NatsVersion, PostgresServer};

/// What the server stores in and talks over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Backend {
    /// SQLite and channels: `everline dev`.
    Embedded,
    /// Postgres with fsync, and the oldest supported nats-server: `everline serve all`.
    Cluster,
    /// Postgres with fsync, and a new nats-server.
    ClusterNew,
}

impl Backend {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Cluster => "Postgres and nats-server 2.9",
            Self::ClusterNew => "Postgres and a new nats-server",
        }
    }
}

/// The running services; they end when this is dropped.
pub(crate) struct Services {
    _postgres: PostgresServer,
    nats: NatsServer,
    database: String,
}

impl Services {
    /// Starts what the backend needs.
    pub(crate) async fn start(backend: Backend) -> Result<Option<Self>> {
        let version = match backend {
            Backend::Embedded => return Ok(None),
            Backend::Cluster => NatsVersion::Old,
            Backend::ClusterNew => NatsVersion::New,
        };
        let postgres = PostgresServer::start(Durability::Fsync).await?;
        let database = postgres.create_database().await?;
        Ok(Some(Self { _postgres: postgres, nats: NatsServer::start(version).await?, database }))
    }

    /// What tells the server where they are.
    pub(crate) fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("EVERLINE_DATABASE_URL", self.database.clone()),
            ("EVERLINE_NATS_URL", self.nats.url()),
            ("EVERLINE_MASTER_KEY", "be".repeat(32)),
            // The target is on this machine.
            ("EVERLINE_EGRESS__ALLOW_PRIVATE", "true".to_owned()),
        ]
    }

    /// Where NATS listens.
    pub(crate) fn nats_url(&self) -> String {
        self.nats.url()
    }
}
