//! The first tenant and its administrator, brought into the log once somebody answers commands.
//!
//! The first start of an installation makes the administrator's verifiers before there is an owner of any partition;
//! until this is done, [`crate::auth`] makes the user up. The same commands at every start are right: their ids are
//! derived, so the second time has no effect.

use bus::CommandError;
use domain::access::ADMIN;
use domain::command::{Command, CommandEnvelope};
use domain::identity::tenant::{self, command::TenantCommand, event::TenantSettings};
use domain::identity::user::command::UserCommand;
use domain::identity::{bootstrap_admin_id, normal_email};
use domain::ids::{Actor, Slot, TenantId, derived_id};
use domain::time::Timestamp;
use event_store::verifiers::{Verifier, VerifierKind};
use std::time::Duration;
use uuid::Uuid;

use crate::app::App;
use crate::failure::Failure;

/// The first pause before the next try; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Makes sure that the tenant `default` and its first administrator are in the log. Tries until it is so.
pub(crate) async fn bootstrap(app: &App) {
    let mut pause = FIRST_PAUSE;
    loop {
        match ensure(app).await {
            Ok(true) => return,
            // The first start has not stored its administrator yet, or another store has none.
            Ok(false) => {}
            Err(failure) => {
                tracing::debug!(error.code = %failure.code, "the first administrator is not in the log yet");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Whether it is so now.
async fn ensure(app: &App) -> Result<bool, Failure> {
    let tenant = TenantId::default_tenant();
    let id = bootstrap_admin_id();
    if app.directory.user_now(id).await?.is_some() {
        return Ok(true);
    }
    let Some(login) = first_login(app, &tenant).await? else { return Ok(false) };
    let create = TenantCommand::Create { name: "Default".to_owned(), settings: TenantSettings::default() };
    send(app, &tenant, tenant::stream_of(&tenant), Command::Tenant(create)).await?;
    let create = UserCommand::Create {
        email: normal_email(&login.name),
        name: None,
        role: ADMIN.to_owned(),
        invited: false,
        operator: true,
    };
    send(app, &tenant, id, Command::User(create)).await?;
    tracing::info!(user.id = %id, "the first administrator is in the log");
    Ok(true)
}

/// The first administrator's password. Stores of earlier builds have given them another id: theirs are moved. Whoever is
/// in the log is somebody else, and stays who they are.
async fn first_login(app: &App, tenant: &TenantId) -> Result<Option<Verifier>, Failure> {
    let id = bootstrap_admin_id().to_string();
    let logins = app.verifiers.list(VerifierKind::Password, tenant).await?;
    if let Some(login) = logins.iter().find(|login| login.principal == id) {
        return Ok(Some(login.clone()));
    }
    let mut earlier = None;
    for login in logins {
        let known = match Uuid::try_parse(&login.principal) {
            Ok(user) => app.directory.user_now(user).await?.is_some(),
            Err(_) => false,
        };
        if !known {
            earlier = Some(login);
            break;
        }
    }
    let Some(login) = earlier else { return Ok(None) };
    let old = login.principal.clone();
    for kind in [VerifierKind::Password, VerifierKind::ApiKey] {
        for verifier in app.verifiers.list(kind, tenant).await? {
            if verifier.principal == old {
                app.verifiers.put(&Verifier { principal: id.clone(), ..verifier }).await?;
            }
        }
    }
    app.auth.forget_all();
    Ok(Some(login))
}

async fn send(app: &App, tenant: &TenantId, stream: Uuid, command: Command) -> Result<(), Failure> {
    let parts: [&[u8]; 2] = [b"bootstrap", stream.as_bytes()];
    let command_id = derived_id(Timestamp::default(), Slot::of(stream), &parts);
    let envelope = CommandEnvelope {
        id: command_id,
        tenant: tenant.clone(),
        actor: Actor::system("bootstrap"),
        stream,
        correlation_id: stream,
        causation_id: command_id,
        authority: None,
        traceparent: None,
        digest: None,
        command,
    };
    let sent = app.commands.send(envelope.clone()).await;
    app.rights.sent(&envelope);
    match sent {
        Ok(_) => Ok(()),
        // It is there already.
        Err(CommandError::Rejected(rejection))
            if matches!(&*rejection.code, "tenant_exists" | "user_exists") =>
        {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}
