//! Everline as a cluster: a process for each service, with a Postgres and a nats-server of their own.
//!
//! ```text
//!   gateway ×n ─┐                                    ┌─ command-service ×n
//!               ├─ NATS (killed, wiped, come back) ──┤
//!   agents ─────┘     Postgres (crashed, come back)  └─ projection-service
//! ```
//!
//! Every member keeps its port and its data directory through all of its lives, as a container with a volume does, so
//! that clients find it again. Where a test fails, the processes' logs are kept and their folder is printed.
//! Deliberately absent: restarting what ends by itself. Nothing should, and a test that sees it has found a defect.

use anyhow::{Context, Result, bail, ensure};
use event_store::Store;
use event_store::postgres::PostgresOptions;
use read_models::ReadModels;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use test_services::{Durability, NatsServer, NatsVersion, PostgresServer, free_port};

use crate::process::EverlineProcess;

/// Whom the first start creates.
const ADMIN_EMAIL: &str = "admin@example.test";
/// A secret of nobody, the same for all processes.
const MASTER_KEY: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// A secret of nobody: the cluster goes with the test.
const ADMIN_PASSWORD: &str = "a password for tests only";
/// How long the gateway has to accept the admin.
const LOGIN_PATIENCE: Duration = Duration::from_secs(30);
/// Room for published events: JetStream sets it aside, and the machine may have little.
const EVENTS_MAX_BYTES: u64 = 256 * 1024 * 1024;
/// Lines of a log that are shown where a process does not start.
const LAST_LINES: usize = 5;
/// How long to look whether a process has ended.
const A_MOMENT: Duration = Duration::from_millis(5);
/// How long a connection of the test itself to the store may take to come.
const STORE_PATIENCE: Duration = Duration::from_secs(30);

/// What a process of a cluster does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Owns partitions.
    CommandService,
    /// Keeps the read models.
    ProjectionService,
    /// Serves HTTP.
    Gateway,
    /// Carries nodes out.
    Agents,
}

impl Role {
    /// As `everline serve` calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::CommandService => "command-service",
            Self::ProjectionService => "projection-service",
            Self::Gateway => "gateway",
            Self::Agents => "agents",
        }
    }
}

/// What a cluster is made of.
#[derive(Debug, Clone)]
pub struct ClusterOptions {
    /// What a commit of Postgres waits for.
    pub durability: Durability,
    /// Which nats-server.
    pub nats: NatsVersion,
    /// The processes.
    pub roles: Vec<Role>,
    /// Further settings of every process.
    pub environment: Vec<(&'static str, String)>,
}

impl Default for ClusterOptions {
    /// The five processes of the documentation on a fast Postgres and the oldest NATS.
    fn default() -> Self {
        Self {
            durability: Durability::Fast,
            nats: NatsVersion::Old,
            roles: vec![
                Role::Gateway,
                Role::CommandService,
                Role::CommandService,
                Role::ProjectionService,
                Role::Agents,
            ],
            environment: Vec::new(),
        }
    }
}

/// One process of a cluster, dead or alive.
pub struct Member {
    /// What it does.
    pub role: Role,
    /// Its role and number, such as `gateway-0`.
    pub name: String,
    folder: PathBuf,
    port: u16,
    process: Option<EverlineProcess>,
}

impl Member {
    /// Where it serves HTTP; only its health, if it is no gateway.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Its process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().and_then(EverlineProcess::pid)
    }

    /// What its lives have logged, newest last.
    pub fn log(&self) -> PathBuf {
        self.folder.join("process.log")
    }

    /// The end of its log.
    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = text.lines().rev().take(LAST_LINES).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// A running cluster. Dropping it ends everything.
pub struct Cluster {
    program: PathBuf,
    options: ClusterOptions,
    folder: PathBuf,
    database: String,
    members: Vec<Member>,
    key: String,
    /// Its Postgres.
    pub postgres: PostgresServer,
    /// Its NATS.
    pub nats: NatsServer,
}

impl Cluster {
    /// Starts the servers, then every process at once, and waits until all of them are ready.
    pub async fn start(program: &Path, options: ClusterOptions) -> Result<Self> {
        let postgres = PostgresServer::start(options.durability).await?;
        let nats = NatsServer::start(options.nats).await?;
        let url = postgres.create_database().await?;
        let database = url.rsplit('/').next().context("the URL names no database")?.to_owned();
        let folder = std::env::temp_dir().join(format!("el-cluster-{}", uuid::Uuid::new_v4()));
        let mut members = Vec::new();
        for (number, &role) in options.roles.iter().enumerate() {
            let name = format!("{}-{number}", role.name());
            let folder = folder.join(&name);
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("{} cannot be created", folder.display()))?;
            members.push(Member { role, name, folder, port: free_port()?, process: None });
        }
        let program = program.to_owned();
        let mut cluster =
            Self { program, options, folder, database, members, key: String::new(), postgres, nats };
        cluster.start_all().await?;
        cluster.key = cluster.find_key().await?;
        Ok(cluster)
    }

