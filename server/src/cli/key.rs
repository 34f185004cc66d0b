//! `everline key`: API keys.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connection::Connection;
use crate::client::segment;
use crate::exit::Failure;
use crate::logs;
use crate::output::{Column, Output};

const KEYS: &[Column] = &[
    Column("ID", "/id"),
    Column("NAME", "/name"),
    Column("SCOPES", "/scopes"),
    Column("EXPIRES", "/expires_at"),
    Column("REVOKED", "/revoked_at"),
    Column("OWNER", "/owner"),
];

/// `everline key`
#[derive(Debug, Args)]
pub(super) struct KeyArgs {
    #[command(subcommand)]
    command: KeyCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum KeyCommand {
    /// List keys.
    List {
        /// How many at most
        #[arg(long, default_value_t = 200)]
        limit: usize,
    },
    /// Make a key and print it, once.
    Create {
        /// For people to tell it from others
        name: String,
        /// What it may do at most: a permission, `workflow:*`, or `*`; several times for several [default: *]
        #[arg(long = "scope", value_name = "SCOPE")]
        scopes: Vec<String>,
        /// Until when it is accepted, a time such as 2027-01-31T00:00:00Z [default: for ever]
        #[arg(long, value_name = "TIME")]
        expires_at: Option<String>,
    },
    /// Accept a key no longer.
    Revoke {
        /// The key's id
        id: String,
    },
}

pub(super) async fn run(args: KeyArgs, output: Output) -> Result<(), Failure> {
    logs::start_for_client()?;
    let client = args.connection.client()?;
    match args.command {
        KeyCommand::List { limit } => output.list(&client.list("/api-keys", &[], limit).await?, KEYS),
        KeyCommand::Create { name, scopes, expires_at } => {
            let scopes = if scopes.is_empty() { vec!["*".to_owned()] } else { scopes };
            let mut body = json!({"name": name, "scopes": scopes});
            if let Some(expires_at) = expires_at {
                body["expires_at"] = expires_at.into();
            }
            let made = client.post("/api-keys", &body).await?.body;
            // The key alone, so that `$(everline key create ci)` is the key.
            let key = made.get("key").and_then(Value::as_str).unwrap_or_default();
            output.done(&made, key)
        }
        KeyCommand::Revoke { id } => {
            let answer = client.delete(&format!("/api-keys/{}", segment(&id)), None).await?;
            output.done(&answer.body, &format!("key {id} revoked"))
        }
    }
}
