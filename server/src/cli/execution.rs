//! `everline execution`.

mod dead_letters;
mod diff;
mod fork;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connection::Connection;
use super::follow::{self, Events};
use super::{apply, input};
use crate::client::{Client, segment};
use crate::exit::Failure;
use crate::logs;
use crate::output::{Column, Output};

const EXECUTIONS: &[Column] = &[
    Column("ID", "/id"),
    Column("WORKFLOW", "/workflow_name"),
    Column("VERSION", "/workflow_version"),
    Column("STATUS", "/status"),
    Column("STARTED", "/started_at"),
    Column("FINISHED", "/finished_at"),
];

/// `everline execution`
#[derive(Debug, Args)]
pub(super) struct ExecutionArgs {
    #[command(subcommand)]
    command: ExecutionCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum ExecutionCommand {
    /// List executions, the latest first.
    List {
        /// Only those of a workflow, by name or id
        #[arg(long, value_name = "NAME|ID")]
        workflow: Option<String>,
        /// Only those with a status, such as `running` or `failed`
        #[arg(long)]
        status: Option<String>,
        /// How many at most
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Show an execution with its nodes.
    Get(Id),
    /// Start a workflow and print the execution's id.
    Start {
        /// The workflow's name or id
        #[arg(value_name = "NAME|ID")]
        workflow: String,
        /// The input: JSON, `@FILE`, or `@-` for standard input
        #[arg(long, value_name = "JSON|@FILE", default_value = "{}")]
        input: String,
        /// A version other than the published one
        #[arg(long = "workflow-version", value_name = "N")]
        version: Option<u64>,
        /// 0 to 9; higher goes first
        #[arg(long)]
        priority: Option<u8>,
        /// Follow it to its end, as `watch` does
        #[arg(long)]
        watch: bool,
    },
    /// Ask an execution to stop; what it did is undone where its workflow says how.
    Cancel(Act),
    /// End an execution at once; nothing is undone.
    Terminate(Act),
    /// Let nothing new start in an execution; what runs may end.
    Pause(Act),
    /// Let a paused execution go on.
    Resume(Act),
    /// Try again what failed in an execution, or a compensation that failed.
    Retry {
        #[command(flatten)]
        act: Act,
        /// Another configuration for a failed worker node: its path, and JSON or `@FILE`; may be repeated
        #[arg(long = "node-input", value_name = "PATH=JSON|@FILE")]
        node_inputs: Vec<String>,
    },
    /// Make a new execution that goes on from another's state after one of its events.
    Fork(fork::ForkArgs),
    /// Show what differs between two executions, or between two versions of one, node by node.
    Diff(diff::DiffArgs),
    /// Nodes that ran out of attempts: list, redrive.
    #[command(visible_alias = "dead-letter")]
    DeadLetters(dead_letters::DeadLettersArgs),
    /// Send a signal to an execution.
    Signal {
        #[command(flatten)]
        execution: Id,
        /// The signal's name
        name: String,
        /// What comes with it: JSON, `@FILE`, or `@-` for standard input
        #[arg(long, value_name = "JSON|@FILE", default_value = "null")]
        payload: String,
    },
    /// List the events of an execution, in order.
    Events {
        #[command(flatten)]
        execution: Id,
        /// Only those after this version
        #[arg(long, value_name = "N", default_value_t = 0)]
        after_version: u64,
    },
    /// Show the events of an execution as they come, from the first one, then its output. Exit code 0 if it
    /// completed, 1 if not.
    Watch(Id),
    /// Show an execution as it was after an event.
    State {
        #[command(flatten)]
        execution: Id,
        /// The number of the event; the first is 1
        #[arg(long, value_name = "N")]
        at_version: u64,
    },
}

/// What is asked of an execution, and why.
#[derive(Debug, Args)]
struct Act {
    #[command(flatten)]
    execution: Id,
    /// Why, for those who read its history
    #[arg(long)]
    reason: Option<String>,
}

#[derive(Debug, Args)]
struct Id {
    /// The execution's id
    #[arg(value_name = "ID")]
    execution: String,
}

impl Id {
    fn path(&self, rest: &str) -> String {
        format!("/executions/{}{rest}", segment(&self.execution))
    }
}

pub(super) async fn run(args: ExecutionArgs, output: Output) -> Result<(), Failure> {
    logs::start_for_client()?;
    let client = args.connection.client()?;
    match args.command {
        ExecutionCommand::List { workflow, status, limit } => {
            list(&client, workflow, status, limit, output).await
        }
        ExecutionCommand::Get(execution) => output.thing(&client.get(&execution.path(""), &[]).await?.body),
        ExecutionCommand::Start { workflow, input, version, priority, watch } => {
            let mut body = json!({"input": input::json_argument("--input", &input)?});
            insert(&mut body, "version", version.map(Value::from));
            insert(&mut body, "priority", priority.map(Value::from));
            start(&client, &workflow, &body, watch, output).await
        }
        ExecutionCommand::Cancel(asked) => act(&client, &asked, "cancel", json!({}), output).await,
        ExecutionCommand::Terminate(asked) => act(&client, &asked, "terminate", json!({}), output).await,
        ExecutionCommand::Pause(asked) => act(&client, &asked, "pause", json!({}), output).await,
        ExecutionCommand::Resume(asked) => act(&client, &asked, "resume", json!({}), output).await,
        ExecutionCommand::Retry { act: asked, node_inputs } => {
            let mut body = json!({});
            let node_inputs = input::by_path("--node-input", &node_inputs)?;
            insert(&mut body, "node_inputs", node_inputs.map(Value::Object));
            act(&client, &asked, "retry", body, output).await
        }
        ExecutionCommand::Fork(args) => fork::run(&client, args, output).await,
        ExecutionCommand::Diff(args) => diff::run(&client, args, output).await,
        ExecutionCommand::DeadLetters(args) => dead_letters::run(&client, args, output).await,
        ExecutionCommand::Signal { execution, name, payload } => {
            let payload = input::json_argument("--payload", &payload)?;
            let answer =
                client.post(&execution.path(&format!("/signals/{}", segment(&name))), &payload).await?;
            output.done(&answer.body, &format!("signal {name} sent to execution {}", execution.execution))
        }
        ExecutionCommand::Events { execution, after_version } => {
            let query = [("after_version", after_version.to_string())];
            let events = client.list(&execution.path("/events"), &query, usize::MAX).await?;
            events.iter().try_for_each(|event| output.event(event))
        }
        ExecutionCommand::Watch(execution) => watch_to_the_end(&client, &execution.execution, output).await,
        ExecutionCommand::State { execution, at_version } => {
            let query = [("at_version", at_version.to_string())];
            output.thing(&client.get(&execution.path("/state"), &query).await?.body)
        }
    }
}

async fn list(
    client: &Client,
    workflow: Option<String>,
    status: Option<String>,
    limit: usize,
    output: Output,
) -> Result<(), Failure> {
    let mut query = Vec::new();
    if let Some(workflow) = workflow {
        query.push(("workflow_id", apply::resolve(client, &workflow).await?));
    }
    query.extend(status.map(|status| ("status", status)));
    output.list(&client.list("/executions", &query, limit).await?, EXECUTIONS)
}

async fn start(
    client: &Client,
    workflow: &str,
    body: &Value,
    watch: bool,
    output: Output,
) -> Result<(), Failure> {
    let id = apply::resolve(client, workflow).await?;
    let answer = client.post(&format!("/workflows/{}/execute", segment(&id)), body).await?;
    let execution_id = answer.body.get("execution_id").and_then(Value::as_str).unwrap_or_default();
    if !watch {
        return output.done(&answer.body, execution_id);
    }
    output.say(&format!("execution {execution_id}"))?;
    watch_to_the_end(client, execution_id, output).await
}

/// Asks an execution for something and says what it is then.
async fn act(
    client: &Client,
    asked: &Act,
    verb: &str,
    mut body: Value,
    output: Output,
) -> Result<(), Failure> {
    insert(&mut body, "reason", asked.reason.clone().map(Value::from));
    let answer = client.post(&asked.execution.path(&format!("/{verb}")), &body).await?;
    let status = answer.body.get("status").and_then(Value::as_str).unwrap_or("unknown");
    output.done(&answer.body, &format!("execution {} is {status}", asked.execution.execution))
}

async fn watch_to_the_end(client: &Client, execution_id: &str, output: Output) -> Result<(), Failure> {
    let execution = follow::to_the_end(client, execution_id, Events::Shown, output).await?;
    follow::conclude(&execution, output)
}

fn insert(body: &mut Value, name: &str, value: Option<Value>) {
    if let (Some(fields), Some(value)) = (body.as_object_mut(), value) {
        fields.insert(name.to_owned(), value);
    }
}
