//! `everline run`: from a file to an output.

use clap::Args;
use serde_json::{Value, json};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use super::connection::Connection;
use super::follow::{self, Events};
use super::serve::ServerArgs;
use super::{apply, input};
use crate::client::{Client, segment};
use crate::config::ConfigError;
use crate::embedded::{Embedded, EmbeddedOptions, Storage};
use crate::exit::Failure;
use crate::logs;
use crate::output::{Output, printable};
use crate::signals::Signals;

/// `everline run`
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// The definition: a JSON file, `-` for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The input: JSON, `@FILE`, or `@-` for standard input
    #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
    input: String,
    /// Print every event also with `--output json`
    #[arg(long)]
    watch: bool,
    /// Run in this process, with a temporary store unless `--data-dir` is given
    #[arg(long, conflicts_with_all = ["server", "api_key"])]
    local: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(args: RunArgs, output: Output) -> Result<(), Failure> {
    let definition = input::json_file(&args.file)?;
    let run_input = input::json_argument("--input", &args.input)?;
    let events = if args.watch || output.for_people() { Events::Shown } else { Events::Hidden };
    let work = Work { definition, input: run_input, events, output };
    if args.local {
        local(args.connection.data_dir, &work).await
    } else {
        logs::start_for_client()?;
        work.on(&args.connection.client()?).await
    }
}

/// What is to be done, wherever.
struct Work {
    definition: Value,
    input: Value,
    events: Events,
    output: Output,
}

impl Work {
    async fn on(&self, client: &Client) -> Result<(), Failure> {
        let applied = apply::apply(client, &self.definition).await?;
        let sentence =
            format!("workflow {} version {} {}", applied.name, applied.version, applied.change.as_str());
        self.output.say(&printable(&sentence))?;
        let path = format!("/workflows/{}/execute", segment(&applied.id));
        let started = client.post(&path, &json!({"input": self.input})).await?;
        let execution_id = started.body.get("execution_id").and_then(Value::as_str).unwrap_or_default();
        self.output.say(&format!("execution {}", printable(execution_id)))?;
        let execution = follow::to_the_end(client, execution_id, self.events, self.output).await?;
        follow::conclude(&execution, self.output)
    }
}

/// Everything in this process, which is a whole server for as long as it takes.
async fn local(data_dir: Option<PathBuf>, work: &Work) -> Result<(), Failure> {
    let temporary = data_dir.is_none();
    let mut config = ServerArgs { config: None, data_dir, port: None }.load()?;
    if config.log_database().postgres().is_some() {
        let detail =
            "`run --local` works on an embedded store; leave database_url out, or run without --local";
        return Err(ConfigError::single("database_url", detail).into());
    }
    config.http_addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    // Nobody else asks this server, so nobody needs notice of its end.
    config.gateway.drain_notice_ms = 0;
    let filter = std::env::var(logs::FILTER_VARIABLE).ok().filter(|filter| !filter.is_empty());
    logs::start(filter.as_deref().unwrap_or("warn"), config.log_format)?;

    let mut options = EmbeddedOptions::from_config(&config, true).with_scripts();
    // Whatever cluster the environment speaks of, this run is not part of it.
    options.nats = None;
    if temporary {
        options.storage = Storage::Temporary;
        // Nothing is to stay behind.
        options.blobs = None;
    }
    let mut signals = Signals::catch()?;
    let mut server = Embedded::start(options).await?;
    let client = Client::new(&server.url, server.admin.key.clone())?;
    let done = tokio::select! {
        done = work.on(&client) => done,
        failure = server.failure() => Err(Failure::Internal(failure)),
        number = signals.next() => Err(Failure::Signal(number)),
    };
    // The client's connections would hold the server's end back.
    drop(client);
    let stopped = signals.unless_repeated(server.shutdown()).await?;
    done.and(stopped.map_err(Failure::Internal))
}
