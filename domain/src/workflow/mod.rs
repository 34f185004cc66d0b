//! The workflow aggregate: versions of a definition under a name that is unique in its tenant.
//!
//! Its stream lives in the tenant's home partition. Every version is kept; executions keep the one that they
//! started with. [`definition`] is the format.

pub mod command;
mod decide;
pub mod definition;
pub mod event;
mod evolve;
mod state;

use uuid::Uuid;

use crate::rejection::{Rejection, RejectionKind};

pub use decide::{claim_taken, decide};
pub use evolve::evolve;
pub use state::{DefinitionVersion, WorkflowState};

/// The claim that makes a workflow's name unique in its tenant.
pub const NAME_CLAIM: &str = "workflow_name";

/// No such workflow for this tenant.
pub(crate) fn not_found(id: Uuid) -> Rejection {
    Rejection::new(RejectionKind::NotFound, "workflow_not_found", format!("there is no workflow {id}"))
}
