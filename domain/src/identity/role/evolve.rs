//! Folding roles.

use crate::event::RoleEvent;

use super::RolesState;

/// The state after one more event.
pub fn evolve(mut state: RolesState, event: &RoleEvent) -> RolesState {
    state.version += 1;
    match event {
        RoleEvent::Defined(defined) => {
            state.roles.insert(defined.role.name.clone(), defined.role.clone());
        }
        RoleEvent::Deleted(deleted) => {
            state.roles.remove(&deleted.name);
        }
    }
    state
}