    /// The processes, in the order of [`ClusterOptions::roles`].
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Which members have a role.
    pub fn of(&self, role: Role) -> Vec<usize> {
        (0..self.members.len()).filter(|&index| self.members[index].role == role).collect()
    }

    /// Where the first gateway is.
    pub fn url(&self) -> String {
        self.urls().remove(0)
    }

    /// Where the gateways are.
    pub fn urls(&self) -> Vec<String> {
        self.of(Role::Gateway).into_iter().map(|index| self.members[index].url()).collect()
    }

    /// A key of the admin, which every gateway accepts.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// The folder of the processes' data and logs.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The URL of Everline's database.
    pub fn database_url(&self) -> String {
        self.postgres.url(&self.database)
    }

    /// Runs a statement in Everline's database, with `psql`. What it answers, a row a line.
    pub async fn sql(&self, sql: &str) -> Result<String> {
        self.postgres.sql(&self.database, sql).await
    }

    /// `kill -9`.
    pub async fn kill(&mut self, member: usize) -> Result<()> {
        let member = &mut self.members[member];
        let process = member.process.take().with_context(|| format!("{} does not run", member.name))?;
        process.kill().await
    }

    /// `kill -TERM`, and waits for its graceful end.
    pub async fn stop(&mut self, member: usize) -> Result<()> {
        let member = &mut self.members[member];
        let process = member.process.take().with_context(|| format!("{} does not run", member.name))?;
        process.stop().await.with_context(|| format!("{} did not end well", member.name))
    }

    /// Stops every process that runs, gateways first.
    pub async fn stop_all(&mut self) -> Result<()> {
        for role in [Role::Gateway, Role::Agents, Role::CommandService, Role::ProjectionService] {
            for member in self.of(role) {
                if self.members[member].process.is_some() {
                    self.stop(member).await?;
                }
            }
        }
        Ok(())
    }

    /// `kill -STOP`: it holds all it has and does nothing.
    pub async fn pause(&self, member: usize) -> Result<()> {
        self.process(member)?.pause().await
    }

    /// `kill -CONT`.
    pub async fn resume(&self, member: usize) -> Result<()> {
        self.process(member)?.resume().await
    }

    /// Starts a process that was killed or stopped, and waits until it is ready.
    pub async fn start_again(&mut self, member: usize) -> Result<()> {
        let environment = self.environment();
        start(&self.program, &environment, &mut self.members[member]).await
    }

    /// Ends everything at once and without warning, Postgres and NATS too.
    pub async fn crash(&mut self) -> Result<()> {
        let Self { members, postgres, nats, .. } = self;
        let running: Vec<_> = members.iter_mut().filter_map(|member| member.process.take()).collect();
        let kills = futures::future::try_join_all(running.into_iter().map(EverlineProcess::kill));
        futures::try_join!(kills, postgres.stop_immediately(), nats.kill())?;
        Ok(())
    }

    /// Starts everything at once after [`Cluster::crash`]: the processes wait for Postgres and NATS.
    pub async fn start_after_crash(&mut self) -> Result<()> {
        let environment = self.environment();
        let Self { program, members, postgres, nats, .. } = self;
        let starts = members.iter_mut().map(|member| start(program, &environment, member));
        let starts = futures::future::try_join_all(starts);
        futures::try_join!(starts, postgres.start_again(), nats.start_again())?;
        Ok(())
    }

