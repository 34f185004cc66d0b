//! A private Postgres.

use anyhow::{Context, Result, bail, ensure};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::process::Command;
use tokio::sync::OnceCell;

use crate::guard::{self, Guarded};
use crate::{free_port, programs};

/// How long a start may take on a busy machine; recovery after a crash included.
const PATIENCE: Duration = Duration::from_secs(60);
/// The user of the cluster.
const USER: &str = "everline";
/// Whom Postgres runs as where the tests run as root, which it refuses.
const SYSTEM_USER: &str = "postgres";

/// What a commit waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: a crash of the machine loses it, a crash of Postgres does not.
    Fast,
    /// The disk, as in production.
    Fsync,
}

/// A private cluster. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct PostgresServer {
    bin: PathBuf,
    folder: PathBuf,
    port: u16,
    durability: Durability,
    server: Option<Guarded>,
    databases: AtomicU32,
}

/// An empty database on a cluster that this test process shares and that goes with it. Its URL.
pub async fn database() -> Result<String> {
    static SHARED: OnceCell<PostgresServer> = OnceCell::const_new();
    SHARED.get_or_try_init(|| PostgresServer::start(Durability::Fast)).await?.create_database().await
}

impl PostgresServer {
    /// Makes a cluster, starts it and waits until it answers.
    pub async fn start(durability: Durability) -> Result<Self> {
        let bin = programs::postgres_bin()?;
        let folder = guard::folder("pg")?;
        if is_root() {
            let owner = format!("{SYSTEM_USER}:");
            run(Command::new("chown").arg(owner).arg(&folder)).await.context("no user `postgres`")?;
        }
        let data = folder.join("data");
        let mut initdb = as_server(&bin.join("initdb"));
        let options = ["--no-sync", "--auth=trust", "--encoding=UTF8", "--locale=C", "--username", USER];
        initdb.extend(options.map(OsString::from));
        initdb.extend(["--pgdata".into(), data.into_os_string()]);
        run(Command::new(&initdb[0]).args(&initdb[1..]).current_dir(&folder))
            .await
            .context("initdb failed")?;
        let databases = AtomicU32::new(0);
        let mut server = Self { bin, folder, port: free_port()?, durability, server: None, databases };
        server.start_again().await?;
        Ok(server)
    }

    /// The URL of a database of it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://{USER}@127.0.0.1:{}/{database}", self.port)
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its first process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.server.as_ref().map(Guarded::pid)
    }

    /// The folder of `pg_dump`, `psql` and the like.
    pub fn bin(&self) -> &Path {
        &self.bin
    }

    /// Makes an empty database. Its URL.
    pub async fn create_database(&self) -> Result<String> {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("create database {name}")).await?;
        Ok(self.url(&name))
    }

    /// Runs statements with `psql`. What they answer, a row a line.
    pub async fn sql(&self, database: &str, sql: &str) -> Result<String> {
        let mut psql = Command::new(self.bin.join("psql"));
        psql.args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set", "ON_ERROR_STOP=1"]);
        psql.args(["--dbname", &self.url(database), "--command", sql]);
        run(&mut psql).await
    }

    /// Ends it like a crash: `immediate` shutdown, which syncs nothing.
    pub async fn stop_immediately(&mut self) -> Result<()> {
        let Some(server) = self.server.take() else { return Ok(()) };
        server.signal("QUIT")?;
        let data = self.folder.join("data/postmaster.pid");
        let begun = Instant::now();
        while data.exists() && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        server.end().await
    }

    /// Starts it after [`PostgresServer::stop_immediately`], on the same port, and waits until it answers.
    pub async fn start_again(&mut self) -> Result<()> {
        let port = self.port.to_string();
        let sockets = format!("unix_socket_directories={}", self.folder.display());
        let mut settings = vec![sockets.as_str(), "listen_addresses=127.0.0.1", "max_connections=200"];
        if self.durability == Durability::Fast {
            settings.extend(["fsync=off", "full_page_writes=off"]);
        }
        let mut command = as_server(&self.bin.join("postgres"));
        command.extend(["-D".into(), self.folder.join("data").into_os_string()]);
        command.extend(["-p", &port].map(OsString::from));
        command.extend(settings.iter().flat_map(|setting| ["-c".into(), OsString::from(setting)]));
        let command: Vec<&OsStr> = command.iter().map(OsString::as_os_str).collect();
        self.server = Some(Guarded::start(&self.folder, &command)?);
        let begun = Instant::now();
        while self.sql("postgres", "select 1").await.is_err() {
            if begun.elapsed() > PATIENCE {
                bail!("Postgres does not answer; see {}", self.folder.join("server.log").display());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }
}

/// A program of Postgres, run as another user where this one is root.
fn as_server(program: &Path) -> Vec<OsString> {
    let mut command: Vec<OsString> = Vec::new();
    if is_root() {
        let become_other =
            ["setpriv", "--reuid", SYSTEM_USER, "--regid", SYSTEM_USER, "--clear-groups", "--"];
        command.extend(become_other.map(OsString::from));
    }
    command.push(program.into());
    command
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|entry| entry.uid() == 0)
}

/// Runs a command to its end; its standard output.
async fn run(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().await.context("a program does not start")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{} ended with {}: {said}", name_of(command), output.status);
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn name_of(command: &Command) -> String {
    command.as_std().get_program().to_string_lossy().into_owned()
}
