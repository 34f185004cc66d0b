//! What follows from a command.

use serde_json::json;
use uuid::Uuid;

use crate::access::builtin;
use crate::decision::{ClaimChange, ClaimOp, ClaimScope, Decision, Outcome};
use crate::event::{Event, UserEvent};
use crate::facts::Facts;
use crate::identity::{bootstrap_admin_id, checks, is_email, normal_email};
use crate::rejection::{Problem, Rejection, RejectionKind};

use super::EMAIL_CLAIM;
use super::command::UserCommand;
use super::event::{
    UserActivated, UserCreated, UserDeleted, UserDisabled, UserEmailVerified, UserEnabled,
    UserIdentityLinked, UserPasswordChanged, UserRenamed, UserRoleChanged, UserTotpDisabled, UserTotpEnabled,
};
use super::state::{UserState, UserStatus};

/// The most providers' identities of one user.
const MAX_IDENTITIES: usize = 10;

/// Decides a command on folded state.
pub fn decide(state: &UserState, command: &UserCommand, facts: &Facts) -> Result<Decision, Rejection> {
    if let UserCommand::Create { email, name, role, invited, operator } = command {
        let created = UserCreated {
            email: email.clone(),
            name: name.clone(),
            role: role_name(role),
            invited: *invited,
            operator: *operator,
        };
        return create(state, created, facts);
    }
    match state.status {
        UserStatus::None | UserStatus::Deleted => return Err(not_found(facts.stream)),
        UserStatus::Invited | UserStatus::Active | UserStatus::Disabled => {}
    }
    let event = change(state, command, facts)?;
    let claims = match &event {
        Some(UserEvent::Deleted(deleted)) => vec![claim(&deleted.email, ClaimOp::Release)],
        _ => Vec::new(),
    };
    Ok(outcome(state, event, claims, facts))
}

fn create(state: &UserState, created: UserCreated, facts: &Facts) -> Result<Decision, Rejection> {
    if state.version > 0 {
        let detail = format!("user {} exists already", facts.stream);
        return Err(Rejection::new(RejectionKind::Conflict, "user_exists", detail));
    }
    if created.operator && facts.stream != bootstrap_admin_id() {
        let detail = "only the first administrator of an installation is made an operator";
        return Err(Rejection::new(RejectionKind::Forbidden, "forbidden", detail));
    }
    let mut problems = Vec::new();
    if !is_email(&created.email) || normal_email(&created.email) != created.email {
        let detail = "an e-mail has a name, @ and a host, at most 254 bytes, lower case";
        problems.push(Problem::new("/email", "invalid_email", detail));
    }
    problems.extend(created.name.as_deref().and_then(|name| checks::name("/name", name)));
    problems.extend(checks::role_name("/role", &created.role));
    check(problems)?;
    let claims = vec![claim(&created.email, ClaimOp::Take)];
    Ok(outcome(state, Some(UserEvent::Created(created)), claims, facts))
}

