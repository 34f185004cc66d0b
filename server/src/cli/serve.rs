//! `everline dev` and `everline serve`: this process is the server until a signal ends it.

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::path::PathBuf;
use toml::Value;

use crate::config::{Config, ConfigError, Flag, Sources, load};
use crate::exit::Failure;
use crate::logs;
use crate::output::Output;
use crate::process::{Process, ProcessOptions, Role, Roles};
use crate::signals::Signals;

/// Options that every server has.
#[derive(Debug, Clone, Args)]
pub(super) struct ServerArgs {
    /// The configuration file [default: everline.toml in the working directory, if there is one]
    #[arg(long, env = "EVERLINE_CONFIG", value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Where the store and `admin.key` live [default: .everline]
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// The port of HTTP; 0 takes any free one [default: 7070]
    #[arg(long)]
    pub(super) port: Option<u16>,
}

/// `everline dev`
#[derive(Debug, Args)]
pub(super) struct DevArgs {
    #[command(flatten)]
    server: ServerArgs,
}

/// `everline serve`
#[derive(Debug, Args)]
pub(super) struct ServeArgs {
    /// What this process does. `all` needs nothing else; single roles need Postgres and NATS.
    role: RoleArg,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleArg {
    All,
    CommandService,
    ProjectionService,
    Gateway,
    Agents,
    Vector,
}

impl RoleArg {
    fn roles(self) -> Result<Roles, ConfigError> {
        match self {
            Self::All => Ok(Roles::All),
            Self::CommandService => Ok(Roles::Only(Role::CommandService)),
            Self::ProjectionService => Ok(Roles::Only(Role::ProjectionService)),
            Self::Gateway => Ok(Roles::Only(Role::Gateway)),
            Self::Agents => Ok(Roles::Only(Role::Agents)),
            Self::Vector => {
                Err(ConfigError::single("everline serve vector", "vectors come in a later release"))
            }
        }
    }
}

impl ServerArgs {
    /// The configuration, with the flags as its last layer.
    pub(super) fn load(&self) -> Result<Config, ConfigError> {
        let mut flags = Vec::new();
        if let Some(directory) = &self.data_dir {
            let text = directory.to_str().ok_or_else(|| ConfigError::single("--data-dir", "not UTF-8"))?;
            flags.push(Flag { name: "--data-dir", key: "data_dir", value: Value::String(text.to_owned()) });
        }
        let file = self.config.clone().filter(|file| !file.as_os_str().is_empty());
        let mut config = load(&Sources::of_process(file, flags))?;
        if let Some(port) = self.port {
            // Only the port: the address may come from another layer.
            config.http_addr.set_port(port);
        }
        Ok(config)
    }
}

pub(super) async fn dev(args: DevArgs, output: Output) -> Result<(), Failure> {
    let config = args.server.load()?;
    logs::start(&config.log, config.log_format)?;
    let mut signals = Signals::catch()?;
    let process = start(ProcessOptions::from_config(&config, true).with_scripts(), &mut signals).await?;
    greet(&process, &config, output)?;
    serve_until_signal(process, signals).await
}

pub(super) async fn serve(args: ServeArgs, output: Output) -> Result<(), Failure> {
    let roles = args.role.roles()?;
    let config = args.server.load()?;
    let options = ProcessOptions { roles, ..ProcessOptions::from_config(&config, false).with_scripts() };
    options.check()?;
    logs::start(&config.log, config.log_format)?;
    let mut signals = Signals::catch()?;
    let process = start(options, &mut signals).await?;
    if let Some(admin) = process.admin.as_ref().filter(|admin| admin.created) {
        // The key itself must not reach a log.
        let key_file = config.admin_key_path().display().to_string();
        tracing::info!(email = admin.email, key_file, "the first admin was created and its API key saved");
    }
    if !output.for_people() {
        output.thing(&json!({"url": process.url, "roles": roles.to_string()}))?;
    }
    serve_until_signal(process, signals).await
}

async fn start(options: ProcessOptions, signals: &mut Signals) -> Result<Process, Failure> {
    tokio::select! {
        started = Process::start(options) => Ok(started?),
        number = signals.next() => Err(Failure::Signal(number)),
    }
}

/// What a person wants to know first.
fn greet(process: &Process, config: &Config, output: Output) -> Result<(), Failure> {
    let key_file = config.admin_key_path();
    let admin = process.admin.as_ref().context("a process with all roles has an admin")?;
    if !output.for_people() {
        return output.thing(&json!({
            "url": process.url, "email": admin.email, "key_file": key_file.display().to_string(),
            "first_start": admin.created,
        }));
    }
    output.raw(&format!("Everline is ready at {}", process.url))?;
    if let Some(key) = admin.key.as_ref().filter(|_| admin.created) {
        output.raw(&format!("  admin     {}", admin.email))?;
        output.raw(&format!("  API key   {}  (also in {})", key.expose(), key_file.display()))?;
        if let Some(password) = &admin.password {
            output.raw(&format!("  password  {}  (shown only now)", password.expose()))?;
        }
    } else if admin.key.is_some() {
        output.raw(&format!("  API key in {}", key_file.display()))?;
    } else {
        output.raw(&format!("  no API key in {}; log in as {}", key_file.display(), admin.email))?;
    }
    output.raw("Stop it with Ctrl-C.")
}

/// Runs until a signal or a failure of a part; a second signal ends the process at once.
async fn serve_until_signal(mut process: Process, mut signals: Signals) -> Result<(), Failure> {
    let failure = tokio::select! {
        number = signals.next() => {
            tracing::info!(signal = number, "stopping; another signal stops at once");
            None
        }
        failure = process.failure() => {
            tracing::error!("a part of the process failed, so all of it stops: {failure:#}");
            Some(failure)
        }
    };
    let stopped = signals.unless_repeated(process.shutdown()).await?;
    match failure {
        Some(failure) => Err(failure.into()),
        None => Ok(stopped.context("the process did not stop well")?),
    }
}
