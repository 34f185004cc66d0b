//! Folding an API key's events.

use crate::event::ApiKeyEvent;

use super::ApiKeyState;

/// The state after one more event.
pub fn evolve(mut state: ApiKeyState, event: &ApiKeyEvent) -> ApiKeyState {
    state.version += 1;
    match event {
        ApiKeyEvent::Created(created) => {
            state.name.clone_from(&created.name);
            state.owner = Some(created.owner);
            state.fingerprint.clone_from(&created.fingerprint);
            state.scopes.clone_from(&created.scopes);
            state.expires_at = created.expires_at;
        }
        ApiKeyEvent::Revoked(_) => state.revoked = true,
    }
    state
}
