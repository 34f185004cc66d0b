//! What a workflow's stream is made of.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// `workflow.created`, version 2 (1 had no `owner`): version 1 of a definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowCreated {
    /// Unique in the tenant while the workflow is not deleted.
    pub name: String,
    /// The document as sent, perhaps a claim check.
    pub definition: Value,
    /// SHA-256 of the document's JSON.
    pub definition_hash: String,
    /// The user to whom it belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<Uuid>,
}

/// Who besides its owner sees a workflow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Visibility {
    /// Those with whom it is shared.
    #[default]
    Private,
    /// Everybody of the tenant.
    Public,
}

/// What those who see a workflow may do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShareAccess {
    /// See it and its executions.
    #[default]
    Read,
    /// Start it too.
    Execute,
}

/// `workflow.shared`: who sees it from now on, in place of what was said before.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkflowShared {
    /// Whether everybody does.
    pub visibility: Visibility,
    /// Users who do, at most 200.
    pub users: Vec<Uuid>,
    /// What they may do.
    pub access: ShareAccess,
}

/// `workflow.updated`: a further version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowUpdated {
    /// The number of the definition, from 2.
    pub definition_version: u64,
    /// The name, which may have changed.
    pub name: String,
    /// The document as sent, perhaps a claim check.
    pub definition: Value,
    /// SHA-256 of the document's JSON.
    pub definition_hash: String,
}

/// `workflow.published`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowPublished {
    /// The version that new executions take.
    pub definition_version: u64,
}

/// `workflow.enabled`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowEnabled {}

/// `workflow.disabled`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowDisabled {}

/// `workflow.deleted`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowDeleted {
    /// The name that is free again.
    pub name: String,
}

/// `workflow.restored`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowRestored {
    /// The name that is taken again.
    pub name: String,
}
