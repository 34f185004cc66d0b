//! `everline dev` and `everline serve`: this process is the server until a signal ends it.

use anyhow::Context;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::path::PathBuf;
use toml::Value;

use crate::config::{Config, ConfigError, Flag, Sources, load};
use crate::embedded::{Embedded, EmbeddedOptions};
use crate::exit::Failure;
use crate::logs;
use crate::output::Output;
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
    /// Which roles this process has. `all` needs nothing else; single roles come with the cluster release.
    role: Role,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Role {
    All,
    CommandService,
    ProjectionService,
    Gateway,
    Agents,
    Vector,
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
    let server = start(&config, true, &mut signals).await?;
    greet(&server, &config, output)?;
    serve_until_signal(server, signals).await
}

pub(super) async fn serve(args: ServeArgs) -> Result<(), Failure> {
    if args.role != Role::All {
        let role = args.role.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        return Err(Failure::Config(ConfigError::single(
            format!("everline serve {role}"),
            "a role in a process of its own comes with the cluster release (it needs Postgres and NATS); \
             use `everline serve all`",
        )));
    }
    let config = args.server.load()?;
    logs::start(&config.log, config.log_format)?;
    let mut signals = Signals::catch()?;
    let server = start(&config, false, &mut signals).await?;
    if server.admin.created {
        // The key itself must not reach a log.
        let key_file = config.admin_key_path().display().to_string();
        tracing::info!(
            email = server.admin.email,
            key_file,
            "the first admin was created and its API key saved"
        );
    }
    serve_until_signal(server, signals).await
}

async fn start(config: &Config, allow_private: bool, signals: &mut Signals) -> Result<Embedded, Failure> {
    let options = EmbeddedOptions::from_config(config, allow_private);
    tokio::select! {
        started = Embedded::start(options) => Ok(started?),
        number = signals.next() => Err(Failure::Signal(number)),
    }
}

/// What a person wants to know first.
fn greet(server: &Embedded, config: &Config, output: Output) -> Result<(), Failure> {
    let key_file = config.admin_key_path();
    if !output.for_people() {
        return output.thing(&json!({
            "url": server.url, "email": server.admin.email, "key_file": key_file.display().to_string(),
            "first_start": server.admin.created,
        }));
    }
    output.raw(&format!("Everline is ready at {}", server.url))?;
    if let Some(key) = server.admin.key.as_ref().filter(|_| server.admin.created) {
        output.raw(&format!("  admin     {}", server.admin.email))?;
        output.raw(&format!("  API key   {}  (also in {})", key.expose(), key_file.display()))?;
        if let Some(password) = &server.admin.password {
            output.raw(&format!("  password  {}  (shown only now)", password.expose()))?;
        }
    } else if server.admin.key.is_some() {
        output.raw(&format!("  API key in {}", key_file.display()))?;
    } else {
        output.raw(&format!("  no API key in {}; log in as {}", key_file.display(), server.admin.email))?;
    }
    output.raw("Stop it with Ctrl-C.")
}

/// Runs until a signal or a failure of a part; a second signal ends the process at once.
async fn serve_until_signal(mut server: Embedded, mut signals: Signals) -> Result<(), Failure> {
    let failure = tokio::select! {
        number = signals.next() => {
            tracing::info!(signal = number, "stopping; another signal stops at once");
            None
        }
        failure = server.failure() => {
            tracing::error!("a part of the process failed, so all of it stops: {failure:#}");
            Some(failure)
        }
    };
    let stopped = signals.unless_repeated(server.shutdown()).await?;
    match failure {
        Some(failure) => Err(failure.into()),
        None => Ok(stopped.context("the process did not stop well")?),
    }
}
