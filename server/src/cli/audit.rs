//! `everline audit`: who asked for what, and what became of it.

use clap::{Args, Subcommand, ValueEnum};

use super::connection::Connection;
use crate::exit::Failure;
use crate::logs;
use crate::output::{Column, Output};

const ENTRIES: &[Column] = &[
    Column("AT", "/at"),
    Column("ACTOR", "/actor"),
    Column("ACTION", "/action"),
    Column("RESULT", "/result"),
    Column("CODE", "/code"),
    Column("IP", "/ip"),
    Column("RESOURCE", "/resource"),
];

/// `everline audit`
#[derive(Debug, Args)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: AuditCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum AuditCommand {
    /// List entries, the newest first.
    List {
        #[command(flatten)]
        filter: Filter,
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Write all entries to standard output, a line of JSON each, whatever `--output` says.
    Export(Filter),
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Ending {
    Accepted,
    Rejected,
    Denied,
    Unknown,
}

#[derive(Debug, Args)]
struct Filter {
    /// Only what an actor did, such as `user:<id>` or `key:<fingerprint>`
    #[arg(long)]
    actor: Option<String>,
    /// Only what a user did, also through keys; the user's id
    #[arg(long)]
    user: Option<String>,
    /// Only one action, such as `StartExecution` or `Login`
    #[arg(long)]
    action: Option<String>,
    /// Only what ended so
    #[arg(long, value_enum)]
    result: Option<Ending>,
    /// Only what was done to one thing: an id, a name, an e-mail
    #[arg(long)]
    resource: Option<String>,
    /// Only from an address
    #[arg(long)]
    ip: Option<String>,
    /// Only from a time on, such as 2026-11-21T00:00:00Z
    #[arg(long, value_name = "TIME")]
    after: Option<String>,
    /// Only up to a time
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
}

impl Filter {
    fn query(self) -> Vec<(&'static str, String)> {
        let result = self.result.and_then(|result| result.to_possible_value());
        let pairs = [
            ("actor", self.actor),
            ("user", self.user),
            ("action", self.action),
            ("result", result.map(|result| result.get_name().to_owned())),
            ("resource", self.resource),
            ("ip", self.ip),
            ("after", self.after),
            ("before", self.before),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

pub(super) async fn run(args: AuditArgs, output: Output) -> Result<(), Failure> {
    logs::start_for_client()?;
    let client = args.connection.client()?;
    match args.command {
        AuditCommand::List { filter, limit } => {
            output.list(&client.list("/audit", &filter.query(), limit).await?, ENTRIES)
        }
        AuditCommand::Export(filter) => {
            let mut lines = client.lines("/audit/export", &filter.query()).await?;
            while let Some(line) = lines.next().await? {
                output.raw(&line)?;
            }
            Ok(())
        }
    }
}
