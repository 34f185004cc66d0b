//! `everline user`: who there is in the tenant.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connection::Connection;
use super::secret_input::new_password;
use crate::client::{Client, segment};
use crate::exit::Failure;
use crate::logs;
use crate::output::{Column, Output};

/// How many users an e-mail is looked for among.
const MAX_LISTED: usize = 100_000;

const USERS: &[Column] = &[
    Column("ID", "/id"),
    Column("EMAIL", "/email"),
    Column("ROLE", "/role"),
    Column("STATUS", "/status"),
    Column("NAME", "/name"),
];

/// `everline user`
#[derive(Debug, Args)]
pub(super) struct UserArgs {
    #[command(subcommand)]
    command: UserCommand,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum UserCommand {
    /// List users.
    List {
        /// How many at most
        #[arg(long, default_value_t = 200)]
        limit: usize,
    },
    /// Make a user.
    ///
    /// With `--password` the password is asked for, or read from standard input. Without it the user is invited: a
    /// token is printed, with which they set a password themselves.
    Create {
        /// The user's e-mail
        email: String,
        /// The name of a role: ADMIN, USER, VIEWER, or one of the tenant's
        #[arg(long, default_value = "USER")]
        role: String,
        /// For people
        #[arg(long)]
        name: Option<String>,
        /// Set the password now
        #[arg(long)]
        password: bool,
    },
    /// Show a user.
    Show(Named),
    /// Give a user another role.
    Role {
        #[command(flatten)]
        user: Named,
        /// The name of a role
        role: String,
    },
    /// Recognise a user no longer, from now on.
    Disable(Named),
    /// Recognise a user again.
    Enable(Named),
    /// Remove a user; the e-mail is free again.
    Delete(Named),
    /// Print a token with which an invited user sets a password.
    Invite(Named),
    /// Print a token with which a user sets another password.
    ResetPassword(Named),
}

#[derive(Debug, Args)]
struct Named {
    /// The user's e-mail or id
    user: String,
}

pub(super) async fn run(args: UserArgs, output: Output) -> Result<(), Failure> {
    logs::start_for_client()?;
    let client = args.connection.client()?;
    match args.command {
        UserCommand::List { limit } => output.list(&client.list("/users", &[], limit).await?, USERS),
        UserCommand::Create { email, role, name, password } => {
            let mut body = json!({"email": email, "role": role});
            if let Some(name) = name {
                body["name"] = name.into();
            }
            if password {
                body["password"] = new_password().await?.expose().into();
            }
            let made = client.post("/users", &body).await?.body;
            tell(&made, &format!("user {email} made"), output)
        }
        UserCommand::Show(user) => {
            output.thing(&client.get(&path(&client, &user.user).await?, &[]).await?.body)
        }
        UserCommand::Role { user, role } => {
            let path = path(&client, &user.user).await?;
            let current = client.get(&path, &[]).await?;
            let changed = client.put(&path, &json!({"role": role}), current.etag.as_deref()).await?;
            output.done(&changed.body, &format!("user {} has the role {role} now", user.user))
        }
        UserCommand::Disable(user) => act(&client, &user, "disable", "disabled", output).await,
        UserCommand::Enable(user) => act(&client, &user, "enable", "enabled", output).await,
        UserCommand::Delete(user) => {
            let answer = client.delete(&path(&client, &user.user).await?, None).await?;
            output.done(&answer.body, &format!("user {} deleted", user.user))
        }
        UserCommand::Invite(user) => act(&client, &user, "invite", "invited", output).await,
        UserCommand::ResetPassword(user) => {
            act(&client, &user, "reset-password", "may set another password", output).await
        }
    }
}

async fn act(client: &Client, user: &Named, verb: &str, done: &str, output: Output) -> Result<(), Failure> {
    let path = path(client, &user.user).await?;
    let answer = client.post(&format!("{path}/{verb}"), &json!({})).await?.body;
    tell(&answer, &format!("user {} {done}", user.user), output)
}

/// A sentence, and the token that the server has shown once, if it has.
fn tell(answer: &Value, sentence: &str, output: Output) -> Result<(), Failure> {
    output.done(answer, sentence)?;
    let token =
        ["/token", "/invitation/token", "/reset/token"].iter().find_map(|at| answer.pointer(at)?.as_str());
    match token {
        Some(token) if output.for_people() => output.raw(&format!("  token  {token}  (shown only now)")),
        _ => Ok(()),
    }
}

/// The path of the user that a person means: by id, else by e-mail.
async fn path(client: &Client, user: &str) -> Result<String, Failure> {
    if domain::ids::parse_id(user).is_some() {
        return Ok(format!("/users/{}", segment(user)));
    }
    let email = domain::identity::normal_email(user);
    let users = client.list("/users", &[], MAX_LISTED).await?;
    let found = users.iter().find(|user| user.get("email").and_then(Value::as_str) == Some(&email));
    let id = found.and_then(|user| user.get("id")?.as_str());
    let id =
        id.ok_or_else(|| Failure::Usage(format!("there is no user `{user}`; see `everline user list`")))?;
    Ok(format!("/users/{}", segment(id)))
}