/// The event of a command to a user who is there; none if it changes nothing.
fn change(state: &UserState, command: &UserCommand, facts: &Facts) -> Result<Option<UserEvent>, Rejection> {
    Ok(match command {
        // Decided before.
        UserCommand::Create { .. } => None,
        UserCommand::Rename { name } => {
            check(name.as_deref().and_then(|name| checks::name("/name", name)).into_iter().collect())?;
            let event = || UserEvent::Renamed(UserRenamed { name: name.clone() });
            (state.name != *name).then(event)
        }
        UserCommand::ChangeRole { role } => {
            let role = role_name(role);
            check(checks::role_name("/role", &role).into_iter().collect())?;
            (state.role != role).then_some(UserEvent::RoleChanged(UserRoleChanged { role }))
        }
        UserCommand::Activate => match state.status {
            UserStatus::Invited => Some(UserEvent::Activated(UserActivated {})),
            UserStatus::Disabled => {
                let detail = format!("user {} is disabled; enable it first", facts.stream);
                return Err(Rejection::new(RejectionKind::Conflict, "user_disabled", detail));
            }
            UserStatus::Active | UserStatus::None | UserStatus::Deleted => None,
        },
        UserCommand::VerifyEmail => {
            (!state.email_verified).then_some(UserEvent::EmailVerified(UserEmailVerified {}))
        }
        UserCommand::Disable => {
            let changes = state.status != UserStatus::Disabled;
            changes.then_some(UserEvent::Disabled(UserDisabled {}))
        }
        UserCommand::Enable => {
            let changes = state.status == UserStatus::Disabled;
            changes.then_some(UserEvent::Enabled(UserEnabled {}))
        }
        UserCommand::Delete => Some(UserEvent::Deleted(UserDeleted { email: state.email.clone() })),
        UserCommand::ChangePassword { how } => {
            Some(UserEvent::PasswordChanged(UserPasswordChanged { how: *how }))
        }
        UserCommand::EnableTotp => (!state.totp).then_some(UserEvent::TotpEnabled(UserTotpEnabled {})),
        UserCommand::DisableTotp => state.totp.then_some(UserEvent::TotpDisabled(UserTotpDisabled {})),
        UserCommand::LinkIdentity { provider, fingerprint } => link(state, provider, fingerprint)?,
    })
}

fn link(state: &UserState, provider: &str, fingerprint: &str) -> Result<Option<UserEvent>, Rejection> {
    let mut problems: Vec<Problem> = checks::name("/provider", provider).into_iter().collect();
    if fingerprint.len() != 64 || !fingerprint.bytes().all(|b| b.is_ascii_hexdigit()) {
        let detail = "a fingerprint is a SHA-256 in 64 hexadecimal digits";
        problems.push(Problem::new("/fingerprint", "invalid_value", detail));
    }
    check(problems)?;
    if state.identities.contains(&(provider.to_owned(), fingerprint.to_owned())) {
        return Ok(None);
    }
    if state.identities.len() >= MAX_IDENTITIES {
        let detail = format!("a user comes in through at most {MAX_IDENTITIES} identities of providers");
        return Err(Rejection::new(RejectionKind::TooLarge, "too_many_identities", detail));
    }
    let linked = UserIdentityLinked { provider: provider.to_owned(), fingerprint: fingerprint.to_owned() };
    Ok(Some(UserEvent::IdentityLinked(linked)))
}

/// Built-in roles have one spelling, in whatever case they were sent.
fn role_name(role: &str) -> String {
    builtin(role).map_or_else(|| role.to_owned(), |role| role.name)
}

fn check(problems: Vec<Problem>) -> Result<(), Rejection> {
    if problems.is_empty() {
        return Ok(());
    }
    Err(Rejection::invalid("invalid_user", "the user is not valid", problems))
}

fn claim(email: &str, op: ClaimOp) -> ClaimChange {
    ClaimChange { kind: EMAIL_CLAIM, key: email.to_owned(), op, scope: ClaimScope::Installation }
}

/// The event, if there is one, and an answer that shows the user as they are after it.
fn outcome(state: &UserState, event: Option<UserEvent>, claims: Vec<ClaimChange>, facts: &Facts) -> Decision {
    let after = event.iter().fold(state.clone(), super::evolve);
    let answer = json!({
        "id": facts.stream,
        "version": after.version,
        "etag": after.version,
        "email": after.email,
        "name": after.name,
        "role": after.role,
        "status": after.status,
        "email_verified": after.email_verified,
        "totp": after.totp,
        "operator": after.operator,
        "at": facts.now,
    });
    Decision::Events(Outcome {
        events: event.into_iter().map(Event::User).collect(),
        claims,
        answer,
        ..Outcome::default()
    })
}

/// The refusal when there is no such thing in the tenant.
pub fn not_found(id: Uuid) -> Rejection {
    Rejection::new(RejectionKind::NotFound, "user_not_found", format!("there is no such user: {id}"))
}

/// The refusal when another user has the e-mail.
pub fn claim_taken() -> Rejection {
    let detail = "the e-mail belongs to a user already; use another, or let that user log in";
    Rejection::new(RejectionKind::Conflict, "email_taken", detail)
}