    /// Fails if a process has ended that nobody has ended.
    pub async fn ensure_all_alive(&mut self) -> Result<()> {
        for member in &mut self.members {
            if let Some(process) = &mut member.process
                && tokio::time::timeout(A_MOMENT, process.ended()).await.is_ok()
            {
                bail!("{} has ended by itself; see {}", member.name, member.log().display());
            }
        }
        Ok(())
    }

    /// Whether a member says that it is ready.
    pub async fn is_ready(&self, member: usize) -> bool {
        let url = format!("{}/readyz", self.members[member].url());
        let Ok(client) = client() else { return false };
        client.get(url).send().await.is_ok_and(|answer| answer.status().is_success())
    }

    /// The store, opened by the test itself.
    pub async fn store(&self) -> Result<Store> {
        let options = PostgresOptions::new(self.database_url());
        let opened = tokio::time::timeout(STORE_PATIENCE, Store::postgres(options)).await;
        opened.context("the store was not opened in time")?.context("the store cannot be opened")
    }

    /// The read models, opened by the test itself.
    pub async fn read_models(&self) -> Result<ReadModels> {
        let options = read_models::PostgresOptions::new(self.database_url());
        let opened = tokio::time::timeout(STORE_PATIENCE, ReadModels::open_postgres(options)).await;
        opened.context("the read models were not opened in time")?.context("they cannot be opened")
    }

    fn process(&self, member: usize) -> Result<&EverlineProcess> {
        let member = &self.members[member];
        member.process.as_ref().with_context(|| format!("{} does not run", member.name))
    }

    async fn start_all(&mut self) -> Result<()> {
        let environment = self.environment();
        let program = &self.program;
        let starts = self.members.iter_mut().map(|member| start(program, &environment, member));
        futures::future::try_join_all(starts).await?;
        Ok(())
    }

    fn environment(&self) -> Vec<(&'static str, String)> {
        let mut environment = vec![
            ("EVERLINE_DATABASE_URL", self.database_url()),
            ("EVERLINE_NATS_URL", self.nats.url()),
            ("EVERLINE_MASTER_KEY", MASTER_KEY.to_owned()),
            ("EVERLINE_EGRESS__ALLOW_PRIVATE", "true".to_owned()),
            ("EVERLINE_NATS__EVENTS_MAX_BYTES", EVENTS_MAX_BYTES.to_string()),
            ("EVERLINE_BOOTSTRAP_ADMIN_EMAIL", ADMIN_EMAIL.to_owned()),
            ("EVERLINE_BOOTSTRAP_ADMIN_PASSWORD", ADMIN_PASSWORD.to_owned()),
        ];
        environment.extend(self.options.environment.iter().cloned());
        environment
    }

    /// The key that the first start has saved, or else what a login gives.
    async fn find_key(&self) -> Result<String> {
        for member in &self.members {
            if let Ok(key) = std::fs::read_to_string(member.folder.join("admin.key")) {
                return Ok(key.trim().to_owned());
            }
        }
        let url = format!("{}/api/v1/auth/login", self.url());
        let credentials = json!({"email": ADMIN_EMAIL, "password": ADMIN_PASSWORD});
        let answer = client()?.post(url).json(&credentials).timeout(LOGIN_PATIENCE).send().await?;
        ensure!(answer.status().is_success(), "the admin cannot log in: {}", answer.status());
        let answer: Value = answer.json().await?;
        Ok(answer["access_token"].as_str().context("the login has no token")?.to_owned())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let nats = self.nats.store_folder().parent().map(|folder| folder.join("server.log"));
            if let Some(log) = nats {
                // What is left of it is a help, not a duty.
                let _ = std::fs::copy(log, self.folder.join("nats.log"));
            }
            eprintln!("the processes' logs are in {}", self.folder.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

fn client() -> Result<reqwest::Client> {
    let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).timeout(Duration::from_secs(5));
    client.build().context("no HTTP client")
}

async fn start(program: &Path, environment: &[(&'static str, String)], member: &mut Member) -> Result<()> {
    ensure!(member.process.is_none(), "{} runs already", member.name);
    let port = member.port.to_string();
    let environment: Vec<_> = environment.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let arguments = ["serve", member.role.name(), "--port", &port];
    let started = EverlineProcess::spawn(program, &arguments, &environment, &member.folder).await;
    let process = started
        .with_context(|| format!("{} does not start; it said: {}", member.name, member.last_words()))?;
    member.process = Some(process);
    Ok(())
}
