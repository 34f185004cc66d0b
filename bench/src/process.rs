//! The server under test: `everline dev`, or `everline serve all` on Postgres and NATS, as a process of its own, on a
//! data folder and port of its own.

use anyhow::{Context, Result, bail};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::process::{Child, Command};

use crate::ServerOptions;
use crate::http::Client;
use crate::services::Services;

/// How long the server may take to be ready.
const PATIENCE: Duration = Duration::from_secs(30);
/// Clock ticks per second in /proc, on every Linux that Rust supports.
const TICKS_PER_SECOND: f64 = 100.0;

/// Settings that take off what holds back a load from one address, with one key.
pub(crate) const UNLIMITED: &[(&str, &str)] = &[("EVERLINE_GATEWAY__LIMITS__ANONYMOUS_PER_IP", "0")];

/// A running server; it is killed when it is dropped.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) key: String,
    /// From start to the first time that it was ready.
    pub(crate) ready_after: Duration,
    /// Resident memory when it was ready and had done nothing.
    pub(crate) idle_mib: f64,
    child: Child,
    services: Option<Services>,
}

impl Server {
    /// Starts the given program, or the release build.
    pub(crate) async fn start(options: &ServerOptions, data_dir: &Path) -> Result<Self> {
        Self::start_with(options, data_dir, &[]).await
    }

    /// The same, with settings of its own in the environment.
    pub(crate) async fn start_with(
        options: &ServerOptions,
        data_dir: &Path,
        settings: &[(&str, &str)],
    ) -> Result<Self> {
        let program = match &options.server {
            Some(program) => program.clone(),
            None => build().await?,
        };
        let services = Services::start(options.backend).await?;
        // Free now; that somebody takes it within milliseconds is shown by a start that fails.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let started = Instant::now();
        let role: &[&str] = if services.is_some() { &["serve", "all"] } else { &["dev"] };
        let environment = services.as_ref().map(Services::environment).unwrap_or_default();
        let mut child = Command::new(&program)
            .args(role)
            .args(["--port", &port.to_string(), "--data-dir"])
            .arg(data_dir)
            .envs(environment)
            .envs(settings.iter().copied())
            .env("EVERLINE_LOG", "warn")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} does not start", program.display()))?;
        while !is_ready(address).await {
            if let Some(status) = child.try_wait()? {
                bail!("{} ended before it was ready: {status}", program.display());
            }
            if started.elapsed() > PATIENCE {
                bail!("{} was not ready within {PATIENCE:?}", program.display());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let ready_after = started.elapsed();
        let key = std::fs::read_to_string(data_dir.join("admin.key"))
            .context("the server has written no admin.key")?;
        let mut server =
            Self { address, key: key.trim().to_owned(), ready_after, idle_mib: 0.0, child, services };
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.idle_mib = server.memory_mib("VmRSS:").unwrap_or_default();
        Ok(server)
    }

    pub(crate) async fn client(&self) -> Result<Client> {
        Client::connect(self.address, &self.key).await
    }

    /// Postgres and NATS, if it runs on them.
    pub(crate) fn services(&self) -> Option<&Services> {
        self.services.as_ref()
    }

    /// Processor time used so far, in seconds, without that of Postgres and NATS; 0 where there is no /proc.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.child.id().map_or(0.0, |id| cpu_seconds(&format!("/proc/{id}/stat")).unwrap_or_default())
    }

    /// The most resident memory so far.
    pub(crate) fn peak_mib(&self) -> f64 {
        self.memory_mib("VmHWM:").unwrap_or_default()
    }

    /// Resident memory now.
    pub(crate) fn resident_mib(&self) -> f64 {
        self.memory_mib("VmRSS:").unwrap_or_default()
    }

    fn memory_mib(&self, field: &str) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib / 1024.0)
    }
}

/// Processor time of this process, in seconds; 0 where there is no /proc.
pub(crate) fn own_cpu_seconds() -> f64 {
    cpu_seconds("/proc/self/stat").unwrap_or_default()
}

/// User and system time from a `stat` file; the fields are counted after the name, which may hold anything.
fn cpu_seconds(path: &str) -> Option<f64> {
    let stat = std::fs::read_to_string(path).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some((user + system) / TICKS_PER_SECOND)
}

async fn is_ready(address: SocketAddr) -> bool {
    let Ok(mut client) = Client::connect(address, "").await else { return false };
    client.get("/readyz", None).await.is_ok_and(|answer| answer.status == 200)
}

/// Builds the release of `everline`, into the folder that this program was built into.
async fn build() -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let folder = here.parent().context("the program is in no folder")?;
    if folder.file_name().is_none_or(|name| name != "release") {
        bail!("benchmarks are run from a release build: cargo run --release -p bench -- …");
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let built = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--release", "--package", "server", "--bin", "everline"])
        .current_dir(workspace)
        .stdin(Stdio::null())
        .status()
        .await
        .context("cargo does not start")?;
    if !built.success() {
        bail!("the release of everline does not build");
    }
    Ok(folder.join("everline"))
}
