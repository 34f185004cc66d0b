//! `everline events`: the tenant's log.

use clap::{Args, Subcommand};
use serde_json::Value;

use super::connection::Connection;
use crate::exit::Failure;
use crate::logs;
use crate::output::Output;

/// `everline events`
#[derive(Debug, Args)]
pub(super) struct EventsArgs {
    #[command(subcommand)]
    command: EventsCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum EventsCommand {
    /// List events.
    List {
        #[command(flatten)]
        filter: Filter,
        /// How many at most
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Show events as they come, until interrupted; those after a position first, if one is given.
    Tail(Filter),
}

#[derive(Debug, Args)]
struct Filter {
    /// Only events after a position, `partition:offset` or a `resume` token
    #[arg(long, value_name = "POSITION")]
    after_position: Option<String>,
    /// Only events of a category: `workflow`, `execution`, `variables`
    #[arg(long)]
    category: Option<String>,
    /// Only events of a type, such as `execution.failed`
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only events of which this CEL expression over `event` is true
    #[arg(long, value_name = "CEL")]
    filter: Option<String>,
}

impl Filter {
    fn query(self) -> Vec<(&'static str, String)> {
        let pairs = [
            ("after_position", self.after_position),
            ("category", self.category),
            ("type", self.event_type),
            ("filter", self.filter),
        ];
        pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

pub(super) async fn run(args: EventsArgs, output: Output) -> Result<(), Failure> {
    logs::start_for_client()?;
    let client = args.connection.client()?;
    match args.command {
        EventsCommand::List { filter, limit } => {
            let events = client.list("/events", &filter.query(), limit).await?;
            events.iter().try_for_each(|event| output.event_of_stream(event))
        }
        EventsCommand::Tail(mut filter) => {
            // The server begins at the start of the log if nobody says otherwise.
            filter.after_position.get_or_insert_with(|| "latest".to_owned());
            let mut stream = client.stream("/events/stream", &filter.query());
            while let Some(message) = stream.next().await? {
                // Other messages, such as "caught up", have no type of event in them.
                match serde_json::from_str::<Value>(&message.data) {
                    Ok(event) if event.get("position").is_some() => output.event_of_stream(&event)?,
                    _ => {}
                }
            }
            Ok(())
        }
    }
}
