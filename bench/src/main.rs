//! Benchmarks: `cargo run --release -p bench -- <scenario>`. What the figures mean: docs/benchmarks.md.
//!
//! ```text
//!   append       the log against a bare insert of the same rows, in this process
//!   executions   a load generator ──HTTP──► `everline dev`, a process of its own ──► a local target
//!   for_each     one loop of very many iterations ──HTTP──► `everline dev` ◄──HTTP── small executions beside it
//!   fan-out      signals ──HTTP──► `everline dev` ──WebSocket──► very many subscribers, one of which reads nothing
//!   live         signals ──HTTP──► `everline dev` ──WebSocket──► many subscribers
//!   reads        a load generator ──HTTP──► `everline dev`: executions by id, against a bare axum handler
//!   relay        executions ──HTTP──► `everline serve all` ──relay──► EVERLINE_EVENTS ──► a subscriber on NATS
//!   sockets      idle WebSocket clients ──► `everline dev`: its memory
//! ```
//!
//! Invariants: a run measures the program that users run, durably (`synchronous=full`), with the load generator
//! on the same machine; what went wrong is counted and shown, and makes the run fail.

mod append;
mod bare;
mod executions;
mod fan_out;
mod for_each;
mod http;
mod live;
mod plain;
mod process;
mod reads;
mod relay;
mod report;
mod services;
mod sockets;
mod target;

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use report::Report;
use services::Backend;

#[derive(Parser)]
#[command(about = "Benchmarks of Everline; the figures are explained in docs/benchmarks.md")]
struct Arguments {
    #[command(subcommand)]
    scenario: Scenario,
    /// Writes the figures to this file as JSON, too.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// Where data is written; on the disk that is to be measured. Default: beside the program.
    #[arg(long, global = true)]
    dir: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Scenario {
    /// Events per second of the log, against a bare insert of the same rows.
    Append(append::Options),
    /// Executions per second through HTTP.
    Executions(executions::Options),
    /// A loop of very many iterations, and what other executions notice of it.
    #[command(name = "for_each")]
    ForEach(for_each::Options),
    /// One event to very many subscribers of one execution, with and without one that reads nothing.
    #[command(name = "fan-out")]
    FanOut(fan_out::Options),
    /// Time from a commit to WebSocket clients.
    Live(live::Options),
    /// Executions by id through HTTP, from the read model and from memory, against a bare axum handler.
    Reads(reads::Options),
    /// Time from an event to a subscriber on NATS.
    Relay(relay::Options),
    /// The server's memory with idle WebSocket clients.
    Sockets(sockets::Options),
    /// The bare handler that `reads` compares with, as a process of its own.
    #[command(hide = true)]
    Plain,
}

/// Which server is measured.
#[derive(Args)]
struct ServerOptions {
    /// The `everline` program. Default: the release build, made now if need be.
    #[arg(long)]
    server: Option<PathBuf>,
    /// What it stores in and talks over.
    #[arg(long, value_enum, default_value_t = Backend::Embedded)]
    backend: Backend,
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(failures) => {
            eprintln!("bench: {failures} operations failed; the figures above do not count");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs a scenario and shows its report. Gives the number of failed operations.
async fn run(arguments: Arguments) -> Result<u64> {
    if matches!(arguments.scenario, Scenario::Plain) {
        plain::serve().await?;
        return Ok(0);
    }
    let dir = scratch(arguments.dir.as_deref())?;
    let report: Report = match arguments.scenario {
        Scenario::Append(options) => append::run(&options, dir.path()).await?,
        Scenario::Executions(options) => executions::run(&options, dir.path()).await?,
        Scenario::ForEach(options) => for_each::run(&options, dir.path()).await?,
        Scenario::FanOut(options) => fan_out::run(&options, dir.path()).await?,
        Scenario::Live(options) => live::run(&options, dir.path()).await?,
        Scenario::Reads(options) => reads::run(&options, dir.path()).await?,
        Scenario::Relay(options) => relay::run(&options, dir.path()).await?,
        Scenario::Sockets(options) => sockets::run(&options, dir.path()).await?,
        Scenario::Plain => unreachable!("it is served above"),
    };
    println!("{report}");
    if let Some(path) = arguments.json {
        std::fs::write(&path, report.to_json()?)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(report.failures)
}

/// A folder for the data of this run, removed at its end.
fn scratch(wanted: Option<&Path>) -> Result<tempfile::TempDir> {
    let parent = match wanted {
        Some(dir) => dir.to_path_buf(),
        // Not the system's temporary folder, which may be in memory.
        None => std::env::current_exe()?.parent().context("the program is in no folder")?.to_path_buf(),
    };
    std::fs::create_dir_all(&parent).with_context(|| format!("{} cannot be created", parent.display()))?;
    tempfile::Builder::new()
        .prefix("bench-data-")
        .tempdir_in(&parent)
        .with_context(|| format!("no folder can be made in {}", parent.display()))
}
