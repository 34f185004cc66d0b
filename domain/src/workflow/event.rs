//! What a workflow's stream is made of.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// `workflow.created`: version 1 of a definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct WorkflowCreated {
    /// Unique in the tenant while the workflow is not deleted.
    pub name: String,
    /// The document as sent, perhaps a claim check.
    pub definition: Value,
    /// SHA-256 of the document's JSON.
    pub definition_hash: String,
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
