//! `everline variable`: what expressions see as `vars`.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connection::Connection;
use super::input;
use crate::client::segment;
use crate::exit::Failure;
use crate::logs;
use crate::output::{Column, Output};

const VARIABLES: &[Column] = &[Column("NAME", "/name"), Column("VALUE", "/value")];

/// `everline variable`
#[derive(Debug, Args)]
pub(super) struct VariableArgs {
    #[command(subcommand)]
    command: VariableCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum VariableCommand {
    /// List variables.
    List,
    /// Give a variable a value. Executions that run already keep the old one.
    Set {
        /// The variable's name
        name: String,
        /// The value: JSON, `@FILE` or `@-`; what is not JSON is taken as text
        value: String,
    },
    /// Remove a variable.
    Delete {
        /// The variable's name
        name: String,
    },
}

pub(super) async fn run(args: VariableArgs, output: Output) -> Result<(), Failure> {
    logs::start_for_client()?;
    let client = args.connection.client()?;
    match args.command {
        VariableCommand::List => output.list(&client.list("/variables", &[], usize::MAX).await?, VARIABLES),
        VariableCommand::Set { name, value } => {
            let path = format!("/variables/{}", segment(&name));
            let answer = client.put(&path, &json!({"value": parse(&value)?}), None).await?;
            output.done(&answer.body, &format!("variable {name} set"))
        }
        VariableCommand::Delete { name } => {
            let answer = client.delete(&format!("/variables/{}", segment(&name)), None).await?;
            output.done(&answer.body, &format!("variable {name} deleted"))
        }
    }
}

fn parse(text: &str) -> Result<Value, Failure> {
    if text.starts_with('@') {
        return input::json_argument("the value", text);
    }
    Ok(serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())))
}
