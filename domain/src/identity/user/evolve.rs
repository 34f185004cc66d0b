//! Folding a user's events.

use crate::event::UserEvent;

use super::state::{UserState, UserStatus};

/// The state after one more event.
pub fn evolve(mut state: UserState, event: &UserEvent) -> UserState {
    state.version += 1;
    match event {
        UserEvent::Created(created) => {
            state.email.clone_from(&created.email);
            state.name.clone_from(&created.name);
            state.role.clone_from(&created.role);
            state.operator = created.operator;
            state.status = if created.invited { UserStatus::Invited } else { UserStatus::Active };
        }
        UserEvent::Renamed(renamed) => state.name.clone_from(&renamed.name),
        UserEvent::RoleChanged(changed) => state.role.clone_from(&changed.role),
        UserEvent::Activated(_) | UserEvent::Enabled(_) => state.status = UserStatus::Active,
        UserEvent::EmailVerified(_) => state.email_verified = true,
        UserEvent::Disabled(_) => state.status = UserStatus::Disabled,
        UserEvent::Deleted(_) => state.status = UserStatus::Deleted,
        UserEvent::PasswordChanged(_) => {}
        UserEvent::TotpEnabled(_) => state.totp = true,
        UserEvent::TotpDisabled(_) => state.totp = false,
        UserEvent::IdentityLinked(linked) => {
            state.identities.insert((linked.provider.clone(), linked.fingerprint.clone()));
        }
    }
    state
}
