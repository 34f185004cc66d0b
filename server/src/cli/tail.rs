//! `everline tail`: past and live events by one filter, without a gap.
//!
//! The stream carries a token with every event, and one for what a filter has left out; after a lost connection, and
//! after a restart of this program with `--from`, it goes on behind the last one. So nothing is missed or told twice.

use clap::{ArgAction, Args};
use serde_json::Value;

use super::connection::Connection;
use crate::client::{CAUGHT_UP, Client, EventStream, StreamMessage, segment};
use crate::exit::Failure;
use crate::logs;
use crate::output::Output;
use crate::signals::Signals;

/// `everline tail`
#[derive(Debug, Args)]
pub(super) struct TailArgs {
    /// Only events of which this CEL expression over `event` is true, such as `event.data.attempt > 2`
    #[arg(long, value_name = "CEL")]
    filter: Option<String>,
    /// Only events of a category: `workflow`, `execution`, `variables`, …
    #[arg(long)]
    category: Option<String>,
    /// Only events of a type, such as `execution.failed`
    #[arg(long = "type", value_name = "TYPE")]
    event_type: Option<String>,
    /// Only events of an execution; ends with it
    #[arg(long, value_name = "ID")]
    execution: Option<String>,
    /// Where to begin: `beginning`, `latest`, or after the `resume` of an event [default: `latest` of the tenant's
    /// events; `beginning` of an execution, and with --no-follow]
    #[arg(long, value_name = "beginning|latest|RESUME")]
    from: Option<String>,
    /// Go on with what comes; this is the default
    #[arg(long, overrides_with = "no_follow", action = ArgAction::SetTrue)]
    follow: bool,
    /// End when all that is there already is told
    #[arg(long, action = ArgAction::SetTrue)]
    no_follow: bool,
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn run(args: TailArgs, output: Output) -> Result<(), Failure> {
    logs::start_for_client()?;
    let mut signals = Signals::catch().map_err(Failure::Internal)?;
    let client = args.connection.client()?;
    let (path, query) = args.target(&client).await?;
    let mut stream = client.stream(&path, &query).patient();
    loop {
        let message = tokio::select! {
            message = stream.next() => message?,
            _ = signals.next() => {
                farewell(&stream);
                return Ok(());
            }
        };
        let Some(message) = message else { return Ok(()) };
        if message.event == CAUGHT_UP {
            if args.no_follow {
                return Ok(());
            }
            continue;
        }
        tell(message, output)?;
    }
}

impl TailArgs {
    /// Which stream tells it, and from where on.
    async fn target(&self, client: &Client) -> Result<(String, Vec<(&'static str, String)>), Failure> {
        let mut query = Vec::new();
        let Some(execution) = &self.execution else {
            let from = self.from.as_deref().unwrap_or(if self.no_follow { "beginning" } else { "latest" });
            // The server begins at the start of the log if nobody says otherwise.
            if from != "beginning" {
                query.push(("after_position", from.to_owned()));
            }
            let named = [("category", &self.category), ("type", &self.event_type), ("filter", &self.filter)];
            query.extend(named.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
            return Ok(("/events/stream".to_owned(), query));
        };
        let path = format!("/executions/{}", segment(execution));
        let after = match self.from.as_deref().unwrap_or("beginning") {
            "beginning" => None,
            "latest" => {
                let version = client.get(&path, &[]).await?.body.get("version").and_then(Value::as_u64);
                version.map(|version| version.to_string())
            }
            version => Some(version.to_owned()),
        };
        query.extend(after.map(|after| ("after_version", after)));
        query.extend(self.condition().map(|filter| ("filter", filter)));
        Ok((format!("{path}/stream"), query))
    }

    /// All that is asked of an event, as one filter.
    fn condition(&self) -> Option<String> {
        let equals = |field: &str, value: &String| format!("event.{field} == {}", Value::from(value.as_str()));
        let parts = [
            self.category.as_ref().map(|value| equals("category", value)),
            self.event_type.as_ref().map(|value| equals("type", value)),
            self.filter.as_ref().map(|filter| format!("({filter})")),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        (!parts.is_empty()).then(|| parts.join(" && "))
    }
}

fn tell(message: StreamMessage, output: Output) -> Result<(), Failure> {
    let Ok(mut event) = serde_json::from_str::<Value>(&message.data) else { return Ok(()) };
    if event.get("position").is_none() {
        return Ok(());
    }
    if let (Some(fields), Some(id), false) = (event.as_object_mut(), message.id, output.for_people()) {
        fields.insert("resume".to_owned(), Value::from(id));
    }
    output.event_of_stream(&event)
}

/// Says from where to go on.
fn farewell(stream: &EventStream) {
    use std::io::Write;
    if let Some(id) = stream.last_id() {
        // Nobody there to read it is no reason to fail.
        let _ = writeln!(std::io::stderr(), "go on with --from {id}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Typed {
        #[command(flatten)]
        args: TailArgs,
    }

    #[test]
    fn what_is_asked_of_an_executions_events_is_one_filter() {
        let typed = ["tail", "--type", "execution.failed", "--filter", "event.data.a > 1 || true"];
        let args = Typed::parse_from(typed).args;
        let filter = args.condition().expect("a filter");
        assert_eq!(filter, "event.type == \"execution.failed\" && (event.data.a > 1 || true)");
        assert_eq!(Typed::parse_from(["tail"]).args.condition(), None);
    }
}
