//! `everline workflow`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};
use std::path::PathBuf;

use domain::workflow::definition::Definition;

use super::connection::Connection;
use super::{apply, input};
use crate::client::{Client, segment};
use crate::exit::Failure;
use crate::logs;
use crate::output::{Column, Output};

const WORKFLOWS: &[Column] = &[
    Column("ID", "/id"),
    Column("NAME", "/name"),
    Column("VERSION", "/version"),
    Column("PUBLISHED", "/published_version"),
    Column("ENABLED", "/enabled"),
    Column("UPDATED", "/updated_at"),
];
const VERSIONS: &[Column] = &[
    Column("VERSION", "/version"),
    Column("CREATED", "/created_at"),
    Column("BY", "/created_by"),
    Column("HASH", "/hash"),
];
const PROBLEMS: &[Column] =
    &[Column("POINTER", "/pointer"), Column("CODE", "/code"), Column("DETAIL", "/detail")];

/// `everline workflow`
#[derive(Debug, Args)]
pub(super) struct WorkflowArgs {
    #[command(subcommand)]
    command: WorkflowCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum WorkflowCommand {
    /// List workflows.
    List {
        /// How many at most
        #[arg(long, default_value_t = 200)]
        limit: usize,
    },
    /// Show a workflow with its definition.
    Get(Named),
    /// Create a workflow from a file, or store a new version of the one of the same name if it changed.
    Apply {
        /// The definition: a JSON file, `-` for standard input
        file: PathBuf,
    },
    /// Make a version the one that new executions take.
    Publish {
        #[command(flatten)]
        workflow: Named,
        /// Which version [default: the latest]
        #[arg(long = "workflow-version", value_name = "N")]
        version: Option<u64>,
    },
    /// Accept new executions again.
    Enable(Named),
    /// Refuse new executions.
    Disable(Named),
    /// Hide a workflow and free its name. Running executions go on.
    Delete(Named),
    /// List the versions of a workflow.
    Versions(Named),
    /// Check a definition, without a server. Exit code 1 if it is not valid.
    Validate {
        /// The definition: a JSON file, `-` for standard input
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Named {
    /// The workflow's name or id
    #[arg(value_name = "NAME|ID")]
    workflow: String,
}

impl Named {
    async fn path(&self, client: &Client) -> Result<String, Failure> {
        Ok(format!("/workflows/{}", segment(&apply::resolve(client, &self.workflow).await?)))
    }
}

pub(super) async fn run(args: WorkflowArgs, output: Output) -> Result<(), Failure> {
    logs::start_for_client()?;
    if let WorkflowCommand::Validate { file } = &args.command {
        return validate(&input::json_file(file)?, output);
    }
    let client = args.connection.client()?;
    match args.command {
        WorkflowCommand::Validate { .. } => Ok(()),
        WorkflowCommand::List { limit } => {
            output.list(&client.list("/workflows", &[], limit).await?, WORKFLOWS)
        }
        WorkflowCommand::Get(workflow) => {
            output.thing(&client.get(&workflow.path(&client).await?, &[]).await?.body)
        }
        WorkflowCommand::Apply { file } => apply_file(&client, &input::json_file(&file)?, output).await,
        WorkflowCommand::Publish { workflow, version } => {
            let body = version.map_or_else(|| json!({}), |version| json!({"version": version}));
            act(&client, &workflow, "publish", "published", &body, output).await
        }
        WorkflowCommand::Enable(workflow) => {
            act(&client, &workflow, "enable", "enabled", &json!({}), output).await
        }
        WorkflowCommand::Disable(workflow) => {
            act(&client, &workflow, "disable", "disabled", &json!({}), output).await
        }
        WorkflowCommand::Delete(workflow) => {
            let path = workflow.path(&client).await?;
            let etag = client.get(&path, &[]).await?.etag;
            let answer = client.delete(&path, etag.as_deref()).await?;
            output.done(&answer.body, &format!("workflow {} deleted", workflow.workflow))
        }
        WorkflowCommand::Versions(workflow) => {
            let path = format!("{}/versions", workflow.path(&client).await?);
            output.list(&client.list(&path, &[], usize::MAX).await?, VERSIONS)
        }
    }
}

async fn apply_file(client: &Client, definition: &Value, output: Output) -> Result<(), Failure> {
    let applied = apply::apply(client, definition).await?;
    let change = applied.change.as_str();
    let value = json!({"id": applied.id, "name": applied.name, "version": applied.version, "change": change});
    output.done(
        &value,
        &format!("workflow {} version {} {change} ({})", applied.name, applied.version, applied.id),
    )
}

async fn act(
    client: &Client,
    workflow: &Named,
    verb: &str,
    done: &str,
    body: &Value,
    output: Output,
) -> Result<(), Failure> {
    let answer = client.post(&format!("{}/{verb}", workflow.path(client).await?), body).await?;
    output.done(&answer.body, &format!("workflow {} {done}", workflow.workflow))
}

/// With the rules of this binary; a server of another version may have others.
fn validate(definition: &Value, output: Output) -> Result<(), Failure> {
    let problems = match Definition::parse(definition) {
        Ok(_) => Vec::new(),
        Err(problems) => problems,
    };
    let valid = problems.is_empty();
    let errors: Vec<_> = problems
        .iter()
        .map(|problem| json!({"pointer": problem.pointer, "code": problem.code, "detail": problem.detail}))
        .collect();
    if !output.for_people() {
        output.thing(&json!({"valid": valid, "errors": errors}))?;
    } else if valid {
        output.raw("the definition is valid")?;
    } else {
        output.list(&errors, PROBLEMS)?;
    }
    if valid { Ok(()) } else { Err(Failure::Unsuccessful) }
}
