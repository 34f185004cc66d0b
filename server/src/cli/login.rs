//! `everline login`, `logout`, `whoami`: sessions of people on servers.

use clap::Args;
use serde_json::{Value, json};
use std::io::IsTerminal;
use std::time::Duration;
use tokio::time::Instant;

use super::connection::Connection;
use super::secret_input::{answer, secret};
use crate::client::{Bearer, Client, ClientError, Credentials, StoredSession};
use crate::exit::Failure;
use crate::logs;
use crate::output::{Output, printable};

/// The pause between questions if the server names none, and what `slow_down` adds (RFC 8628, 3.5).
const INTERVAL: Duration = Duration::from_secs(5);
/// The longest time that a server may give a person.
const MAX_PATIENCE: Duration = Duration::from_secs(3600);
/// The code of a login that lacks its second factor.
const SECOND_FACTOR_REQUIRED: &str = "second_factor_required";

/// `everline login`
#[derive(Debug, Args)]
pub(super) struct LoginArgs {
    /// Who logs in; asked for if absent
    #[arg(long, conflicts_with = "device")]
    email: Option<String>,
    /// Log in with a browser, here or on another device: also with an OpenID Connect provider
    #[arg(long)]
    device: bool,
    #[command(flatten)]
    connection: Connection,
}

/// `everline logout`, `everline whoami`
#[derive(Debug, Args)]
pub(super) struct SessionArgs {
    #[command(flatten)]
    connection: Connection,
}

pub(super) async fn login(args: LoginArgs, output: Output) -> Result<(), Failure> {
    logs::start_for_client()?;
    let credentials = credentials()?;
    let client = Client::new(&args.connection.server_url()?, Bearer::Nobody)?;
    let body = if args.device { by_device(&client).await? } else { by_password(&client, args.email).await? };
    let session = StoredSession::from_answer(&body);
    let session = session.ok_or_else(|| ClientError::NotEverline { url: client.base().to_owned() })?;
    let (email, tenant) = (session.email.clone(), session.tenant.clone());
    let (store, server) = (credentials.clone(), client.base().to_owned());
    let keep = tokio::task::spawn_blocking(move || store.keep(&server, session));
    keep.await.map_err(|error| Failure::Internal(error.into()))??;
    output.done(
        &json!({"server": client.base(), "email": email, "tenant": tenant}),
        &format!("logged in to {} as {email} of tenant {tenant}", client.base()),
    )
}

pub(super) async fn logout(args: SessionArgs, output: Output) -> Result<(), Failure> {
    logs::start_for_client()?;
    let credentials = credentials()?;
    let server = args.connection.server_url()?;
    let client = Client::new(&server, Bearer::Session(credentials.clone()))?;
    if credentials.session(client.base())?.is_none() {
        return output.done(&json!({"server": server}), &format!("there is no session on {server}"));
    }
    match client.post("/auth/logout", &json!({})).await {
        Ok(_) | Err(ClientError::LoggedOut { .. }) => {}
        // Whatever the server says: who logs out wants the tokens gone from here.
        Err(error) => eprintln!("warning: the server did not end the session: {error}"),
    }
    let (store, base) = (credentials, client.base().to_owned());
    let forget = tokio::task::spawn_blocking(move || store.forget(&base));
    forget.await.map_err(|error| Failure::Internal(error.into()))??;
    output.done(&json!({"server": client.base()}), &format!("logged out of {}", client.base()))
}

pub(super) async fn whoami(args: SessionArgs, output: Output) -> Result<(), Failure> {
    logs::start_for_client()?;
    let client = args.connection.client()?;
    let mut me = client.get("/auth/me", &[]).await?.body;
    let text = |name: &str| me.get(name).and_then(Value::as_str).unwrap_or("-").to_owned();
    let sentence =
        format!("{} ({}) of tenant {} on {}", text("email"), text("role"), text("tenant"), client.base());
    if let Some(fields) = me.as_object_mut() {
        fields.insert("server".to_owned(), client.base().into());
    }
    output.done(&me, &sentence)
}

fn credentials() -> Result<Credentials, Failure> {
    Credentials::of_user().ok_or_else(|| {
        Failure::Usage("there is no place to keep the session; set HOME or XDG_CONFIG_HOME".to_owned())
    })
}

async fn by_password(client: &Client, email: Option<String>) -> Result<Value, Failure> {
    let email = match email {
        Some(email) => email,
        None if std::io::stdin().is_terminal() => answer("E-mail")?,
        None => return Err(Failure::Usage("name the user with --email".to_owned())),
    };
    let password = secret("Password").await?;
    let mut body = json!({"email": email, "password": password.expose()});
    match client.post("/auth/login", &body).await {
        Err(ClientError::Refused(problem)) if problem.code == SECOND_FACTOR_REQUIRED => {
            let code = secret("Code of the second factor, or a recovery code").await?;
            // What an authenticator shows is six digits; recovery codes are longer.
            let digits = code.expose().len() <= 8 && code.expose().bytes().all(|byte| byte.is_ascii_digit());
            body[if digits { "code" } else { "recovery_code" }] = code.expose().into();
            Ok(client.post("/auth/login", &body).await?.body)
        }
        answer => Ok(answer?.body),
    }
}

/// The device grant of RFC 8628: the person approves in a browser, this asks until then.
async fn by_device(client: &Client) -> Result<Value, Failure> {
    let started = client.post("/auth/device", &json!({"client_name": client_name()})).await?.body;
    let text = |name: &str| started.get(name).and_then(Value::as_str).unwrap_or_default();
    let seconds = |name: &str| started.get(name).and_then(Value::as_u64).map(Duration::from_secs);
    eprintln!("Open {}", printable(text("verification_uri_complete")));
    eprintln!("and approve the code {}.", printable(text("user_code")));
    let device_code = text("device_code").to_owned();
    let mut interval = seconds("interval").unwrap_or(INTERVAL).max(Duration::from_millis(100));
    let until = Instant::now() + seconds("expires_in").unwrap_or(MAX_PATIENCE).min(MAX_PATIENCE);
    loop {
        tokio::time::sleep(interval).await;
        match client.post("/auth/device/token", &json!({"device_code": device_code})).await {
            Ok(answer) => return Ok(answer.body),
            Err(ClientError::Refused(problem)) if Instant::now() < until => match problem.code.as_str() {
                "authorization_pending" => {}
                "slow_down" => interval += INTERVAL,
                _ => return Err(ClientError::Refused(problem).into()),
            },
            // A server that restarts is no reason to give up what a person is about to approve.
            Err(ClientError::Unreachable { .. }) if Instant::now() < until => interval += INTERVAL,
            Err(error) => return Err(error.into()),
        }
    }
}

fn client_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = host.trim();
    if host.is_empty() { "everline".to_owned() } else { format!("everline on {host}") }
}
