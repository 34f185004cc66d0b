//! What can be asked of a workflow.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::event::WorkflowShared;

/// A command to a workflow. `expected_version` is the stream version of the caller's read (`If-Match`).
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkflowCommand {
    /// Stores version 1 of a definition.
    Create {
        /// The document, perhaps a claim check.
        definition: Value,
        /// Whether new executions may take it at once.
        publish: bool,
    },
    /// Stores a further version.
    Update {
        /// The document, perhaps a claim check.
        definition: Value,
        /// Whether new executions take it at once.
        publish: bool,
        /// The version that the caller has read.
        expected_version: Option<u64>,
    },
    /// Makes a version the one that new executions take; the latest if none is named.
    Publish {
        /// Which version.
        version: Option<u64>,
        /// The version that the caller has read.
        #[serde(default)]
        expected_version: Option<u64>,
    },
    /// Accepts new executions again.
    Enable {
        /// The version that the caller has read.
        #[serde(default)]
        expected_version: Option<u64>,
    },
    /// Refuses new executions.
    Disable {
        /// The version that the caller has read.
        #[serde(default)]
        expected_version: Option<u64>,
    },
    /// Hides it and frees its name. Running executions go on.
    Delete {
        /// The version that the caller has read.
        expected_version: Option<u64>,
    },
    /// Undoes a deletion, if the name is still free.
    Restore {
        /// The version that the caller has read.
        #[serde(default)]
        expected_version: Option<u64>,
    },
    /// Says who besides its owner sees it.
    Share(WorkflowShared),
}

impl WorkflowCommand {
    /// The command's name for logs.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Create { .. } => "CreateWorkflow",
            Self::Update { .. } => "UpdateWorkflow",
            Self::Publish { .. } => "PublishWorkflow",
            Self::Enable { .. } => "EnableWorkflow",
            Self::Disable { .. } => "DisableWorkflow",
            Self::Delete { .. } => "DeleteWorkflow",
            Self::Restore { .. } => "RestoreWorkflow",
            Self::Share(_) => "ShareWorkflow",
        }
    }
}
