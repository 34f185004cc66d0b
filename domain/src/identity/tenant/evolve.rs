//! Folding a tenant's events.

use crate::event::TenantEvent;

use super::state::TenantState;

/// The state after one more event.
pub fn evolve(mut state: TenantState, event: &TenantEvent) -> TenantState {
    state.version += 1;
    match event {
        TenantEvent::Created(created) => {
            state.name.clone_from(&created.name);
            state.settings = created.settings.clone();
        }
        TenantEvent::Updated(updated) => {
            state.name.clone_from(&updated.name);
            state.settings = updated.settings.clone();
        }
        TenantEvent::Suspended(_) => state.suspended = true,
        TenantEvent::Resumed(_) => state.suspended = false,
    }
    state
}
