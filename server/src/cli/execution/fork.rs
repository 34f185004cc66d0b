//! `everline execution fork`.

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::{Id, insert, watch_to_the_end};
use crate::cli::input;
use crate::client::Client;
use crate::exit::Failure;
use crate::output::Output;

/// `everline execution fork`
#[derive(Debug, Args)]
pub(super) struct ForkArgs {
    #[command(flatten)]
    execution: Id,
    /// The number of the last event that the fork takes over; the first is 1
    #[arg(long, value_name = "N")]
    at_version: u64,
    /// Another input: JSON, `@FILE`, or `@-` for standard input
    #[arg(long, value_name = "JSON|@FILE")]
    input: Option<String>,
    /// Another output of a node: its path, and JSON or `@FILE`; may be repeated
    #[arg(long = "node-output", value_name = "PATH=JSON|@FILE")]
    node_outputs: Vec<String>,
    /// Another version of the workflow
    #[arg(long, value_name = "N")]
    workflow_version: Option<u64>,
    /// What the fork does with effects on the world
    #[arg(long, value_enum, default_value_t = Effects::Live)]
    effects: Effects,
    /// Follow it to its end, as `watch` does
    #[arg(long)]
    watch: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Effects {
    /// Worker nodes run
    Live,
    /// Recorded outcomes are taken where the configuration is equal; else the node fails
    Replay,
    /// Recorded outputs, or null; nothing is dispatched
    Mute,
}

pub(super) async fn run(client: &Client, args: ForkArgs, output: Output) -> Result<(), Failure> {
    let effects = match args.effects {
        Effects::Live => "live",
        Effects::Replay => "replay",
        Effects::Mute => "mute",
    };
    let mut body = json!({"at_version": args.at_version, "effects": effects});
    let input = args.input.map(|text| input::json_argument("--input", &text)).transpose()?;
    insert(&mut body, "input", input);
    let node_outputs = input::by_path("--node-output", &args.node_outputs)?;
    insert(&mut body, "node_outputs", node_outputs.map(Value::Object));
    insert(&mut body, "workflow_version", args.workflow_version.map(Value::from));
    let answer = client.post(&args.execution.path("/fork"), &body).await?;
    let fork = answer.body.get("execution_id").and_then(Value::as_str).unwrap_or_default();
    if !args.watch {
        return output.done(&answer.body, fork);
    }
    output.say(&format!("execution {fork}"))?;
    watch_to_the_end(client, fork, output).await
}
