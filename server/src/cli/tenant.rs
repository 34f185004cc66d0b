//! `everline tenant`: the tenants of the installation, for those who run it.

use clap::{Args, Subcommand};
use serde_json::json;

use super::connection::Connection;
use super::secret_input::new_password;
use crate::client::segment;
use crate::exit::Failure;
use crate::logs;
use crate::output::{Column, Output};

const TENANTS: &[Column] = &[
    Column("NAME", "/name"),
    Column("DISPLAY NAME", "/display_name"),
    Column("SUSPENDED", "/suspended"),
    Column("CREATED", "/created_at"),
];

/// `everline tenant`
#[derive(Debug, Args)]
pub(super) struct TenantArgs {
    #[command(subcommand)]
    command: TenantCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum TenantCommand {
    /// List tenants.
    List {
        /// How many at most
        #[arg(long, default_value_t = 200)]
        limit: usize,
    },
    /// Make a tenant and its first ADMIN, whose password is asked for, or read from standard input.
    Create {
        /// The tenant's name: lower-case letters, digits, hyphens
        name: String,
        /// The e-mail of its first ADMIN
        #[arg(long, value_name = "EMAIL")]
        admin: String,
        /// For people
        #[arg(long)]
        display_name: Option<String>,
    },
    /// Show a tenant.
    Show(Named),
    /// Recognise nobody of a tenant, from now on.
    Suspend {
        #[command(flatten)]
        tenant: Named,
        /// Why
        #[arg(long)]
        reason: Option<String>,
    },
    /// Recognise a tenant's users again.
    Resume(Named),
}

#[derive(Debug, Args)]
struct Named {
    /// The tenant's name
    tenant: String,
}

impl Named {
    fn path(&self, verb: &str) -> String {
        format!("/tenants/{}{verb}", segment(&self.tenant))
    }
}

pub(super) async fn run(args: TenantArgs, output: Output) -> Result<(), Failure> {
    logs::start_for_client()?;
    let client = args.connection.client()?;
    match args.command {
        TenantCommand::List { limit } => output.list(&client.list("/tenants", &[], limit).await?, TENANTS),
        TenantCommand::Create { name, admin, display_name } => {
            let password = new_password().await?;
            let mut body = json!({"name": name, "admin": {"email": admin, "password": password.expose()}});
            if let Some(display_name) = display_name {
                body["display_name"] = display_name.into();
            }
            let made = client.post("/tenants", &body).await?.body;
            output.done(&made, &format!("tenant {name} made, with {admin} as its ADMIN"))
        }
        TenantCommand::Show(tenant) => output.thing(&client.get(&tenant.path(""), &[]).await?.body),
        TenantCommand::Suspend { tenant, reason } => {
            let body = reason.map_or_else(|| json!({}), |reason| json!({"reason": reason}));
            let answer = client.post(&tenant.path("/suspend"), &body).await?;
            output.done(&answer.body, &format!("tenant {} suspended", tenant.tenant))
        }
        TenantCommand::Resume(tenant) => {
            let answer = client.post(&tenant.path("/resume"), &json!({})).await?;
            output.done(&answer.body, &format!("tenant {} resumed", tenant.tenant))
        }
    }
}
