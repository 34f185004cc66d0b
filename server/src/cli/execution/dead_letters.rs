//! `everline execution dead-letters`.

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::insert;
use crate::cli::apply;
use crate::client::{Client, segment};
use crate::exit::Failure;
use crate::output::{Column, Output};

const DEAD_LETTERS: &[Column] = &[
    Column("ID", "/id"),
    Column("EXECUTION", "/execution_id"),
    Column("WORKFLOW", "/workflow_name"),
    Column("NODE", "/node_id"),
    Column("ATTEMPT", "/attempt"),
    Column("ERROR", "/error/kind"),
    Column("MESSAGE", "/error/message"),
];

/// `everline execution dead-letters`
#[derive(Debug, Args)]
pub(super) struct DeadLettersArgs {
    #[command(subcommand)]
    command: Option<DeadLettersCommand>,
}

#[derive(Debug, Subcommand)]
enum DeadLettersCommand {
    /// List them, the latest first; the same as no sub-command.
    List {
        #[command(flatten)]
        filter: Filter,
        /// How many at most
        #[arg(long, default_value_t = 50)]
        limit: usize,
    },
    /// Try again the nodes of these dead letters, or of those that a filter finds. Exit code 1 if any was refused.
    Redrive {
        /// Ids of dead letters; none to redrive by filter
        #[arg(value_name = "ID")]
        ids: Vec<String>,
        #[command(flatten)]
        filter: Filter,
        /// Every dead letter of the tenant
        #[arg(long, conflicts_with = "ids")]
        all: bool,
        /// With a filter: how many at most
        #[arg(long, value_name = "N")]
        limit: Option<u64>,
        /// Why, for those who read the executions' histories
        #[arg(long)]
        reason: Option<String>,
    },
}

/// Which dead letters.
#[derive(Debug, Default, Args)]
struct Filter {
    /// Only those of a workflow, by name or id
    #[arg(long, value_name = "NAME|ID")]
    workflow: Option<String>,
    /// Only those of an execution
    #[arg(long, value_name = "ID")]
    execution: Option<String>,
    /// Only those of a node, by path
    #[arg(long, value_name = "PATH")]
    node: Option<String>,
    /// Only those with a kind of error, such as `timeout`
    #[arg(long, value_name = "KIND")]
    error_kind: Option<String>,
    /// Only those from before a time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    before: Option<String>,
    /// Only those from after a time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    after: Option<String>,
}

impl Filter {
    async fn fields(&self, client: &Client) -> Result<Vec<(&'static str, String)>, Failure> {
        let mut fields = Vec::new();
        if let Some(workflow) = &self.workflow {
            fields.push(("workflow_id", apply::resolve(client, workflow).await?));
        }
        let others = [
            ("execution_id", &self.execution),
            ("node_id", &self.node),
            ("error_kind", &self.error_kind),
            ("before", &self.before),
            ("after", &self.after),
        ];
        fields.extend(others.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))));
        Ok(fields)
    }
}

pub(super) async fn run(client: &Client, args: DeadLettersArgs, output: Output) -> Result<(), Failure> {
    let list = DeadLettersCommand::List { filter: Filter::default(), limit: 50 };
    match args.command.unwrap_or(list) {
        DeadLettersCommand::List { filter, limit } => {
            let query = filter.fields(client).await?;
            output.list(&client.list("/dead-letters", &query, limit).await?, DEAD_LETTERS)
        }
        DeadLettersCommand::Redrive { ids, filter, all, limit, reason } => {
            let fields = filter.fields(client).await?;
            if !ids.is_empty() {
                if !fields.is_empty() || limit.is_some() {
                    let detail = "name dead letters, or give a filter, not both".to_owned();
                    return Err(Failure::Usage(detail));
                }
                return redrive_each(client, &ids, reason, output).await;
            }
            if fields.is_empty() && !all {
                let detail = "say which dead letters: ids, a filter, or --all".to_owned();
                return Err(Failure::Usage(detail));
            }
            redrive_filtered(client, fields, limit, reason, output).await
        }
    }
}

async fn redrive_each(
    client: &Client,
    ids: &[String],
    reason: Option<String>,
    output: Output,
) -> Result<(), Failure> {
    for id in ids {
        let mut body = json!({});
        insert(&mut body, "reason", reason.clone().map(Value::from));
        let answer = client.post(&format!("/dead-letters/{}/redrive", segment(id)), &body).await?;
        let execution = answer.body.get("execution_id").and_then(Value::as_str).unwrap_or_default();
        output.done(&answer.body, &format!("dead letter {id} redriven: execution {execution} goes on"))?;
    }
    Ok(())
}

async fn redrive_filtered(
    client: &Client,
    fields: Vec<(&'static str, String)>,
    limit: Option<u64>,
    reason: Option<String>,
    output: Output,
) -> Result<(), Failure> {
    let filter: Map<_, _> =
        fields.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect();
    let mut body = json!({ "filter": filter });
    insert(&mut body, "limit", limit.map(Value::from));
    insert(&mut body, "reason", reason.map(Value::from));
    let answer = client.post("/dead-letters/redrive", &body).await?.body;
    let refused = answer.get("failed").and_then(Value::as_array).cloned().unwrap_or_default();
    let redriven = answer.get("redriven").and_then(Value::as_u64).unwrap_or_default();
    if output.for_people() {
        output.say(&format!("{redriven} redriven, {} refused", refused.len()))?;
        let columns = [Column("ID", "/id"), Column("CODE", "/code"), Column("DETAIL", "/detail")];
        if !refused.is_empty() {
            output.list(&refused, &columns)?;
        }
    } else {
        output.thing(&answer)?;
    }
    if refused.is_empty() { Ok(()) } else { Err(Failure::Unsuccessful) }
}
