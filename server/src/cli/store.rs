//! Commands on the databases themselves. An embedded store is used while its server is stopped (the log's lock sees to
//! that), Postgres at any time.

use anyhow::Context;
use clap::{Args, Subcommand};
use event_store::LogReader;
use event_store::Ownership;
use projection_service::{ProjectionConfig, rebuild};
use read_models::ReadModels;
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::ids::Partition;

use super::serve::ServerArgs;
use super::transfer::{self, CopyArgs, ExportArgs, ImportArgs};
use crate::config::{Config, ConfigError};
use crate::exit::Failure;
use crate::logs;
use crate::output::{Column, Output};
use crate::process::{Extent, Missing, Patience, Storage, Stores};

/// How long a database may take to answer: a person waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Which store.
#[derive(Debug, Clone, Args)]
pub(super) struct StoreArgs {
    /// The configuration file [default: everline.toml in the working directory, if there is one]
    #[arg(long, global = true, env = "EVERLINE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The data directory [default: .everline]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// `everline projection`
#[derive(Debug, Args)]
pub(super) struct ProjectionArgs {
    #[command(subcommand)]
    command: ProjectionCommand,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Subcommand)]
enum ProjectionCommand {
    /// How far the read models are behind the log, per partition. On Postgres while the services run; an embedded
    /// server tells the same at `/metrics`, and here while it is stopped.
    Lag,
    /// Derive the read models again from the log, beside the old ones, and exchange them. On Postgres while the
    /// services run; with an embedded server stopped.
    Rebuild,
}

/// `everline log`
#[derive(Debug, Args)]
pub(super) struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    /// Recompute the hash chain of every partition; with an embedded server stopped. Exit code 1 if it does not match.
    Verify,
    /// Write the whole log to a file, from which `import` fills another store; docs/transfer.md describes it. On
    /// Postgres while the services run; with an embedded server stopped.
    Export(ExportArgs),
    /// Fill an empty store with an exported log. Positions, chain and epochs stay what they were.
    Import(ImportArgs),
    /// Fill another, empty store with this one's log, without a file in between.
    Copy(CopyArgs),
}

/// `everline migrate`
#[derive(Debug, Args)]
pub(super) struct MigrateArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Create an embedded store that is not there yet; without this, a mistyped directory is a mistake
    #[arg(long)]
    create: bool,
}

/// `everline cluster`
#[derive(Debug, Args)]
pub(super) struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum ClusterCommand {
    /// List the live nodes.
    Nodes,
    /// List the partitions with their owners.
    Partitions,
}

impl StoreArgs {
    pub(super) fn load(self) -> Result<Config, Failure> {
        let config = ServerArgs { config: self.config, data_dir: self.data_dir, port: None }.load()?;
        logs::start_for_client()?;
        Ok(config)
    }

    /// Opens the databases, creating no log: a wrong directory or database is a mistake, not a new store.
    pub(super) async fn open_existing(self, extent: Extent) -> Result<Stores, Failure> {
        self.open_log_existing(extent, Missing::Refuse).await
    }

    async fn open_log_existing(self, extent: Extent, missing: Missing) -> Result<Stores, Failure> {
        let config = self.load()?;
        refuse_missing(&config, "name its directory with --data-dir")?;
        open(&config, extent, missing).await
    }
}

fn refuse_missing(config: &Config, remedy: &str) -> Result<(), Failure> {
    match config.log_database().file().filter(|path| !path.exists()) {
        Some(path) => Err(Failure::Usage(format!("there is no log at {}; {remedy}", path.display()))),
        None => Ok(()),
    }
}

async fn open(config: &Config, extent: Extent, missing: Missing) -> Result<Stores, Failure> {
    let partitions = config.partitions.map(|partitions| partitions.get());
    let patience = Patience::new(PATIENCE);
    let storage = Storage::from_config(config);
    let stores = storage.open(extent, partitions, "everline command line", patience, missing).await?;
    Ok(stores.with_blobs(config.blobs()?.as_ref(), missing)?)
}

fn models(stores: &Stores) -> Result<&ReadModels, Failure> {
    Ok(stores.read_models.as_ref().context("the read models are not open")?)
}

pub(super) async fn migrate(args: MigrateArgs, output: Output) -> Result<(), Failure> {
    let config = args.store.load()?;
    if !args.create {
        refuse_missing(&config, "name its directory with --data-dir, or create a store with --create")?;
    }
    let stores = open(&config, Extent::LogAndReadModels, Missing::Create).await?;
    // Opening has migrated them; a database of a newer version than this binary's is refused there.
    let rows = [("log", config.log_database()), ("read models", config.read_model_database())];
    let rows = rows.map(|(database, url)| {
        let place = match (url.file(), url.postgres()) {
            (Some(path), _) => path.display().to_string(),
            (None, url) => url.map(|url| url.shown().to_owned()).unwrap_or_default(),
        };
        json!({"database": database, "path": place, "schema": "up to date"})
    });
    output.list(
        &rows,
        &[Column("DATABASE", "/database"), Column("SCHEMA", "/schema"), Column("PATH", "/path")],
    )?;
    stores.close().await;
    Ok(())
}

pub(super) async fn projection(args: ProjectionArgs, output: Output) -> Result<(), Failure> {
    let missing = match args.command {
        ProjectionCommand::Lag => Missing::Refuse,
        ProjectionCommand::Rebuild => Missing::CreateReadModels,
    };
    let stores = args.store.open_log_existing(Extent::LogAndReadModels, missing).await?;
    let done = match args.command {
        ProjectionCommand::Lag => lag(&stores, output).await,
        ProjectionCommand::Rebuild => rebuild_all(&stores, output).await,
    };
    stores.close().await;
    done
}

