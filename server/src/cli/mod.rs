//! The command line: what can be typed, and which module does it.
//!
//! ```text
//!   serve      dev, serve: this process is the server          (Process)
//!   run        apply, start, follow, print; --local in-process  (Embedded or Client)
//!   workflow execution events tail variable: requests to a server   (Client)
//!   user role key tenant audit: the same, for those who administer
//!   login      login, logout, whoami: a session that the others use
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
mod audit;
mod completion;
mod connection;
mod doctor;
mod events;
mod execution;
mod follow;
mod health;
mod input;
mod key;
mod login;
mod role;
mod run;
mod sandbox_worker;
mod secret_input;
mod serve;
mod settings;
mod store;
mod tail;
mod tenant;
mod test;
mod transfer;
mod user;
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
    /// nothing else, `yaml` for a YAML document each. Errors and hints go to standard error.
    #[arg(long, global = true, value_enum, default_value_t = Format::Table)]
    output: Format,
    // Also taken before the command; clap hands them to the options of the same name that commands have.
    #[arg(long, hide = true)]
    server: Option<String>,
    #[arg(long, hide = true)]
    api_key: Option<String>,
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
    /// Follow the tenant's events, past and live, without a gap and through lost connections.
    ///
    /// With `--output json` each line is an event with one more field, `resume`: `--from` with it goes on after that event.
    /// Ctrl-C ends it with exit code 0 and says on standard error from where to go on.
    Tail(tail::TailArgs),
    /// Log in to a server; the session is kept for the next commands and renews itself.
    ///
    /// The password is asked for without echo, or read from standard input. Commands then use, in this order:
    /// `--api-key`, EVERLINE_API_KEY, the `admin.key` of a data directory that is named, the session of the server, the
    /// `admin.key` of the default data directory.
    Login(login::LoginArgs),
    /// End the session on a server and forget it here.
    Logout(login::SessionArgs),
    /// Show as whom commands act, and where.
    Whoami(login::SessionArgs),
    /// Users of the tenant: list, create, invite, roles, passwords.
    #[command(visible_alias = "users")]
    User(user::UserArgs),
    /// Roles: list, define.
    #[command(visible_alias = "roles")]
    Role(role::RoleArgs),
    /// API keys: list, create, revoke.
    #[command(visible_alias = "keys")]
    Key(key::KeyArgs),
    /// Tenants of the installation: list, create, suspend.
    #[command(visible_alias = "tenants")]
    Tenant(tenant::TenantArgs),
    /// Who asked for what, and what became of it: list, export.
    Audit(audit::AuditArgs),
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
    /// Print a script by which a shell completes commands: `source <(everline completion bash)`.
    Completion(completion::CompletionArgs),
    /// Run foreign code for another process of this program.
    #[command(hide = true)]
    SandboxWorker(sandbox_worker::SandboxWorkerArgs),
}

impl Command {
    /// Whether it sends requests as a client.
    fn asks_a_server(&self) -> bool {
        match self {
            Self::Run(_)
            | Self::Test(_)
            | Self::Workflow(_)
            | Self::Execution(_)
            | Self::Events(_)
            | Self::Tail(_)
            | Self::Variable(_)
            | Self::Login(_)
            | Self::Logout(_)
            | Self::Whoami(_)
            | Self::User(_)
            | Self::Role(_)
            | Self::Key(_)
            | Self::Tenant(_)
            | Self::Audit(_) => true,
            Self::Dev(_)
            | Self::Serve(_)
            | Self::Migrate(_)
            | Self::Projection(_)
            | Self::Log(_)
            | Self::Cluster(_)
            | Self::Doctor(_)
            | Self::Health(_)
            | Self::Config(_)
            | Self::Completion(_)
            | Self::SandboxWorker(_) => false,
        }
    }
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
        if (self.server.is_some() || self.api_key.is_some()) && !self.command.asks_a_server() {
            let detail = "--server and --api-key are for commands that ask a server; leave them out";
            return Err(Failure::Usage(detail.to_owned()));
        }
        match self.command {
            Command::Dev(args) => serve::dev(args, output).await,
            Command::Serve(args) => serve::serve(args, output).await,
            Command::Run(args) => run::run(args, output).await,
            Command::Test(args) => test::run(args, output).await,
            Command::Workflow(args) => workflow::run(args, output).await,
            Command::Execution(args) => execution::run(args, output).await,
            Command::Events(args) => events::run(args, output).await,
            Command::Tail(args) => tail::run(args, output).await,
            Command::Login(args) => login::login(args, output).await,
            Command::Logout(args) => login::logout(args, output).await,
            Command::Whoami(args) => login::whoami(args, output).await,
            Command::User(args) => user::run(args, output).await,
            Command::Role(args) => role::run(args, output).await,
            Command::Key(args) => key::run(args, output).await,
            Command::Tenant(args) => tenant::run(args, output).await,
            Command::Audit(args) => audit::run(args, output).await,
            Command::Completion(args) => completion::run(args, output),
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
