//! Folding a workflow's events.

use crate::event::WorkflowEvent;
use crate::time::Timestamp;

use super::state::{DefinitionVersion, WorkflowState};

/// The state after one more event. Total: any event is accepted, whatever came before.
pub fn evolve(mut state: WorkflowState, event: &WorkflowEvent, _at: Timestamp) -> WorkflowState {
    state.stream_version += 1;
    match event {
        WorkflowEvent::Created(created) => {
            state.name.clone_from(&created.name);
            state.owner = created.owner;
            state.versions.push(DefinitionVersion {
                hash: created.definition_hash.clone(),
                definition: created.definition.clone(),
            });
        }
        WorkflowEvent::Updated(updated) => {
            state.name.clone_from(&updated.name);
            state.versions.push(DefinitionVersion {
                hash: updated.definition_hash.clone(),
                definition: updated.definition.clone(),
            });
        }
        WorkflowEvent::Published(published) => state.published_version = Some(published.definition_version),
        WorkflowEvent::Enabled(_) => state.disabled = false,
        WorkflowEvent::Disabled(_) => state.disabled = true,
        WorkflowEvent::Deleted(_) => state.deleted = true,
        WorkflowEvent::Shared(shared) => state.shared.clone_from(shared),
        WorkflowEvent::Restored(_) => state.deleted = false,
    }
    state
}
