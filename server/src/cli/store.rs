//! Commands on the files of a store, while its server is stopped (the log's lock sees to that).

use anyhow::Context;
use clap::{Args, Subcommand};
use event_store::LogReader;
use event_store::sqlite::SqliteLog;
use projection_service::{ProjectionConfig, rebuild};
use read_models::ReadModels;
use serde_json::{Value, json};
use std::path::PathBuf;

use domain::ids::Partition;

use super::serve::ServerArgs;
use crate::config::Config;
use crate::embedded::{Storage, open_stores};
use crate::exit::Failure;
use crate::logs;
use crate::output::{Column, Output};

/// Which store.
#[derive(Debug, Args)]
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
    /// Delete the read models and derive them again from the log; with the server stopped.
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
    /// Recompute the hash chain of every partition; with the server stopped. Exit code 1 if it does not match.
    Verify,
}

struct Stores {
    config: Config,
    log: SqliteLog,
    models: ReadModels,
}

impl StoreArgs {
    fn load(self) -> Result<Config, Failure> {
        let config = ServerArgs { config: self.config, data_dir: self.data_dir, port: None }.load()?;
        logs::start_for_client()?;
        Ok(config)
    }

    /// Opens both databases, creating nothing: a wrong directory is a mistake, not a new store.
    async fn open_existing(self) -> Result<Stores, Failure> {
        let config = self.load()?;
        if !config.log_path().exists() {
            let path = config.log_path().display().to_string();
            return Err(Failure::Usage(format!(
                "there is no log at {path}; name its directory with --data-dir"
            )));
        }
        open(config).await
    }
}

async fn open(config: Config) -> Result<Stores, Failure> {
    let storage = Storage::Files {
        log: config.log_path(),
        read_models: config.read_models_path(),
        admin_key: config.admin_key_path(),
    };
    let (log, models) = open_stores(&storage, config.partitions.map(|partitions| partitions.get())).await?;
    Ok(Stores { config, log, models })
}

pub(super) async fn migrate(args: StoreArgs, output: Output) -> Result<(), Failure> {
    let stores = open(args.load()?).await?;
    let rows = [("log", stores.config.log_path()), ("read models", stores.config.read_models_path())];
    // Opening has migrated them; a database of a newer version than this binary's is refused there.
    let rows =
        rows.map(|(database, path)| json!({"database": database, "path": path, "schema": "up to date"}));
    output.list(
        &rows,
        &[Column("DATABASE", "/database"), Column("SCHEMA", "/schema"), Column("PATH", "/path")],
    )?;
    stores.log.close().await;
    Ok(())
}

pub(super) async fn projection(args: ProjectionArgs, output: Output) -> Result<(), Failure> {
    let ProjectionCommand::Rebuild = args.command;
    let stores = args.store.open_existing().await?;
    let rebuilt = rebuild(&stores.log, &stores.models, &ProjectionConfig::default())
        .await
        .context("the read models could not be rebuilt; the old ones stay")?;
    let value = json!({"events": rebuilt.events, "parked": rebuilt.parked, "skipped": rebuilt.skipped});
    output.done(
        &value,
        &format!("rebuilt from {} events; {} streams parked", rebuilt.events, rebuilt.parked),
    )?;
    stores.log.close().await;
    Ok(())
}

pub(super) async fn log(args: LogArgs, output: Output) -> Result<(), Failure> {
    let LogCommand::Verify = args.command;
    let stores = args.store.open_existing().await?;
    let mut rows = Vec::new();
    for partition in 0..stores.log.partitions() {
        rows.push(verify(&stores.log, Partition(partition)).await?);
    }
    let columns = [
        Column("PARTITION", "/partition"),
        Column("COMMITS", "/commits"),
        Column("EVENTS", "/events"),
        Column("RESULT", "/result"),
    ];
    output.list(&rows, &columns)?;
    stores.log.close().await;
    if rows.iter().all(|row| row["intact"] == true) { Ok(()) } else { Err(Failure::Unsuccessful) }
}

/// A damaged partition is a result; a database that cannot be read is not.
async fn verify(log: &SqliteLog, partition: Partition) -> Result<Value, Failure> {
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
