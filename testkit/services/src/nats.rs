//! A nats-server with JetStream.

use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

use crate::guard::{self, Guarded};
use crate::{free_port, programs};

/// How long a start may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NatsVersion {
    /// The oldest that Everline works with: 2.9.
    Old,
    /// 2.14 or later.
    New,
}

/// A private nats-server. Dropping it kills it and removes its store.
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
    folder: PathBuf,
    port: u16,
    extra: Vec<String>,
    server: Option<Guarded>,
}

impl NatsServer {
    /// Starts a server and waits until it answers.
    pub async fn start(version: NatsVersion) -> Result<Self> {
        Self::start_with(version, &[]).await
    }

    /// Starts a server with further options of its command line, such as `--user u --pass p`.
    pub async fn start_with(version: NatsVersion, extra: &[&str]) -> Result<Self> {
        let program = match version {
            NatsVersion::Old => programs::nats_old()?,
            NatsVersion::New => programs::nats_new()?,
        };
        let extra = extra.iter().map(|&option| option.to_owned()).collect();
        let mut server =
            Self { program, folder: guard::folder("nats")?, port: free_port()?, extra, server: None };
        server.start_again().await?;
        Ok(server)
    }

    /// Where clients connect.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Guarded::pid)
    }

    /// Where JetStream stores.
    pub fn store_folder(&self) -> PathBuf {
        self.folder.join("jetstream")
    }

    /// `kill -9`.
    pub async fn kill(&mut self) -> Result<()> {
        match self.server.take() {
            Some(server) => server.end().await,
            None => Ok(()),
        }
    }

    /// Starts it after [`NatsServer::kill`], on the same port and store, and waits until it answers.
    pub async fn start_again(&mut self) -> Result<()> {
        let port = self.port.to_string();
        let mut command: Vec<&OsStr> = vec![self.program.as_ref()];
        command
            .extend(["--addr", "127.0.0.1", "--port", &port, "--jetstream", "--store_dir"].map(OsStr::new));
        command.push(self.folder.as_ref());
        command.extend(self.extra.iter().map(OsStr::new));
        self.server = Some(Guarded::start(&self.folder, &command)?);
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).await.is_err() {
            if begun.elapsed() > PATIENCE {
                bail!("nats-server does not answer; see {}", self.folder.join("server.log").display());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }

    /// Deletes everything that JetStream has stored; only while the server is stopped.
    pub async fn wipe_store(&mut self) -> Result<()> {
        anyhow::ensure!(self.server.is_none(), "the server runs");
        remove(&self.store_folder()).await
    }
}

async fn remove(folder: &Path) -> Result<()> {
    match tokio::fs::remove_dir_all(folder).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", folder.display()))
        }
        _ => Ok(()),
    }
}
