//! The command line: what can be typed, and which module does it.
//!
//! ```text
//!   serve      dev, serve: this process is the server          (Process)
//!   run        apply, start, follow, print; --local in-process  (Embedded or Client)
//!   workflow execution events variable: requests to a server   (Client)
//!   store      migrate, projection, log, cluster: on the databases themselves
//!   doctor     doctor: looks at everything, changes nothing
//!   health     health: what a running process says of itself
//!   test       test: definitions against recorded outputs, in this process  (workflow_tests)
//!   settings   config default
//!   sandbox_worker  a process that runs foreign code, before anything else of ours is started
//! ```
//!
//! Invariants: results go to standard output and everything else to standard error; the exit code follows
//! [`crate::exit`]. Deliberately absent: rules. What a server decides is not decided again here, except
//! `workflow validate`, which uses the same code as the server.

mod apply;
mod connection;
mod doctor;
mod events;
mod execution;
mod follow;
mod health;
mod input;
mod run;
mod sandbox_worker;
mod serve;
mod settings;
mod store;
mod test;
mod transfer;
mod variable;
mod workflow;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

use crate::exit::{EXIT_CODES, Failure};
use crate::output::{Format, Output};

/// Everline: workflows whose every step is an event in a log.
#[derive(Debug, Parser)]
#[command(name = "everline", version, about, long_about = None, after_help = EXIT_CODES)]
pub struct Cli {
    /// How results are written to standard output: `table` for people, `json` for one JSON value a line and
    /// nothing else. Errors and hints go to standard error.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Start everything in one process on the embedded store, for development.
    Dev(serve::DevArgs),
    /// Start a server: all of it in one process, or one role of a cluster.
    Serve(serve::ServeArgs),
    /// Apply a workflow definition by its name, run it, show its events and print its output.
    ///
    /// The definition is stored under its name, as a new version only if it changed. With `--output table` the
    /// events come first, a line each, then the status, then the output as JSON. With `--output json` there is one
    /// line `{"execution_id", "status", "output", "error"}`, after a line for each event if `--watch` is given.
    /// The exit code is 0 if the execution completed and 1 if not.
    Run(run::RunArgs),
    /// Test definitions against recorded outputs of their worker nodes, without server, network or waiting.
    ///
    /// Each case of a fixture runs in the engine itself, with time skipped. One line for each case, differences below
    /// it path by path; with `--output json` one line `{"file", "case", "passed", "findings"}` for each case. Exit code
    /// 0 if all pass, 1 if not, 2 if a file is not usable.
    Test(test::TestArgs),
    /// Workflows: apply, list, publish, validate.
    #[command(visible_alias = "workflows")]
    Workflow(workflow::WorkflowArgs),
    /// Executions: start, watch, signal, pause, retry, fork, compare, end; dead letters.
    #[command(visible_alias = "executions")]
    Execution(execution::ExecutionArgs),
    /// The tenant's events: list, tail.
    Events(events::EventsArgs),
    /// Variables that expressions see as `vars`: list, set, delete.
    #[command(visible_alias = "variables")]
    Variable(variable::VariableArgs),
    /// Bring both databases to this version's schema; with the server of embedded databases stopped.
    Migrate(store::MigrateArgs),
    /// The read models: lag, rebuild.
    Projection(store::ProjectionArgs),
    /// The log itself: verify, export, import, copy.
    Log(store::LogArgs),
    /// The nodes of a cluster on Postgres, and who owns which partition.
    Cluster(store::ClusterArgs),
    /// Look at all that a server needs: configuration, disk, databases, NATS, nodes, clocks.
    ///
    /// Nothing is changed. Exit code 0 if all is well or there are warnings only, 1 if something is broken.
    Doctor(store::StoreArgs),
    /// Ask a running process whether it is ready; for health checks of containers. Exit code 0 if it is, else 1.
    Health(health::HealthArgs),
    /// The configuration: print a file with every key.
    Config(settings::ConfigArgs),
    /// Run foreign code for another process of this program.
    #[command(hide = true)]
    SandboxWorker(sandbox_worker::SandboxWorkerArgs),
}

impl Cli {
    /// Works as a sandbox's worker until there is no more work, if that is what was typed. Called before anything is
    /// started that a worker must not have.
    pub fn sandbox_worker(&self) -> Option<ExitCode> {
        match &self.command {
            Command::SandboxWorker(args) => Some(sandbox_worker::run(args)),
            _ => None,
        }
    }

    /// Does what was typed.
    ///
    /// # Errors
    /// Why the process ends, other than success.
    pub async fn run(self) -> Result<(), Failure> {
        let output = Output { format: self.output };
        match self.command {
            Command::Dev(args) => serve::dev(args, output).await,
            Command::Serve(args) => serve::serve(args, output).await,
            Command::Run(args) => run::run(args, output).await,
            Command::Test(args) => test::run(args, output).await,
            Command::Workflow(args) => workflow::run(args, output).await,
            Command::Execution(args) => execution::run(args, output).await,
            Command::Events(args) => events::run(args, output).await,
            Command::Variable(args) => variable::run(args, output).await,
            Command::Migrate(args) => store::migrate(args, output).await,
            Command::Projection(args) => store::projection(args, output).await,
            Command::Log(args) => store::log(args, output).await,
            Command::Cluster(args) => store::cluster(args, output).await,
            Command::Doctor(args) => doctor::run(args, output).await,
            Command::Health(args) => health::run(args, output).await,
            Command::Config(args) => settings::run(args, output),
            // See `sandbox_worker`, which comes first.
            Command::SandboxWorker(_) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
