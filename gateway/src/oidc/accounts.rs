//! Whose account an identity is: linked before, to be linked now, or made.
//!
//! Invariants: an identity is known by issuer and subject alone once it is linked; by its e-mail, and only one that the
//! provider has verified, it is linked to nobody but a user without a password. So a provider that gives an e-mail to
//! somebody else opens no account that has another way in.

use domain::command::{Command, CommandEnvelope};
use domain::identity::user::command::UserCommand;
use domain::identity::user::{EMAIL_CLAIM, UserStatus};
use domain::identity::users_slot;
use domain::ids::{Actor, Slot, TenantId, new_id};
use event_store::verifiers::{Verifier, VerifierKind};
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

use super::SignUp;
use super::provider::{Identity, Provider};
use crate::app::App;
use crate::config::ms;
use crate::directory::User;
use crate::failure::Failure;
use crate::status;

/// The pause before a command is sent again that nobody took.
const PAUSE: Duration = Duration::from_millis(50);

/// The user who came.
pub(super) async fn find(app: &App, provider: &Provider, identity: &Identity) -> Result<User, Failure> {
    let tenant = tenant_of(provider)?;
    let linked = app.verifiers.find(VerifierKind::Identity, &identity.fingerprint).await?;
    if let Some(linked) = linked {
        let user = match Uuid::try_parse(&linked.principal) {
            Ok(id) => app.directory.user_now(id).await?,
            Err(_) => None,
        };
        match user.filter(|user| user.tenant == tenant && user.state.status != UserStatus::Deleted) {
            Some(user) => return Ok(user),
            // Of a user who is gone.
            None => drop(app.verifiers.delete(VerifierKind::Identity, &identity.fingerprint).await?),
        }
    }
    let refuse = |detail: &str| Failure::new(status::ACCOUNT_NOT_LINKED, detail);
    let email = identity.verified_email.as_deref();
    let email = email.ok_or_else(|| refuse("the provider names no e-mail that it has verified"))?;
    if !is_allowed(email, &provider.config.allowed_domains) {
        return Err(refuse("e-mails of this domain may not come in through this provider"));
    }
    let user = match app.log.installation_claim_holder(EMAIL_CLAIM, email).await? {
        Some(id) => {
            let user = app.directory.user_now(id).await?.filter(|user| user.tenant == tenant);
            let user = user.ok_or_else(|| refuse("the e-mail belongs to a user of another tenant"))?;
            if app.verifiers.find(VerifierKind::Password, email).await?.is_some() {
                let detail = "the e-mail belongs to a user with a password; log in with that";
                return Err(refuse(detail));
            }
            user
        }
        None if provider.config.sign_up == SignUp::Open => {
            create(app, provider, &tenant, email, identity).await?
        }
        None => return Err(refuse("nobody has invited this e-mail; ask your administrator")),
    };
    link(app, provider, &user, identity).await?;
    let now = app.directory.user_now(user.id).await?;
    now.ok_or_else(|| refuse("the user is gone; ask your administrator"))
}

async fn create(
    app: &App,
    provider: &Provider,
    tenant: &TenantId,
    email: &str,
    identity: &Identity,
) -> Result<User, Failure> {
    let id = new_id(app.clock.now(), users_slot(), crate::random::number());
    let create = UserCommand::Create {
        email: email.to_owned(),
        name: identity.name.as_deref().map(|name| name.chars().take(100).collect()),
        role: provider.config.role.clone().unwrap_or_else(|| domain::access::USER.to_owned()),
        invited: false,
        operator: false,
    };
    send(app, tenant, id, create).await?;
    let made = app.directory.user_now(id).await?;
    made.ok_or_else(|| Failure::new(status::INTERNAL, "the user was made and is not there"))
}

/// Notes in the log that the identity is the user's, then makes it a way in.
async fn link(app: &App, provider: &Provider, user: &User, identity: &Identity) -> Result<(), Failure> {
    let (provider, fingerprint) = (provider.name.clone(), identity.fingerprint.clone());
    send(app, &user.tenant, user.id, UserCommand::LinkIdentity { provider, fingerprint }).await?;
    send(app, &user.tenant, user.id, UserCommand::VerifyEmail).await?;
    if user.state.status == UserStatus::Invited {
        send(app, &user.tenant, user.id, UserCommand::Activate).await?;
    }
    let now = app.clock.now();
    let verifier = Verifier {
        kind: VerifierKind::Identity,
        lookup: identity.fingerprint.clone(),
        tenant: user.tenant.clone(),
        principal: user.id.to_string(),
        name: user.state.email.clone(),
        hash: String::new(),
        family: None,
        created_at: now,
        expires_at: None,
        used_at: None,
    };
    app.verifiers.put(&verifier).await?;
    // They have come in: whoever else has seen the invitation sets no password of theirs.
    app.verifiers.delete_of_principal(VerifierKind::Invitation, &user.id.to_string()).await?;
    Ok(())
}

/// Sends a command in the user's own name: what the provider has vouched for needs no other right.
async fn send(app: &App, tenant: &TenantId, user: Uuid, command: UserCommand) -> Result<(), Failure> {
    let id = new_id(app.clock.now(), Slot::of(user), crate::random::number());
    let envelope = CommandEnvelope {
        id,
        tenant: tenant.clone(),
        actor: Actor::new("user", user),
        stream: user,
        correlation_id: user,
        causation_id: id,
        authority: None,
        traceparent: None,
        digest: None,
        command: Command::User(command),
    };
    let until = Instant::now() + ms(app.config.command_retry_ms);
    loop {
        match app.commands.send(envelope.clone()).await {
            Ok(_) => {
                app.directory.forget(user);
                app.auth.forget_user(user);
                return Ok(());
            }
            Err(error) => {
                let again = matches!(error, bus::CommandError::NotOwner | bus::CommandError::Unknown(_));
                if !again || Instant::now() + PAUSE >= until {
                    return Err(error.into());
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn tenant_of(provider: &Provider) -> Result<TenantId, Failure> {
    let tenant = provider.config.tenant.as_deref().unwrap_or("default");
    TenantId::try_from(tenant.to_owned())
        .map_err(|_| Failure::new(status::PROVIDER_UNAVAILABLE, "the provider's tenant is not one"))
}

fn is_allowed(email: &str, domains: &[String]) -> bool {
    let domain = email.rsplit_once('@').map_or("", |(_, domain)| domain);
    domains.is_empty() || domains.iter().any(|allowed| allowed.eq_ignore_ascii_case(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_compared_as_a_whole() {
        let domains = ["Example.com".to_owned()];
        assert!(is_allowed("a@example.com", &domains) && is_allowed("a@b", &[]));
        for other in ["a@sub.example.com", "a@badexample.com", "a@example.com@evil.org", "example.com"] {
            assert!(!is_allowed(other, &domains), "{other}");
        }
    }
}
