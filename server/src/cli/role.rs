//! `everline role`: what roles there are, and what they allow.

use clap::{Args, Subcommand};
use serde_json::Value;
use std::path::PathBuf;

use super::connection::Connection;
use super::input;
use crate::client::segment;
use crate::exit::Failure;
use crate::logs;
use crate::output::{Column, Output};

const ROLES: &[Column] = &[
    Column("NAME", "/name"),
    Column("BUILT IN", "/builtin"),
    Column("GRANTS", "/grant_count"),
    Column("DESCRIPTION", "/description"),
];
const GRANTS: &[Column] =
    &[Column("PERMISSION", "/permission"), Column("REACH", "/reach"), Column("CONDITION", "/condition")];

/// `everline role`
#[derive(Debug, Args)]
pub(super) struct RoleArgs {
    #[command(subcommand)]
    command: RoleCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum RoleCommand {
    /// List roles.
    List,
    /// Show what a role allows.
    Show(Named),
    /// Define a role, anew or in place of the one of its name.
    Define {
        /// The role: a JSON file `{"name", "description"?, "grants": [{"permission", "reach"?, "condition"?}]}`, `-`
        /// for standard input
        file: PathBuf,
    },
    /// Remove a role that nobody has.
    Delete(Named),
}

#[derive(Debug, Args)]
struct Named {
    /// The role's name
    role: String,
}

pub(super) async fn run(args: RoleArgs, output: Output) -> Result<(), Failure> {
    logs::start_for_client()?;
    let client = args.connection.client()?;
    match args.command {
        RoleCommand::List => {
            let mut roles = client.list("/roles", &[], usize::MAX).await?;
            if output.for_people() {
                roles.iter_mut().for_each(count_grants);
            }
            output.list(&roles, ROLES)
        }
        RoleCommand::Show(role) => {
            let found = client.get(&path(&role.role), &[]).await?.body;
            match found.get("grants").and_then(Value::as_array) {
                Some(grants) if output.for_people() => output.list(grants, GRANTS),
                _ => output.thing(&found),
            }
        }
        RoleCommand::Define { file } => {
            let mut role = input::json_file(&file)?;
            let name = role.as_object_mut().and_then(|fields| fields.remove("name"));
            let Some(Value::String(name)) = name else {
                return Err(Failure::Usage(format!("{} names no role; give it a `name`", file.display())));
            };
            let defined = client.put(&path(&name), &role, None).await?;
            output.done(&defined.body, &format!("role {name} defined"))
        }
        RoleCommand::Delete(role) => {
            let answer = client.delete(&path(&role.role), None).await?;
            output.done(&answer.body, &format!("role {} deleted", role.role))
        }
    }
}

fn path(role: &str) -> String {
    format!("/roles/{}", segment(role))
}

fn count_grants(role: &mut Value) {
    let count = role.get("grants").and_then(Value::as_array).map(Vec::len);
    if let (Some(fields), Some(count)) = (role.as_object_mut(), count) {
        fields.insert("grant_count".to_owned(), count.into());
    }
}