async fn lag(stores: &Stores, output: Output) -> Result<(), Failure> {
    let lag = projection_service::lag(&*stores.store.reader, models(stores)?).await;
    let lag = lag.context("how far the read models are cannot be read")?;
    let rows: Vec<_> = lag
        .iter()
        .map(|lag| {
            json!({
                "partition": lag.partition, "head": lag.head, "projected": lag.projected, "behind": lag.events(),
            })
        })
        .collect();
    let columns = [
        Column("PARTITION", "/partition"),
        Column("HEAD", "/head"),
        Column("PROJECTED", "/projected"),
        Column("BEHIND", "/behind"),
    ];
    output.list(&rows, &columns)
}

async fn rebuild_all(stores: &Stores, output: Output) -> Result<(), Failure> {
    let rebuilt = rebuild(&*stores.store.reader, models(stores)?, &ProjectionConfig::default())
        .await
        .context("the read models could not be rebuilt; the old ones stay")?;
    let value = json!({"events": rebuilt.events, "parked": rebuilt.parked, "skipped": rebuilt.skipped});
    output.done(&value, &format!("rebuilt from {} events; {} streams parked", rebuilt.events, rebuilt.parked))
}

pub(super) async fn log(args: LogArgs, output: Output) -> Result<(), Failure> {
    match args.command {
        LogCommand::Verify => verify_all(args.store, output).await,
        LogCommand::Export(export) => transfer::export(args.store, export, output).await,
        LogCommand::Import(import) => transfer::import(args.store, import, output).await,
        LogCommand::Copy(copy) => transfer::copy(args.store, copy, output).await,
    }
}

async fn verify_all(store: StoreArgs, output: Output) -> Result<(), Failure> {
    let stores = store.open_existing(Extent::Log).await?;
    let reader = &stores.store.reader;
    let mut rows = Vec::new();
    for partition in 0..reader.partitions() {
        rows.push(verify(&**reader, Partition(partition)).await?);
    }
    let columns = [
        Column("PARTITION", "/partition"),
        Column("COMMITS", "/commits"),
        Column("EVENTS", "/events"),
        Column("RESULT", "/result"),
    ];
    output.list(&rows, &columns)?;
    stores.close().await;
    if rows.iter().all(|row| row["intact"] == true) { Ok(()) } else { Err(Failure::Unsuccessful) }
}

pub(super) async fn cluster(args: ClusterArgs, output: Output) -> Result<(), Failure> {
    let config = args.store.load()?;
    if config.log_database().postgres().is_none() {
        let detail = "an embedded store has one process and no cluster; set it to postgres://…";
        return Err(ConfigError::single("database_url", detail).into());
    }
    let stores = open(&config, Extent::Log, Missing::Refuse).await?;
    let ownership = stores.store.ownership.clone().context("this store has no table of nodes")?;
    let done = members(ownership, args.command, output).await;
    stores.close().await;
    done
}

async fn members(
    ownership: Arc<dyn Ownership>,
    command: ClusterCommand,
    output: Output,
) -> Result<(), Failure> {
    let membership = ownership.membership().await.context("the table of nodes cannot be read")?;
    let name_of = |id| membership.nodes.iter().find(|node| node.node == id).map(|node| node.name.as_str());
    match command {
        ClusterCommand::Nodes => {
            let owned = |id| membership.owners.iter().filter(|owner| owner.node == Some(id)).count();
            let rows: Vec<_> = membership
                .nodes
                .iter()
                .map(|node| {
                    let state = if node.draining { "draining" } else { "live" };
                    json!({"node": node.node, "name": node.name, "state": state, "partitions": owned(node.node)})
                })
                .collect();
            let columns = [
                Column("NODE", "/node"),
                Column("NAME", "/name"),
                Column("STATE", "/state"),
                Column("PARTITIONS", "/partitions"),
            ];
            output.list(&rows, &columns)
        }
        ClusterCommand::Partitions => {
            let rows: Vec<_> = membership
                .owners
                .iter()
                .map(|owner| {
                    let state = match owner.node.map(name_of) {
                        None => "free",
                        Some(None) => "owner is gone",
                        Some(Some(_)) => "owned",
                    };
                    let name = owner.node.and_then(name_of);
                    json!({
                        "partition": owner.partition, "epoch": owner.epoch, "state": state, "node": owner.node,
                        "name": name,
                    })
                })
                .collect();
            let columns = [
                Column("PARTITION", "/partition"),
                Column("EPOCH", "/epoch"),
                Column("STATE", "/state"),
                Column("OWNER", "/name"),
            ];
            output.list(&rows, &columns)
        }
    }
}

/// A damaged partition is a result; a database that cannot be read is not.
async fn verify(log: &dyn LogReader, partition: Partition) -> Result<Value, Failure> {
    match log.verify_chain(partition).await {
        Ok(report) => Ok(json!({
            "partition": partition, "commits": report.commits, "events": report.events, "intact": true, "result": "intact",
        })),
        Err(event_store::StoreError::Corrupt(reason)) => {
            Ok(json!({"partition": partition, "intact": false, "result": reason}))
        }
        Err(error) => Err(anyhow::Error::new(error)
            .context(format!("partition {partition} could not be verified"))
            .into()),
    }
}
